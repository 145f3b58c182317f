package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/daemonclient"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// daemonFlags name a daemon whose state a command is about, instead of the one
// in this folder.
type daemonFlags struct{ url, repository string }

func (f *daemonFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "daemon", "", "ask the daemon at this address, https://HOST/r/NAME; the token is in "+daemonclient.TokenVar)
	cmd.Flags().StringVar(&f.repository, "repository", "", "the daemon's repository, where -daemon does not name it")
}

func (f *daemonFlags) set() bool { return f.url != "" || f.repository != "" }

func (a *app) client(f daemonFlags) (*daemonclient.Client, error) {
	if f.url == "" {
		return nil, errors.New("-repository names a repository of a daemon; add -daemon https://HOST")
	}
	return daemonclient.New(daemonclient.Options{URL: f.url, Repository: f.repository, Version: toolVersion(), Getenv: os.Getenv})
}

// recorded reads what the daemon has recorded.
func (a *app) recorded(ctx context.Context, f daemonFlags) (*daemonclient.State, *state.Snapshot, error) {
	c, err := a.client(f)
	if err != nil {
		return nil, nil, err
	}
	st, err := c.State(ctx)
	if err != nil {
		return nil, nil, err
	}
	snap, err := st.Read()
	return st, snap, err
}

func (a *app) statusRemote(ctx context.Context, f daemonFlags) error {
	c, err := a.client(f)
	if err != nil {
		return err
	}
	blocks, err := c.Blocks(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(blocks.StatusRows())
	}
	if err := a.status(blocks.StatusRows()); err != nil {
		return err
	}
	return a.noteWaiting(blocks.Waiting)
}

func (a *app) versionsRemote(ctx context.Context, f daemonFlags, args []string) error {
	addr, err := oneAddress(args)
	if err != nil {
		return err
	}
	_, snap, err := a.recorded(ctx, f)
	if err != nil {
		return err
	}
	if snap.Records[addr] == nil && len(snap.Versions[addr]) == 0 {
		return fmt.Errorf("the daemon's state has no %s; ml status -daemon names what there is", addr)
	}
	return a.versions(snap, addr)
}

func (a *app) runsRemote(ctx context.Context, f daemonFlags, addr resource.Address) error {
	c, err := a.client(f)
	if err != nil {
		return err
	}
	runs, err := c.Runs(ctx, addr)
	if err != nil {
		return err
	}
	return a.runs(runs)
}

func (a *app) logsRemote(ctx context.Context, f daemonFlags, addr resource.Address, o daemonclient.LogOptions) error {
	c, err := a.client(f)
	if err != nil {
		return err
	}
	return a.readLog(ctx, addr, func(ctx context.Context, out io.Writer) error { return c.Logs(ctx, addr, o, out) })
}

// approveRemote allows a plan that waits at the daemon, or lists those that do.
func (a *app) approveRemote(ctx context.Context, f daemonFlags, args []string, auto bool) error {
	c, err := a.client(f)
	if err != nil {
		return err
	}
	blocks, err := c.Blocks(ctx)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return a.listWaiting(blocks.Waiting)
	}
	plan, err := oneWaiting(blocks.Waiting, args[0])
	if err != nil {
		return err
	}
	if !a.json {
		if err := report.Say(a.Out, a.style(), fmt.Sprintf("Plan %s of commit %s: %s.", plan.ID, plan.Commit, report.Counts(plan.Summary))); err != nil {
			return err
		}
	}
	if !auto {
		if err := a.ask("Approve this plan?"); errors.Is(err, errNobody) {
			return fmt.Errorf("%w; ml approve %s -daemon … -auto-approve answers yes", err, plan.ID)
		} else if err != nil {
			return err
		}
	}
	given, err := c.Approve(ctx, plan.ID, who())
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(given)
	}
	return a.done("Plan %s is approved by %s, once, until %s. The daemon runs it now", plan.ID, given.Who, until(given.Expires))
}

func oneWaiting(list []waitingPlan, id string) (*waitingPlan, error) {
	var found *waitingPlan
	for i, w := range list {
		if len(id) >= 4 && len(id) <= len(w.ID) && w.ID[:len(id)] == id {
			if found != nil {
				return nil, fmt.Errorf("%s is the start of several plans; give more digits", id)
			}
			found = &list[i]
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no plan %s waits at the daemon; ml approve -daemon lists those that do", id)
	}
	return found, nil
}

// planRemote plans the files of this folder on the state that a daemon keeps, as
// the daemon plans a pull request.
func (a *app) planRemote(ctx context.Context, remote daemonFlags, f planFlags, out string, detailed bool) (err error) {
	switch {
	case out != "":
		return errors.New("-out saves a plan for ml apply, and what a daemon keeps the daemon applies; leave it out, or add -json to keep what it says")
	case f.refreshOnly:
		return errors.New("-refresh-only records what changed outside, and the daemon does that by itself; leave it out")
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	o.Pure = true
	st, snap, err := a.recorded(ctx, remote)
	if err != nil {
		return err
	}
	w, err := a.openRecorded(ctx, st, snap)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, errors.Join(w.Close(), os.RemoveAll(w.Dir))) }()
	if err := checkKnown(w.Conf, snap, o); err != nil {
		return err
	}
	planned, err := w.Engine.Plan(ctx, o)
	if err != nil {
		return err
	}
	if err := a.showRemote(planned.Plan, st, f.verbose); err != nil {
		return err
	}
	switch {
	case report.Failed(planned.Plan):
		return exitCode{code: exitError}
	case detailed && report.Changes(planned.Plan):
		return exitCode{code: exitChanges}
	}
	return nil
}

// openRecorded makes this folder ready for a plan on another's state: with the
// daemon's variables, unless this command was given others.
func (a *app) openRecorded(ctx context.Context, st *daemonclient.State, snap *state.Snapshot) (*workspace.Workspace, error) {
	o, err := a.workspace()
	if err != nil {
		return nil, err
	}
	if here, inside := belowCheckout(o.Root); inside && here != st.Path {
		if err := report.Say(a.Err, a.errStyle(), fmt.Sprintf("This folder is %q in its repository, and the daemon looks after %q of its own; -chdir chooses another.", here, st.Path)); err != nil {
			return nil, err
		}
	}
	theirs, err := workspace.Vars(st.Vars)
	if err != nil {
		return nil, err
	}
	o.Vars = append(theirs, o.Vars...)
	if o.Dir, err = os.MkdirTemp("", "ml-plan-"); err != nil {
		return nil, fmt.Errorf("folder for caches: %w", err)
	}
	w, err := workspace.OpenRecorded(ctx, o, snap)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(o.Dir))
	}
	boundMemory(len(w.Conf.Blocks))
	return w, a.warnOf(w.Root, w.Warnings)
}

func (a *app) showRemote(plan *planner.Plan, st *daemonclient.State, verbose bool) error {
	a.asking = true // how it goes on is not by an apply here
	if err := a.showPlan(plan, verbose); err != nil || a.json {
		return err
	}
	asOf := "live state was not recorded yet"
	if !st.AsOf.IsZero() {
		asOf = "live state as of " + st.AsOf.UTC().Format("2006-01-02 15:04:05") + " UTC"
	}
	return report.Say(a.Out, a.style(), fmt.Sprintf("\nPlanned on the daemon's state (serial %d); %s. Nothing was asked, and nothing is written.", plan.Serial, asOf))
}

// checkKnown finds mistyped addresses, as checkAddresses does for a local state.
func checkKnown(conf *config.Project, snap *state.Snapshot, o engine.PlanOptions) error {
	for _, a := range slices.Concat(o.Targets, o.Replace) {
		if !knownTo(conf, snap, a) {
			return fmt.Errorf("no block %s in these files or in the daemon's state", a)
		}
	}
	return nil
}
