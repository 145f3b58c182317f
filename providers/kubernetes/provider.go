package kubernetes

import (
	"context"
	"fmt"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/runs"
	monitors "github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
)

const name = "kubernetes"

// New describes the provider.
func New() providers.Definition {
	return providers.Definition{
		Name:   name,
		Doc:    "Runs commands as Jobs of a Kubernetes cluster, serves models by Deployments behind a router, reads datasets from persistent volume claims, and applies objects of any kind. Code, data, models and results travel through the registry that ml { artifacts } names.",
		Config: pods.Settings{},
		Kinds:  []string{"check", "training", "validation", "batch_inference", "deployment", "monitor", "manifest", "dataset"},
		Named:  []string{"dataset"}, // others are frozen where the project is
		Nested: map[string]any{
			"check": pods.Block{}, "training": pods.Block{}, "validation": pods.Block{}, "batch_inference": pods.Block{},
			"deployment": serverSettings{}, "dataset": pods.ClaimBlock{},
		},
		Connect: connect,
	}
}

// connect touches neither the cluster nor the registry.
func connect(ctx context.Context, penv providers.Env, config cty.Value) (*providers.Provider, error) {
	e, err := pods.NewEnv(ctx, penv, config, jobs{})
	if err != nil {
		return nil, err
	}
	drivers := e.Drivers("check", "training", "validation", "batch_inference")
	dataset, forget := e.Dataset(claimBlock)
	drivers["dataset"] = dataset
	d := &deployment{Env: e, now: penv.Now}
	drivers["deployment"] = providers.For(d)
	drivers["manifest"] = providers.For(&manifests{Env: e, now: penv.Now})
	drivers["monitor"] = monitors.Monitors(e.Work, d)
	closed := func() error {
		forget()
		return e.Work.Close()
	}
	return &providers.Provider{Name: name, Drivers: drivers, Close: closed}, nil
}

// claimBlock reads what a dataset says of where its claim is.
func claimBlock(q runs.ClaimRequest) (*pods.ClaimBlock, error) {
	if v := q.Spec.GetAttr(name); !v.IsWhollyKnown() {
		return nil, fmt.Errorf("%s: it depends on what is known only after an apply; a plan reads the claim, so write what is known before", name)
	}
	var w struct {
		Kubernetes *pods.ClaimBlock `ml:"kubernetes,block"`
	}
	err := resource.Decode(resource.Known(q.Spec), &w)
	return w.Kubernetes, err
}
