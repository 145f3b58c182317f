package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/mirror"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/forge"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// who is what approvals, plans and leases call the daemon.
const who = "ml daemon"

// Limits of a cycle's parts.
const (
	fetchPatience = 2 * time.Minute
	maxBackoff    = time.Hour
	// settle is how long the loop waits after an object was changed: whoever edits one often edits more.
	settle = 2 * time.Second
)

// run is the loop. It ends with ctx, and never because a cycle failed.
func (r *repo) run(ctx context.Context) (err error) {
	defer func() {
		if serr := r.watching.stop(); serr != nil {
			r.log.Warn("end of a watch", "error", serr)
		}
	}()
	for {
		began := r.opts.Now()
		err := r.cycle(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait, kerr := r.ended(err, began)
		if kerr != nil {
			return kerr // what is attempted cannot be kept: going on would do things twice
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-r.wake:
			t.Stop()
		case <-r.moved:
			t.Stop()
			if err := pause(ctx, settle); err != nil {
				return err
			}
		case <-t.C:
		}
	}
}

// pause waits, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// errSuperseded ends an apply for a newer commit.
var errSuperseded = errors.New("a newer commit is there")

// ended notes how a cycle ended and says how long to wait for the next.
func (r *repo) ended(err error, began time.Time) (time.Duration, error) {
	now := r.opts.Now()
	r.meter.cycle(r.conf.Name, err, now.Sub(began))
	superseded := errors.Is(err, errSuperseded)
	failures := 0
	kerr := r.keep(func(k *kept) {
		if err != nil && !superseded {
			k.Failures++
		} else {
			k.Failures = 0
		}
		failures = k.Failures
	})
	wait := jitter(r.conf.Interval)
	switch {
	case superseded:
		wait = 0
	case failures > 1: // the first failure is tried again at the usual time
		wait = jitter(min(maxBackoff, r.conf.Interval<<min(failures-1, 20)))
		if wait < r.conf.Interval {
			wait = r.conf.Interval
		}
	}
	r.say(func(s *Status) {
		if err != nil && !superseded {
			s.Phase, s.Message = Failing, firstLines(err.Error(), 20)
		}
		for _, b := range s.Blocks {
			if b.NextDue != nil && b.NextDue.After(now) && b.NextDue.Sub(now) < wait && failures == 0 {
				wait = b.NextDue.Sub(now)
			}
		}
		if s.Opens != nil && s.Opens.After(now) && s.Opens.Sub(now) < wait {
			wait = s.Opens.Sub(now)
		}
		s.Last, s.Next = now, now.Add(wait)
	})
	if err != nil && !superseded {
		r.log.Error("cycle failed", "error", err, "failures", failures, "next", wait.Round(time.Second))
	}
	return wait, kerr
}

// jitter is d give or take a tenth, so that many repositories spread.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // no secret
}

func firstLines(text string, n int) string {
	lines := strings.SplitAfterN(text, "\n", n+1)
	if len(lines) > n {
		return strings.Join(lines[:n], "") + "…"
	}
	return text
}

func (r *repo) branch() string { return "refs/heads/" + r.conf.Branch }

// fetch looks at the branch and notes its newest commit.
func (r *repo) fetch(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchPatience)
	defer cancel()
	r.git.Lock()
	defer r.git.Unlock()
	if err := r.mirror.Fetch(ctx, r.branch()); err != nil {
		return "", err
	}
	head, err := r.mirror.Head(r.branch())
	if err != nil || head == r.recall().Observed.Commit {
		return head, err
	}
	look, err := r.mirror.Look(head)
	if err != nil {
		return "", err
	}
	r.log.Info("new commit", "commit", head, "subject", look.Subject)
	r.say(func(s *Status) { s.Subject = look.Subject })
	return head, r.keep(func(k *kept) { k.Observed = Revision{head, r.opts.Now()} })
}

// cycle brings the project one step nearer to the branch.
func (r *repo) cycle(ctx context.Context) error {
	head, err := r.fetch(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.say(func(s *Status) { s.FetchError = errText(err) })
	if err != nil {
		// The forge may be down for hours; data, schedules and signals do not wait for it.
		r.log.Warn("fetch failed", "error", err)
		if head = r.recall().Observed.Commit; head == "" {
			return err
		}
	}
	w, err := r.open(ctx, head)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.watchLive(ctx, w, head); cerr != nil {
			r.log.Warn("after the cycle", "error", cerr)
		}
		debug.FreeOSMemory() // a cycle leaves mostly garbage, and the next one may be a minute away
	}()
	var ends ending
	switch r.conf.Mode {
	case Observe:
		ends, err = r.observe(ctx, w)
	case Plan:
		ends, err = r.plan(ctx, w)
	case Apply:
		ends, err = r.apply(ctx, w, head)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// Rows first: who sees the phase sees the blocks that belong to it.
	if err = errors.Join(err, r.rows(ctx, w)); err == nil {
		r.say(func(s *Status) { s.Phase, s.Message = ends.phase, ends.message })
	}
	return err
}

// ending is how a cycle that did not fail ended, for people.
type ending struct {
	phase   Phase
	message string
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return firstLines(err.Error(), 5)
}

// open writes the commit's files and makes them ready.
func (r *repo) open(ctx context.Context, commit string) (*workspace.Workspace, error) {
	r.git.Lock()
	_, err := r.mirror.Write(ctx, commit, r.conf.Path, r.work, mirror.DefaultLimits)
	r.git.Unlock()
	if err != nil {
		return nil, err
	}
	w, err := workspace.Open(ctx, r.options(commit))
	if err != nil && strings.Contains(err.Error(), "Module not fetched") {
		// What the branch names is trusted as the branch is; each module is pinned, and fetched once.
		if _, err = workspace.Fetch(ctx, r.options(commit)); err == nil {
			w, err = workspace.Open(ctx, r.options(commit))
		}
	}
	if err != nil {
		return nil, worded(err)
	}
	w.Engine.Emit = r.event
	return w, nil
}

func (r *repo) options(commit string) workspace.Options {
	return workspace.Options{
		Root: r.work, Vars: r.conf.Vars, Version: r.opts.Version, Exe: r.opts.Exe, Environ: r.opts.Environ,
		Commit: commit, LockTimeout: 5 * time.Second,
	}
}

// worded turns diagnostics into the text that people know from the command line.
func worded(err error) error {
	var diags workspace.DiagError
	if !errors.As(err, &diags) {
		return err
	}
	var b strings.Builder
	if report.Diagnostics(&b, diags.Diags, diags.Files, report.Style{}) != nil {
		return err
	}
	return errors.New(strings.TrimSpace(b.String()))
}

func (r *repo) event(ev resource.Event) {
	r.feed.publish(Note{Type: string(ev.Type), Repository: r.conf.Name, Address: ev.Address, Message: ev.Message, Time: ev.Time})
	if ev.Type == resource.EventDiagnostic {
		r.log.Warn(ev.Message, "address", ev.Address)
	}
}

// rows reads how every block stands.
func (r *repo) rows(ctx context.Context, w *workspace.Workspace) error {
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	rows, err := w.Engine.Status(ctx, snap)
	if err != nil {
		return err
	}
	r.meter.blocks(r.conf.Name, rows)
	r.say(func(s *Status) { s.Blocks = rows })
	return nil
}

func (r *repo) observe(ctx context.Context, w *workspace.Workspace) (ending, error) {
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return ending{}, err
	}
	return ending{Synced, report.Plural(len(snap.Records), "block is", "blocks are") + " recorded; the daemon only watches"}, nil
}

func (r *repo) plan(ctx context.Context, w *workspace.Workspace) (ending, error) {
	planned, err := w.Engine.Plan(ctx, engine.PlanOptions{})
	if err != nil {
		return ending{}, err
	}
	r.say(func(s *Status) { s.plan = planned.Plan })
	switch {
	case report.Failed(planned.Plan):
		return ending{}, planError(planned.Plan)
	case report.Changes(planned.Plan):
		return ending{Differs, report.Total(planned.Plan)}, nil
	}
	return ending{Synced, report.Total(planned.Plan)}, nil
}

func planError(p *planner.Plan) error {
	var errs []error
	for _, d := range p.Diagnostics {
		if d.Severity == "error" {
			errs = append(errs, fmt.Errorf("%s: %s: %s", d.Address, d.Summary, d.Detail))
		}
	}
	return errors.Join(errs...)
}

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
			k.Attempted, k.Failures = Revision{commit, r.opts.Now()}, 0
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
	r.say(func(st *Status) { st.plan = planned.Plan })
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
		r.say(func(s *Status) { s.Held, s.Opens = nil, nil })
		return planned, ending{}, nil
	}
	rewritten := false
	if applied := r.recall().Applied.Commit; applied != "" {
		follows, err := r.mirror.Descends(ctx, commit, applied)
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
		r.say(func(s *Status) { s.Held, s.Opens = held, nil })
		return nil, ending{Held, fmt.Sprintf("plan %s waits for an approval: %s", held.ID, strings.Join(held.Why, "; "))}, nil
	case !d.Wait.IsZero():
		r.say(func(s *Status) { s.Held, s.Opens = nil, &d.Wait })
		if err := watch(ctx, ses, planned); err != nil {
			return nil, ending{}, err
		}
		return nil, ending{Waiting, fmt.Sprintf("%s waits for the window that opens at %s", report.Counts(planned.Plan.Summary), d.Wait.UTC().Format("2006-01-02 15:04 UTC"))}, nil
	}
	r.say(func(s *Status) { s.Held, s.Opens = nil, nil })
	return planned, ending{}, nil
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
func (r *repo) hold(w *workspace.Workspace, planned *engine.Planned, commit string, why []string) (*HeldPlan, error) {
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
			return &HeldPlan{ID: old.ID(), Commit: commit, Since: old.Plan.Created, Expires: old.Expires(), Why: why, Summary: plan.Summary}, nil
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
	return &HeldPlan{ID: saved.ID(), Commit: commit, Since: now, Expires: saved.Expires(), Why: why, Summary: plan.Summary}, nil
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
		r.say(func(st *Status) {
			st.Phase, st.Held, st.Opens, st.Message = Applying, nil, nil, report.Total(planned.Plan)
		})
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
		r.commitStatus(ctx, commit, forge.Failure, firstLines(err.Error(), 1))
		return ending{}, err
	}
	return r.applied(ctx, w, out, commit, acts)
}

// applied notes how an apply ended.
func (r *repo) applied(ctx context.Context, w *workspace.Workspace, out *engine.Applied, commit string, acts bool) (ending, error) {
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
			k.Applied = Revision{commit, r.opts.Now()}
		}
	}); err != nil {
		return ending{}, err
	}
	ends, st := ending{Synced, "the world is as the commit says"}, forge.Success
	if len(out.Bad) > 0 {
		bad := slices.SortedFunc(maps.Keys(out.Bad), func(a, b resource.Address) int { return strings.Compare(a.String(), b.String()) })
		ends, st = ending{Bad, "the verdict is bad at " + few(bad) + "; what serves stays as it was"}, forge.Failure
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
		if err == nil && head != commit {
			r.log.Info("superseded", "commit", commit, "by", head)
			cancel(errSuperseded)
			return
		}
	}
}

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
	given, err := s.Approve(ctx, saved, by)
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	r.say(func(st *Status) {
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

// reopen opens the files as they lie there, for whoever looks.
func (r *repo) reopen(ctx context.Context) (*workspace.Workspace, error) {
	w, err := workspace.Open(ctx, r.options(r.recall().Attempted.Commit))
	if err != nil {
		return nil, worded(err)
	}
	return w, nil
}
