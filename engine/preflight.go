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
//
// It returns, besides, the parts of objects that cannot be changed in place: with them, the plan is built again.
func (e *Engine) preflight(ctx context.Context, p *planner.Plan, snap *state.Snapshot) ([]planner.Diagnostic, map[resource.Address][]planner.Immutable) {
	found := make([][]providers.Finding, len(p.Steps))
	type group struct{ provider, kind string }
	count := map[group]int{}
	for _, st := range p.Steps {
		if asked(st) {
			count[group{st.Provider, st.Kind}]++
		}
	}
	look := &providers.Look{}
	var g errgroup.Group
	g.SetLimit(refreshWorkers)
	for i, st := range p.Steps {
		if !asked(st) {
			continue
		}
		driver, err := e.driver(ctx, st.Provider, st.Kind)
		if err != nil {
			continue // refreshing has reported it, or the step will
		}
		if f, ok := providers.As[providers.Preflighter](driver); ok {
			g.Go(func() error {
				found[i] = preflightOf(ctx, f, st, snap, count[group{st.Provider, st.Kind}], look)
				return nil
			})
		}
	}
	_ = g.Wait() // what goes wrong is a diagnostic
	var out []planner.Diagnostic
	fixed := map[resource.Address][]planner.Immutable{}
	for i, st := range p.Steps {
		for _, x := range found[i] {
			if x.Immutable != "" {
				fixed[st.Address] = append(fixed[st.Address], planner.Immutable{Path: x.Immutable, Message: x.Summary})
				continue
			}
			out = append(out, e.diagnosticOf(st, x))
		}
	}
	return out, fixed
}

// asked says whether a step may meet something.
func asked(st *planner.Step) bool {
	return (st.Action == resource.Create || st.Action == resource.Update || st.Action == resource.Replace) && !st.Exec.RecordOnly
}

func preflightOf(ctx context.Context, f providers.Preflighter, st *planner.Step, snap *state.Snapshot, of int, look *providers.Look) []providers.Finding {
	from := st.Address
	if st.From != nil {
		from = *st.From
	}
	findings, err := f.Preflight(ctx, providers.PreflightRequest{
		Address: st.Address, Action: st.Action, Spec: st.Value, Prior: snap.Records[from], State: snap, Probed: st.Exec.Probes, Needs: st.Needs, Of: of, Look: look,
	})
	if err != nil {
		findings = append(findings, providers.Finding{Warning: true, Summary: "What stands in the way is not known",
			Detail: fmt.Sprintf("%s: %s. Apply looks again before it changes anything.", st.Address, err)})
	}
	return findings
}

func (e *Engine) diagnosticOf(st *planner.Step, x providers.Finding) planner.Diagnostic {
	d := planner.Diagnostic{Severity: "error", Summary: x.Summary, Detail: x.Detail, Address: st.Address.String()}
	if x.Warning {
		d.Severity = "warning"
	}
	if blk := e.Project.Block(st.Address); blk != nil {
		d.File, d.Line = blk.Range.Filename, blk.Range.Start.Line
	}
	return d
}
