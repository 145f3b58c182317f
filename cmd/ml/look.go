package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	defer func() { err = joinClose(err, p.close()) }()
	snap, err := p.store.Snapshot(ctx)
	if err != nil {
		return err
	}
	return fn(p, snap)
}

// oneAddress parses the command's address argument.
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
	return a.printRecord(rec)
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
			addr, err := oneAddress(args)
			if err != nil {
				return err
			}
			return a.withProject(cmd.Context(), func(p *project, snap *state.Snapshot) error {
				if !p.knows(addr) {
					return fmt.Errorf("no block %s; ml graph names what there is", addr)
				}
				planned, err := p.engine.Plan(cmd.Context(), engine.PlanOptions{})
				if err != nil {
					return err
				}
				runs, err := p.store.Runs(cmd.Context(), addr)
				if err != nil {
					return err
				}
				return report.Explain(a.Out, planned.Plan, addr, report.History{Now: time.Now(), Runs: runs, Records: snap.Records}, a.style())
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
			conf, _, _, err := a.load(cmd.Context())
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
	for _, o := range p.conf.Outputs {
		if len(args) == 1 && o.Name != args[0] {
			continue
		}
		v, diags := p.conf.EvalOutput(o, engine.Recorded(p.conf, snap))
		if diags.HasErrors() {
			return diagError{diags: diags, files: sources(p.root, diags)}
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
	for _, o := range p.conf.Outputs {
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

func (a *app) versionsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "versions ADDR", Short: "List the versions of a training", Args: cobra.ExactArgs(1),
		Example:           "  ml versions training.churn\n  ml versions training.churn -json",
		ValidArgsFunction: a.completeAddresses("training"),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := oneAddress(args)
			if err != nil {
				return err
			}
			return a.withProject(cmd.Context(), func(p *project, snap *state.Snapshot) error {
				if !p.knows(addr) {
					return fmt.Errorf("no block %s", addr)
				}
				return a.versions(snap, addr)
			})
		},
	}
}

// versionView is one version as `ml versions -json` prints it.
type versionView struct {
	Version int                `json:"version"`
	Digest  resource.Digest    `json:"digest"`
	Created time.Time          `json:"created"`
	Metrics map[string]float64 `json:"metrics"`
	Params  map[string]any     `json:"params,omitempty"`
	Passed  bool               `json:"passed"`
	Current bool               `json:"current"`
	Serves  []string           `json:"serves,omitempty"`
	Run     string             `json:"run"`
	// Inputs are what it was made from, by path: digests, parameters, the command.
	Inputs map[string]json.RawMessage `json:"inputs"`
	// measured are the metrics for people: the training's own, else what judged it.
	measured map[string]float64
}

func versionViews(snap *state.Snapshot, addr resource.Address) []versionView {
	current := 0
	if rec := snap.Records[addr]; rec != nil {
		current = rec.Version
	}
	out := []versionView{}
	for _, v := range snap.Versions[addr] {
		w := versionView{Version: v.Number, Digest: v.Digest, Created: v.Created, Metrics: v.Metrics, Params: v.Params, Passed: v.Passed(), Current: v.Number == current, Run: v.Run, Inputs: rawParts(v.Parts), measured: measured(v)}
		if w.Metrics == nil {
			w.Metrics = map[string]float64{}
		}
		for _, a := range sortedAddresses(snap.Records) {
			if a.Kind != "training" && a.Kind != "validation" && strings.Contains(string(snap.Records[a].Outputs), string(v.Digest)) {
				w.Serves = append(w.Serves, a.String())
			}
		}
		out = append(out, w)
	}
	return out
}

// rawParts are recorded inputs as JSON values: that is what each is recorded as.
func rawParts(parts resource.Parts) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(parts))
	for path, text := range parts {
		raw := json.RawMessage(text)
		if !json.Valid(raw) {
			raw, _ = json.Marshal(text) // a string always marshals
		}
		out[path] = raw
	}
	return out
}

// measured are a version's metrics, or where its training wrote none the values
// that its validations judged.
func measured(v *state.Version) map[string]float64 {
	if len(v.Metrics) > 0 {
		return v.Metrics
	}
	out := map[string]float64{}
	for _, w := range v.Verdicts {
		for _, f := range w.Findings {
			if f.Value != nil && f.Name != "" {
				out[f.Name] = *f.Value
			}
		}
	}
	return out
}

func (a *app) versions(snap *state.Snapshot, addr resource.Address) error {
	views := versionViews(snap, addr)
	if a.json {
		return a.printJSON(views)
	}
	t := report.NewTable("VERSION", "DIGEST", "CREATED", "PASSED", "USED BY", "METRICS")
	for _, v := range views {
		note := strings.Join(v.Serves, " ")
		if v.Current {
			note = strings.TrimSpace("current " + note)
		}
		t.Text(fmt.Sprint(v.Version), v.Digest.Short(), report.ShortAgo(v.Created, time.Now()), yesNo(v.Passed), note, report.Metrics(v.measured, 0))
	}
	return t.Write(a.Out, a.style())
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (a *app) runsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "runs [ADDR]", Short: "List runs, newest last", Args: cobra.MaximumNArgs(1),
		Example:           "  ml runs\n  ml runs training.churn",
		ValidArgsFunction: a.completeAddresses(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var addr resource.Address
			if len(args) == 1 {
				var err error
				if addr, err = oneAddress(args); err != nil {
					return err
				}
			}
			return a.withProject(cmd.Context(), func(p *project, _ *state.Snapshot) error {
				runs, err := p.store.Runs(cmd.Context(), addr)
				if err != nil {
					return err
				}
				return a.runs(runs)
			})
		},
	}
}

func (a *app) runs(runs []*state.Run) error {
	if a.json {
		if runs == nil {
			runs = []*state.Run{}
		}
		return a.printJSON(runs)
	}
	t := report.NewTable("RUN", "ADDRESS", "STARTED", "TOOK", "END", "WHY")
	for _, r := range runs {
		end := string(r.Phase)
		if r.Verdict.Bad() {
			end = "bad verdict"
		}
		why := ""
		if len(r.Reasons) > 0 {
			why = r.Reasons[0].Message
		}
		t.Text(r.ID, r.Address.String(), report.ShortAgo(r.Started, time.Now()), report.Duration(r.Finished.Sub(r.Started)), end, why)
	}
	return t.Write(a.Out, a.style())
}
