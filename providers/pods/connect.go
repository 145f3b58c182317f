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

// env is what the drivers share.
type env struct {
	kind     Kind
	settings Settings
	work     *runs.Workspace
	store    store
	runner   *runnerCache
	exe      []string
	environ  func() []string
	// cluster connects at its first call: to check files, or to plan for another place, no kubeconfig is needed.
	cluster func() (*kube.Client, error)
}

// Connect makes the drivers of a provider whose runs are objects of that kind: those of the block kinds that are listed. It touches
// neither the cluster nor the registry.
func Connect(ctx context.Context, penv providers.Env, config cty.Value, kind Kind, blocks []string) (*providers.Provider, error) {
	name := kind.Provider()
	var s Settings
	if config != cty.NilVal {
		if err := resource.Decode(config, &s); err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
	}
	w, err := runs.NewWorkspace(penv, s.MaxParallel)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	e := &env{
		kind: kind, settings: s, work: w, exe: penv.Exe, environ: penv.Environ, runner: &runnerCache{},
		store: store{artifacts: penv.Artifacts, client: oci.New(oci.Options{Insecure: s.InsecureRegistry})},
	}
	if e.environ == nil {
		e.environ = os.Environ
	}
	// The context ends with the call that connects, and a client needs none.
	ctx = context.WithoutCancel(ctx)
	e.cluster = sync.OnceValues(func() (*kube.Client, error) {
		c, err := kube.Connect(ctx, kube.Config{Kubeconfig: s.Kubeconfig, Context: s.Context, Namespace: s.Namespace, Allowed: s.Namespaces})
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
		return c, nil
	})
	all := runs.Drivers(w, &executor{env: e})
	drivers := map[string]providers.Driver{}
	for _, b := range blocks {
		drivers[b] = all[b]
	}
	return &providers.Provider{Name: name, Drivers: drivers, Close: w.Close}, nil
}
