package kubernetes

import (
	"context"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	monitors "github.com/continuo-ml/continuo/providers/watch"
)

const name = "kubernetes"

// New describes the provider.
func New() providers.Definition {
	return providers.Definition{
		Name:   name,
		Doc:    "Runs commands as Jobs of a Kubernetes cluster, serves models by Deployments behind a router, and applies objects of any kind. Code, data, models and results travel through the registry that ml { artifacts } names.",
		Config: pods.Settings{},
		Kinds:  []string{"check", "training", "validation", "batch_inference", "deployment", "monitor", "manifest"},
		Nested: map[string]any{
			"check": pods.Block{}, "training": pods.Block{}, "validation": pods.Block{}, "batch_inference": pods.Block{},
			"deployment": serverSettings{},
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
	drivers := e.Drivers("check", "training", "validation", "batch_inference") // data is frozen where the project is
	d := &deployment{Env: e, now: penv.Now}
	drivers["deployment"] = providers.For(d)
	drivers["manifest"] = providers.For(&manifests{Env: e, now: penv.Now})
	drivers["monitor"] = monitors.Monitors(e.Work, d)
	return &providers.Provider{Name: name, Drivers: drivers, Close: e.Work.Close}, nil
}
