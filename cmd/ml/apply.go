package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func (a *app) applyCmd() *cobra.Command {
	var f planFlags
	var auto bool
	cmd := &cobra.Command{
		Use: "apply [PLAN|ID]", Short: "Do what the plan says", Args: cobra.MaximumNArgs(1),
		Example: "  ml apply\n  ml apply -auto-approve\n  ml apply plan.bin\n  ml apply 3f2a91bc04de",
		Long: `apply makes a plan, shows it, asks, and does exactly that. With PLAN it does what was
planned before: a file of ml plan -out as it is, a plan that waits under its id after
ml approve ID allowed it.`,
		ValidArgsFunction: a.completePlans(cobra.ShellCompDirectiveDefault),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.apply(cmd.Context(), f, auto, args)
		},
	}
	f.add(a, cmd)
	cmd.Flags().BoolVar(&auto, "auto-approve", false, "do not ask")
	return cmd
}

func (a *app) destroyCmd() *cobra.Command {
	var f planFlags
	var auto bool
	cmd := &cobra.Command{
		Use: "destroy", Short: "Stop and delete everything; model versions stay until ml prune", Args: cobra.NoArgs,
		Example: "  ml destroy\n  ml destroy -target deployment.churn",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.destroy = true
			return a.apply(cmd.Context(), f, auto, nil)
		},
	}
	f.add(a, cmd)
	cmd.Flags().BoolVar(&auto, "auto-approve", false, "do not ask")
	return cmd
}

// apply plans, asks and applies; or applies a saved plan.
func (a *app) apply(ctx context.Context, f planFlags, auto bool, args []string) (err error) {
	a.asking = true
	var saved savedArg
	if len(args) == 1 {
		if f.chooses() {
			return errors.New("a saved plan is applied as it was made; -target, -replace, -destroy and -refresh belong to the ml plan that makes it")
		}
		if saved.plan, saved.waits, err = a.readSaved(args[0]); err != nil {
			return err
		}
	}
	p, o, err := a.openFor(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, p.Close()) }()
	again := func() {
		a.tell("Cancelling what runs…")
		if err := p.Engine.CancelAll(context.Background()); err != nil {
			a.printError(err)
		}
	}
	return a.interrupts(ctx, "Stopping: nothing new starts; what runs goes on in the background. Press Ctrl-C again within 3 seconds to cancel it.", again,
		func(ctx context.Context) error { return a.applyLocked(ctx, p, f, o, auto, saved) })
}

// savedArg is the saved plan that apply was given, if any; one that waits under
// its id runs only if it is approved.
type savedArg struct {
	plan  *engine.SavedPlan
	waits bool
}

// applyLocked holds the lease from before the plan until after the apply, so
// that what was approved is what runs.
func (a *app) applyLocked(ctx context.Context, p *project, f planFlags, o engine.PlanOptions, auto bool, saved savedArg) (err error) {
	s, err := p.Engine.Begin(ctx, "apply")
	if err != nil {
		return lockHint(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	progress := a.progress(p, 0)
	if _, err := s.Settle(ctx); err != nil {
		return errors.Join(err, progress.Close())
	}
	if err := progress.Close(); err != nil {
		return err
	}
	planned, err := a.planned(ctx, s, o, saved)
	if err != nil {
		return err
	}
	if report.Failed(planned.Plan) {
		return exitCode{code: exitError}
	}
	if o.RefreshOnly {
		return a.recordRefresh(ctx, s, planned, auto)
	}
	if report.Changes(planned.Plan) && saved.plan == nil && !auto {
		if err := a.ask("Apply this plan?"); errors.Is(err, errNobody) {
			return p.leaveWaiting(planned.Plan, o)
		} else if err != nil {
			return err
		}
	}
	return a.runPlan(ctx, p, s, planned)
}

// planned makes or resumes the plan, and shows it.
func (a *app) planned(ctx context.Context, s *engine.Session, o engine.PlanOptions, saved savedArg) (*engine.Planned, error) {
	switch {
	case saved.waits:
		return s.Redeem(ctx, saved.plan)
	case saved.plan != nil:
		return s.Resume(ctx, saved.plan)
	}
	planned, err := s.Plan(ctx, o)
	if err != nil {
		return nil, err
	}
	if !a.json || report.Failed(planned.Plan) {
		err = a.showPlan(planned.Plan, false)
	}
	return planned, err
}

func (a *app) recordRefresh(ctx context.Context, s *engine.Session, planned *engine.Planned, auto bool) error {
	if !auto && len(planned.Plan.Drift) > 0 {
		if err := a.ask("Record this?"); errors.Is(err, errNobody) {
			return fmt.Errorf("%w; give -auto-approve", err)
		} else if err != nil {
			return err
		}
	}
	return s.RecordRefresh(ctx, planned)
}

// runPlan applies, shows progress and sums up.
func (a *app) runPlan(ctx context.Context, p *project, s *engine.Session, planned *engine.Planned) error {
	progress := a.progress(p, len(planned.Plan.Steps))
	if v, ok := progress.(interface{ Expect(*planner.Plan) }); ok {
		v.Expect(planned.Plan)
	}
	began := time.Now()
	out, err := s.Apply(ctx, planned)
	if cerr := progress.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if berr := p.backup(context.WithoutCancel(ctx)); berr != nil {
		fmt.Fprintf(a.Err, "%s %s\n", a.errStyle().Paint(report.Change, "Warning:"), berr)
	}
	if !planned.Input.Options.Destroy {
		if err := a.showOutputs(ctx, p, out); err != nil {
			return err
		}
	}
	if err := a.summary(planned, out, time.Since(began)); err != nil {
		return err
	}
	a.leftRunning = len(out.Running) > 0
	switch {
	case len(out.Failed) > 0 || out.Interrupted():
		return exitCode{code: exitError}
	case len(out.Bad) > 0:
		return exitCode{code: exitVerdict}
	}
	return nil
}

// showOutputs shows the root module's outputs after an apply that did something:
// an endpoint is what people look for next.
func (a *app) showOutputs(ctx context.Context, p *project, out *engine.Applied) error {
	if a.json || len(out.Done) == 0 || len(p.Conf.Outputs) == 0 || ctx.Err() != nil {
		return nil
	}
	snap, err := p.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	t := report.NewTable("OUTPUT", "VALUE")
	known := 0
	for _, o := range p.Conf.Outputs {
		v, diags := p.Conf.EvalOutput(o, engine.Recorded(p.Conf, snap))
		if diags.HasErrors() {
			continue // what it refers to is not there, after a destroy
		}
		if val := outputValue(o, v); val != nil {
			t.Text(o.Name, plainText(val))
			known++
		}
	}
	if known == 0 {
		return nil
	}
	fmt.Fprintln(a.Out)
	if err := t.Write(a.Out, a.style()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Out)
	return err
}

// backup writes a verified snapshot beside the state.
func (p *project) backup(ctx context.Context) error {
	if _, err := p.Store.Backup(ctx); err != nil {
		return fmt.Errorf("snapshot of the state: %w", err)
	}
	return nil
}

// eventSink shows events until it is closed.
type eventSink interface {
	Handle(resource.Event)
	Close() error
}

// progress sends the engine's events to the view that fits.
func (a *app) progress(p *project, steps int) eventSink {
	if a.json {
		sink := report.EventJSON(a.Out)
		p.Engine.Emit = sink.Handle
		return sink
	}
	view := report.NewProgress(a.Out, a.style(), steps)
	p.Engine.Emit = view.Handle
	if !a.style().Live {
		return view
	}
	a.live.Store(view)
	return liveSink{Progress: view, ended: func() { a.live.Store(nil) }}
}

// liveSink is a view on a terminal; ended is called once it redraws no more.
type liveSink struct {
	*report.Progress
	ended func()
}

// Close implements eventSink.
func (s liveSink) Close() error {
	defer s.ended()
	return s.Progress.Close()
}

// errNobody: the question stays open.
var errNobody = errors.New("this needs an approval and there is nobody to ask")

// ask reads yes or no from a terminal; without one it is an error, never a hang.
func (a *app) ask(question string) error {
	if !a.input || a.In == nil || !term.IsTerminal(int(a.In.Fd())) {
		return errNobody
	}
	fmt.Fprintf(a.Out, "\n%s Only 'yes' is a yes: ", question)
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("not approved; nothing was changed")
	}
	return nil
}

func lockHint(err error) error {
	if errors.Is(err, state.ErrLocked) {
		return fmt.Errorf("%w; wait for it with -lock-timeout=5m", err)
	}
	return err
}
