package daemon

import (
	"context"
	"fmt"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

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
