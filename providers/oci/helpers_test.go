package oci

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/zclconf/go-cty/cty"
	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tidy{m}) }

// tidy lets go of idle connections before goleak looks.
type tidy struct{ m *testing.M }

func (t tidy) Run() int {
	code := t.m.Run()
	if tr, ok := remote.DefaultTransport.(*http.Transport); ok {
		tr.CloseIdleConnections()
	}
	return code
}

// none is a keychain without credentials: what lies in the home of whoever runs the tests must not matter.
type none struct{}

func (none) Resolve(authn.Resource) (authn.Authenticator, error) { return authn.Anonymous, nil }

// machine is one project on one machine, with a registry.
type machine struct {
	t      *testing.T
	root   string
	reg    *ocitest.Registry
	pack   *pack
	driver providers.Driver
	client *oci.Client
	said   []string
}

// newMachine makes a project of files by path.
func newMachine(t *testing.T, reg *ocitest.Registry, contents map[string]string) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), reg: reg}
	for name, text := range contents {
		m.write(name, text)
	}
	env := providers.Env{Root: m.root, Dir: filepath.Join(m.root, ".ml"), Artifacts: "oci://" + reg.Host + "/ml", Now: time.Now}
	p, err := connect(t.Context(), env, cty.NilVal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	m.driver = p.Drivers["package"]
	m.pack = m.driver.(*providers.TypedDriver[config.Package]).Inner.(*pack)
	m.client = oci.New(oci.Options{Keychain: none{}, Wait: time.Millisecond, MaxWait: 50 * time.Millisecond, Attempts: 2})
	m.pack.client, m.pack.look = m.client, m.client
	return m
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	p := filepath.Join(m.root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// model puts files into the project's artifact store and returns the version that they are.
func (m *machine) model(contents map[string]string) *config.Model {
	m.t.Helper()
	dir := tree(m.t, contents)
	store := filepath.Join(m.root, ".ml", "artifacts")
	s, err := files.OpenStore(store)
	if err != nil {
		m.t.Fatal(err)
	}
	hex, _, err := s.PutDir(dir)
	if err != nil {
		m.t.Fatal(err)
	}
	return &config.Model{
		Name: "churn", Version: 3, Digest: string(resource.DigestOfHex(hex)), Address: "training.churn",
		URI: ".ml/artifacts/manifests/" + hex + ".json", Metrics: map[string]float64{"f1": 0.9},
	}
}

func tree(t *testing.T, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range contents {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var address = resource.Address{Kind: "package", Name: "churn"}

// encoded is a struct as the engine hands it to a driver.
func encoded(t *testing.T, spec any) cty.Value {
	t.Helper()
	v, err := resource.Encode(spec)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (m *machine) request(op string, spec config.Package, prior *state.Record) providers.ApplyRequest {
	m.t.Helper()
	v := encoded(m.t, spec)
	probed, err := m.pack.Probe(m.t.Context(), providers.ProbeRequest{Address: address, Spec: v})
	if err != nil {
		m.t.Fatal(err)
	}
	return providers.ApplyRequest{
		OpID: op, Address: address, Action: resource.Create, Spec: v, Prior: prior, State: &state.Snapshot{}, Probed: probed,
		Emit: func(e resource.Event) { m.said = append(m.said, e.Message) },
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (m *machine) apply(op string, spec config.Package, prior *state.Record) (providers.Result, error) {
	m.t.Helper()
	return m.driver.Apply(within(m.t), m.request(op, spec, prior))
}

// applied is apply where nothing may fail; it gives the record, too.
func (m *machine) applied(op string, spec config.Package, prior *state.Record) (config.PackageOutputs, *state.Record) {
	m.t.Helper()
	r, err := m.apply(op, spec, prior)
	if err != nil {
		m.t.Fatal(err)
	}
	out := r.Outputs.(config.PackageOutputs)
	v := encoded(m.t, out)
	raw, err := state.EncodeValue(v)
	if err != nil {
		m.t.Fatal(err)
	}
	return out, &state.Record{Address: address, Ref: mustJSON(m.t, r.Ref), Outputs: raw, Run: op, Phase: resource.PhaseReady}
}

// read is what the driver says of a record now.
func (m *machine) read(rec *state.Record) providers.Object {
	m.t.Helper()
	o, err := m.driver.Read(within(m.t), providers.ReadRequest{Address: address, Record: rec})
	if err != nil {
		m.t.Fatal(err)
	}
	return o
}

// pulled lists an image's files with their contents.
func (m *machine) pulled(ref string) map[string]string {
	m.t.Helper()
	dir := filepath.Join(m.t.TempDir(), "image")
	if err := m.client.PullDir(within(m.t), ref, "", dir); err != nil {
		m.t.Fatal(err)
	}
	paths, err := files.ListDir(dir)
	if err != nil {
		m.t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range paths {
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(p)))
		if err != nil {
			m.t.Fatal(err)
		}
		out[p] = string(b)
	}
	return out
}

// base stores an image of files and returns its tag's reference.
func (m *machine) base(name, platform string, contents map[string]string) string {
	m.t.Helper()
	_, err := m.client.Build(within(m.t), oci.BuildRequest{
		Platform: platform, Layers: []oci.Layer{{Dir: tree(m.t, contents)}}, Repo: m.reg.Repo(name), Tags: []string{"v1"},
		Env: map[string]string{"PATH": "/bin"}, Entrypoint: []string{"/bin/sh"},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimPrefix(m.reg.Repo(name), oci.Scheme) + ":v1"
}

// manifests counts the images that the registry was given, however often each was sent.
func (m *machine) manifests(repo string) int {
	puts := m.reg.Requests("PUT /v2/ml/" + repo + "/manifests/sha256:")
	slices.Sort(puts)
	return len(slices.Compact(puts))
}
