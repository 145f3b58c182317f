package providertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Project is a project folder and the drivers that work on it.
type Project struct {
	T        *testing.T
	Root     string
	Drivers  map[string]providers.Driver
	Snapshot *state.Snapshot
	Runs     []*state.Run // what a driver is told that it ran before

	mu     sync.Mutex
	events []resource.Event
}

// Now is the time of every test's project.
var Now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// NewProject makes a folder with these files by name. Its drivers are for the caller to set.
func NewProject(t *testing.T, contents map[string]string) *Project {
	t.Helper()
	p := &Project{T: t, Root: t.TempDir(), Snapshot: &state.Snapshot{}}
	for name, text := range contents {
		p.Write(name, text)
	}
	return p
}

// Env is what the provider of the project folder root gets; its clock stands still at Now.
func Env(root string) providers.Env {
	return providers.Env{
		Root: root, Dir: filepath.Join(root, ".ml"), Key: []byte("the key of every test's project  "),
		Now: func() time.Time { return Now }, LookupEnv: os.LookupEnv, Environ: os.Environ,
	}
}

// Path is that of a file by its name in the project, with slashes.
func (p *Project) Path(name string) string { return filepath.Join(p.Root, filepath.FromSlash(name)) }

// Write makes a file of the project.
func (p *Project) Write(name, text string) {
	p.T.Helper()
	if err := os.MkdirAll(filepath.Dir(p.Path(name)), 0o755); err != nil {
		p.T.Fatal(err)
	}
	if err := os.WriteFile(p.Path(name), []byte(text), 0o644); err != nil {
		p.T.Fatal(err)
	}
}

// Read returns a file's text, "" if it is not there.
func (p *Project) Read(name string) string {
	p.T.Helper()
	at := name
	if !filepath.IsAbs(at) {
		at = p.Path(name)
	}
	b, err := os.ReadFile(at)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.T.Fatal(err)
	}
	return string(b)
}

// Encoded is a spec as a driver gets it.
func Encoded(t *testing.T, spec any) cty.Value {
	t.Helper()
	v, err := resource.Encode(spec)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Probe asks the kind's driver for the digests of what spec names.
func (p *Project) Probe(kind string, spec any) (map[string]string, error) {
	p.T.Helper()
	pr, ok := providers.As[providers.Prober](p.Drivers[kind])
	if !ok {
		p.T.Fatalf("%s has no Probe", kind)
	}
	return pr.Probe(p.T.Context(), providers.ProbeRequest{Address: AddressOf(kind), Spec: Encoded(p.T, spec)})
}

// AddressOf is the address of the one block of a kind, KIND.x.
func AddressOf(kind string) resource.Address { return resource.Address{Kind: kind, Name: "x"} }

// Request is that of a step whose sources were probed just now.
func (p *Project) Request(kind, opID string, spec any) providers.ApplyRequest {
	p.T.Helper()
	req := providers.ApplyRequest{
		OpID: opID, Address: AddressOf(kind), Action: resource.RunIt, Spec: Encoded(p.T, spec),
		State: p.Snapshot, Inputs: resource.DigestOf([]byte("inputs")),
		Emit: func(e resource.Event) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, e)
		},
		Runs: func(resource.Address) ([]*state.Run, error) { return p.Runs, nil },
	}
	if _, ok := providers.As[providers.Prober](p.Drivers[kind]); ok {
		probed, err := p.Probe(kind, spec)
		if err != nil {
			p.T.Fatal(err)
		}
		req.Probed = probed
	}
	return req
}

// Apply applies a spec under an operation's id.
func (p *Project) Apply(kind, opID string, spec any) (providers.Result, error) {
	p.T.Helper()
	return p.Drivers[kind].Apply(Within(p.T), p.Request(kind, opID, spec))
}

// MustApply applies a spec that is good.
func (p *Project) MustApply(kind, opID string, spec any) providers.Result {
	p.T.Helper()
	r, err := p.Apply(kind, opID, spec)
	if err != nil {
		p.T.Fatal(err)
	}
	return r
}

// Logged reports whether an event's message holds text.
func (p *Project) Logged(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if strings.Contains(e.Message, text) {
			return true
		}
	}
	return false
}

// Within is a context that ends a test which hangs.
func Within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// WantError fails unless err says text.
func WantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v, want one with %q", err, text)
	}
}

// WantRunError fails unless err is that of a run and says text. It returns the log and the reference that come with it.
func WantRunError(t *testing.T, err error, text string) (log []string, ref any) {
	t.Helper()
	WantError(t, err, text)
	var run *providers.RunError
	if !errors.As(err, &run) {
		t.Fatalf("%T is no RunError: %v", err, err)
	}
	return run.Log, run.Ref
}
