package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/state"
)

// waiting keeps the bench's present plan, made at a commit, and reads it back.
func (b *bench) waiting(commit string) *SavedPlan {
	b.t.Helper()
	e := b.engine()
	e.Commit = commit
	p, err := e.Plan(context.Background(), PlanOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	dir := b.t.TempDir()
	kept := &SavedPlan{Tool: planTool, Who: "ada", Plan: p.Plan}
	if err := KeepPlan(dir, planKey, kept, time.Now()); err != nil {
		b.t.Fatal(err)
	}
	read, err := b.read(filepath.Join(dir, kept.ID()+".plan"))
	if err != nil || read.Digest != kept.Digest || read.Who != "ada" {
		b.t.Fatalf("kept %s, read %+v, %v", kept.Digest, read, err)
	}
	return read
}

// session calls fn with the lease at a commit, and returns its error.
func (b *bench) session(commit string, fn func(*Session) error) error {
	b.t.Helper()
	e := b.engine()
	e.Commit = commit
	s, err := e.Begin(context.Background(), "test")
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.t.Error(err)
		}
	}()
	return fn(s)
}

func (b *bench) approve(p *SavedPlan, commit, who string) (a *state.Approval, err error) {
	err = b.session(commit, func(s *Session) error {
		a, err = s.Approve(context.Background(), p, who)
		return err
	})
	return a, err
}

func (b *bench) redeem(p *SavedPlan, commit string) error {
	return b.session(commit, func(s *Session) error {
		_, err := s.Redeem(context.Background(), p)
		return err
	})
}

func (b *bench) wantRefused(err, is error, word string) {
	b.t.Helper()
	if !errors.Is(err, is) || !strings.Contains(err.Error(), word) {
		b.t.Fatalf("want %q with %q: %v", is, word, err)
	}
	b.wantCalls()
}

func TestAnApprovedPlanRunsOnceAndNoOtherDoes(t *testing.T) {
	b := loopBench(t)
	p := b.waiting("c1")
	b.wantRefused(b.redeem(p, "c1"), ErrNotApproved, "ml approve "+p.ID())
	a, err := b.approve(p, "c1", "grace")
	if err != nil || a.Who != "grace" || !a.When.Equal(b.now) || !a.Expires.Equal(p.Plan.Created.Add(PlanLifetime)) || a.Commit != "c1" {
		t.Fatalf("approval %+v, %v", a, err)
	}
	b.now = b.now.Add(time.Minute)
	if again, err := b.approve(p, "c1", "mallory"); err != nil || again.Who != "grace" {
		t.Fatalf("approving again gave %+v, %v", again, err)
	}
	other := b.waiting("c1") // the same steps, a minute later
	b.wantRefused(b.redeem(other, "c1"), ErrNotApproved, other.ID())
	if err := CheckApproval(other, a, "c1", b.now); !errors.Is(err, ErrNotApproved) {
		t.Errorf("the approval of one plan is taken for another: %v", err)
	}
	if err := b.redeem(p, "c1"); err != nil {
		t.Fatal(err)
	}
	// Nothing ran, so the plan is not stale: only its use stands against it.
	b.wantRefused(b.redeem(p, "c1"), ErrNotApproved, "was applied at 2026-01-05 12:01:00 UTC")
	_, err = b.approve(p, "c1", "grace")
	b.wantRefused(err, ErrNotApproved, "was applied")
}

func TestAnApprovalExpires(t *testing.T) {
	b := loopBench(t)
	p := b.waiting("c1")
	a, err := b.approve(p, "c1", "grace")
	if err != nil {
		t.Fatal(err)
	}
	b.now = a.Expires.Add(-time.Second)
	if err := CheckApproval(p, a, "c1", b.now); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	b.now = a.Expires
	b.wantRefused(b.redeem(p, "c1"), ErrNotApproved, "the approval by grace expired at 2026-01-06 12:00:00 UTC")
}

func TestAnApprovalIsForOneCommit(t *testing.T) {
	b := loopBench(t)
	p := b.waiting("c1")
	_, err := b.approve(p, "c2", "grace")
	b.wantRefused(err, ErrStale, "was made at commit c1, the project is at c2")
	if _, err := b.approve(p, "c1", "grace"); err != nil {
		t.Fatal(err)
	}
	b.wantRefused(b.redeem(p, "c2"), ErrStale, "was made at commit c1, the project is at c2")
}

func TestAStalePlanIsNeitherApprovedNorUsedUp(t *testing.T) {
	b := loopBench(t)
	p, q := b.waiting(""), b.waiting("")
	if p.ID() != q.ID() {
		t.Fatalf("the same plan at the same time has two ids: %s %s", p.ID(), q.ID())
	}
	if _, err := b.approve(p, "", "grace"); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(time.Second)
	late := b.waiting("")
	b.w.sources["d.csv"] = "two"
	_, err := b.approve(late, "", "grace")
	b.wantRefused(err, ErrStale, "dataset.d")
	b.wantRefused(b.redeem(p, ""), ErrStale, "dataset.d")
	b.w.sources["d.csv"] = "one"
	if err := b.redeem(p, ""); err != nil {
		t.Fatalf("the data is back, and a refusal must not use the approval up: %v", err)
	}
}

func TestOldApprovalsGo(t *testing.T) {
	b := loopBench(t)
	old := b.waiting("")
	if _, err := b.approve(old, "", "grace"); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(2*PlanLifetime + time.Second)
	p := b.waiting("")
	if _, err := b.approve(p, "", "grace"); err != nil {
		t.Fatal(err)
	}
	snap, err := b.store.Snapshot(context.Background())
	if err != nil || len(snap.Approvals) != 1 || snap.Approval(p.Digest) == nil {
		t.Errorf("kept %v, %v", snap.Approvals, err)
	}
}

func TestPlansThatWaitAreBounded(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	for i := range maxPending + 2 {
		age := time.Duration(i) * time.Minute
		if i == 1 {
			age = PlanLifetime + time.Minute
		}
		path := filepath.Join(dir, fmt.Sprintf("%012d.plan", i))
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, now.Add(-age), now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	b := loopBench(t)
	p, err := b.engine().Plan(context.Background(), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kept := &SavedPlan{Tool: planTool, Plan: p.Plan}
	if err := KeepPlan(dir, planKey, kept, now); err != nil {
		t.Fatal(err)
	}
	left, err := PendingPlans(dir, "")
	if err != nil || len(left) != maxPending {
		t.Fatalf("%d are kept, %v", len(left), err)
	}
	for _, gone := range []string{"000000000001", "000000000011"} {
		if slices.ContainsFunc(left, func(p string) bool { return strings.Contains(p, gone) }) {
			t.Errorf("plan %s is still there", gone)
		}
	}
	if mine, err := PendingPlans(dir, kept.ID()[:4]); err != nil || len(mine) != 1 || !strings.Contains(mine[0], kept.ID()) {
		t.Errorf("found %v, %v", mine, err)
	}
	if none, err := PendingPlans(filepath.Join(dir, "none"), ""); err != nil || len(none) != 0 {
		t.Errorf("a folder that is not there holds %v, %v", none, err)
	}
}

// A folder is compared with its commit only where the commit is to be read: by
// the reviewer of a plan that does something.
func TestAPlanThatActsSaysThatFilesDifferFromItsCommit(t *testing.T) {
	b := loopBench(t)
	asked := 0
	plan := func() string {
		e := b.engine()
		e.Commit, e.Dirty = "c1", func() bool { asked++; return true }
		p, err := e.Plan(context.Background(), PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Plan.Commit
	}
	if got := plan(); got != "c1+dirty" || asked != 1 {
		t.Errorf("commit %q, asked %d times", got, asked)
	}
	p := b.waiting("c1+dirty")
	if _, err := b.approve(p, "c1", "grace"); err != nil {
		t.Errorf("what differs is guarded by its content, and has not moved: %v", err)
	}
	if err := b.redeem(p, "c1"); err != nil {
		t.Error(err)
	}
	b.apply()
	if got := plan(); got != "c1" || asked != 1 {
		t.Errorf("with nothing to do: commit %q, asked %d times", got, asked)
	}
}
