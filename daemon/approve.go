package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// approve lets a plan that waits run, in the name of somebody.
func (r *repo) approve(ctx context.Context, id, by string) (*state.Approval, error) {
	if r.conf.Mode != Apply {
		return nil, errNotApply
	}
	held := r.look().Held
	if held == nil || !strings.HasPrefix(held.ID, id) || len(id) < 4 {
		return nil, fmt.Errorf("no plan %s waits in %s; the overview names the one that does", id, r.conf.Name)
	}
	w, err := workspace.Open(ctx, r.options(held.Commit))
	if err != nil {
		return nil, worded(err)
	}
	defer w.Close() //nolint:errcheck // it read one plan
	paths, err := engine.PendingPlans(filepath.Join(w.Dir, workspace.PlansFolder), held.ID)
	if err != nil || len(paths) != 1 {
		return nil, errors.Join(err, fmt.Errorf("plan %s is not there any more; the next cycle makes a new one", held.ID))
	}
	saved, err := engine.ReadPlan(paths[0], w.Key, r.opts.Version, r.opts.Now())
	if err != nil {
		return nil, err
	}
	w.Engine.LockTimeout = time.Minute
	s, err := w.Engine.Begin(ctx, "approve")
	if err != nil {
		return nil, err
	}
	fault.Point(fault.DaemonApproveBefore)
	given, err := s.Approve(ctx, saved, by)
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	fault.Point(fault.DaemonApproveAfter)
	r.say(func(st *status.Repository) {
		if st.Held != nil && st.Held.ID == held.ID {
			h := *st.Held
			h.Approved = by
			st.Held = &h
		}
	})
	r.log.Info("approved", "plan", held.ID, "by", by)
	r.nudge()
	return given, nil
}

// allowedBy finds the approval that a pull request was given before its merge:
// for the very content that the commit has, and for every step of the plan. A
// step that the reviewer did not see needs an approval of its own.
func (r *repo) allowedBy(commit string, plan *planner.Plan) *allowed {
	for _, k := range r.recall().Pulls {
		if k.Allowed == nil {
			continue
		}
		tree, err := r.mirror.Tree(commit, r.conf.Path)
		if err != nil || tree != k.Allowed.Tree || !k.Allowed.covers(plan) {
			continue
		}
		return k.Allowed
	}
	return nil
}

func (a *allowed) covers(plan *planner.Plan) bool {
	for _, st := range plan.Steps {
		if st.Action != resource.Noop && st.Action != resource.Blocked && a.Steps[st.Address.String()] != st.Action {
			return false
		}
	}
	return true
}

// inTheNameOf records the approval that somebody gave on the pull request, for
// the plan that it became, and makes it ready to run.
func inTheNameOf(ctx context.Context, w *workspace.Workspace, ses *engine.Session, planned *engine.Planned, by *allowed) (*engine.Planned, error) {
	saved, err := w.Saved(planned.Plan, engine.PlanOptions{}, who)
	if err != nil {
		return nil, err
	}
	if err := w.Keep(saved); err != nil {
		return nil, fmt.Errorf("keep the approved plan: %w", err)
	}
	if _, err := ses.Approve(ctx, saved, by.Who+" on the pull request"); err != nil {
		return nil, err
	}
	return ses.Redeem(ctx, saved)
}
