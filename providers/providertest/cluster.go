//go:build e2e

package providertest

import (
	"context"
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
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
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
