package pods

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

// Env is what the drivers of one provider share.
type Env struct {
	Kind      Kind
	Settings  Settings
	Work      *runs.Workspace
	Artifacts Store
	Runner    *Runner
	Environ   func() []string
	// Cluster connects at its first call: to check files, or to plan for another place, no kubeconfig is needed.
	Cluster func() (*kube.Client, error)
}

// NewEnv reads the provider's block. It touches neither the cluster nor the registry.
func NewEnv(ctx context.Context, penv providers.Env, config cty.Value, kind Kind) (*Env, error) {
	name := kind.Provider()
	var s Settings
	if config != cty.NilVal {
		if err := resource.Decode(config, &s); err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
	}
	return Configured(ctx, penv, s, kind)
}

// Configured is NewEnv with settings that are read already.
func Configured(ctx context.Context, penv providers.Env, s Settings, kind Kind) (*Env, error) {
	name := kind.Provider()
	w, err := runs.NewWorkspace(penv, s.MaxParallel)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	store := Store{URI: penv.Artifacts, Client: oci.New(oci.Options{Insecure: s.InsecureRegistry})}
	e := &Env{
		Kind: kind, Settings: s, Work: w, Artifacts: store, Environ: penv.Environ,
		Runner: &Runner{Store: store, Exe: penv.Exe, Given: s.RunnerImage, Provider: name},
	}
	if e.Environ == nil {
		e.Environ = os.Environ
	}
	// The context ends with the call that connects, and a client needs none.
	ctx = context.WithoutCancel(ctx)
	e.Cluster = sync.OnceValues(func() (*kube.Client, error) {
		c, err := kube.Connect(ctx, kube.Config{
			Kubeconfig: s.Kubeconfig, Context: s.Context, Namespace: s.Namespace, Allowed: s.Namespaces, AnswerWithin: s.RequestTimeout, Version: penv.Version,
		})
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
		return c, nil
	})
	return e, nil
}

// Executor brings stages to their end.
func (e *Env) Executor() runs.Executor { return &executor{Env: e} }

// Drivers are those of the block kinds that are listed.
func (e *Env) Drivers(blocks ...string) map[string]providers.Driver {
	all := runs.Drivers(e.Work, e.Executor())
	out := map[string]providers.Driver{}
	for _, b := range blocks {
		out[b] = all[b]
	}
	return out
}
