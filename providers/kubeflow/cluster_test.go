//go:build e2e

package kubeflow

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

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

// place is a namespace of its own on the cluster of ML_E2E_KUBECONFIG, and a project that trains there.
type place struct {
	*providertest.Project
	env   *pods.Env
	admin *kube.Client
	ns    string
}

func onCluster(t *testing.T) *place {
	t.Helper()
	path, registry := os.Getenv("ML_E2E_KUBECONFIG"), os.Getenv("ML_E2E_REGISTRY")
	if path == "" || registry == "" {
		const say = "ML_E2E_KUBECONFIG and ML_E2E_REGISTRY name a cluster, and a registry that it pulls from, to test on"
		if os.Getenv("CI") != "" {
			t.Fatal(say)
		}
		t.Skip(say)
	}
	p := &place{Project: providertest.NewProject(t, nil), ns: fmt.Sprintf("kubeflow-test-%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)}
	var err error
	if p.admin, err = kube.Connect(t.Context(), kube.Config{Kubeconfig: path, Namespace: p.ns, Allowed: []string{kube.AllNamespaces}}); err != nil {
		t.Fatal(err)
	}
	ns, err := kube.FromTyped(kube.Ref{Version: "v1", Kind: "Namespace"}.GVK(), map[string]any{"metadata": map[string]any{"name": p.ns}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := p.admin.Apply(t.Context(), ns, kube.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.admin.Delete(context.Background(), made.Ref, kube.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	env := providertest.Env(p.Root)
	env.Exe, env.Artifacts, env.Now = []string{program(t)}, "oci://"+registry+"/"+p.ns, time.Now
	p.env, err = pods.Configured(t.Context(), env, pods.Settings{Kubeconfig: path, Namespace: p.ns, Image: registry + "/python-torch:12"}, trainJobs{unmeasured: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.env.Work.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// built builds ml once, for all tests; TestMain removes it.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ml-kubeflow-*")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "ml"), "github.com/continuo-ml/continuo/cmd/ml")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, text)
	}
	return filepath.Join(dir, "ml"), err
})

func program(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMain removes the program that the tests built.
func TestMain(m *testing.M) {
	code := m.Run()
	list, err := filepath.Glob(filepath.Join(os.TempDir(), "ml-kubeflow-*"))
	for _, dir := range list {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// nothingLeft fails if an object of a run is still in the namespace after a while: the cluster deletes what a TrainJob owned in its own time.
func (p *place) nothingLeft() {
	p.T.Helper()
	waitFor(p.T, func() bool {
		for _, gvk := range []kube.Ref{{Group: "batch", Version: "v1", Kind: "Job"}, {Version: "v1", Kind: "Pod"}, {Version: "v1", Kind: "Secret"},
			{Group: group, Version: version, Kind: "TrainJob"}, {Group: experimentKind.Group, Version: experimentKind.Version, Kind: experimentKind.Kind}, {Group: group, Version: version, Kind: "TrainingRuntime"}, {Group: "jobset.x-k8s.io", Version: "v1alpha2", Kind: "JobSet"}} {
			left, err := p.admin.List(p.T.Context(), gvk.GVK(), p.ns, kube.Selector{Labels: kube.ManagedBy + "=" + kube.FieldManager})
			var missing *kube.MissingKindError
			if errors.As(err, &missing) {
				continue // a cluster without Katib
			}
			if err != nil {
				p.T.Fatal(err)
			}
			if len(left) > 0 {
				return false
			}
		}
		return true
	})
}

func waitFor(t *testing.T, cond func() bool) {
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

// counter counts from outside how often a command was begun, and holds it up until it is let go. It listens where pods reach it.
type counter struct {
	begun atomic.Int64
	open  atomic.Bool
	url   string
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	host, _, err := net.SplitHostPort(os.Getenv("ML_E2E_REGISTRY"))
	if err != nil {
		t.Fatalf("ML_E2E_REGISTRY: %v", err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatalf("listen where pods reach it: %v", err)
	}
	c := &counter{url: "http://" + l.Addr().String()}
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

func (c *counter) counted() string {
	return `python3 -c "import urllib.request as u; u.urlopen('` + c.url + `/begin')"; `
}

func (c *counter) slowly() string {
	return `until python3 -c "import urllib.request as u; u.urlopen('` + c.url + `/go')" 2>/dev/null; do sleep 0.2; done; `
}

const writesModel = "echo m > $ML_MODEL_DIR/m; echo '{\"loss\": 1}' > $ML_METRICS; "

func shell(script string) config.Exec {
	return config.Exec{Command: []string{"sh", "-ec", script}, Grace: time.Second}
}

func TestOnAClusterTheDriverKeepsTheContract(t *testing.T) {
	p, c := onCluster(t), newCounter(t)
	spec := func(script string) any {
		return config.Training{Exec: shell(script + writesModel), Params: map[string]any{"a": 1}, Nodes: 1}
	}
	providertest.Run(t, providertest.Case{
		Driver: p.env.Drivers("training")["training"], Kind: "training", AfterDelete: resource.PhaseReady,
		Spec: providertest.Encoded(t, spec(c.counted())), Slow: providertest.Encoded(t, spec(c.counted()+c.slowly())),
		Count: func() int { return int(c.begun.Load()) }, Release: func() { c.open.Store(true) },
	})
	p.nothingLeft()
}

// stage is a training of a shell script, and its folder.
func (p *place) stage(id, script string, nodes int) (string, runs.Stage) {
	spec := config.Training{Exec: shell(script), Nodes: nodes}
	req := providers.ApplyRequest{OpID: id, Address: resource.Address{Kind: "training", Name: "x"}, Spec: providertest.Encoded(p.T, spec),
		State: p.Snapshot, Emit: func(resource.Event) {}}
	return filepath.Join(p.Root, ".ml", "runs", id), runs.Stage{Exec: spec.Exec, Request: req, Spec: runner.Spec{
		ID: id, Address: "training.x", Command: spec.Command, Dir: p.Root, Grace: time.Second, NeedModel: true,
	}}
}

func TestOnAClusterTwoNodesBeginAgainTogetherWhenOneIsLost(t *testing.T) {
	p, c := onCluster(t), newCounter(t)
	dir, s := p.stage("op", c.counted()+"echo node $RANK of $WORLD_SIZE; "+c.slowly()+writesModel, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	e := p.env.Executor()
	if err := e.Start(ctx, dir, s); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		st, err := p.env.Executor().Wait(ctx, dir, nil)
		if err == nil && st.Phase != runner.Succeeded {
			err = fmt.Errorf("%+v", st)
		}
		waited <- err
	}()
	said := func(rank, times int) bool {
		log, err := os.ReadFile(runner.LogPath(dir, rank))
		return err == nil && strings.Count(string(log), fmt.Sprintf("node %d of 2\n", rank)) == times
	}
	waitFor(t, func() bool { return said(0, 1) && said(1, 1) })
	all, err := p.admin.List(ctx, podKind, p.ns, kube.Selector{Labels: pods.LabelRun + "=op"})
	if err != nil || len(all) != 2 {
		t.Fatalf("%d pods, %v", len(all), err)
	}
	if err := p.admin.Delete(ctx, kube.RefOf(all[1]), kube.DeleteOptions{Within: -1}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return c.begun.Load() == 4 })
	c.open.Store(true)
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if !said(0, 2) || !said(1, 2) {
		t.Errorf("the logs of both lives of both nodes are not all there")
	}
	p.nothingLeft()
}

func TestOnAClusterARuntimeThatIsNotThereIsToldBeforeAnythingIsMade(t *testing.T) {
	p := onCluster(t)
	dir, s := p.stage("op", "true", 1)
	s.Request.Spec = providertest.Encoded(t, struct {
		config.Training
		Kubeflow block `ml:"kubeflow,block"`
	}{config.Training{Exec: shell("true"), Nodes: 1}, block{Runtime: "nobodys", RuntimeKind: clusterKind.Kind}})
	err := p.env.Executor().Start(t.Context(), dir, s)
	if err == nil || !strings.Contains(err.Error(), `there is no ClusterTrainingRuntime nobodys`) || !strings.Contains(err.Error(), "torch-distributed") {
		t.Errorf("%v", err)
	}
	p.nothingLeft()
}

func TestOnAClusterWhatCannotBeginLeavesNothingAsleep(t *testing.T) {
	p := onCluster(t)
	quota, err := kube.FromTyped(kube.Ref{Version: "v1", Kind: "ResourceQuota"}.GVK(), map[string]any{
		"metadata": map[string]any{"name": "none", "namespace": p.ns}, "spec": map[string]any{"hard": map[string]any{"secrets": "0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := p.admin.Apply(t.Context(), quota, kube.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		u, err := p.admin.Get(t.Context(), made.Ref)
		if err != nil {
			t.Fatal(err)
		}
		_, counted, err := unstructured.NestedFieldNoCopy(u.Object, "status", "hard", "secrets")
		return err == nil && counted
	})
	dir, s := p.stage("op", "true", 1)
	// The TrainJob is made, asleep, before the Secret that its pods need is refused.
	err = p.env.Executor().Start(t.Context(), dir, s)
	if err == nil || !strings.Contains(err.Error(), "exceeded quota: none") {
		t.Errorf("%v", err)
	}
	if st, err := p.env.Executor().Read(t.Context(), dir); err != nil || st.Phase != runner.Failed || !strings.Contains(st.Message, "exceeded quota") {
		t.Errorf("%+v, %v", st, err)
	}
	p.nothingLeft()
}

func TestOnAClusterAFieldThatTrainerDoesNotKnowIsToldAtOnce(t *testing.T) {
	p := onCluster(t)
	program(t)
	dir, s := p.stage("op", "true", 1)
	s.Request.Spec = providertest.Encoded(t, struct {
		config.Training
		Kubeflow block `ml:"kubeflow,block"`
	}{config.Training{Exec: shell("true"), Nodes: 1}, block{Runtime: "torch-distributed", RuntimeKind: clusterKind.Kind, Patches: []any{map[string]any{
		"trainingRuntimeSpec": map[string]any{"nonsense": 1},
	}}}})
	if _, err := p.env.Runner.Image(t.Context()); err != nil { // it takes as long as it takes
		t.Fatal(err)
	}
	begun := time.Now()
	err := p.env.Executor().Start(t.Context(), dir, s)
	if err == nil || !strings.Contains(err.Error(), "nonsense: field not declared in schema") {
		t.Errorf("%v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s to say so", took)
	}
	p.nothingLeft()
}
