package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/daemonclient"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func (a *app) logsCmd() *cobra.Command {
	var follow bool
	var lines int
	var run string
	var remote daemonFlags
	cmd := &cobra.Command{
		Use: "logs ADDR", Short: "Show the log of a run or of a server", Args: cobra.ExactArgs(1),
		Example:           "  ml logs training.churn -f\n  ml logs deployment.churn -n 50",
		ValidArgsFunction: a.completeAddresses(),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := oneAddress(args)
			if err != nil {
				return err
			}
			if remote.set() {
				return a.logsRemote(cmd.Context(), remote, addr, daemonclient.LogOptions{Run: run, Lines: lines, Follow: follow})
			}
			return a.withProject(cmd.Context(), func(p *project, snap *state.Snapshot) error {
				return a.readLog(cmd.Context(), addr, func(ctx context.Context, out io.Writer) error {
					return p.Engine.Logs(ctx, snap, addr, run, follow, lines, out)
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the log grows")
	cmd.Flags().IntVarP(&lines, "lines", "n", 0, "only the last lines")
	cmd.Flags().StringVar(&run, "run", "", "the log of this run (ml runs ADDR lists them)")
	remote.add(cmd)
	return cmd
}

// readLog writes a log until it ends, or the reader had enough.
func (a *app) readLog(ctx context.Context, addr resource.Address, read func(ctx context.Context, out io.Writer) error) error {
	return a.interrupts(ctx, "", nil, func(ctx context.Context) error {
		out := &counting{w: a.Out}
		err := read(ctx, out)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil && out.n == 0 {
			return report.Say(a.Err, a.errStyle(), fmt.Sprintf("The log of %s is empty.", addr))
		}
		return err
	})
}

// counting counts what is written through it.
type counting struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (a *app) importCmd() *cobra.Command {
	return &cobra.Command{
		Use: "import ADDR ID", Short: "Take an existing object or model under management", Args: cobra.ExactArgs(2),
		Long: `import takes an existing object under management. For a local training, ID is a folder
with a model's files: it becomes version 1, so that a model trained before ml can be
validated and served. A training of kubeflow takes trainjob/NAME, too: a TrainJob that
has ended well and whose annotation continuo.dev/model names its model.`,
		Example:           "  ml import training.churn ./old-model\n  ml import training.churn trainjob/churn-nightly",
		ValidArgsFunction: a.completeAddresses(),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := resource.ParseAddress(args[0])
			if err != nil {
				return err
			}
			return a.importObject(cmd.Context(), addr, args[1])
		},
	}
}

func (a *app) importObject(ctx context.Context, addr resource.Address, id string) error {
	return a.withSession(ctx, "import", func(ctx context.Context, _ *project, s *engine.Session) error {
		rec, err := s.Import(ctx, addr, id)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(rec)
		}
		return a.done("%s is under management. Next: ml plan", addr)
	})
}
