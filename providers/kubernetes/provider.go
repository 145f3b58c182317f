package kubernetes

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
	monitors "github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
)

// New describes the provider.
func New() providers.Definition {
	return providers.Definition{
		Name:   "kubernetes",
		Doc:    "Runs commands as Jobs of a Kubernetes cluster, and serves models by Deployments behind a router. Code, data, models and results travel through the registry that ml { artifacts } names.",
		Config: settings{},
		Kinds:  []string{"check", "training", "validation", "batch_inference", "deployment", "monitor"},
		Nested: map[string]any{
			"check": podSettings{}, "training": podSettings{}, "validation": podSettings{}, "batch_inference": podSettings{},
			"deployment": serverSettings{},
		},
		Connect: connect,
	}
}

// env is what the drivers share.
type env struct {
	settings settings
	work     *runs.Workspace
	store    store
	runner   *runnerCache
	exe      []string
	environ  func() []string
	// cluster connects at its first call: to check files, or to plan for another place, no kubeconfig is needed.
	cluster func() (*kube.Client, error)
}

// connect touches neither the cluster nor the registry.
func connect(ctx context.Context, penv providers.Env, config cty.Value) (*providers.Provider, error) {
	var s settings
	if config != cty.NilVal {
		if err := resource.Decode(config, &s); err != nil {
			return nil, fmt.Errorf("provider kubernetes: %w", err)
		}
	}
	e, err := newEnv(ctx, penv, s)
	if err != nil {
		return nil, fmt.Errorf("provider kubernetes: %w", err)
	}
	drivers := runs.Drivers(e.work, &executor{env: e})
	delete(drivers, "dataset") // data is frozen where the project is
	d := &deployment{env: e, now: penv.Now}
	drivers["deployment"] = providers.For(d)
	drivers["monitor"] = monitors.Monitors(e.work, d)
	return &providers.Provider{Name: "kubernetes", Drivers: drivers, Close: e.work.Close}, nil
}

func newEnv(ctx context.Context, penv providers.Env, s settings) (*env, error) {
	w, err := runs.NewWorkspace(penv, s.MaxParallel)
	if err != nil {
		return nil, err
	}
	e := &env{
		settings: s, work: w, exe: penv.Exe, environ: penv.Environ, runner: &runnerCache{},
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
			return nil, fmt.Errorf("provider kubernetes: %w", err)
		}
		return c, nil
	})
	return e, nil
}
