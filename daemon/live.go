package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
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

// objectsOf tells the recorded objects of a state from others: the lease, which
// every cycle takes, is none of them.
func objectsOf(snap *state.Snapshot) string {
	sum := sha256.New()
	for _, a := range slices.SortedFunc(maps.Keys(snap.Records), resource.Address.Compare) {
		rec := snap.Records[a]
		fmt.Fprintf(sum, "%s %s %s %d %s\n", a, rec.Provider, rec.Phase, rec.Updated.UnixNano(), rec.Ref)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// watchLive has the providers tell what somebody changes, so that a cycle begins
// at once. It covers the records of the moment, and is begun anew when they are
// others. It takes w over, or closes it. What is told is a hint: a watch that
// cannot be had costs the interval. seen is what the cycle's plan read, if nothing
// was done since.
func (r *repo) watchLive(ctx context.Context, w *workspace.Workspace, commit string, seen *engine.Planned) error {
	if r.conf.Mode == Observe {
		return w.Close()
	}
	var snap *state.Snapshot
	var err error
	if seen != nil {
		snap = seen.Input.Prior
	} else if snap, err = w.Store.Snapshot(ctx); err != nil {
		return errors.Join(err, w.Close())
	}
	r.places = r.sources(snap, w)
	of := commit + " " + objectsOf(snap)
	if r.watching != nil && r.watching.of == of {
		return w.Close()
	}
	err = r.watching.stop()
	r.watching = nil
	wctx, cancel := context.WithCancel(ctx)
	tell, werr := w.Engine.Watch(wctx, snap, func(resource.Address) { poke(r.moved) })
	if werr != nil {
		r.log.Warn("watch", "error", werr)
	}
	if len(tell) == 0 { // nothing that could tell: processes of this machine are looked at in each cycle
		cancel()
		return errors.Join(err, w.Close())
	}
	r.watching = &watched{w: w, cancel: cancel, of: of}
	return err
}
