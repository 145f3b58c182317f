package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func (a *app) stateCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "state", Short: "Look at the state, move or forget records, verify, rebuild"}
	cmd.AddCommand(a.stateListCmd(), a.stateShowCmd(), a.stateMvCmd(), a.stateRmCmd(), a.stateVerifyCmd(), a.stateRebuildCmd())
	return cmd
}

func (a *app) stateListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the recorded addresses", Args: cobra.NoArgs,
		Example: "  ml state list\n  ml state list -json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withProject(cmd.Context(), func(_ *project, snap *state.Snapshot) error {
				addrs := sortedAddresses(snap.Records)
				if a.json {
					return a.printJSON(addrs)
				}
				for _, addr := range addrs {
					if _, err := fmt.Fprintln(a.Out, addr); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func (a *app) stateShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show ADDR", Short: "Show one record whole", Args: cobra.ExactArgs(1),
		Example: "  ml state show training.churn", ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withProject(cmd.Context(), func(_ *project, snap *state.Snapshot) error { return a.showRecord(snap, args[0]) })
		},
	}
}

func (a *app) stateMvCmd() *cobra.Command {
	return &cobra.Command{
		Use: "mv FROM TO", Short: "Give a record another address; nothing outside moves", Args: cobra.ExactArgs(2),
		Example: "  ml state mv training.churn training.leavers", ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := resource.ParseAddress(args[0])
			if err != nil {
				return err
			}
			to, err := resource.ParseAddress(args[1])
			if err != nil {
				return err
			}
			return a.changeState(cmd.Context(), "state mv", fmt.Sprintf("%s is now %s.", from, to), func(ctx context.Context, s *engine.Session) error {
				return s.MoveRecord(ctx, from, to)
			})
		},
	}
}

func (a *app) stateRmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm ADDR", Short: "Forget a record; the object itself stays", Args: cobra.ExactArgs(1),
		Long: `rm forgets the record of a block and leaves its object, versions and runs alone. What an
interrupted apply left open there is finished first. What cannot be finished any more, because
its provider is configured no longer, is given up, and its run kept in the history as failed.`,
		Example: "  ml state rm deployment.old", ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := oneAddress(args)
			if err != nil {
				return err
			}
			// Nothing is settled first: it is the way out where settling cannot succeed.
			return a.withLease(cmd.Context(), "state rm", func(ctx context.Context, _ *project, s *engine.Session) error {
				if err := s.ForgetRecord(ctx, addr); err != nil {
					return err
				}
				return a.done("%s is forgotten; what it stood for goes on.", addr)
			})
		},
	}
}

func (a *app) changeState(ctx context.Context, doing, done string, fn func(context.Context, *engine.Session) error) error {
	return a.withSession(ctx, doing, func(ctx context.Context, _ *project, s *engine.Session) error {
		if err := fn(ctx, s); err != nil {
			return err
		}
		return a.done("%s", done)
	})
}

func (a *app) stateVerifyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Check every record's checksum", Args: cobra.NoArgs,
		Example: "  ml state verify",
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.openState(cmd.Context())
			if err != nil {
				return err
			}
			rep, err := p.Store.Verify(cmd.Context())
			if err != nil {
				return fmt.Errorf("%w; ml state rebuild restores the newest verified snapshot", err)
			}
			if a.json {
				return a.printJSON(verifiedView(rep))
			}
			return a.done("The state is sound: serial %d, %s, %s, %s, %s.", rep.Serial, report.Plural(rep.Records, "record", "records"),
				report.Plural(rep.Versions, "version", "versions"), report.Plural(rep.Runs, "run", "runs"), report.Plural(len(rep.Snapshots), "snapshot", "snapshots"))
		},
	}
}

// verifiedView is what `ml state verify -json` prints.
func verifiedView(rep state.Report) map[string]any {
	copies := make([]map[string]any, 0, len(rep.Snapshots))
	for _, c := range rep.Snapshots {
		one := map[string]any{"path": c.Path, "serial": c.Serial, "sound": c.Err == nil}
		if c.Err != nil {
			one["error"] = c.Err.Error()
		}
		copies = append(copies, one)
	}
	return map[string]any{
		"format_version": "1.0", "lineage": rep.Lineage, "serial": rep.Serial, "records": rep.Records, "versions": rep.Versions,
		"runs": rep.Runs, "open_intents": rep.Intents, "snapshots": copies,
	}
}

func (a *app) stateRebuildCmd() *cobra.Command {
	var accept bool
	cmd := &cobra.Command{
		Use: "rebuild", Short: "Put the newest verified snapshot in place of a damaged or lost state", Args: cobra.NoArgs,
		Example: "  ml state rebuild\n  ml state rebuild -accept",
		Long: `rebuild puts the newest verified snapshot in place of a damaged or lost state. The
damaged file is kept beside it. What was journalled as under way in the snapshot is
settled by the next apply: running work is found by its id and collected.

An older copy of the state that somebody put back is refused by every command;
-accept takes it as it is.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.openState(cmd.Context())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			if accept {
				if err := p.Store.Accept(ctx); err != nil {
					return err
				}
				return a.done("The state is accepted as it is. ml plan shows what differs from the world.")
			}
			from, err := p.Store.RestoreLatest(ctx)
			if err != nil {
				return err
			}
			return a.done("The state is that of %s. ml plan shows what happened since.", relative(from))
		},
	}
	cmd.Flags().BoolVar(&accept, "accept", false, "take an older copy of the state as it is")
	return cmd
}

// openState opens the state without needing valid files: it must work when
// nothing else does.
func (a *app) openState(ctx context.Context) (*project, error) {
	p, err := a.open(ctx)
	var diags diagError
	if err == nil || !errors.As(err, &diags) {
		return p, err
	}
	return a.bareState()
}

func (a *app) statusCmd() *cobra.Command {
	var remote daemonFlags
	cmd := &cobra.Command{
		Use: "status", Short: "Show what there is and how it is", Args: cobra.NoArgs,
		Example: "  ml status\n  ml status -json\n  ml status -daemon https://ml.example.com/r/churn",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if remote.set() {
				return a.statusRemote(cmd.Context(), remote)
			}
			return a.withProject(cmd.Context(), func(p *project, snap *state.Snapshot) error {
				rows, err := p.Engine.Status(cmd.Context(), snap)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(rows)
				}
				if err := a.status(rows); err != nil {
					return err
				}
				waiting, err := p.waiting(snap)
				if err != nil {
					return err
				}
				return a.noteWaiting(waiting)
			})
		},
	}
	remote.add(cmd)
	return cmd
}

// noteWaiting says under the status that plans wait.
func (a *app) noteWaiting(waiting []waitingPlan) error {
	note := waitingNote(waiting)
	if note == "" {
		return nil
	}
	return report.Say(a.Out, a.style(), "\n"+note)
}

func (a *app) status(rows []engine.StatusRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(a.Out, "Nothing is applied yet. ml plan shows what would be.")
		return err
	}
	t := report.NewTable("ADDRESS", "PHASE", "VERSION", "VERDICT", "LAST RUN", "NOTE")
	for _, r := range rows {
		phase, verdict, note := report.PhaseCell(r.Phase), report.Cell{Text: r.Verdict}, report.Cell{Text: r.Note()}
		if r.Phase == resource.PhaseReady {
			phase.Tone = report.Plain // as it should be: colour is for the others
		}
		if r.Verdict == "failed" {
			verdict.Tone = report.Bad
		}
		if r.NextDue != nil {
			note.Text = strings.TrimPrefix(note.Text+" · due "+report.Ago(*r.NextDue, time.Now()), " · ")
		}
		if r.Alarm() {
			note.Tone = report.Change
		}
		t.Row(report.Cell{Text: r.Address, Tone: report.Strong}, phase, report.Cell{Text: number(r.Version)}, verdict, report.Cell{Text: ago(r.LastRun)}, note)
	}
	return t.Write(a.Out, a.style())
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func ago(t *time.Time) string {
	if t == nil {
		return ""
	}
	return report.ShortAgo(*t, time.Now())
}

// bareState is the state alone, for when the files cannot be loaded.
func (a *app) bareState() (*project, error) {
	root, err := a.projectDir()
	if err != nil {
		return nil, err
	}
	w, err := workspace.Bare(workspace.Options{Root: root})
	return &project{w}, err
}
