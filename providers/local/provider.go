package local

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/providers"
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

// connect touches nothing: folders are made by the first operation that needs them.
func connect(_ context.Context, penv providers.Env, config cty.Value) (*providers.Provider, error) {
	var s settings
	if config != cty.NilVal {
		if err := resource.Decode(config, &s); err != nil {
			return nil, fmt.Errorf("provider local: %w", err)
		}
	}
	if !filepath.IsAbs(penv.Root) || !filepath.IsAbs(penv.Dir) {
		return nil, fmt.Errorf("provider local: project folder %q and %q must be absolute", penv.Root, penv.Dir)
	}
	e := &env{Env: penv}
	if s.MaxParallel > 0 {
		e.slots = make(chan struct{}, s.MaxParallel)
	}
	return &providers.Provider{Name: "local", Drivers: drivers(e), Close: e.Close, Prune: e.prune}, nil
}

// drivers lists what serves each kind.
func drivers(e *env) map[string]providers.Driver {
	return map[string]providers.Driver{
		"dataset":         providers.For(&dataset{command{e}}),
		"check":           providers.For(&check{command{e}}),
		"training":        providers.For(&training{command{e}}),
		"validation":      providers.For(&validation{command{e}}),
		"batch_inference": providers.For(&batchInference{command{e}}),
		"deployment":      providers.For(&deployment{env: e}),
		"monitor":         providers.For(&monitor{env: e}),
		"notifier":        providers.For(&notifier{env: e}),
	}
}

// env is what the drivers share: the project, its digest index and its artifact store.
type env struct {
	providers.Env
	slots chan struct{} // one per command that may run; nil = no bound

	mu    sync.Mutex
	index *files.Index // remembers for as long as it is open: what a plan read stands
	fresh *files.Index // looks again at every question: what is there now
	store *files.Store
}

// planned returns the index in which a file keeps the digest first taken, so that all blocks of a plan see one version of it.
func (e *env) planned() (*files.Index, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.open(&e.index)
}

// now returns the index that has forgotten what it saw.
func (e *env) now() (*files.Index, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, err := e.open(&e.fresh)
	if err == nil {
		x.Refresh()
	}
	return x, err
}

func (e *env) open(at **files.Index) (*files.Index, error) {
	if *at != nil {
		return *at, nil
	}
	x, err := files.Open(e.Root, e.cachePath())
	if err != nil {
		return nil, err
	}
	*at = x
	return x, nil
}

// artifacts opens the artifact store.
func (e *env) artifacts() (*files.Store, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.store != nil {
		return e.store, nil
	}
	dir, err := e.artifactsDir()
	if err != nil {
		return nil, err
	}
	e.store, err = files.OpenStore(dir)
	return e.store, err
}

// Close writes the stat cache back. What is asked of a driver afterwards opens the index anew, without memory of what was read
// before.
func (e *env) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.index == nil && e.fresh == nil {
		return nil
	}
	err := mkdir(filepath.Dir(e.cachePath()))
	for _, x := range []**files.Index{&e.fresh, &e.index} {
		if *x != nil {
			err = errors.Join(err, (*x).Close())
			*x = nil
		}
	}
	if err != nil {
		return fmt.Errorf("write the digest cache: %w", err)
	}
	return nil
}

// slot waits until another command may run, and returns what gives the slot back.
func (e *env) slot(ctx context.Context) (release func(), err error) {
	if e.slots == nil {
		return func() {}, ctx.Err()
	}
	select {
	case e.slots <- struct{}{}:
		return func() { <-e.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
