package engine

import (
	"maps"
	"slices"
	"sync"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// tracker is the state in memory, kept in step with a session's own commits, so
// that a step need not read the whole store to see one address.
type tracker struct {
	mu   sync.Mutex
	snap state.Snapshot
}

func newTracker(snap *state.Snapshot) *tracker {
	c := *snap
	c.Records, c.Versions, c.Signals = maps.Clone(snap.Records), maps.Clone(snap.Versions), maps.Clone(snap.Signals)
	c.Pins, c.Quarantines, c.Runs = maps.Clone(snap.Pins), maps.Clone(snap.Quarantines), maps.Clone(snap.Runs)
	c.Counters = maps.Clone(snap.Counters)
	c.Intents, c.Approvals = slices.Clone(snap.Intents), slices.Clone(snap.Approvals)
	return &tracker{snap: c}
}

func (t *tracker) record(a resource.Address) *state.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.snap.Records[a]
}

func (t *tracker) intents() []*state.Intent {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.snap.Intents)
}

func (t *tracker) isOpen(opID string) bool {
	return slices.ContainsFunc(t.intents(), func(in *state.Intent) bool { return in.OpID == opID })
}

func (t *tracker) version(ref state.VersionRef) *state.Version {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.snap.Version(ref.Address, ref.Number)
}

// versionOf is the newest version with this digest, nil for none.
func (t *tracker) versionOf(a resource.Address, d resource.Digest) *state.Version {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.snap.Versions[a]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Digest == d {
			return list[i]
		}
	}
	return nil
}

// nextVersion is the number that the next version of a training will have. One
// training runs once at a time, so nobody else takes it before the commit.
func (t *tracker) nextVersion(a resource.Address) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.snap.NextVersion(a)
}

// snapshot is a copy of the whole.
func (t *tracker) snapshot() *state.Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &newTracker(&t.snap).snap
}

// view is what one step's driver may see: its own address and what it depends on.
func (t *tracker) view(a resource.Address, deps []resource.Address) *state.Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := &state.Snapshot{
		Lineage: t.snap.Lineage, Serial: t.snap.Serial,
		Records: map[resource.Address]*state.Record{}, Versions: map[resource.Address][]*state.Version{},
		Signals: map[resource.Address][]*state.Signal{}, Pins: map[resource.Address]*state.Pin{},
		Quarantines: map[resource.Address][]*state.Quarantine{}, Runs: map[resource.Address][]state.RunKey{},
	}
	for _, x := range append([]resource.Address{a}, deps...) {
		copyAt(v.Records, t.snap.Records, x)
		copyAt(v.Versions, t.snap.Versions, x)
		copyAt(v.Signals, t.snap.Signals, x)
		copyAt(v.Pins, t.snap.Pins, x)
		copyAt(v.Quarantines, t.snap.Quarantines, x)
		copyAt(v.Runs, t.snap.Runs, x)
	}
	return v
}

func copyAt[V any](to, from map[resource.Address]V, a resource.Address) {
	if v, ok := from[a]; ok {
		to[a] = v
	}
}

// apply takes over committed changes. Slices are copied before they change:
// views hold the old ones.
func (t *tracker) apply(ops []state.Op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.snap
	for _, op := range ops {
		switch {
		case op.PutRecord != nil:
			s.Records[op.PutRecord.Address] = op.PutRecord
		case op.DeleteRecord != nil:
			delete(s.Records, *op.DeleteRecord)
		case op.PutRun != nil:
			r := op.PutRun
			s.Runs[r.Address] = append(slices.Clip(s.Runs[r.Address]), runKey(r))
		case op.PutVersion != nil:
			t.putVersion(op.PutVersion)
		case op.PutSignal != nil:
			s.Signals[op.PutSignal.Address] = replaced(s.Signals[op.PutSignal.Address], op.PutSignal, func(x *state.Signal) bool { return x.Name == op.PutSignal.Name })
		case op.PutIntent != nil:
			s.Intents = append(slices.Clip(s.Intents), op.PutIntent)
		case op.CloseIntent != "":
			s.Intents = slices.DeleteFunc(slices.Clone(s.Intents), func(i *state.Intent) bool { return i.OpID == op.CloseIntent })
		case op.PutApproval != nil:
			s.Approvals = replaced(s.Approvals, op.PutApproval, func(x *state.Approval) bool { return x.Plan == op.PutApproval.Plan })
		case op.DeleteApproval != "":
			s.Approvals = slices.DeleteFunc(slices.Clone(s.Approvals), func(x *state.Approval) bool { return x.Plan == op.DeleteApproval })
		case op.PutPin != nil:
			s.Pins[op.PutPin.Address] = op.PutPin
		case op.DeletePin != nil:
			delete(s.Pins, *op.DeletePin)
		case op.PutQuarantine != nil:
			q := op.PutQuarantine
			s.Quarantines[q.Address] = replaced(s.Quarantines[q.Address], q, func(x *state.Quarantine) bool { return x.Digest == q.Digest })
		case op.LiftQuarantine != nil:
			q := op.LiftQuarantine
			s.Quarantines[q.Address] = slices.DeleteFunc(slices.Clone(s.Quarantines[q.Address]), func(x *state.Quarantine) bool { return x.Digest == q.Digest })
		}
	}
}

func (t *tracker) putVersion(v *state.Version) {
	s := &t.snap
	s.Versions[v.Address] = replaced(s.Versions[v.Address], v, func(x *state.Version) bool { return x.Number == v.Number })
	if s.Counters == nil {
		s.Counters = map[resource.Address]int{}
	}
	s.Counters[v.Address] = max(s.Counters[v.Address], v.Number)
}

// replaced returns a copy of list with v in the place of the element that match
// finds, or at its end.
func replaced[T any](list []*T, v *T, match func(*T) bool) []*T {
	out := slices.Clone(list)
	if i := slices.IndexFunc(out, match); i >= 0 {
		out[i] = v
		return out
	}
	return append(out, v)
}

func (t *tracker) signal(a resource.Address, name string) *state.Signal {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.snap.Signals[a] {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func (t *tracker) quarantined(a resource.Address, d resource.Digest) *state.Quarantine {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range t.snap.Quarantines[a] {
		if q.Digest == d {
			return q
		}
	}
	return nil
}

func runKey(r *state.Run) state.RunKey {
	return state.RunKey{ID: r.ID, Inputs: r.Inputs, Phase: r.Phase, Trigger: r.Trigger, Version: r.Version, Started: r.Started, Finished: r.Finished}
}
