package kubernetes

import (
	"context"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
)

// New describes the provider.
func New() providers.Definition {
	return providers.Definition{
		Name:   name,
		Doc:    "Runs commands as Jobs of a Kubernetes cluster. Code, data, models and results travel through the registry that ml { artifacts } names.",
		Config: pods.Settings{},
		Kinds:  kinds(),
		Nested: map[string]any{
			"check": pods.Block{}, "training": pods.Block{}, "validation": pods.Block{}, "batch_inference": pods.Block{},
		},
		Connect: connect,
	}
}

const name = "kubernetes"

// kinds leaves datasets out: data is frozen where the project is.
func kinds() []string { return []string{"check", "training", "validation", "batch_inference"} }

func connect(ctx context.Context, env providers.Env, config cty.Value) (*providers.Provider, error) {
	return pods.Connect(ctx, env, config, jobs{}, kinds())
}
