package statetest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/state"
)

func (s *suite) pins() {
	p := &state.Pin{Address: s.addr("deployment.d"), Version: 1, Model: json.RawMessage(`{"version":1}`), Who: "me", When: Time}
	q := &state.Quarantine{Address: p.Address, Version: 2, Digest: "sha256:2", Reason: "slow", When: Time}
	s.commit(state.Op{PutPin: p}, state.Op{PutQuarantine: q})
	snap := s.snapshot()
	if diff := cmp.Diff(p, snap.Pins[p.Address]); diff != "" {
		s.Error(diff)
	}
	if snap.Quarantined(p.Address, "sha256:2") == nil || snap.Quarantined(p.Address, "sha256:3") != nil {
		s.Errorf("quarantines %v", snap.Quarantines)
	}
	s.commit(state.Op{DeletePin: &p.Address}, state.Op{LiftQuarantine: q})
	if snap = s.snapshot(); len(snap.Pins)+len(snap.Quarantines) != 0 {
		s.Errorf("pins %v, quarantines %v", snap.Pins, snap.Quarantines)
	}
}

func (s *suite) approvals() {
	a := &state.Approval{Plan: "sha256:1", Commit: "abc", Who: "ada", When: Time, Expires: Time.Add(time.Hour)}
	later := &state.Approval{Plan: "sha256:0", Who: "ada", When: Time.Add(time.Second), Expires: Time.Add(time.Hour)}
	s.commit(state.Op{PutApproval: later}, state.Op{PutApproval: a})
	snap := s.snapshot()
	if diff := cmp.Diff([]*state.Approval{a, later}, snap.Approvals); diff != "" {
		s.Error(diff)
	}
	if snap.Approval("sha256:1") == nil || snap.Approval("sha256:2") != nil {
		s.Errorf("approvals %v", snap.Approvals)
	}
	used := *a
	used.Used = &later.When
	s.commit(state.Op{PutApproval: &used}, state.Op{DeleteApproval: later.Plan})
	if snap = s.snapshot(); len(snap.Approvals) != 1 || snap.Approvals[0].Used == nil {
		s.Errorf("approvals %v", snap.Approvals)
	}
	s.refused("was used already", state.Op{PutApproval: a})
	s.refused("names a plan", state.Op{PutApproval: &state.Approval{Who: "ada"}})
}

func (s *suite) lease() {
	over, cancel := context.WithTimeout(s.Context(), 0)
	defer cancel()
	epoch, release, err := s.s.Acquire(over, "apply") // a free lease needs no wait
	if err != nil || epoch < 1 {
		s.Fatal(epoch, err)
	}
	if l := s.snapshot().Lease; l == nil || l.Epoch != epoch || l.Doing != "apply" || l.PID == 0 || l.Since.IsZero() {
		s.Errorf("lease %+v", l)
	}
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Millisecond)
	defer cancel()
	_, _, err = s.s.Acquire(ctx, "rollback")
	if !errors.Is(err, state.ErrLocked) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "for apply since") {
		s.Errorf("the second got %v", err)
	}
	got := make(chan error, 1)
	go func() {
		next, release, err := s.s.Acquire(s.Context(), "second")
		if err == nil && next <= epoch {
			err = errors.New("the epoch did not rise")
		}
		if err == nil {
			err = release()
		}
		got <- err
	}()
	if err := release(); err != nil {
		s.Error(err)
	}
	if err := <-got; err != nil {
		s.Error("the one who waited:", err)
	}
	if l := s.snapshot().Lease; l != nil {
		s.Errorf("a released lease is still there: %+v", l)
	}
}

func (s *suite) leaseOps() {
	s.commit(state.Op{PutRecord: s.record("check.a")})
	s.refused("taken with Acquire", state.Op{PutLease: &state.Lease{Epoch: 7}})
	s.refused("by its holder only", state.Op{DropLease: true})
}
