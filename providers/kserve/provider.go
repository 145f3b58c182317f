// Package kserve serves deployments by KServe.
//
// Each model version is an InferenceService of its own, whose model is an OCI image by digest; routers of our own stand before them and
// carry the weights of a rollout (providers/rollout), or an InferenceGraph of KServe's does (split.go). [New] describes the provider;
// preflight.go knows what a cluster would not do or would pass over in silence, which plan.go says in the plan and deployment.go before
// anything changes; objects.go and graph.go build objects, rollout.go brings them up and looks whether they are what was asked for,
// golden.go asks them; traffic.go hands what routers captured to monitors, status.go reads and deletes, import.go takes over an
// InferenceService that is there. Only internal/api sees KServe's Go types.
package kserve

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
)

// New describes the provider.
func New() providers.Definition {
	return providers.Definition{
		Name:    "kserve",
		Doc:     "Serves models by KServe: an InferenceService for each version, behind a router that carries the weights of a rollout.",
		Config:  settings{},
		Kinds:   []string{"deployment", "monitor"},
		Nested:  map[string]any{"deployment": nested{}},
		Connect: connect,
	}
}

// connect touches neither the cluster nor the registry.
func connect(ctx context.Context, env providers.Env, config cty.Value) (*providers.Provider, error) {
	s := settings{}
	if config != cty.NilVal {
		if err := resource.Decode(config, &s); err != nil {
			return nil, fmt.Errorf("provider kserve: %w", err)
		}
	}
	s.SystemNamespace = cmp.Or(s.SystemNamespace, "kserve")
	w, err := runs.NewWorkspace(env, 0)
	if err != nil {
		return nil, fmt.Errorf("provider kserve: %w", err)
	}
	store := pods.Store{URI: env.Artifacts, Client: oci.New(oci.Options{Insecure: s.InsecureRegistry})}
	runner := &pods.Runner{Store: store, Exe: env.Exe, Given: s.RunnerImage, Provider: "kserve"}
	d := &deployment{settings: s, artifacts: store, work: w, now: env.Now, runner: runner.Image}
	// The context ends with the call that connects, and a client needs none.
	ctx = context.WithoutCancel(ctx)
	client := func(allowed []string) func() (*kube.Client, error) {
		return sync.OnceValues(func() (*kube.Client, error) {
			c, err := kube.Connect(ctx, kube.Config{
				Kubeconfig: s.Kubeconfig, Context: s.Context, Namespace: s.Namespace, Allowed: allowed, AnswerWithin: s.RequestTimeout, Version: env.Version,
			})
			if err != nil {
				return nil, fmt.Errorf("provider kserve: %w", err)
			}
			return c, nil
		})
	}
	d.cluster, d.system = client(slices.Clone(s.Namespaces)), client([]string{kube.AllNamespaces})
	return &providers.Provider{Name: "kserve", Drivers: map[string]providers.Driver{"deployment": providers.For(d), "monitor": watch.Monitors(w, d)}, Close: w.Close}, nil
}
