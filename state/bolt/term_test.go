package bolt

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func put(name string) state.Op {
	return state.Op{PutRecord: &state.Record{Address: resource.Address{Kind: "dataset", Name: name}, Provider: "local", Phase: resource.PhaseReady}}
}

func TestALaterLeaderTakesTheLeaseFromAnEarlierOneThatHasTheLock(t *testing.T) {
	path := t.TempDir() + "/state.db"
	ctx := t.Context()
	former, later := Open(path, Options{Term: 3}), Open(path, Options{Term: 4})
	_, release, err := former.Acquire(ctx, "apply")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := former.Commit(ctx, 0, put("a")); err != nil {
		t.Fatal(err)
	}
	epoch, giveBack, err := later.Acquire(ctx, "apply")
	if err != nil || epoch != 2 {
		t.Fatalf("epoch %d: %v", epoch, err)
	}
	if _, err := former.Commit(ctx, 0, put("b")); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a commit of the former leader: %v", err)
	}
	if err := release(); !errors.Is(err, state.ErrConflict) {
		t.Errorf("the former leader gives back what it has not: %v", err)
	}
	if l := later.signed(); l == nil || l.Term != 4 {
		t.Errorf("the lock says %+v", l)
	}
	if _, err := later.Commit(ctx, 0, put("c")); err != nil {
		t.Error(err)
	}
	if err := giveBack(); err != nil {
		t.Error(err)
	}
	// Also when nobody holds the lease: the term of the state never falls.
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, _, err := former.Acquire(short, "apply"); !errors.Is(err, state.ErrConflict) {
		t.Errorf("the former leader takes the lease again: %v", err)
	}
	snap, err := later.Snapshot(ctx)
	if err != nil || len(snap.Records) != 2 || snap.Lease != nil {
		t.Errorf("%d records, lease %+v, %v", len(snap.Records), snap.Lease, err)
	}
}

func TestALeaderWaitsForWhoIsNone(t *testing.T) {
	path := t.TempDir() + "/state.db"
	_, release, err := Open(path, Options{}).Acquire(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := Open(path, Options{Term: 9}).Acquire(short, "apply"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("taken from somebody at the command line: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestACommitAsksAtTheLastMomentWhetherItMay(t *testing.T) {
	s := Open(t.TempDir()+"/state.db", Options{Term: 1})
	asked := 0
	ctx := fence.With(t.Context(), func() error {
		if asked++; asked > 2 {
			return fence.ErrLost
		}
		return nil
	})
	_, release, err := s.Acquire(ctx, "apply")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, 0, put("a")); err != nil {
		t.Fatal(err)
	}
	before, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(context.WithoutCancel(ctx), 0, put("b")); !errors.Is(err, fence.ErrLost) {
		t.Errorf("%v", err)
	}
	if err := release(); !errors.Is(err, fence.ErrLost) {
		t.Errorf("%v", err)
	}
	after, err := s.Snapshot(t.Context())
	if err != nil || after.Serial != before.Serial || s.signed() == nil {
		t.Errorf("serial %d, was %d; the lock says %+v; %v", after.Serial, before.Serial, s.signed(), err)
	}
}
