package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/state"
)

// ErrNotApproved says that nobody allowed the plan, or not any more.
var ErrNotApproved = errors.New("not approved")

// maxPending bounds the plans that wait in a folder; the oldest give way, so
// that a pipeline that plans every minute does not fill the disk.
const maxPending = 10

// pendingExt ends the names of plans that wait.
const pendingExt = ".plan"

// idLength is that of a plan's id in hex digits.
const idLength = 12

// ID is the short form of the digest under which people name the plan.
func (p *SavedPlan) ID() string { return p.Digest.Hex()[:idLength] }

// Expires is when the plan and its approval end.
func (p *SavedPlan) Expires() time.Time { return p.Plan.Created.Add(PlanLifetime) }

// KeepPlan puts the plan among those that wait in dir, under its id.
func KeepPlan(dir string, key []byte, p *SavedPlan, now time.Time) error {
	raw, err := encodePlan(key, p)
	if err == nil {
		err = durable.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(dir, p.ID()+pendingExt), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep plan: %w", err)
	}
	return dropOld(dir, now)
}

// dropOld removes the plans that expired and the oldest of too many.
func dropOld(dir string, now time.Time) error {
	names, err := PendingPlans(dir, "")
	if err != nil {
		return err
	}
	type aged struct {
		path string
		made time.Time
	}
	var all []aged
	for _, path := range names {
		st, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("plans that wait: %w", err)
		}
		all = append(all, aged{path, st.ModTime()})
	}
	slices.SortFunc(all, func(a, b aged) int { return b.made.Compare(a.made) })
	for i, p := range all {
		if i < maxPending && now.Sub(p.made) <= PlanLifetime {
			continue
		}
		if err := os.Remove(p.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("plans that wait: %w", err)
		}
	}
	return nil
}

// PendingPlans lists the files of the plans in dir whose id starts with prefix,
// sorted by id; a folder that is not there holds none.
func PendingPlans(dir, prefix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("plans that wait: %w", err)
	}
	var out []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), pendingExt); ok && strings.HasPrefix(id, prefix) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

// CheckApproval says whether approval (nil for none) lets the plan run now, at
// the commit that the project is at. It errors with ErrNotApproved when it is
// missing, used, too old, or of another commit.
func CheckApproval(p *SavedPlan, a *state.Approval, commit string, now time.Time) error {
	switch {
	case a == nil || a.Plan != p.Digest:
		return fmt.Errorf("plan %s is %w; ml approve %s shows it and asks", p.ID(), ErrNotApproved, p.ID())
	case a.Used != nil:
		return fmt.Errorf("plan %s is %w any more: it was applied %s, and an approval lets a plan run once; make a new plan", p.ID(), ErrNotApproved, stamp(*a.Used))
	case !now.Before(a.Expires):
		return fmt.Errorf("plan %s is %w any more: the approval by %s expired %s; make a new plan", p.ID(), ErrNotApproved, a.Who, stamp(a.Expires))
	}
	return checkCommit(p, commit)
}

// checkCommit refuses a plan of another commit, even one with equal files: what
// was reviewed is the commit. What differs from the commit is guarded by content.
func checkCommit(p *SavedPlan, commit string) error {
	if strings.TrimSuffix(p.Plan.Commit, dirtySuffix) != commit {
		return fmt.Errorf("%w: plan %s was made at commit %s, the project is at %s; make a new plan", ErrStale, p.ID(), short(p.Plan.Commit), short(commit))
	}
	return nil
}

func short(commit string) string {
	if commit == "" {
		return "(none)"
	}
	return commit[:min(len(commit), idLength)]
}

func stamp(t time.Time) string { return "at " + t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Approve records that who allows the plan to run, once, until it expires. A
// plan that is stale by now is refused. Approving again changes nothing.
func (s *Session) Approve(ctx context.Context, p *SavedPlan, who string) (*state.Approval, error) {
	now := s.e.Now().UTC()
	if a := s.now.snapshot().Approval(p.Digest); a != nil {
		return a, CheckApproval(p, a, s.e.Commit, now)
	}
	if err := checkCommit(p, s.e.Commit); err != nil {
		return nil, err
	}
	if _, err := s.Resume(ctx, p); err != nil {
		return nil, err
	}
	a := &state.Approval{Plan: p.Digest, Commit: p.Plan.Commit, Who: who, When: now, Expires: p.Expires().UTC()}
	return a, s.commit(ctx, append(s.overApprovals(now), state.Op{PutApproval: a})...)
}

// overApprovals drops the approvals whose plans nobody can read any more.
func (s *Session) overApprovals(now time.Time) []state.Op {
	var ops []state.Op
	for _, a := range s.now.snapshot().Approvals {
		if now.Sub(a.Expires) > PlanLifetime {
			ops = append(ops, state.Op{DeleteApproval: a.Plan})
		}
	}
	return ops
}

// Redeem makes an approved plan ready to run, as Resume does, and uses its
// approval up before anything happens: after a crash in the middle the rest is
// a new plan.
func (s *Session) Redeem(ctx context.Context, p *SavedPlan) (*Planned, error) {
	now := s.e.Now().UTC()
	a := s.now.snapshot().Approval(p.Digest)
	if err := CheckApproval(p, a, s.e.Commit, now); err != nil {
		return nil, err
	}
	planned, err := s.Resume(ctx, p)
	if err != nil {
		return nil, err
	}
	used := *a
	used.Used = &now
	return planned, s.commit(ctx, state.Op{PutApproval: &used})
}
