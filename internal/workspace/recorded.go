package workspace

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers/all"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// OpenRecorded loads the files as a stranger's and makes an engine ready for pure plans on a state that is kept elsewhere. Nothing is
// written into the project folder: caches go to o.Dir, git modules are those that were fetched into Root. The key of the state is not
// here, so sensitive values count as unchanged, and a plan says so.
func OpenRecorded(ctx context.Context, o Options, snap *state.Snapshot) (*Workspace, error) {
	o.Untrusted, o.Environ = true, func() []string { return nil }
	w := &Workspace{Root: o.Root, Dir: o.dir(), Vars: o.Vars, o: o}
	known, err := Schemas()
	if err != nil {
		return nil, err
	}
	conf, diags := config.Load(ctx, config.Options{
		Dir: o.Root, Vars: o.Vars, Providers: known, Elsewhere: all.Elsewhere(), ToolVersion: o.Version,
		Modules: filepath.Join(o.Root, DotML, "modules"), Exe: o.Exe, Untrusted: true, Hash: planner.Keyless,
	})
	if diags.HasErrors() {
		return nil, DiagError{Diags: diags, Files: Sources(o.Root, diags)}
	}
	w.Conf, w.Warnings = conf, diags
	w.Engine = &engine.Engine{
		Project: conf, Store: recordedStore{snap}, Now: time.Now, Hash: planner.Keyless, Commit: o.Commit,
		Parallel: conf.Settings.Parallelism, Connect: w.connect,
	}
	if o.Commit == "" {
		git := openCheckout(o.Root)
		w.Engine.Commit = git.commit()
		w.Engine.Dirty = func() bool { return git.dirty(conf.Files) }
	}
	return w, nil
}

// errElsewhere says that the state is only looked at.
var errElsewhere = errors.New("the state is kept elsewhere and only read here")

// recordedStore is a state that was read once.
type recordedStore struct{ snap *state.Snapshot }

func (s recordedStore) Snapshot(context.Context) (*state.Snapshot, error) { return s.snap, nil }

func (recordedStore) Commit(context.Context, uint64, ...state.Op) (uint64, error) {
	return 0, errElsewhere
}

func (recordedStore) Runs(context.Context, resource.Address) ([]*state.Run, error) {
	return nil, errElsewhere
}

func (recordedStore) Acquire(context.Context, string) (int64, func() error, error) {
	return 0, nil, errElsewhere
}
