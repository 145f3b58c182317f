package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/daemon/internal/mirror"
	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/engine"
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
	lockPatience  = 5 * time.Second
	// settle is how long the loop waits after an object was changed: whoever edits one often edits more.
	settle = 2 * time.Second
)

// run is the loop. It ends with ctx, or when what was done cannot be written down
// any more; never because a cycle failed otherwise.
func (r *repo) run(ctx context.Context) error {
	local, byData := r.startFolders(ctx), false
	defer func() {
		if serr := errors.Join(r.watching.stop(), local.stop()); serr != nil {
			r.log.Warn("end of a watch", "error", serr)
		}
	}()
	if err := r.takeOver(ctx); err != nil {
		return err
	}
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
		r.news(err)
		if errors.Is(err, state.ErrReadOnly) {
			// What the disk holds is known to a new process only, which whoever looks after this one starts.
			return fmt.Errorf("repository %q: %w", r.conf.Name, err)
		}
		r.standBy(local)
		gap := time.Duration(0)
		if byData {
			gap = min(restShare*r.opts.Now().Sub(began), r.conf.Interval)
		}
		if byData, err = r.rest(ctx, wait, gap); err != nil {
			return err
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
	r.say(func(s *status.Repository) {
		if err != nil && !superseded {
			s.Phase, s.Message = status.Failing, status.ErrorText(err, 20)
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

func (r *repo) branch() string { return "refs/heads/" + r.conf.Branch }

// fetch looks at the branch and notes its newest commit.
func (r *repo) fetch(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.patience())
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
	r.say(func(s *status.Repository) { s.Subject = look.Subject })
	return head, r.keep(func(k *kept) { k.Observed = status.Revision{Commit: head, At: r.opts.Now()} })
}

// cycle brings the project one step nearer to the branch.
func (r *repo) cycle(ctx context.Context) error {
	head, err := r.fetch(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.say(func(s *status.Repository) { s.FetchError = status.ErrorText(err, 5) })
	if err != nil {
		// The forge may be down for hours; data, schedules and signals do not wait for it.
		r.log.Warn("fetch failed", "error", err)
		if head = r.recall().Observed.Commit; head == "" {
			return err
		}
	}
	if head, err = r.target(ctx, head); err != nil {
		return err
	}
	w, err := r.open(ctx, head)
	if err != nil {
		return err
	}
	var ends ending
	defer func() {
		if cerr := r.watchLive(ctx, w, head, ends.seen); cerr != nil {
			r.log.Warn("after the cycle", "error", cerr)
		}
		debug.FreeOSMemory() // a cycle leaves mostly garbage, and the next one may be a minute away
	}()
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
	if err = errors.Join(err, r.rows(ctx, w, ends.seen)); err == nil {
		r.say(func(s *status.Repository) { s.Phase, s.Message = ends.phase, ends.message })
	}
	return err
}

// ending is how a cycle that did not fail ended, for people.
type ending struct {
	phase   status.Phase
	message string
	// seen is the plan after which nothing was done: what it read is how things stand. It may be nil.
	seen *engine.Planned
}

// open writes the commit's files and makes them ready.
func (r *repo) open(ctx context.Context, commit string) (*workspace.Workspace, error) {
	if err := r.write(ctx, commit, r.work, mirror.DefaultLimits); err != nil {
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
	w.Engine.Emit, w.Engine.LockTimeout = r.event, w.Patience(lockPatience)
	blocks := blocksOf(w.Conf)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocks = blocks
	r.loaded = true
	r.shown = slices.DeleteFunc(slices.Clone(r.conf.Vars), func(v config.VarInput) bool { return w.Conf.SensitiveVar(v.Name) })
	return w, nil
}

// write makes a folder hold the commit's files.
func (r *repo) write(ctx context.Context, commit, dir string, lim mirror.Limits) error {
	r.git.Lock()
	defer r.git.Unlock()
	put, err := r.pen()
	if err != nil {
		return fmt.Errorf("write the files of %s: %w", status.Short(commit), err)
	}
	_, err = r.mirror.Write(ctx, commit, r.conf.Path, dir, lim)
	return errors.Join(err, put())
}

func (r *repo) options(commit string) workspace.Options {
	return workspace.Options{
		Root: r.work, Vars: r.conf.Vars, Version: r.opts.Version, Exe: r.opts.Exe, Environ: r.opts.Environ,
		Commit: commit, Late: r.conf.Mode == Apply, Term: r.term,
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

// rows tells how every block stands, and reads it unless a plan has just done so.
func (r *repo) rows(ctx context.Context, w *workspace.Workspace, seen *engine.Planned) error {
	if seen != nil {
		r.keepRows(w.Engine.StatusOf(seen.Input.Prior, seen.Input.Live))
		return nil
	}
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	rows, err := w.Engine.Status(ctx, snap)
	if err != nil {
		return err
	}
	r.keepRows(rows)
	return nil
}

func (r *repo) keepRows(rows []engine.StatusRow) {
	r.meter.blocks(r.conf.Name, rows)
	r.say(func(s *status.Repository) { s.Blocks = rows })
}

func (r *repo) observe(ctx context.Context, w *workspace.Workspace) (ending, error) {
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return ending{}, err
	}
	return ending{phase: status.Synced, message: report.Plural(len(snap.Records), "block is", "blocks are") + " recorded; the daemon only watches"}, nil
}

func (r *repo) plan(ctx context.Context, w *workspace.Workspace) (ending, error) {
	planned, err := w.Engine.Plan(ctx, engine.PlanOptions{})
	if err != nil {
		return ending{}, err
	}
	r.say(func(s *status.Repository) { s.Plan = planned.Plan })
	switch {
	case report.Failed(planned.Plan):
		return ending{}, planError(planned.Plan)
	case report.Changes(planned.Plan):
		return ending{status.Differs, report.Total(planned.Plan), planned}, nil
	}
	return ending{status.Synced, report.Total(planned.Plan), planned}, nil
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

// reopen opens the files as they lie there, for whoever looks.
func (r *repo) reopen(ctx context.Context) (*workspace.Workspace, error) {
	w, err := workspace.Open(ctx, r.options(r.recall().Attempted.Commit))
	if err != nil {
		return nil, worded(err)
	}
	return w, nil
}
