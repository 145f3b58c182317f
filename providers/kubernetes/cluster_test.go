//go:build e2e

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

// place is a namespace of its own on a real cluster, and a project that trains there.
type place struct {
	*providertest.Project
	env       providers.Env
	settings  pods.Settings
	namespace string
	admin     *kube.Client
}

func onCluster(t *testing.T) *place {
	t.Helper()
	p := inNamespace(t)
	p.env.Exe = []string{providertest.Program(t)}
	shared := p.env
	shared.Artifacts = "oci://" + os.Getenv("ML_E2E_REGISTRY") + "/runs-test"
	e, err := pods.Configured(t.Context(), shared, pods.Settings{}, jobs{})
	if err != nil {
		t.Fatal(err)
	}
	if p.settings.RunnerImage, err = e.Runner.Image(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// inNamespace is onCluster for what runs nothing: without the image of the runner.
func inNamespace(t *testing.T) *place {
	t.Helper()
	c := providertest.OnCluster(t, "runs-test")
	p := &place{Project: providertest.NewProject(t, nil), namespace: c.Namespace, admin: c.Admin}
	p.settings = pods.Settings{Kubeconfig: c.Granted(), Namespace: p.namespace, Image: c.Registry + "/python-sklearn:12"}
	p.env = providertest.Env(p.Root)
	p.env.Exe = []string{"ml"}
	// A run whose result is in the registry is not run again: each test has a part of its own there.
	p.env.Artifacts = "oci://" + c.Registry + "/" + p.namespace
	p.env.Now = time.Now
	return p
}

func TestMain(m *testing.M) { providertest.Main(m) }

// fresh is an environment as another `ml` would have it, that sees the cluster through kubeconfig.
func (p *place) fresh(kubeconfig string) *pods.Env {
	p.T.Helper()
	s := p.settings
	if kubeconfig != "" {
		s.Kubeconfig = kubeconfig
	}
	e, err := pods.Configured(p.T.Context(), p.env, s, jobs{})
	if err != nil {
		p.T.Fatal(err)
	}
	p.T.Cleanup(func() {
		if err := e.Work.Close(); err != nil {
			p.T.Error(err)
		}
	})
	return e
}

func (p *place) executor(kubeconfig string) runs.Executor { return p.fresh(kubeconfig).Executor() }

// stage is a training of a shell script, and its folder.
func (p *place) stage(id, script string) (string, runs.Stage) {
	spec := config.Training{Exec: config.Exec{Command: []string{"sh", "-ec", script}}, Nodes: 1}
	req := providers.ApplyRequest{OpID: id, Address: resource.Address{Kind: "training", Name: "x"}, Spec: providertest.Encoded(p.T, spec),
		State: p.Snapshot, Emit: func(resource.Event) {}}
	return filepath.Join(p.Root, ".ml", "runs", id), runs.Stage{Exec: spec.Exec, Request: req, Spec: runner.Spec{
		ID: id, Address: "training.x", Command: spec.Command, Dir: p.Root, Env: map[string]string{"TOKEN": "hush"}, Grace: time.Second, NeedModel: true,
	}}
}

func TestOnAClusterEveryDriverKeepsTheContract(t *testing.T) {
	for kind, spec := range map[string]func(script string) any{
		"check": func(s string) any { return config.Check{Exec: providertest.Shell(s)} },
		"training": func(s string) any {
			return config.Training{Exec: providertest.Shell(s + providertest.WritesModel), Params: map[string]any{"a": 1}, Nodes: 1}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			p, c := onCluster(t), providertest.NewCounter(t)
			d := p.fresh("").Drivers(kind)[kind]
			providertest.Run(t, providertest.Case{
				Driver: d, Kind: kind, AfterDelete: resource.PhaseReady, Spec: providertest.Encoded(t, spec(c.Counted())), Slow: providertest.Encoded(t, spec(c.Counted()+c.Slowly())),
				Count: func() int { return c.Begun() }, Release: c.Release,
			})
			p.nothingLeft()
		})
	}
}

// nothingLeft fails if an object of a run is still in the namespace.
func (p *place) nothingLeft() {
	p.T.Helper()
	for _, kind := range []kube.Ref{{Group: "batch", Version: "v1", Kind: "Job"}, {Version: "v1", Kind: "Pod"}, {Version: "v1", Kind: "Secret"}, {Version: "v1", Kind: "Service"}} {
		left, err := p.admin.List(p.T.Context(), kind.GVK(), p.namespace, kube.Selector{Labels: kube.ManagedBy + "=" + kube.FieldManager})
		if err != nil || len(left) > 0 {
			p.T.Errorf("%d of kind %s are left, %v", len(left), kind.Kind, err)
		}
	}
}

func TestOnAClusterAStageHappensOnceHoweverItsStartIsInterrupted(t *testing.T) {
	// A start sends three applies: the Job asleep, the Secret, the Job awake. Each is cut off once before and once after it took effect.
	for n := range 6 {
		t.Run(fmt.Sprintf("apply %d, after its effect: %v", n/2+1, n%2 == 1), func(t *testing.T) {
			t.Parallel()
			p, c := onCluster(t), providertest.NewCounter(t)
			dir, s := p.stage(fmt.Sprintf("op-%d", n), c.Counted()+"test \"$TOKEN\" = hush; "+providertest.WritesModel)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			broken := p.executor(p.cutting(n/2, n%2 == 1))
			if err := broken.Start(ctx, dir, s); err == nil {
				t.Fatal("the start was not interrupted")
			}
			e := p.executor("")
			if err := e.Start(ctx, dir, s); err != nil {
				t.Fatal(err)
			}
			st, err := e.Wait(ctx, dir, nil)
			if err != nil || st.Phase != runner.Succeeded {
				t.Errorf("%+v, %v", st, err)
			}
			if m, err := e.Store(ctx, s.Request.Address, dir); err != nil || m.Bytes != 2 || e.Stored(ctx, m) != nil {
				t.Errorf("%+v, %v", m, err)
			}
			if got := c.Begun(); got != 1 {
				t.Errorf("the command was begun %d times", got)
			}
			p.nothingLeft()
		})
	}
}

// cutting is a kubeconfig of a way to the API server on which the applies from the n-th on fail for good: with after set the n-th takes effect
// all the same.
func (p *place) cutting(n int, after bool) string {
	p.T.Helper()
	var applies atomic.Int64
	return p.through(func(w http.ResponseWriter, r *http.Request, proxy http.Handler) {
		if r.Method == http.MethodPatch {
			switch i := int(applies.Add(1)) - 1; {
			case i == n && after:
				proxy.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			case i >= n:
				panic(http.ErrAbortHandler)
			}
		}
		proxy.ServeHTTP(w, r)
	})
}

// through is a kubeconfig of a way to the API server on which each request is handled first by what stands between.
func (p *place) through(between func(http.ResponseWriter, *http.Request, http.Handler)) string {
	p.T.Helper()
	rc, err := clientcmd.BuildConfigFromFlags("", p.settings.Kubeconfig)
	if err != nil {
		p.T.Fatal(err)
	}
	transport, err := rest.TransportFor(rc)
	if err != nil {
		p.T.Fatal(err)
	}
	target, err := url.Parse(rc.Host)
	if err != nil {
		p.T.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = transport
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { between(w, r, proxy) }))
	p.T.Cleanup(srv.Close)
	path := filepath.Join(p.T.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c}}]}", srv.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.T.Fatal(err)
	}
	return path
}

func TestOnAClusterAStageThatIsCancelledLeavesNothing(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	dir, s := p.stage("op", c.Counted()+"echo begun; "+c.Slowly()+providertest.WritesModel)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := p.executor("").Start(ctx, dir, s); err != nil {
		t.Fatal(err)
	}
	waited := make(chan runner.Status, 1)
	go func() {
		st, err := p.executor("").Wait(ctx, dir, nil)
		if err != nil {
			st.Message = err.Error()
		}
		waited <- st
	}()
	providertest.WaitFor(t, func() bool { return c.Begun() == 1 })
	e := p.executor("")
	if err := e.Cancel(ctx, dir, 0); err != nil {
		t.Fatal(err)
	}
	if st := <-waited; st.Phase != runner.Cancelled {
		t.Errorf("who waited saw %+v", st)
	}
	if st, err := e.Read(ctx, dir); err != nil || st.Phase != runner.Cancelled {
		t.Errorf("%+v, %v", st, err)
	}
	if err := e.Start(ctx, dir, s); err != nil || c.Begun() != 1 {
		t.Errorf("a cancelled stage began again: %v", err)
	}
	never, s2 := p.stage("op2", c.Counted())
	if err := errors.Join(e.Cancel(ctx, never, 0), e.Start(ctx, never, s2)); err != nil {
		t.Error(err)
	}
	if st, err := e.Read(ctx, never); err != nil || st.Phase != runner.Cancelled {
		t.Errorf("cancelled before it began: %+v, %v", st, err)
	}
	p.nothingLeft()
}

func TestOnAClusterAJobThatWasDeletedIsLostAndNotMadeAgain(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	dir, s := p.stage("op", c.Counted()+c.Slowly()+providertest.WritesModel)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	e := p.executor("")
	if err := e.Start(ctx, dir, s); err != nil {
		t.Fatal(err)
	}
	providertest.WaitFor(t, func() bool { return c.Begun() == 1 })
	made, err := p.admin.List(ctx, jobKind, p.namespace, kube.Selector{Labels: pods.LabelRun + "=op"})
	if err != nil || len(made) != 1 {
		t.Fatalf("%d Jobs, %v", len(made), err)
	}
	if err := p.admin.Delete(ctx, kube.RefOf(made[0]), kube.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if st, err := e.Wait(ctx, dir, nil); err != nil || st.Phase != runner.Lost || !strings.Contains(st.Message, "somebody deleted it") {
		t.Errorf("%+v, %v", st, err)
	}
	if err := e.Start(ctx, dir, s); err != nil {
		t.Error(err)
	}
	if st, err := e.Read(ctx, dir); err != nil || st.Phase != runner.Lost || c.Begun() != 1 {
		t.Errorf("%+v, %v; begun %d times", st, err, c.Begun())
	}
	p.nothingLeft()
}

func TestOnAClusterAPodThatIsKilledIsFollowedByAnother(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	dir, s := p.stage("op", `echo hello; if test -e $ML_CHECKPOINT_DIR/half; then echo resumed; `+c.Counted()+`else echo half > $ML_CHECKPOINT_DIR/half; `+c.Counted()+c.Slowly()+`fi; `+providertest.WritesModel)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	e := p.executor("")
	if err := e.Start(ctx, dir, s); err != nil {
		t.Fatal(err)
	}
	providertest.WaitFor(t, func() bool { return c.Begun() == 1 })
	pods, err := p.admin.List(ctx, kube.Ref{Version: "v1", Kind: "Pod"}.GVK(), p.namespace, kube.Selector{})
	if err != nil || len(pods) != 1 {
		t.Fatalf("%d pods, %v", len(pods), err)
	}
	done := make(chan error, 1)
	var st runner.Status
	go func() {
		var err error
		st, err = e.Wait(ctx, dir, nil)
		done <- err
	}()
	if err := p.admin.Delete(ctx, kube.RefOf(pods[0]), kube.DeleteOptions{Propagation: "Background"}); err != nil {
		t.Fatal(err)
	}
	c.Release()
	if err := <-done; err != nil || st.Phase != runner.Succeeded {
		t.Errorf("%+v, %v", st, err)
	}
	log := p.Read(runner.LogPath(dir, 0))
	if c.Begun() != 2 || !strings.Contains(log, "goes on]") || strings.Count(log, "hello") != 2 || !strings.HasSuffix(log, "resumed\n") {
		t.Errorf("begun %d times: %s", c.Begun(), log)
	}
	p.nothingLeft()
}
