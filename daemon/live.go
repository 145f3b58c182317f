package daemon

import (
	"context"
	"errors"

	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/resource"
)

// watched is an engine that stands by to tell when somebody changes an object.
type watched struct {
	w      *workspace.Workspace
	cancel context.CancelFunc
	of     string // the commit and the state that it was begun with
}

// stop ends the watch; nil has none.
func (x *watched) stop() error {
	if x == nil {
		return nil
	}
	x.cancel()
	return x.w.Close()
}

// watchLive has the providers tell what somebody changes, so that a cycle begins
// at once. It covers the records of the moment, and is begun anew when they are
// others. It takes w over, or closes it. What is told is a hint: a watch that
// cannot be had costs the interval.
func (r *repo) watchLive(ctx context.Context, w *workspace.Workspace, commit string) error {
	if r.conf.Mode == Observe {
		return w.Close()
	}
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	r.places = r.sources(snap, w)
	of := commit + " " + string(snap.Root)
	if r.watching != nil && r.watching.of == of {
		return w.Close()
	}
	err = r.watching.stop()
	r.watching = nil
	wctx, cancel := context.WithCancel(ctx)
	seen, werr := w.Engine.Watch(wctx, func(resource.Address) { poke(r.moved) })
	if werr != nil {
		r.log.Warn("watch", "error", werr)
	}
	if len(seen) == 0 { // nothing that could tell: processes of this machine are looked at in each cycle
		cancel()
		return errors.Join(err, w.Close())
	}
	r.watching = &watched{w: w, cancel: cancel, of: of}
	return err
}
