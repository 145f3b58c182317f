//go:build e2e

package kubeflow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	c := providertest.OnCluster(t, "kubeflow-test")
	p := &place{Project: providertest.NewProject(t, nil), admin: c.Admin, ns: c.Namespace}
	env := providertest.Env(p.Root)
	env.Exe, env.Artifacts, env.Now = []string{providertest.Program(t)}, "oci://"+c.Registry+"/"+p.ns, time.Now
	var err error
	p.env, err = pods.Configured(t.Context(), env, pods.Settings{Kubeconfig: c.Granted(), Namespace: p.ns, Image: c.Registry + "/python-torch:12"}, trainJobs{unmeasured: 30 * time.Second})
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

func TestMain(m *testing.M) { providertest.Main(m) }

// nothingLeft fails if an object of a run is still in the namespace after a while: the cluster deletes what a TrainJob owned in its own time.
func (p *place) nothingLeft() {
	p.T.Helper()
	providertest.WaitFor(p.T, func() bool {
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

func TestOnAClusterTheDriverKeepsTheContract(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	spec := func(script string) any {
		return config.Training{Exec: providertest.Shell(script + providertest.WritesModel), Params: map[string]any{"a": 1}, Nodes: 1}
	}
	providertest.Run(t, providertest.Case{
		Driver: p.env.Drivers("training")["training"], Kind: "training", AfterDelete: resource.PhaseReady,
		Spec: providertest.Encoded(t, spec(c.Counted())), Slow: providertest.Encoded(t, spec(c.Counted()+c.Slowly())),
		Count: func() int { return c.Begun() }, Release: c.Release,
	})
	p.nothingLeft()
}

// stage is a training of a shell script, and its folder.
func (p *place) stage(id, script string, nodes int) (string, runs.Stage) {
	spec := config.Training{Exec: providertest.Shell(script), Nodes: nodes}
	req := providers.ApplyRequest{OpID: id, Address: resource.Address{Kind: "training", Name: "x"}, Spec: providertest.Encoded(p.T, spec),
		State: p.Snapshot, Emit: func(resource.Event) {}}
	return filepath.Join(p.Root, ".ml", "runs", id), runs.Stage{Exec: spec.Exec, Request: req, Spec: runner.Spec{
		ID: id, Address: "training.x", Command: spec.Command, Dir: p.Root, Grace: time.Second, NeedModel: true,
	}}
}

func TestOnAClusterTwoNodesBeginAgainTogetherWhenOneIsLost(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	dir, s := p.stage("op", c.Counted()+"echo node $RANK of $WORLD_SIZE; "+c.Slowly()+providertest.WritesModel, 2)
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
	providertest.WaitFor(t, func() bool { return said(0, 1) && said(1, 1) })
	all, err := p.admin.List(ctx, podKind, p.ns, kube.Selector{Labels: pods.LabelRun + "=op"})
	if err != nil || len(all) != 2 {
		t.Fatalf("%d pods, %v", len(all), err)
	}
	if err := p.admin.Delete(ctx, kube.RefOf(all[1]), kube.DeleteOptions{Within: -1}); err != nil {
		t.Fatal(err)
	}
	providertest.WaitFor(t, func() bool { return c.Begun() == 4 })
	c.Release()
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
	}{config.Training{Exec: providertest.Shell("true"), Nodes: 1}, block{Runtime: "nobodys", RuntimeKind: clusterKind.Kind}})
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
	providertest.WaitFor(t, func() bool {
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
	providertest.Program(t)
	dir, s := p.stage("op", "true", 1)
	s.Request.Spec = providertest.Encoded(t, struct {
		config.Training
		Kubeflow block `ml:"kubeflow,block"`
	}{config.Training{Exec: providertest.Shell("true"), Nodes: 1}, block{Runtime: "torch-distributed", RuntimeKind: clusterKind.Kind, Patches: []any{map[string]any{
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
