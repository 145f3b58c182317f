//go:build e2e

package providertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Cluster is a namespace of its own on the real cluster that ML_E2E_KUBECONFIG names, with the registry ML_E2E_REGISTRY.
type Cluster struct {
	T                               *testing.T
	Kubeconfig, Registry, Namespace string
	// Admin may do everything in all namespaces; its own is Namespace. It is for what a test prepares, and never for what it tests.
	Admin   *kube.Client
	granted string
}

// OnCluster makes the namespace, whose name begins with prefix; it goes with the test.
func OnCluster(t *testing.T, prefix string) *Cluster {
	t.Helper()
	c := &Cluster{T: t, Kubeconfig: os.Getenv("ML_E2E_KUBECONFIG"), Registry: os.Getenv("ML_E2E_REGISTRY")}
	if c.Kubeconfig == "" || c.Registry == "" || os.Getenv("ML_E2E_KUBECTL") == "" {
		const say = "ML_E2E_KUBECONFIG, ML_E2E_REGISTRY and ML_E2E_KUBECTL name no cluster, registry and kubectl to test with"
		if os.Getenv("CI") != "" {
			t.Fatal(say)
		}
		t.Skip(say)
	}
	c.Namespace = fmt.Sprintf("%s-%d-%d", prefix, os.Getpid(), time.Now().UnixNano()%1e9)
	var err error
	if c.Admin, err = kube.Connect(context.WithoutCancel(t.Context()), kube.Config{Kubeconfig: c.Kubeconfig, Namespace: c.Namespace, Allowed: []string{kube.AllNamespaces}}); err != nil {
		t.Fatal(err)
	}
	ns, err := kube.FromTyped(kube.Ref{Version: "v1", Kind: "Namespace"}.GVK(), map[string]any{"metadata": map[string]any{"name": c.Namespace}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.Admin.Apply(t.Context(), ns, kube.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Admin.Delete(context.WithoutCancel(t.Context()), made.Ref, kube.DeleteOptions{Within: 3 * time.Minute}); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Client has the rights that the project ships, in the namespace ([Cluster.Granted]).
func (c *Cluster) Client() *kube.Client {
	c.T.Helper()
	client, err := kube.Connect(context.WithoutCancel(c.T.Context()), kube.Config{Kubeconfig: c.Granted(), Namespace: c.Namespace})
	if err != nil {
		c.T.Fatal(err)
	}
	return client
}

// Everywhere is Client for what is read outside of the namespace, as far as those rights go.
func (c *Cluster) Everywhere() *kube.Client {
	c.T.Helper()
	client, err := kube.Connect(context.WithoutCancel(c.T.Context()), kube.Config{Kubeconfig: c.Granted(), Namespace: c.Namespace, Allowed: []string{kube.AllNamespaces}})
	if err != nil {
		c.T.Fatal(err)
	}
	return client
}

// Kubectl does by hand what others do behind the back of the program, in the namespace. It returns what was printed.
func (c *Cluster) Kubectl(stdin string, args ...string) string {
	c.T.Helper()
	cmd := exec.Command(os.Getenv("ML_E2E_KUBECTL"), append([]string{"--kubeconfig", c.Kubeconfig, "-n", c.Namespace}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.T.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Left are the objects of kinds, by name, that bear the label.
func (c *Cluster) Left(label string, kinds ...string) []string {
	c.T.Helper()
	var out []string
	for line := range strings.Lines(c.Kubectl("", "get", strings.Join(kinds, ","), "-l", label, "-o", "name")) {
		if strings.Contains(line, "/") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// Image pushes an image of one program, which is its entry point, and returns its reference by digest.
func (c *Cluster) Image(images *oci.Client, repo, program string, labels map[string]string) string {
	c.T.Helper()
	dir, name := c.T.TempDir(), filepath.Base(program)
	data, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), data, 0o755)
	}
	if err != nil {
		c.T.Fatal(err)
	}
	img, err := images.Build(c.T.Context(), oci.BuildRequest{Layers: []oci.Layer{{Dir: dir}}, Entrypoint: []string{"/" + name}, Labels: labels, Repo: repo, Tags: []string{"test"}})
	if err != nil {
		c.T.Fatal(err)
	}
	return img.Ref
}

var built struct {
	mu  sync.Mutex
	dir string
}

// Built builds a program of this module, once for all tests of a package; Main removes it.
func Built(t *testing.T, pkg string) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "ml-e2e-*")
		if err != nil {
			t.Fatal(err)
		}
		built.dir = dir
	}
	out := filepath.Join(built.dir, filepath.Base(pkg))
	if _, err := os.Stat(out); err == nil {
		return out
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
	return out
}

// Program is this program: the one that ML_E2E_PROGRAM names, else it is built.
func Program(t *testing.T) string {
	t.Helper()
	if at := os.Getenv("ML_E2E_PROGRAM"); at != "" {
		return at
	}
	return Built(t, "github.com/continuo-ml/continuo/cmd/ml")
}

// Main runs the tests of a package and removes what they built.
func Main(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// WaitFor polls for two minutes.
func WaitFor(t *testing.T, cond func() bool) {
	t.Helper()
	end, tick := time.After(2*time.Minute), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-end:
			t.Fatal("it did not come to that within two minutes")
		case <-tick.C:
		}
	}
}

// Counter counts from outside how often a command was begun, and holds it up until it is let go. It listens where pods reach it.
type Counter struct {
	begun atomic.Int64
	open  atomic.Bool
	url   string
}

// NewCounter listens for as long as the test runs.
func NewCounter(t *testing.T) *Counter {
	t.Helper()
	host, _, err := net.SplitHostPort(os.Getenv("ML_E2E_REGISTRY"))
	if err != nil {
		t.Fatalf("ML_E2E_REGISTRY: %v", err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatalf("listen where pods reach it: %v", err)
	}
	c := &Counter{url: "http://" + l.Addr().String()}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/begin":
			c.begun.Add(1)
		case !c.open.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return c
}

// Begun is how often a command was begun.
func (c *Counter) Begun() int { return int(c.begun.Load()) }

// Release lets commands go that are held up, and all later ones.
func (c *Counter) Release() { c.open.Store(true) }

// Hold holds up commands from now on.
func (c *Counter) Hold() { c.open.Store(false) }

// Counted is shell text that says that the command was begun.
func (c *Counter) Counted() string {
	return `python3 -c "import urllib.request as u; u.urlopen('` + c.url + `/begin')"; `
}

// Slowly is shell text that goes on when it is let go.
func (c *Counter) Slowly() string {
	return `until python3 -c "import urllib.request as u; u.urlopen('` + c.url + `/go')" 2>/dev/null; do sleep 0.2; done; `
}

// WritesModel is shell text of a training that has a result.
const WritesModel = "echo m > $ML_MODEL_DIR/m; echo '{\"loss\": 1}' > $ML_METRICS; "

// Shell is a command that is a shell script.
func Shell(script string) config.Exec {
	return config.Exec{Command: []string{"sh", "-ec", script}, Grace: time.Second}
}

// Site is one deployment on a cluster, as an engine would drive it.
type Site[S any] struct {
	*Cluster
	Driver   providers.Typed[S]
	Provider string
	Addr     resource.Address
	Record   *state.Record // of the last apply

	ops int
	mu  sync.Mutex
	log []string
}

// Cleaned removes the deployment when the test ends, and tells what happened when it failed.
func (s *Site[S]) Cleaned() {
	s.T.Cleanup(func() {
		if s.Record != nil {
			s.Remove()
		}
		if s.T.Failed() {
			s.T.Log(strings.Join(s.log, "\n"))
		}
	})
}

// Note adds a line to what is told of a test that failed.
func (s *Site[S]) Note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, time.Now().Format("15:04:05.000 ")+text)
}

// Request is that of a step.
func (s *Site[S]) Request(op string, force bool) providers.ApplyRequest {
	return providers.ApplyRequest{OpID: op, Address: s.Addr, Action: resource.Update, Prior: s.Record, State: &state.Snapshot{Lineage: "test-of-" + s.Provider}, Force: force,
		Emit: func(e resource.Event) { s.Note(e.Message) }}
}

// Apply is a step under an id of its own.
func (s *Site[S]) Apply(ctx context.Context, spec S, force bool) (providers.Result, error) {
	s.ops++
	return s.ApplyAs(ctx, spec, s.Request(fmt.Sprintf("op-%d-%d", os.Getpid(), s.ops), force))
}

// ApplyAs carries a request out and keeps the record, also of one that failed on its way.
func (s *Site[S]) ApplyAs(ctx context.Context, spec S, req providers.ApplyRequest) (providers.Result, error) {
	res, err := s.Driver.Apply(ctx, spec, req)
	ref := res.Ref
	var failed *providers.RunError
	if errors.As(err, &failed) {
		ref = failed.Ref
	}
	if ref == nil {
		return res, err
	}
	rec := &state.Record{Address: s.Addr, Phase: resource.PhaseReady, Provider: s.Provider, Updated: time.Now()}
	var e1, e2 error
	rec.Ref, e1 = json.Marshal(ref)
	rec.Outputs, e2 = json.Marshal(res.Outputs)
	if err := errors.Join(e1, e2); err != nil {
		s.T.Fatal(err)
	}
	if err != nil && s.Record != nil {
		rec.Outputs = s.Record.Outputs
	}
	s.Record = rec
	return res, err
}

// Must is Apply of what has to work.
func (s *Site[S]) Must(spec S) providers.Result {
	s.T.Helper()
	res, err := s.Apply(s.T.Context(), spec, false)
	if err != nil {
		s.T.Fatal(err)
	}
	return res
}

// Read is the live state.
func (s *Site[S]) Read() providers.Object {
	s.T.Helper()
	o, err := s.Driver.Read(s.T.Context(), providers.ReadRequest{Address: s.Addr, Record: s.Record})
	if err != nil {
		s.T.Fatal(err)
	}
	return o
}

// Remove deletes the deployment.
func (s *Site[S]) Remove() {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.T.Context()), 3*time.Minute)
	defer cancel()
	if err := s.Driver.Delete(ctx, providers.DeleteRequest{OpID: "rm", Address: s.Addr, Record: s.Record, Emit: s.Request("", false).Emit}); err != nil {
		s.T.Error(err)
	}
	s.Record = nil
}

// NothingLeft fails when an object of the deployment is there, whoever made it.
func (s *Site[S]) NothingLeft(kinds ...string) {
	s.T.Helper()
	kinds = append(kinds, "all", "configmaps", "secrets", "endpointslices", "horizontalpodautoscalers", "persistentvolumeclaims")
	if left := s.Left("continuo.dev/address=deployment."+s.Addr.Name, kinds...); len(left) > 0 {
		s.T.Errorf("left behind: %v", left)
	}
}

// Captured waits until a request of a version is among those that the routers kept, which takes them a moment; look fetches them into a folder.
func (s *Site[S]) Captured(version int, look func() (dir string, err error)) {
	s.T.Helper()
	WaitFor(s.T, func() bool {
		s.T.Helper()
		dir, err := look()
		if err != nil {
			s.T.Fatal("captured:", err)
		}
		for rec, err := range capture.Records(dir, 1) {
			if err != nil {
				s.T.Fatal("captured:", err)
			}
			if rec.Version == version {
				return true
			}
		}
		return false
	})
}

// Logs is what the servers wrote last.
func (s *Site[S]) Logs() string {
	s.T.Helper()
	l, ok := any(s.Driver).(providers.Logger)
	if !ok {
		s.T.Fatalf("%T has no logs", s.Driver)
	}
	var out bytes.Buffer
	if err := l.Logs(s.T.Context(), providers.LogRequest{Record: s.Record, Lines: 5}, &out); err != nil {
		s.T.Errorf("logs: %v", err)
	}
	return out.String()
}

// ServedVersion is the version of a result.
func ServedVersion(t *testing.T, res providers.Result) int {
	t.Helper()
	out, ok := res.Outputs.(config.DeploymentOutputs)
	if !ok {
		t.Fatalf("outputs %T", res.Outputs)
	}
	return out.Version
}
