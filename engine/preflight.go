package engine

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// preflight asks the drivers of the objects that a plan makes or changes what would stand in the way, so that the plan says it before
// anything changes. It is part of reading the live world: a plan without a refresh asks nobody.
func (e *Engine) preflight(ctx context.Context, p *planner.Plan, snap *state.Snapshot) []planner.Diagnostic {
	found := make([][]planner.Diagnostic, len(p.Steps))
	var g errgroup.Group
	g.SetLimit(refreshWorkers)
	for i, st := range p.Steps {
		switch {
		case st.Action != resource.Create && st.Action != resource.Update && st.Action != resource.Replace, st.Exec.RecordOnly:
			continue
		}
		driver, err := e.driver(ctx, st.Provider, st.Kind)
		if err != nil {
			continue // refreshing has reported it, or the step will
		}
		if f, ok := providers.As[providers.Preflighter](driver); ok {
			g.Go(func() error {
				found[i] = e.preflightOf(ctx, f, st, snap)
				return nil
			})
		}
	}
	_ = g.Wait() // what goes wrong is a diagnostic
	var out []planner.Diagnostic
	for _, ds := range found {
		out = append(out, ds...)
	}
	return out
}

func (e *Engine) preflightOf(ctx context.Context, f providers.Preflighter, st *planner.Step, snap *state.Snapshot) []planner.Diagnostic {
	from := st.Address
	if st.From != nil {
		from = *st.From
	}
	findings, err := f.Preflight(ctx, providers.PreflightRequest{Address: st.Address, Action: st.Action, Spec: st.Value, Prior: snap.Records[from], State: snap})
	if err != nil {
		findings = append(findings, providers.Finding{Warning: true, Summary: "What stands in the way is not known",
			Detail: fmt.Sprintf("%s: %s. Apply looks again before it changes anything.", st.Address, err)})
	}
	var out []planner.Diagnostic
	for _, x := range findings {
		d := planner.Diagnostic{Severity: "error", Summary: x.Summary, Detail: x.Detail, Address: st.Address.String()}
		if x.Warning {
			d.Severity = "warning"
		}
		if blk := e.Project.Block(st.Address); blk != nil {
			d.File, d.Line = blk.Range.Filename, blk.Range.Start.Line
		}
		out = append(out, d)
	}
	return out
}
