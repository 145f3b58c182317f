package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/daemonclient"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/state"
)

// plansFolder holds the plans that wait, below the state folder.
const plansFolder = workspace.PlansFolder

// planID is how an id, or the start of one, looks.
var planID = regexp.MustCompile(`^[0-9a-f]{4,12}$`)

func (a *app) approveCmd() *cobra.Command {
	var auto bool
	var remote daemonFlags
	cmd := &cobra.Command{
		Use: "approve [ID]", Short: "Allow a plan that waits to run, once", Args: cobra.MaximumNArgs(1),
		Long: `approve shows a plan that waits and records that you allow it: who, when, for which
plan and commit. ml apply ID then does exactly that, once. Without ID it lists what
waits. A plan waits after ml plan -out, and after ml apply where nobody could be
asked. It and its approval expire a day after it was made, and both are refused
when something that its steps read, or the commit, has moved. With -daemon it is one
that a daemon made, which then runs it.`,
		Example:           "  ml approve\n  ml approve 3f2a91bc04de && ml apply 3f2a91bc04de\n  ml approve 3f2a91bc04de -daemon https://ml.example.com/r/churn",
		ValidArgsFunction: a.completePlans(cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			if remote.set() {
				return a.approveRemote(cmd.Context(), remote, args, auto)
			}
			if len(args) == 0 {
				return a.withProject(cmd.Context(), func(p *project, snap *state.Snapshot) error {
					list, err := p.waiting(snap)
					if err != nil {
						return err
					}
					return a.listWaiting(list)
				})
			}
			return a.approve(cmd.Context(), args[0], auto)
		},
	}
	cmd.Flags().BoolVar(&auto, "auto-approve", false, "do not ask")
	remote.add(cmd)
	return cmd
}

// completePlans offers the ids of the plans that wait, besides what otherwise says.
func (a *app) completePlans(otherwise cobra.ShellCompDirective) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		dir, err := a.projectDir()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		paths, err := engine.PendingPlans(filepath.Join(dir, dotML, plansFolder), prefix)
		if err != nil {
			return nil, otherwise
		}
		for i, p := range paths {
			paths[i] = strings.TrimSuffix(filepath.Base(p), filepath.Ext(p))
		}
		return paths, otherwise
	}
}

// approve shows the plan and records the approval. The lease is taken only after
// the answer, so that a reviewer who thinks holds nobody up.
func (a *app) approve(ctx context.Context, id string, auto bool) error {
	saved, known, err := a.readSaved(id)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("no plan %s waits here; ml approve lists those that do, ml plan -out=FILE makes one", id)
	}
	var have *state.Approval
	err = a.withProject(ctx, func(p *project, snap *state.Snapshot) error {
		if have = snap.Approval(saved.Digest); have == nil {
			return nil
		}
		return engine.CheckApproval(saved, have, p.Engine.Commit, time.Now())
	})
	if err != nil {
		return err
	}
	if have != nil {
		return a.approved(saved, have)
	}
	if err := a.askApproval(saved, auto); err != nil {
		return err
	}
	return a.withSession(ctx, "approve", func(ctx context.Context, _ *project, s *engine.Session) error {
		given, err := s.Approve(ctx, saved, who())
		if err != nil {
			return err
		}
		return a.approved(saved, given)
	})
}

func (a *app) askApproval(saved *engine.SavedPlan, auto bool) error {
	if !a.json {
		a.asking = true
		if err := a.showPlan(saved.Plan, false); err != nil {
			return err
		}
	}
	if auto {
		return nil
	}
	err := a.ask("Approve this plan?")
	if errors.Is(err, errNobody) {
		return fmt.Errorf("%w; ml approve %s -auto-approve answers yes", err, saved.ID())
	}
	return err
}

func (a *app) approved(saved *engine.SavedPlan, given *state.Approval) error {
	if a.json {
		return a.printJSON(given)
	}
	return a.done("Plan %s is approved by %s, once, until %s. Next: ml apply %s", saved.ID(), given.Who, until(given.Expires), saved.ID())
}

func until(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// readSaved reads the plan that arg names: the id of one that waits, or the
// start of one, or else a file. known says that it waits under its id. The
// variables that it was made with become those of this command.
func (a *app) readSaved(arg string) (saved *engine.SavedPlan, known bool, err error) {
	dir, err := a.projectDir()
	if err != nil {
		return nil, false, err
	}
	path := arg
	if planID.MatchString(arg) {
		found, err := engine.PendingPlans(filepath.Join(dir, dotML, plansFolder), arg)
		if err != nil {
			return nil, false, err
		}
		switch {
		case len(found) > 1:
			return nil, false, fmt.Errorf("%s is the start of %d plans; ml approve lists them, give more digits", arg, len(found))
		case len(found) == 1:
			path, known = found[0], true
		case !exists(arg):
			return nil, false, fmt.Errorf("no plan %s waits here, and there is no such file; ml approve lists what waits", arg)
		}
	}
	key, err := workspace.ReadKey(filepath.Join(dir, dotML))
	if err != nil {
		return nil, false, err
	}
	if saved, err = engine.ReadPlan(path, key, toolVersion(), time.Now()); err != nil {
		return nil, false, err
	}
	return saved, known, a.vars.adopt(saved)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// leaveWaiting keeps a plan that nobody could be asked about, and says how it
// goes on.
func (p *project) leaveWaiting(plan *planner.Plan, o engine.PlanOptions) error {
	saved, err := p.Saved(plan, o, who())
	if err != nil {
		return err
	}
	if err := p.Keep(saved); err != nil {
		return err
	}
	return diagError{Diags: hcl.Diagnostics{{
		Severity: hcl.DiagError,
		Summary:  "This plan needs an approval, and there is nobody to ask",
		Detail: fmt.Sprintf("Nothing was changed. The plan waits as %[1]s until %[2]s:\n  ml approve %[1]s   shows it again and asks\n  ml apply %[1]s     then does exactly that\n-auto-approve does without.",
			saved.ID(), until(saved.Expires())),
	}}}
}

// waitingPlan is a plan that waits, as `ml approve -json` lists it.
type waitingPlan = daemonclient.Waiting

// waiting lists the plans that could still run.
func (p *project) waiting(snap *state.Snapshot) ([]waitingPlan, error) {
	list, err := p.Waiting(snap)
	out := make([]waitingPlan, 0, len(list))
	for _, w := range list {
		out = append(out, waitingPlan{
			ID: w.ID(), Plan: w.Digest, Who: w.Who, Created: w.Plan.Created, Expires: w.Expires().UTC(),
			Commit: w.Plan.Commit, Summary: w.Plan.Summary, Approval: w.Approval,
		})
	}
	return out, err
}

// listWaiting shows the plans that wait.
func (a *app) listWaiting(list []waitingPlan) error {
	if a.json {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(a.Out, "No plan waits. ml plan -out=FILE makes one that does.")
		return err
	}
	t := report.NewTable("PLAN", "MADE", "BY", "APPROVED", "DOES")
	for _, w := range list {
		t.Text(w.ID, report.ShortAgo(w.Created, time.Now()), w.Who, approvedBy(w.Approval), report.Counts(w.Summary))
	}
	if err := t.Write(a.Out, a.style()); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.Out, "\nml approve PLAN shows one and asks; ml apply PLAN runs an approved one.")
	return err
}

func approvedBy(ap *state.Approval) string {
	if ap == nil {
		return "no"
	}
	return "by " + ap.Who
}

// waitingNote says under the status that plans wait, as text; "" for none.
func waitingNote(list []waitingPlan) string {
	if len(list) == 0 {
		return ""
	}
	w := list[0]
	note, next := "waits for an approval", "ml approve "+w.ID
	if w.Approval != nil {
		note, next = "is approved by "+w.Approval.Who, "ml apply "+w.ID
	}
	text := fmt.Sprintf("Plan %s (%s) %s. Next: %s", w.ID, report.Counts(w.Summary), note, next)
	if n := len(list) - 1; n > 0 {
		text += fmt.Sprintf("\n%s more: ml approve lists them.", report.Plural(n, "plan waits", "plans wait"))
	}
	return text
}
