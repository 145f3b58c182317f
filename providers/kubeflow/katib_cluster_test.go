//go:build e2e

package kubeflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
)

// katibOn lets the cluster's Katib into the namespace. It is the real one, which `go run ./e2e/cluster katib` adds to a cluster.
func katibOn(t *testing.T, p *place) {
	t.Helper()
	if ok, err := p.admin.Has(t.Context(), experimentKind); err != nil {
		t.Fatal(err)
	} else if !ok {
		const say = "the cluster has no Katib: `go run ./e2e/cluster katib` adds it"
		if os.Getenv("CI") != "" {
			t.Fatal(say)
		}
		t.Skip(say)
	}
	p.label("enabled")
}

// label says whether Katib's collector may come into pods of the namespace.
func (p *place) label(value string) {
	p.T.Helper()
	ns, err := kube.FromTyped(namespaceKind, map[string]any{"metadata": map[string]any{"name": p.ns, "labels": map[string]any{labelInjection: value}}})
	if err == nil {
		_, err = p.admin.Apply(p.T.Context(), ns, kube.ApplyOptions{})
	}
	if err != nil {
		p.T.Fatal(err)
	}
}

// byKatib is a training whose search Katib conducts, in four trials of which two run at a time.
func byKatib(t config.Training) any {
	t.Tuning.Method, t.Tuning.Trials = "random", 4
	return struct {
		config.Training
		Kubeflow block `ml:"kubeflow,block"`
	}{t, block{Runtime: "torch-distributed", RuntimeKind: clusterKind.Kind, Katib: &katib{}}}
}

// isTheBest fails unless the version was made with the parameters of the best of four trials, and each of these was measured.
func isTheBest(t *testing.T, r providers.Result) {
	t.Helper()
	text, err := json.Marshal(r.Detail)
	if err != nil {
		t.Fatal(err)
	}
	var detail struct {
		Tuning struct {
			Method string
			Best   int
			Trials []struct {
				Params map[string]float64
				Value  *float64
			}
		}
	}
	if err := json.Unmarshal(text, &detail); err != nil {
		t.Fatal(err)
	}
	d := detail.Tuning
	if d.Method != "katib random" || len(d.Trials) != 4 || d.Best < 1 || d.Best > 4 {
		t.Fatalf("the search is kept as %s", text)
	}
	least := math.Inf(1)
	for _, tr := range d.Trials {
		if x, ok := tr.Params["x"]; !ok || x < 2 || x > 4 || tr.Value == nil || *tr.Value != (x-3)*(x-3) {
			t.Fatalf("not every trial was measured: %s", text)
		}
		least = min(least, *tr.Value)
	}
	best := d.Trials[d.Best-1]
	if *best.Value != least {
		t.Errorf("trial %d is not the best of %s", d.Best, text)
	}
	want := fmt.Sprintf("map[base:7 x:%v]", best.Params["x"])
	if v := r.Version; v == nil || fmt.Sprint(v.Params) != want || v.Metrics["loss"] != least {
		t.Errorf("made %+v, want it to have %s", v, want)
	}
}

func TestOnAClusterKatibSearchesAndTheBestIsTrained(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	katibOn(t, p)
	c.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d := p.env.Drivers("training")["training"]
	r, err := d.Apply(ctx, p.request("op", byKatib(searched(c.Counted(), "loss"))))
	if err != nil {
		t.Fatal(err)
	}
	isTheBest(t, r)
	if n := c.Begun(); n != 5 {
		t.Errorf("the command began %d times, want four trials and the run that counts", n)
	}
	_, err = d.Apply(ctx, p.request("other", byKatib(searched("", "accuracy"))))
	var failed *providers.RunError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "max failed count") || !strings.Contains(err.Error(), `the metric "accuracy" is not in ML_METRICS`) {
		t.Errorf("without the metric: %v", err)
	}
	p.nothingLeft()
}

func TestOnAClusterASearchOfKatibsIsSettledAndCancelled(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	katibOn(t, p)
	d := p.env.Drivers("training")["training"]
	req := p.request("op", byKatib(searched(c.Counted()+c.Slowly(), "loss")))
	interrupted := func(req providers.ApplyRequest, begun int) {
		ctx, kill := context.WithCancel(t.Context())
		died := make(chan error, 1)
		go func() {
			_, err := d.Apply(ctx, req)
			died <- err
		}()
		providertest.WaitFor(t, func() bool { return c.Begun() == begun })
		kill()
		if err := <-died; err == nil {
			t.Fatal("it ended although its trials go on")
		}
	}
	interrupted(req, 2)
	c.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	req.Adopt = true
	r, err := d.Apply(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	isTheBest(t, r)
	if n := c.Begun(); n != 5 {
		t.Errorf("the command began %d times, want four trials and the run that counts", n)
	}
	c.Hold()
	req.OpID, req.Adopt = "cancelled", false
	interrupted(req, 7)
	stop, ok := providers.As[providers.Canceller](d)
	if !ok {
		t.Fatal("it cannot be cancelled")
	}
	if err := stop.Cancel(ctx, req.Address, req.OpID); err != nil {
		t.Fatal(err)
	}
	if left, err := p.admin.List(ctx, experimentKind, p.ns, kube.Selector{}); err != nil || len(left) > 0 {
		t.Errorf("%d experiments are left, %v", len(left), err)
	}
	req.Adopt = true
	if _, err := d.Apply(ctx, req); !errors.Is(err, providers.ErrCancelled) {
		t.Errorf("adopted after a cancel: %v", err)
	}
	p.nothingLeft()
}

// The label is away while the pods of the first trials are made, so that they get no collector.
func TestOnAClusterAMetricThatDoesNotArriveIsAnError(t *testing.T) {
	p := onCluster(t)
	katibOn(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := p.env.Drivers("training")["training"].Apply(ctx, p.request("op", byKatib(searched("", "loss"))))
		ended <- err
	}()
	// There is no trial before Katib's service of suggestions runs.
	providertest.WaitFor(t, func() bool {
		all, err := p.admin.List(ctx, experimentKind, p.ns, kube.Selector{})
		if err != nil {
			t.Error(err)
		}
		return len(all) > 0
	})
	p.label("disabled")
	providertest.WaitFor(t, func() bool {
		pods, err := p.admin.List(ctx, podKind, p.ns, kube.Selector{Labels: batchv1.JobNameLabel})
		if err != nil {
			t.Error(err)
		}
		return len(pods) == 2
	})
	p.label("enabled") // without it Katib's webhook lets nobody delete an Experiment
	err := <-ended
	if err == nil || !strings.Contains(err.Error(), "its metric has not arrived") || !strings.Contains(err.Error(), "Katib's collector is not in its pod") {
		t.Errorf("%v", err)
	}
	p.nothingLeft()
}
