package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// planFlags are the flags that plan, apply and destroy share.
type planFlags struct {
	targets, replace []string
	refresh          bool
	refreshOnly      bool
	destroy          bool
	parallel         int
	verbose          bool
}

func (f *planFlags) add(a *app, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.targets, "target", nil, "only this address and what it needs (repeatable)")
	fl.StringArrayVar(&f.replace, "replace", nil, "run or make this address anew (repeatable)")
	fl.BoolVar(&f.refresh, "refresh", true, "read live state and sources first")
	fl.BoolVar(&f.refreshOnly, "refresh-only", false, "only show and record what changed outside")
	fl.BoolVar(&f.destroy, "destroy", false, "plan to take everything away")
	fl.IntVar(&f.parallel, "parallelism", 0, "steps at the same time (default 10)")
	fl.BoolVar(&f.verbose, "verbose", false, "show every attribute")
	for _, flag := range []string{"target", "replace"} {
		a.complete(cmd, flag, a.completeAddresses())
	}
}

// openFor opens the project as the flags ask for.
func (a *app) openFor(ctx context.Context, f planFlags) (*project, engine.PlanOptions, error) {
	o, err := f.options()
	if err != nil {
		return nil, o, err
	}
	p, err := a.open(ctx)
	if err != nil {
		return nil, o, err
	}
	if f.parallel > 0 {
		p.Engine.Parallel = f.parallel
	}
	if err := checkAddresses(p, o); err != nil {
		return nil, o, errors.Join(err, p.Close())
	}
	return p, o, nil
}

// chooses says whether a flag decides what is planned.
func (f *planFlags) chooses() bool {
	return len(f.targets)+len(f.replace) > 0 || f.destroy || f.refreshOnly || !f.refresh
}

func (f *planFlags) options() (engine.PlanOptions, error) {
	o := engine.PlanOptions{NoRefresh: !f.refresh}
	switch {
	case f.refreshOnly && (f.destroy || len(f.replace) > 0):
		return o, errors.New("-refresh-only changes nothing but the record; leave -destroy and -replace out, or leave -refresh-only out")
	case f.refreshOnly && !f.refresh:
		return o, errors.New("-refresh-only and -refresh=false contradict each other; leave one out")
	case f.destroy && len(f.replace) > 0:
		return o, errors.New("-destroy takes away what -replace would make anew; leave one out")
	}
	o.Destroy, o.RefreshOnly = f.destroy, f.refreshOnly
	var err error
	if o.Targets, err = addresses("target", f.targets); err != nil {
		return o, err
	}
	o.Replace, err = addresses("replace", f.replace)
	return o, err
}

func addresses(flag string, texts []string) ([]resource.Address, error) {
	var out []resource.Address
	for _, t := range texts {
		a, err := resource.ParseAddress(t)
		if err != nil {
			return nil, fmt.Errorf("-%s: %w", flag, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func (a *app) planCmd() *cobra.Command {
	var f planFlags
	var out string
	var detailed bool
	var remote daemonFlags
	cmd := &cobra.Command{
		Use: "plan", Short: "Show what would change, and why", Args: cobra.NoArgs,
		Long: `plan compares the files with what is recorded and with what is there, and says what
would change, and why. With -daemon it compares the files of this folder with the
state that a daemon keeps: nobody else is asked, nothing is written, and live state
is as the daemon recorded it last, as on a pull request.`,
		Example: "  ml plan\n  ml plan -out=plan.bin && ml apply plan.bin\n  ml plan -target training.churn\n  ml plan -daemon https://ml.example.com/r/churn",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if remote.set() {
				return a.planRemote(cmd.Context(), remote, f, out, detailed)
			}
			return a.plan(cmd.Context(), f, out, detailed)
		},
	}
	f.add(a, cmd)
	cmd.Flags().StringVar(&out, "out", "", "save the plan to this file, for apply")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 when there are changes")
	remote.add(cmd)
	return cmd
}

func (a *app) plan(ctx context.Context, f planFlags, out string, detailed bool) (err error) {
	if out != "" && f.refreshOnly {
		return errors.New("-refresh-only is recorded by ml apply -refresh-only at once; there is no plan to save")
	}
	p, o, err := a.openFor(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, p.Close()) }()
	planned, err := p.Engine.Plan(ctx, o)
	if err != nil {
		return err
	}
	a.asking = out != "" // how it goes on is said once it is saved
	if err := a.showPlan(planned.Plan, f.verbose); err != nil {
		return err
	}
	if report.Failed(planned.Plan) {
		return exitCode{code: exitError}
	}
	if out != "" {
		if err := a.savePlan(p, planned.Plan, o, out); err != nil {
			return err
		}
	}
	if detailed && report.Changes(planned.Plan) {
		return exitCode{code: exitChanges}
	}
	return nil
}

// savePlan writes the plan to a file, and among those that wait.
func (a *app) savePlan(p *project, plan *planner.Plan, o engine.PlanOptions, path string) error {
	saved, err := p.Saved(plan, o, who())
	if err != nil {
		return err
	}
	if err := engine.WritePlan(path, p.Key, saved); err != nil {
		return err
	}
	if err := p.Keep(saved); err != nil || a.json {
		return err
	}
	return report.Say(a.Out, a.style(), fmt.Sprintf("\nSaved to %s. Next: ml apply %s, or ml approve %s for somebody else to allow it.", path, path, saved.ID()))
}

func (a *app) showPlan(plan *planner.Plan, verbose bool) error {
	if a.json {
		return report.PlanJSON(a.Out, plan)
	}
	st := a.style()
	st.Verbose = verbose
	st.NoHint = a.asking
	return report.PlanText(a.Out, plan, st)
}

// checkAddresses finds mistyped -target and -replace addresses.
func checkAddresses(p *project, o engine.PlanOptions) error {
	for _, list := range [][]resource.Address{o.Targets, o.Replace} {
		for _, a := range list {
			if !p.knows(a) {
				return fmt.Errorf("no block %s; ml state list and ml graph name what there is", a)
			}
		}
	}
	return nil
}

// knows says whether files or state have the address, or instances of it.
func (p *project) knows(a resource.Address) bool {
	snap, err := p.Store.Snapshot(context.Background())
	if err != nil {
		return true // the command itself reports why the state cannot be read
	}
	return knownTo(p.Conf, snap, a)
}

func knownTo(conf *config.Project, snap *state.Snapshot, a resource.Address) bool {
	for _, b := range conf.Blocks {
		if b.Addr == a || b.Addr.Block() == a {
			return true
		}
	}
	for r := range snap.Records {
		if r == a || r.Block() == a {
			return true
		}
	}
	return false
}

func joinClose(err, closing error) error {
	if err != nil {
		return err
	}
	return closing
}
