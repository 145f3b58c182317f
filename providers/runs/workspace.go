package runs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/source"
	"github.com/continuo-ml/continuo/providers"
)

// Workspace is what the drivers of one provider share: the project on this machine, its digest index and its artifact store.
type Workspace struct {
	providers.Env
	slots chan struct{} // one per command that may run; nil = no bound

	mu    sync.Mutex
	index *files.Index // remembers for as long as it is open: what a plan read stands
	fresh *files.Index // looks again at every question: what is there now
	store *files.Store
	away  *source.Reader // remembers like index
}

// NewWorkspace makes the workspace of a project. maxParallel bounds how many stages run at the same time, 0 = as many as the
// plan allows. It touches nothing: folders are made by the first operation that needs them.
func NewWorkspace(env providers.Env, maxParallel int) (*Workspace, error) {
	if !filepath.IsAbs(env.Root) || !filepath.IsAbs(env.Dir) {
		return nil, fmt.Errorf("project folder %q and %q must be absolute", env.Root, env.Dir)
	}
	w := &Workspace{Env: env}
	if maxParallel > 0 {
		w.slots = make(chan struct{}, maxParallel)
	}
	return w, nil
}

// Drivers lists what serves each kind with the commands run by x.
func Drivers(w *Workspace, x Executor) map[string]providers.Driver {
	c := command{Workspace: w, exec: x}
	return map[string]providers.Driver{
		"dataset":         providers.For(&dataset{command: c}),
		"check":           providers.For(&check{c}),
		"training":        providers.For(&training{c}),
		"validation":      providers.For(&validation{c}),
		"batch_inference": providers.For(&batchInference{c}),
	}
}

// planned returns the index in which a file keeps the digest first taken, so that all blocks of a plan see one version of it.
func (e *Workspace) planned() (*files.Index, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.open(&e.index)
}

// now returns the index that has forgotten what it saw.
func (e *Workspace) now() (*files.Index, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, err := e.open(&e.fresh)
	if err == nil {
		x.Refresh()
	}
	return x, err
}

func (e *Workspace) open(at **files.Index) (*files.Index, error) {
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

// sources returns the reader of data that lies elsewhere, in which an address keeps the version first read, as in planned.
func (e *Workspace) sources() *source.Reader {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away == nil {
		e.away = source.New(source.Options{Dir: e.sourcesDir()})
	}
	return e.away
}

// Store opens the artifact store of this machine.
func (e *Workspace) Store() (*files.Store, error) {
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
func (e *Workspace) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	if e.away != nil {
		err = e.away.Close()
		e.away = nil
	}
	if e.index == nil && e.fresh == nil {
		return err
	}
	err = errors.Join(err, mkdir(filepath.Dir(e.cachePath())))
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
func (e *Workspace) slot(ctx context.Context) (release func(), err error) {
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
