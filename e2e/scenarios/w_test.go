//go:build e2e

package scenarios

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/all"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state/bolt"
)

// soon is how long a change may take to be told.
const soon = 10 * time.Second

// TestW watches an applied project with the rights of deploy/rbac.yaml: what somebody scales, edits and deletes is told within seconds, also
// after the connection was cut, and what happened while nobody could be reached is told when it is over.
func TestW(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, os.DirFS(filepath.Join("testdata", "kills")), "kubernetes")
	k := &killed{world: w}
	k.newData()
	w.edit("kills.ml.hcl", `deployment "m" {`, "manifest \"c\" {\n  yaml = <<-END\n    {apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {a: b}}\n  END\n}\n\ndeployment \"m\" {")
	w.ml("apply", "-auto-approve")
	way := newWay(t, w.kubeconfig())
	e := w.engine(way.kubeconfig)
	told := make(chan resource.Address, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	snap, err := e.Store.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	seen, err := e.Watch(ctx, snap, func(a resource.Address) { told <- a })
	if err != nil {
		t.Fatal(err)
	}
	if got := addresses(seen); got != "deployment.m manifest.c" {
		t.Errorf("it watches %q", got)
	}
	t.Logf("it stands after %.1f s, over %d connections", time.Since(began).Seconds(), way.count())
	heard := func(address string, do func()) {
		t.Helper()
		drain(told)
		do()
		at := time.Now()
		for end := time.After(soon); ; {
			select {
			case a := <-told:
				if a.String() == address {
					t.Logf("%s is told after %.2f s", address, time.Since(at).Seconds())
					return
				}
			case <-end:
				t.Fatalf("%s is not told of within %s", address, soon)
			}
		}
	}
	heard("deployment.m", func() { w.kubectl("scale", "deployment/m-v1", "--replicas=2") })
	heard("manifest.c", func() { w.kubectl("edit", "configmap/words", "s/a: b/a: c/") })
	heard("deployment.m", func() { w.kubectl("delete", "service/m-v1") })
	way.cut()
	heard("manifest.c", func() { w.kubectl("edit", "configmap/words", "s/a: c/a: d/") })
	way.close(true)
	w.kubectl("delete", "configmap/words")
	heard("manifest.c", func() { way.close(false) })
	heard("deployment.m", func() { w.kubectl("scale", "deployment/m", "--replicas=2") })
	cancel()
	if got := w.plan(); got["deployment.m"] == "" || got["manifest.c"] == "" {
		t.Errorf("of what was told the plan says nothing: %v", got)
	}
	w.ml("apply", "-auto-approve")
	w.unchanged()
	w.ml("destroy", "-auto-approve")
	w.gone()
}

func addresses(list []resource.Address) string {
	var names []string
	for _, a := range list {
		names = append(names, a.String())
	}
	return strings.Join(names, " ")
}

func drain(told chan resource.Address) {
	for {
		select {
		case <-told:
		default:
			return
		}
	}
}

// kubeconfig is the one that the program uses.
func (w *world) kubeconfig() string {
	for i := len(w.env) - 1; i >= 0; i-- {
		if path, ok := strings.CutPrefix(w.env[i], kubeconfigVar); ok {
			return path
		}
	}
	w.Fatal("no kubeconfig")
	return ""
}

// engine is what a program that runs for long has: the state of the project, and its provider.
func (w *world) engine(kubeconfig string) *engine.Engine {
	w.Helper()
	configured := func(settings any) cty.Value {
		v, err := resource.Encode(settings)
		if err != nil {
			w.Fatal(err)
		}
		return v
	}
	values := map[string]cty.Value{"kubernetes": configured(pods.Settings{Kubeconfig: kubeconfig, Namespace: w.namespace, Image: here.image, RequestTimeout: 30 * time.Second})}
	e := &engine.Engine{Project: &config.Project{}, Store: bolt.Open(filepath.Join(w.dir, ".ml", "state.db"), bolt.Options{}), Now: time.Now,
		Connect: func(ctx context.Context, name string, _ config.ProviderConfig) (*providers.Provider, error) {
			for _, d := range all.Definitions() {
				if d.Name == name {
					return d.Connect(ctx, providers.Env{Root: w.dir, Dir: filepath.Join(w.dir, ".ml"), Version: "test", Exe: []string{here.bin},
						Artifacts: "oci://" + here.registry + "/" + w.namespace, Now: time.Now, LookupEnv: os.LookupEnv, Environ: os.Environ}, values[name])
				}
			}
			return nil, fmt.Errorf("no provider %q", name)
		}}
	w.Cleanup(func() {
		if err := e.Close(); err != nil {
			w.Error(err)
		}
	})
	return e
}

// way is a way to the API server that can be cut, and closed for a while.
type way struct {
	kubeconfig string
	target     string
	mu         sync.Mutex
	open       []net.Conn
	closed     bool
}

func newWay(t *testing.T, kubeconfig string) *way {
	t.Helper()
	cfg, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cluster := cfg.Clusters[cfg.Contexts[cfg.CurrentContext].Cluster]
	upstream, err := url.Parse(cluster.Server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &way{target: upstream.Host, kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		x.cut()
	})
	go x.serve(l)
	cluster.Server, cluster.TLSServerName = "https://"+l.Addr().String(), upstream.Hostname()
	if err := clientcmd.WriteToFile(*cfg, x.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *way) serve(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", x.target)
		x.mu.Lock()
		if err != nil || x.closed {
			_ = in.Close() // nobody gets through: that is the test
			if err == nil {
				_ = out.Close()
			}
			x.mu.Unlock()
			continue
		}
		x.open = append(x.open, in, out)
		x.mu.Unlock()
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			go func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close() // the other side may have done it
			}()
		}
	}
}

func (x *way) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.open) / 2
}

// cut breaks every connection.
func (x *way) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.open {
		_ = c.Close() // broken on purpose
	}
	x.open = nil
}

// close lets nobody through until it is opened again.
func (x *way) close(on bool) {
	x.mu.Lock()
	x.closed = on
	x.mu.Unlock()
	if on {
		x.cut()
	}
}
