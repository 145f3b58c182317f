package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/continuo-ml/continuo/daemon/internal/mirror"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/forge"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

// keptPull is what the daemon remembers of a pull request.
type keptPull struct {
	// Planned is what its comment is about: its head, and what it was compared with.
	Planned string `json:"planned,omitempty"`
	// Seen is the newest comment that was looked at for commands.
	Seen int64 `json:"seen,omitempty"`
	// Allowed is the approval that somebody gave before it was merged.
	Allowed *allowed `json:"allowed,omitempty"`
}

// allowed is an approval of a pull request's plan: for this content, and for no
// step that was not in it.
type allowed struct {
	Head  string                     `json:"head"`
	Tree  string                     `json:"tree"` // of the project's folder
	Who   string                     `json:"who"`
	When  time.Time                  `json:"when"`
	Steps map[string]resource.Action `json:"steps"`
}

// pullLimits are narrower than those of the branch: anybody can open a pull request.
var pullLimits = mirror.Limits{Files: 10_000, File: 32 << 20, Total: 256 << 20, Depth: 64}

// pullPatience bounds the plan of one pull request.
const pullPatience = 2 * time.Minute

// runPulls looks after pull requests, beside the loop: an apply may take hours.
func (r *repo) runPulls(ctx context.Context) error {
	for {
		wait := jitter(r.conf.Interval)
		err := r.pulls(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r.forgeSays(err); err != nil {
			r.log.Warn("pull requests", "error", err)
		}
		if err := r.peace(ctx); err != nil {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-r.wakePulls:
			t.Stop()
		case <-t.C:
		}
	}
}

// pulls plans those that moved, and answers commands.
func (r *repo) pulls(ctx context.Context) error {
	list, err := r.forge.Pulls(ctx)
	if err != nil {
		return err
	}
	var errs []error
	open := map[int]bool{}
	for _, p := range list {
		if p.Base != r.conf.Branch || ctx.Err() != nil {
			continue
		}
		open[p.Number] = true
		if err := r.pull(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("pull request %d: %w", p.Number, err))
			if away(err) { // the others would find it so, too, and none of them is known to be closed
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(append(errs, r.forgetPulls(open))...)
}

// forgetPulls drops what is kept of those that are closed; an approval stays
// until its commit was applied, or a week has passed.
func (r *repo) forgetPulls(open map[int]bool) error {
	for n, k := range r.recall().Pulls {
		if open[n] {
			continue
		}
		if err := os.RemoveAll(r.pullDir(n)); err != nil {
			return err
		}
		if err := durable.RemoveIfThere(r.pullDir(n) + mirror.ListSuffix); err != nil {
			return err
		}
		if k.Allowed != nil && r.opts.Now().Sub(k.Allowed.When) < 7*24*time.Hour {
			continue
		}
		if err := r.keep(func(k *kept) {
			k.Pulls = maps.Clone(k.Pulls) // others read the old map
			delete(k.Pulls, n)
		}); err != nil {
			return err
		}
	}
	return nil
}

func (r *repo) pullDir(n int) string { return filepath.Join(r.dir, "pulls", strconv.Itoa(n)) }

func (r *repo) keepPull(n int, change func(*keptPull)) error {
	return r.keep(func(k *kept) {
		pulls := maps.Clone(k.Pulls) // others read the old map
		if pulls == nil {
			pulls = map[int]keptPull{}
		}
		p := pulls[n]
		change(&p)
		pulls[n] = p
		k.Pulls = pulls
	})
}

// pull brings one pull request's comment up to date.
func (r *repo) pull(ctx context.Context, p forge.Pull) error {
	k := r.recall()
	// The branch and what is applied are part of it: both change what merging would do.
	about := p.Head + " " + k.Observed.Commit + " " + k.Applied.Commit
	if k.Pulls[p.Number].Planned != about {
		if err := r.comment(ctx, p); err != nil {
			return err
		}
		if err := r.keepPull(p.Number, func(kp *keptPull) { kp.Planned = about }); err != nil {
			return err
		}
	}
	return r.commands(ctx, p)
}

// comment plans a pull request and says so on it.
func (r *repo) comment(ctx context.Context, p forge.Pull) error {
	ctx, cancel := context.WithTimeout(ctx, pullPatience)
	defer cancel()
	began := r.opts.Now()
	body, st, says, err := r.planned(ctx, p)
	if err != nil {
		return err
	}
	if _, err := r.forge.PutComment(ctx, p.Number, report.Marker(r.conf.Path), body); err != nil {
		return err
	}
	r.log.Info("commented", "pull", p.Number, "head", p.Head, "took", r.opts.Now().Sub(began).Round(time.Millisecond))
	return r.forge.SetStatus(ctx, p.Head, forge.Status{State: st, Context: r.context(), Text: says, URL: r.page()})
}

// planned is the comment of a pull request, and its commit's status.
// What is no fault of its files is an error, and tried again.
func (r *repo) planned(ctx context.Context, p forge.Pull) (body string, st forge.State, says string, err error) {
	planned, behind, err := r.planPull(ctx, p)
	plan := broken(planned, err)
	if plan == nil {
		return "", "", "", err
	}
	o := report.MarkdownOptions{
		Project: r.conf.Path, Foreign: p.Fork, URL: r.page(), AsOf: r.look().Last,
		Next: "Merging applies it.",
		Commands: []report.CommentCommand{
			{Text: "ml plan", Does: "plans again"}, {Text: "ml explain ADDRESS", Does: "says why a block is in the plan"},
			{Text: "ml approve", Does: "lets this plan run once it is merged, where it needs an approval"},
		},
	}
	if err == nil {
		o.Metrics = workspace.Candidates(planned)
	}
	if r.conf.Mode != Apply {
		o.Next = "The daemon does not apply this repository (mode = " + string(r.conf.Mode) + ")."
	}
	if len(r.openVars()) < len(r.conf.Vars) && !p.Fork {
		o.Next = "Sensitive variables are kept from pull requests, so what depends on them shows as changed. " + o.Next
	}
	if behind {
		o.Next = "This branch lacks commits of " + r.conf.Branch + ": the plan may show them taken back. Update it. " + o.Next
	}
	if why := r.unsigned(ctx, p.Head); why != "" {
		o.Next = why + " " + o.Next
	}
	var b bytes.Buffer
	if err := report.Markdown(&b, plan, o); err != nil {
		return "", "", "", err
	}
	if report.Failed(plan) {
		return b.String(), forge.Failure, "the plan has errors", nil
	}
	if !report.Changes(plan) {
		return b.String(), forge.Success, "No changes.", nil
	}
	return b.String(), forge.Success, report.Counts(plan.Summary), nil
}

// broken gives the plan, or one that tells what is wrong with the files; nil when
// the error is none of theirs.
func broken(planned *engine.Planned, err error) *planner.Plan {
	var diags workspace.DiagError
	var refused *mirror.RefusedError
	switch {
	case err == nil:
		return planned.Plan
	case errors.As(err, &diags):
		return diags.Plan()
	case errors.As(err, &refused), errors.Is(err, mirror.ErrNoFolder):
		return workspace.DiagError{Diags: hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "These files are not taken", Detail: err.Error()}}}.Plan()
	}
	return nil
}

// planPull plans the files of a pull request, without asking anybody but git:
// live state, signals and sources elsewhere are as they were recorded. behind
// says that the branch has commits that the pull request lacks.
func (r *repo) planPull(ctx context.Context, p forge.Pull) (_ *engine.Planned, behind bool, err error) {
	w, behind, err := r.openPull(ctx, p)
	if err != nil {
		return nil, behind, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	planned, err := w.Engine.Plan(ctx, engine.PlanOptions{Pure: true})
	if err != nil {
		return nil, behind, err
	}
	return planned, behind, nil
}

func (r *repo) openPull(ctx context.Context, p forge.Pull) (*workspace.Workspace, bool, error) {
	dir := r.pullDir(p.Number)
	r.git.Lock()
	err := r.mirror.Fetch(ctx, p.Ref)
	r.git.Unlock()
	if err == nil {
		err = r.write(ctx, p.Head, dir, pullLimits)
	}
	if err != nil {
		return nil, false, err
	}
	behind := false
	if base := r.recall().Observed.Commit; base != "" {
		follows, err := r.mirror.Descends(ctx, p.Head, base)
		if err != nil {
			return nil, false, err
		}
		behind = !follows
	}
	o := r.options(p.Head)
	// The state is the branch's, read only; caches are the pull request's own.
	o.Root, o.State, o.Untrusted = dir, filepath.Join(r.work, workspace.DotML), true
	o.Environ = func() []string { return nil }
	// A pull request's files say themselves what is sensitive, so they get nothing that the branch calls so; a fork's get nothing at all.
	if o.Vars = nil; !p.Fork {
		o.Vars = r.openVars()
	}
	if err := r.lendModules(dir); err != nil {
		return nil, behind, err
	}
	w, err := workspace.Open(ctx, o)
	return w, behind, err
}

// lendModules gives a pull request the git modules that the branch has fetched:
// it fetches none itself.
func (r *repo) lendModules(dir string) error {
	from, to := filepath.Join(r.work, workspace.DotML, "modules"), filepath.Join(dir, workspace.DotML, "modules")
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}
