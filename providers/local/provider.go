package local

import (
	"context"
	"fmt"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
)

// settings is the `provider "local"` block.
type settings struct {
	MaxParallel int `ml:"max_parallel,min=1" doc:"Greatest number of commands that run at the same time. Default: as many as the plan allows."`
}

// New describes the provider.
func New() providers.Definition {
	return providers.Definition{
		Name:    "local",
		Doc:     "Runs commands as processes of this machine and keeps data and models in the project's .ml folder.",
		Config:  settings{},
		Kinds:   []string{"dataset", "check", "training", "validation", "batch_inference", "deployment", "monitor", "notifier"},
		Connect: connect,
	}
}

func connect(_ context.Context, env providers.Env, config cty.Value) (*providers.Provider, error) {
	var s settings
	if config != cty.NilVal {
		if err := resource.Decode(config, &s); err != nil {
			return nil, fmt.Errorf("provider local: %w", err)
		}
	}
	w, err := runs.NewWorkspace(env, s.MaxParallel)
	if err != nil {
		return nil, fmt.Errorf("provider local: %w", err)
	}
	drivers := runs.Drivers(w, runs.Processes{W: w})
	d := &deployment{Workspace: w}
	drivers["deployment"] = providers.For(d)
	drivers["monitor"] = watch.Monitors(w, d)
	drivers["notifier"] = providers.For(&notifier{Workspace: w})
	return &providers.Provider{Name: "local", Drivers: drivers, Close: w.Close, Prune: w.Prune}, nil
}
