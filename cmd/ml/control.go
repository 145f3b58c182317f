package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

// withSession opens the project, takes the lease and settles before fn.
func (a *app) withSession(ctx context.Context, doing string, fn func(ctx context.Context, p *project, s *engine.Session) error) error {
	return a.withLease(ctx, doing, func(ctx context.Context, p *project, s *engine.Session) error {
		p.Engine.Emit = a.warn // for commands that show no progress
		if _, err := s.Settle(ctx); err != nil {
			return err
		}
		return fn(ctx, p, s)
	})
}

// withLease opens the project and takes the lease.
func (a *app) withLease(ctx context.Context, doing string, fn func(ctx context.Context, p *project, s *engine.Session) error) (err error) {
	p, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, p.Close()) }()
	return a.interrupts(ctx, "Stopping.", nil, func(ctx context.Context) (err error) {
		s, err := p.Engine.Begin(ctx, doing)
		if err != nil {
			return lockHint(err)
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return fn(ctx, p, s)
	})
}

// warn tells what an engine's command could not do and did without, such as an
// alert that was not delivered.
func (a *app) warn(ev resource.Event) {
	if ev.Type == resource.EventDiagnostic {
		fmt.Fprintf(a.Err, "%s %s: %s\n", a.errStyle().Paint(report.Change, "Warning:"), ev.Address, ev.Message)
	}
}

func (a *app) rollbackCmd() *cobra.Command {
	var to int
	var why string
	cmd := &cobra.Command{
		Use: "rollback ADDR", Short: "Serve an earlier passed version at once, and pin it", Args: cobra.ExactArgs(1),
		Example:           "  ml rollback deployment.churn\n  ml rollback deployment.churn -to 2 -why \"wrong units in the feed\"",
		ValidArgsFunction: a.completeAddresses("deployment"),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := oneAddress(args)
			if err != nil {
				return err
			}
			return a.withSession(cmd.Context(), "rollback", func(ctx context.Context, p *project, s *engine.Session) error {
				return a.rollback(ctx, p, s, addr, engine.RollbackOptions{To: to, Who: who(), Why: why})
			})
		},
	}
	cmd.Flags().IntVar(&to, "to", 0, "version to serve (default: the passed one before)")
	cmd.Flags().StringVar(&why, "why", "", "the reason, kept with the pin")
	return cmd
}

func who() string {
	u, err := user.Current()
	if err != nil {
		return "unknown"
	}
	return u.Username
}

func (a *app) rollback(ctx context.Context, p *project, s *engine.Session, addr resource.Address, o engine.RollbackOptions) error {
	closing := func() error { return nil }
	if !a.json { // where it is one document, no events
		closing = a.progress(p, 1).Close
	}
	out, v, err := s.Rollback(ctx, addr, o)
	if cerr := closing(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	for a, ferr := range out.Errors {
		return fmt.Errorf("%s is pinned at version %d, but moving it failed: %w; ml apply tries again", a, v.Number, ferr)
	}
	if bad := out.Bad[addr]; bad != nil {
		return exitCode{exitVerdict, fmt.Errorf("%s did not take version %d, and it is not pinned there: %s; ml logs %s shows what its server wrote", addr, v.Number, bad.Message, addr.Arg())}
	}
	if a.json {
		return a.printJSON(map[string]any{"address": addr, "version": v.Number, "pinned": true})
	}
	return a.done("%s serves version %d and is pinned there. Newer versions wait until: ml unpin %s", addr, v.Number, addr.Arg())
}

func (a *app) unpinCmd() *cobra.Command {
	return &cobra.Command{
		Use: "unpin ADDR", Short: "Let a block follow its newest passed version again", Args: cobra.ExactArgs(1),
		Example:           "  ml unpin deployment.churn",
		ValidArgsFunction: a.completeAddresses("deployment"),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := oneAddress(args)
			if err != nil {
				return err
			}
			return a.withSession(cmd.Context(), "unpin", func(ctx context.Context, _ *project, s *engine.Session) error {
				if err := s.Unpin(ctx, addr); err != nil {
					return err
				}
				return a.done("%s is unpinned. ml plan shows where it goes now.", addr)
			})
		},
	}
}

func (a *app) cancelCmd() *cobra.Command {
	return &cobra.Command{
		Use: "cancel ADDR", Short: "Stop the run that is going on at a block", Args: cobra.ExactArgs(1),
		Example:           "  ml cancel training.churn",
		ValidArgsFunction: a.completeAddresses(),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			addr, err := oneAddress(args)
			if err != nil {
				return err
			}
			p, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = joinClose(err, p.Close()) }()
			if err := p.Engine.Cancel(cmd.Context(), addr); err != nil {
				return err
			}
			return a.done("Cancelled what ran at %s.", addr)
		},
	}
}

func (a *app) checkCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "check [ADDR]", Short: "Run the checks that are due, and nothing else", Args: cobra.MaximumNArgs(1),
		Example:           "  ml check\n  ml check check.unit",
		ValidArgsFunction: a.completeAddresses("check"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSession(cmd.Context(), "check", func(ctx context.Context, p *project, s *engine.Session) error {
				return a.check(ctx, p, s, args)
			})
		},
	}
	return cmd
}

func (a *app) check(ctx context.Context, p *project, s *engine.Session, args []string) error {
	var o engine.PlanOptions
	for _, b := range p.Conf.Blocks {
		if b.Kind.Name == "check" && (len(args) == 0 || args[0] == b.Addr.String() || args[0] == b.Addr.Block().String()) {
			o.Targets = append(o.Targets, b.Addr)
		}
	}
	if len(o.Targets) == 0 {
		if len(args) == 0 {
			_, err := fmt.Fprintln(a.Out, "No checks are declared.")
			return err
		}
		return fmt.Errorf("no check %s; ml graph names what there is", args[0])
	}
	a.asking = true // no hints of what else could be planned or applied
	planned, err := s.Plan(ctx, o)
	if err != nil {
		return err
	}
	if report.Failed(planned.Plan) || report.Changes(planned.Plan) && !a.json {
		err = a.showPlan(planned.Plan, false)
	} else if !a.json {
		err = report.Say(a.Out, a.style(), "No check is due: nothing that they read has moved.")
	}
	if err != nil {
		return err
	}
	if report.Failed(planned.Plan) {
		return exitCode{code: exitError}
	}
	return a.runPlan(ctx, p, s, planned)
}

func (a *app) pruneCmd() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove versions beyond `keep`, and content that nothing uses", Args: cobra.NoArgs,
		Example: "  ml prune -dry-run\n  ml prune",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSession(cmd.Context(), "prune", func(ctx context.Context, p *project, s *engine.Session) error {
				if err := p.connectAll(ctx); err != nil {
					return err
				}
				out, err := s.Prune(ctx, dry)
				if err != nil {
					return err
				}
				return a.pruned(out, dry)
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would go")
	return cmd
}

// connectAll connects every provider that serves a block, so that each prunes.
func (p *project) connectAll(ctx context.Context) error {
	return p.Engine.ConnectAll(ctx)
}

// prunedView is what `ml prune -json` prints.
type prunedView struct {
	DryRun   bool         `json:"dry_run"`
	Versions []versionRef `json:"versions"`
	Removed  []string     `json:"removed"`
	Bytes    int64        `json:"bytes"`
}

type versionRef struct {
	Address resource.Address `json:"address"`
	Version int              `json:"version"`
}

func (a *app) pruned(out *engine.Pruned, dry bool) error {
	if a.json {
		doc := prunedView{DryRun: dry, Versions: []versionRef{}, Removed: append([]string{}, out.Removed...), Bytes: out.Bytes}
		for _, v := range out.Versions {
			doc.Versions = append(doc.Versions, versionRef{v.Address, v.Number})
		}
		return a.printJSON(doc)
	}
	verb := "Removed"
	if dry {
		verb = "Would remove"
	}
	for _, v := range out.Versions {
		fmt.Fprintf(a.Out, "  %s version %d\n", v.Address, v.Number)
	}
	if len(out.Versions)+len(out.Removed) == 0 {
		return report.Say(a.Out, a.style(), "Nothing to remove: every version is within what its training keeps, and all content is in use.")
	}
	return report.Say(a.Out, a.style(), fmt.Sprintf("%s %s and %s, %s.", verb, report.Plural(len(out.Versions), "version", "versions"),
		report.Plural(len(out.Removed), "stored item", "stored items"), resource.Bytes(out.Bytes)))
}

func (a *app) monitorCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "monitor ADDR", Short: "Evaluate a monitor's due windows and record its signals", Args: cobra.ExactArgs(1),
		Example:           "  ml monitor monitor.churn",
		ValidArgsFunction: a.completeAddresses("monitor"),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := oneAddress(args)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("lock-timeout") {
				a.lockTimeout = time.Minute // a timer starts it; an apply that is about to end is no reason to fail
			}
			return a.withSession(cmd.Context(), "monitor", func(ctx context.Context, _ *project, s *engine.Session) error {
				signals, err := s.Monitor(ctx, addr)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(signals)
				}
				return signalsView(a.Out, signals, a.style())
			})
		},
	}
	return cmd
}

// summary tells how an apply ended.
func (a *app) summary(planned *engine.Planned, out *engine.Applied, took time.Duration) error {
	r := report.Result{
		Done: out.Done, Unchanged: out.Unchanged, Failed: out.Failed, Blocked: out.Blocked,
		Running: out.Running, NotStarted: out.NotStarted, Errors: out.Errors, Bad: out.Bad, Elapsed: took,
	}
	if a.json {
		sink := report.EventJSON(a.Out)
		sink.Handle(summaryEvent(out, took))
		return sink.Close()
	}
	return report.Summary(a.Out, planned.Plan, r, a.style())
}

// summaryEvent is the last line of `apply -json`.
func summaryEvent(out *engine.Applied, took time.Duration) resource.Event {
	bad := map[string]string{}
	for a, v := range out.Bad {
		bad[a.String()] = v.Message
	}
	return resource.Event{
		Time: time.Now(), Type: resource.EventSummary, Seconds: took.Seconds(),
		Message: fmt.Sprintf("%d done, %d unchanged, %d failed, %d blocked", len(out.Done), len(out.Unchanged), len(out.Failed), len(out.Blocked)),
		Failed:  len(out.Failed) > 0,
		Data: map[string]any{
			"done": list(out.Done), "unchanged": list(out.Unchanged), "failed": list(out.Failed), "blocked": list(out.Blocked),
			"running": list(out.Running), "not_started": list(out.NotStarted), "bad": bad,
		},
	}
}

// list sorts what ended in any order, and is never null in JSON.
func list(as []resource.Address) []resource.Address {
	out := append([]resource.Address{}, as...)
	slices.SortFunc(out, resource.Address.Compare)
	return out
}
