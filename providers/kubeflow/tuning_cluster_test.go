//go:build e2e

package kubeflow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// searched is a training whose command reports the square of how far x is from 3.
func searched(script, metric string) config.Training {
	return config.Training{
		Exec:  providertest.Shell(script + `python3 -c "import json,os;p=json.load(open(os.environ['ML_PARAMS']));json.dump({'loss':(p['x']-3)**2,'tag':p['base']},open(os.environ['ML_METRICS'],'w'))"; echo m > $ML_MODEL_DIR/m`),
		Nodes: 1, Params: map[string]any{"base": 7.0},
		Tuning: &config.Tuning{
			Method: "grid", Trials: 10, Parallel: 2, Metric: metric, Goal: "minimize", MaxFailed: 0,
			Parameters: []config.TuningParameter{{Name: "x", Type: "int", Min: new(2.0), Max: new(4.0)}},
		},
	}
}

// request is a step on a training of this name.
func (p *place) request(id string, spec any) providers.ApplyRequest {
	return providers.ApplyRequest{OpID: id, Address: resource.Address{Kind: "training", Name: "x"}, Action: resource.RunIt,
		Spec: providertest.Encoded(p.T, spec), State: p.Snapshot, Emit: func(resource.Event) {}}
}

func TestOnAClusterASearchWithoutKatibIsTrainJobs(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	c.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d := p.env.Drivers("training")["training"]
	r, err := d.Apply(ctx, p.request("op", searched(c.Counted(), "loss")))
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Version; v == nil || fmt.Sprint(v.Params) != "map[base:7 x:3]" || v.Metrics["loss"] != 0 {
		t.Errorf("made %+v", v)
	}
	if n := c.Begun(); n != 4 {
		t.Errorf("the command began %d times, want three trials and the run that counts", n)
	}
	_, err = d.Apply(ctx, p.request("other", searched("", "accuracy")))
	var failed *providers.RunError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), `the metric "accuracy" is not in ML_METRICS`) {
		t.Errorf("without the metric: %v", err)
	}
	p.nothingLeft()
}

func TestOnAClusterASearchGoesOnWhereItWasInterrupted(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	d := p.env.Drivers("training")["training"]
	req := p.request("op", searched(c.Counted()+c.Slowly(), "loss"))
	ctx, kill := context.WithCancel(t.Context())
	died := make(chan error, 1)
	go func() {
		_, err := d.Apply(ctx, req)
		died <- err
	}()
	providertest.WaitFor(t, func() bool { return c.Begun() == 2 })
	kill()
	if err := <-died; err == nil {
		t.Fatal("it ended although its trials go on")
	}
	c.Release()
	req.Adopt = true
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := d.Apply(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Begun(); n != 4 || fmt.Sprint(r.Version.Params) != "map[base:7 x:3]" {
		t.Errorf("the command began %d times for %+v", n, r.Version.Params)
	}
	p.nothingLeft()
}
