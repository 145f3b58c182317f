package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// withProject opens the project around fn.
func (a *app) withProject(ctx context.Context, fn func(p *project, snap *state.Snapshot) error) (err error) {
	p, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, p.Close()) }()
	snap, err := p.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	return fn(p, snap)
}

// oneAddress parses the command's address argument.
// withBlock is withProject for commands about one block, which must be there.
func (a *app) withBlock(ctx context.Context, args []string, fn func(p *project, snap *state.Snapshot, addr resource.Address) error) error {
	addr, err := oneAddress(args)
	if err != nil {
		return err
	}
	return a.withProject(ctx, func(p *project, snap *state.Snapshot) error {
		if !p.knows(addr) {
			return fmt.Errorf("no block %s; ml graph names what there is", addr)
		}
		return fn(p, snap, addr)
	})
}

func oneAddress(args []string) (resource.Address, error) { return resource.ParseAddress(args[0]) }

func (a *app) showCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show [PLAN|ADDR]", Short: "Show the state, one block of it, or a saved plan", Args: cobra.MaximumNArgs(1),
		Example: "  ml show\n  ml show deployment.churn\n  ml show plan.bin", ValidArgsFunction: a.completeRecords,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if _, err := resource.ParseAddress(args[0]); err != nil {
					return a.showSaved(args[0])
				}
			}
			return a.withProject(cmd.Context(), func(_ *project, snap *state.Snapshot) error {
				if len(args) == 1 {
					return a.showRecord(snap, args[0])
				}
				return a.showState(snap)
			})
		},
	}
}

func (a *app) showSaved(path string) error {
	saved, _, err := a.readSaved(path)
	if err != nil {
		return err
	}
	return a.showPlan(saved.Plan, false)
}

func (a *app) showState(snap *state.Snapshot) error {
	if a.json {
		records := make([]*state.Record, 0, len(snap.Records))
		for _, addr := range sortedAddresses(snap.Records) {
			records = append(records, snap.Records[addr])
		}
		return a.printJSON(map[string]any{"format_version": "1.0", "lineage": snap.Lineage, "serial": snap.Serial, "records": records})
	}
	if len(snap.Records) == 0 {
		return report.Say(a.Out, a.style(), "Nothing is applied yet. ml plan shows what would be.")
	}
	for i, addr := range sortedAddresses(snap.Records) {
		if i > 0 {
			fmt.Fprintln(a.Out)
		}
		if err := a.printRecord(snap.Records[addr]); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) showRecord(snap *state.Snapshot, text string) error {
	addr, err := resource.ParseAddress(text)
	if err != nil {
		return err
	}
	rec := snap.Records[addr]
	if rec == nil {
		return fmt.Errorf("%s is not in the state; ml state list shows what is", addr)
	}
	if a.json {
		return a.printJSON(rec)
	}
	if err := a.printRecord(rec); err != nil || !rec.Verdict.Bad() || len(rec.Verdict.Findings) == 0 {
		return err
	}
	fmt.Fprintf(a.Out, "\n%s\n", a.style().Paint(report.Strong, "What the verdict rests on:"))
	return report.Findings(a.Out, rec.Verdict, a.style())
}

func (a *app) printRecord(rec *state.Record) error {
	return recordView(a.Out, rec, a.style())
}

func sortedAddresses[V any](m map[resource.Address]V) []resource.Address {
	return slices.SortedFunc(maps.Keys(m), resource.Address.Compare)
}

func (a *app) explainCmd() *cobra.Command {
	return &cobra.Command{
		Use: "explain ADDR", Short: "Say why a block would change, back to the root cause", Args: cobra.ExactArgs(1),
		Example:           "  ml explain training.churn",
		ValidArgsFunction: a.completeAddresses(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBlock(cmd.Context(), args, func(p *project, snap *state.Snapshot, addr resource.Address) error {
				planned, err := p.Engine.Plan(cmd.Context(), engine.PlanOptions{})
				if err != nil {
					return err
				}
				runs, err := p.Store.Runs(cmd.Context(), addr)
				if err != nil {
					return err
				}
				return report.Explain(a.Out, planned.Plan, addr, report.History{Now: time.Now(), Runs: runs, Records: snap.Records, Signals: planned.Input.Live.Signals[addr]}, a.style())
			})
		},
	}
}

func (a *app) graphCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "graph", Short: "Show what feeds what", Args: cobra.NoArgs,
		Example: "  ml graph\n  ml graph -format dot | dot -Tsvg > graph.svg",
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, _, err := a.load(cmd.Context())
			if err != nil {
				return err
			}
			nodes, edges := graphOf(conf)
			switch format {
			case "dot":
				return report.GraphDOT(a.Out, nodes, edges)
			case "mermaid":
				return report.GraphMermaid(a.Out, nodes, edges)
			case "text":
				return report.GraphText(a.Out, nodes, edges, a.style())
			}
			return fmt.Errorf("no graph format %q; choose text, dot or mermaid", format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text, dot or mermaid")
	a.complete(cmd, "format", cobra.FixedCompletions([]string{"text", "dot", "mermaid"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// graphOf lists the blocks and what feeds what.
func graphOf(conf *config.Project) (nodes []report.Node, edges []report.Edge) {
	for _, b := range conf.Blocks {
		nodes = append(nodes, report.Node{Address: b.Addr})
		for _, d := range b.Deps {
			edges = append(edges, report.Edge{From: d, To: b.Addr})
		}
		for _, f := range b.Feedback {
			edges = append(edges, report.Edge{From: f.Address, To: b.Addr, Feedback: true, Label: f.Signal})
		}
	}
	return nodes, edges
}

func (a *app) outputCmd() *cobra.Command {
	return &cobra.Command{
		Use: "output [NAME]", Short: "Print the outputs of the root module", Args: cobra.MaximumNArgs(1),
		Example: "  ml output\n  curl \"$(ml output endpoint)\"", ValidArgsFunction: a.completeOutputs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withProject(cmd.Context(), func(p *project, snap *state.Snapshot) error {
				return a.outputs(p, snap, args)
			})
		},
	}
}

func (a *app) outputs(p *project, snap *state.Snapshot, args []string) error {
	values := map[string]any{}
	for _, o := range p.Conf.Outputs {
		if len(args) == 1 && o.Name != args[0] {
			continue
		}
		v, diags := p.Conf.EvalOutput(o, engine.Recorded(p.Conf, snap))
		if diags.HasErrors() {
			return diagError{Diags: diags, Files: sources(p.Root, diags)}
		}
		values[o.Name] = outputValue(o, v)
	}
	if len(args) == 1 {
		v, ok := values[args[0]]
		if !ok {
			return fmt.Errorf("no output %q in the root module", args[0])
		}
		if s, isText := v.(string); isText && !a.json {
			_, err := fmt.Fprintln(a.Out, s)
			return err
		}
		return a.printJSON(v)
	}
	if a.json {
		return a.printJSON(values)
	}
	t := report.NewTable("NAME", "VALUE")
	for _, o := range p.Conf.Outputs {
		t.Text(o.Name, plainText(values[o.Name]))
	}
	return t.Write(a.Out, a.style())
}

// plainText shows text as it is and everything else as JSON.
func plainText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

func outputValue(o *config.Output, v cty.Value) any {
	if o.Sensitive {
		return planner.MaskText
	}
	v, _ = v.UnmarkDeep()
	if !v.IsWhollyKnown() {
		return nil
	}
	g, err := resource.ToGo(v)
	if err != nil {
		return err.Error()
	}
	return g
}
