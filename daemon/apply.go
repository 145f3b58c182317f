package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/internal/forge"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

// apply settles, runs what was approved, plans, and applies what the policy allows.
func (r *repo) apply(ctx context.Context, w *workspace.Workspace, commit string) (ending, error) {
	s, err := w.Engine.Begin(ctx, who)
	if err != nil {
		return ending{}, err
	}
	defer func() {
		if cerr := s.Close(); cerr != nil {
			r.log.Warn("give the lease back", "error", cerr)
		}
	}()
	if err := r.keep(func(k *kept) {
		if k.Attempted.Commit != commit {
			k.Attempted, k.Failures = status.Revision{Commit: commit, At: r.opts.Now()}, 0
		}
	}); err != nil {
		return ending{}, err
	}
	if _, err := s.Settle(ctx); err != nil {
		return ending{}, err
	}
	planned, approved, err := r.approved(ctx, w, s, commit)
	if err != nil {
		return ending{}, err
	}
	if planned == nil {
		if planned, err = s.Plan(ctx, engine.PlanOptions{}); err != nil {
			return ending{}, err
		}
	}
	r.say(func(st *status.Repository) { st.Plan = planned.Plan })
	if report.Failed(planned.Plan) {
		return ending{}, planError(planned.Plan)
	}
	if !approved {
		var waits ending
		if planned, waits, err = r.mayRun(ctx, w, s, planned, commit); planned == nil || err != nil {
			return waits, err
		}
	}
	return r.runPlan(ctx, w, s, planned, commit)
}

// approved finds a plan of this commit that somebody allowed, ready to run; nil
// when there is none. One that is stale by now is passed over: the plan that
// follows takes its place.
func (r *repo) approved(ctx context.Context, w *workspace.Workspace, s *engine.Session, commit string) (*engine.Planned, bool, error) {
	// Most cycles find no plan, and need no look at the state for it.
	if some, err := w.AnyKept(); !some || err != nil {
		return nil, false, err
	}
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return nil, false, err
	}
	waiting, err := w.Waiting(snap)
	if err != nil {
		return nil, false, err
	}
	for _, p := range waiting {
		if p.Approval == nil || p.Plan.Commit != commit {
			continue
		}
		planned, err := s.Redeem(ctx, p.SavedPlan)
		if errors.Is(err, engine.ErrStale) || errors.Is(err, engine.ErrNotApproved) {
			r.log.Warn("an approved plan does not fit any more", "plan", p.ID(), "why", err)
			continue
		}
		if err != nil {
			return nil, false, err
		}
		r.log.Info("an approved plan runs", "plan", p.ID(), "by", p.Approval.Who)
		return planned, true, nil
	}
	return nil, false, nil
}

// mayRun gives the plan back, if it may run now; else it leaves it where people
// find it, gives nil, and says what it waits for.
func (r *repo) mayRun(ctx context.Context, w *workspace.Workspace, ses *engine.Session, planned *engine.Planned, commit string) (*engine.Planned, ending, error) {
	if !report.Changes(planned.Plan) {
		r.say(func(s *status.Repository) { s.Held, s.Opens = nil, nil })
		return planned, ending{}, nil
	}
	rewritten := false
	if applied := r.recall().Applied.Commit; applied != "" {
		follows, err := r.follows(ctx, commit, applied)
		if err != nil {
			return nil, ending{}, err
		}
		rewritten = !follows
	}
	d := r.conf.Policy.Decide(planned.Plan, len(planned.Input.Prior.Records), rewritten, r.opts.Now())
	if by := r.allowedBy(commit, planned.Plan); len(d.Held) > 0 && by != nil && !rewritten {
		ready, err := inTheNameOf(ctx, w, ses, planned, by)
		return ready, ending{}, err
	}
	switch {
	case len(d.Held) > 0:
		held, err := r.hold(w, planned, commit, d.Held)
		if err = errors.Join(err, watch(ctx, ses, planned)); err != nil {
			return nil, ending{}, err
		}
		r.say(func(s *status.Repository) { s.Held, s.Opens = held, nil })
		return nil, ending{status.Held, fmt.Sprintf("plan %s waits for an approval: %s", held.ID, strings.Join(held.Why, "; ")), planned}, nil
	case !d.Wait.IsZero():
		r.say(func(s *status.Repository) { s.Held, s.Opens = nil, &d.Wait })
		if err := watch(ctx, ses, planned); err != nil {
			return nil, ending{}, err
		}
		return nil, ending{status.Waiting, fmt.Sprintf("%s waits for the window that opens at %s", report.Counts(planned.Plan.Summary), d.Wait.UTC().Format("2006-01-02 15:04 UTC")), planned}, nil
	}
	r.say(func(s *status.Repository) { s.Held, s.Opens = nil, nil })
	return planned, ending{}, nil
}

// follows says whether a commit of the branch has another among its ancestors. A
// branch on which more has happened than a fetch brings is looked at deeper, once.
func (r *repo) follows(ctx context.Context, commit, before string) (bool, error) {
	follows, err := r.mirror.Descends(ctx, commit, before)
	if follows || err != nil || r.apart == commit+before {
		return follows, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	r.git.Lock()
	err = r.mirror.Deepen(ctx, r.branch())
	r.git.Unlock()
	if err != nil {
		return false, fmt.Errorf("whether the commit follows the one that was applied is not known: %w", err)
	}
	if follows, err = r.mirror.Descends(ctx, commit, before); err == nil && !follows {
		r.apart = commit + before
	}
	return follows, err
}

// watch records the due windows of monitors, which wait for no approval.
func watch(ctx context.Context, ses *engine.Session, planned *engine.Planned) error {
	var errs []error
	for a := range planned.Input.Prior.Records {
		if a.Kind == "monitor" {
			_, err := ses.Monitor(ctx, a)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// hold keeps the plan for an approval. A plan that is like the one that waits
// already changes nothing: its id is what people have before them.
func (r *repo) hold(w *workspace.Workspace, planned *engine.Planned, commit string, why []string) (*status.HeldPlan, error) {
	plan, now := planned.Plan, r.opts.Now()
	shape, err := shapeOf(plan)
	if err != nil {
		return nil, err
	}
	waiting, err := w.Waiting(planned.Input.Prior)
	if err != nil {
		return nil, err
	}
	for _, old := range waiting {
		was, err := shapeOf(old.Plan)
		if err != nil {
			return nil, err
		}
		if was == shape && old.Plan.Commit == commit && old.Expires().Sub(now) > time.Hour {
			return &status.HeldPlan{ID: old.ID(), Commit: commit, Since: old.Plan.Created, Expires: old.Expires(), Why: why, Summary: plan.Summary}, nil
		}
	}
	saved, err := w.Saved(plan, engine.PlanOptions{}, who)
	if err != nil {
		return nil, err
	}
	if err := w.Keep(saved); err != nil {
		return nil, err
	}
	r.log.Info("a plan waits", "plan", saved.ID(), "why", why)
	return &status.HeldPlan{ID: saved.ID(), Commit: commit, Since: now, Expires: saved.Expires(), Why: why, Summary: plan.Summary}, nil
}

// shapeOf is what a plan does, whenever it was made.
func shapeOf(p *planner.Plan) (string, error) {
	raw, err := json.Marshal(struct {
		Steps  []*planner.Step
		Config resource.Digest
	}{p.Steps, p.ConfigDigest})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// runPlan applies. A newer commit ends it: nothing new starts, what runs goes
// on detached, and the next cycle collects it.
func (r *repo) runPlan(ctx context.Context, w *workspace.Workspace, s *engine.Session, planned *engine.Planned, commit string) (ending, error) {
	acts := report.Changes(planned.Plan)
	if acts {
		r.say(func(st *status.Repository) {
			st.Phase, st.Held, st.Opens, st.Message = status.Applying, nil, nil, report.Total(planned.Plan)
		})
		r.begins(commit, planned.Plan.Summary)
		r.commitStatus(ctx, commit, forge.Pending, "applying: "+report.Counts(planned.Plan.Summary))
	}
	actx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		r.supersede(actx, commit, cancel)
	}()
	out, err := s.Apply(actx, planned)
	superseded := errors.Is(context.Cause(actx), errSuperseded)
	cancel(nil)
	<-watched
	switch {
	case ctx.Err() != nil:
		return ending{}, ctx.Err()
	case superseded:
		return ending{}, errSuperseded
	case err != nil:
		r.commitStatus(ctx, commit, forge.Failure, status.ErrorText(err, 1))
		return ending{}, err
	}
	ends, err := r.applied(ctx, w, out, commit, acts)
	if !acts {
		ends.seen = planned
	}
	return ends, err
}

// applied notes how an apply ended.
func (r *repo) applied(ctx context.Context, w *workspace.Workspace, out *engine.Applied, commit string, acts bool) (ending, error) {
	if err := fence.Check(ctx); err != nil {
		return ending{}, err
	}
	if acts {
		if _, err := w.Store.Backup(ctx); err != nil {
			r.log.Warn("snapshot of the state", "error", err)
		}
	}
	if len(out.Failed) > 0 {
		r.commitStatus(ctx, commit, forge.Failure, few(out.Failed)+" failed")
		return ending{}, failed(out)
	}
	if err := r.keep(func(k *kept) {
		if k.Applied.Commit != commit {
			k.Applied = status.Revision{Commit: commit, At: r.opts.Now()}
		}
	}); err != nil {
		return ending{}, err
	}
	r.ends()
	ends, st := ending{phase: status.Synced, message: "the world is as the commit says"}, forge.Success
	if len(out.Bad) > 0 {
		bad := slices.SortedFunc(maps.Keys(out.Bad), func(a, b resource.Address) int { return strings.Compare(a.String(), b.String()) })
		ends, st = ending{phase: status.Bad, message: "the verdict is bad at " + few(bad) + "; what serves stays as it was"}, forge.Failure
	}
	if acts || r.look().Phase != ends.phase {
		r.commitStatus(ctx, commit, st, ends.message)
	}
	return ends, nil
}

func failed(out *engine.Applied) error {
	var errs []error
	for _, a := range out.Failed {
		errs = append(errs, fmt.Errorf("%s: %w", a, out.Errors[a]))
	}
	return errors.Join(errs...)
}

// supersede watches the branch while an apply runs.
func (r *repo) supersede(ctx context.Context, commit string, cancel context.CancelCauseFunc) {
	for {
		t := time.NewTimer(jitter(r.conf.Interval))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-r.wake:
			t.Stop()
		case <-t.C:
		}
		head, err := r.fetch(ctx)
		if err == nil {
			head, err = r.target(ctx, head)
		}
		if err == nil && head != commit {
			r.log.Info("superseded", "commit", commit, "by", head)
			cancel(errSuperseded)
			return
		}
	}
}
