package config

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// unknownScope knows nothing of any block: every output is unknown.
type unknownScope struct{}

func (unknownScope) Outputs(resource.Address) cty.Value { return cty.NilVal }
func (unknownScope) Signal(resource.SignalRef) Signal   { return Signal{} }

// foreseen knows of each block what follows from the files alone, such as the
// names of a dataset's splits.
type foreseen map[resource.Address]cty.Value

func (f foreseen) Outputs(a resource.Address) cty.Value { return f[a] }
func (foreseen) Signal(resource.SignalRef) Signal       { return Signal{} }

// Validate evaluates every block and output as if nothing had run yet, which
// finds all that is wrong whatever will be: types, bounds, names.
func (p *Project) Validate() hcl.Diagnostics {
	var diags hcl.Diagnostics
	scope := foreseen{}
	for _, b := range p.Blocks {
		v, d := p.Eval(b, scope)
		diags = append(diags, d...)
		diags = append(diags, p.Conditions(b, scope, cty.NilVal, false)...)
		if b.Kind.Plan != nil && !d.HasErrors() {
			scope[b.Addr] = cty.ObjectVal(b.Kind.Plan(v.Value, nil, cty.NilVal))
		}
	}
	for _, o := range p.Outputs {
		_, d := p.EvalOutput(o, scope)
		diags = append(diags, d...)
	}
	return fewer(diags)
}

// maxDiags is how many diagnostics are told: more help nobody.
const maxDiags = 200

// fewer sorts diagnostics, drops repetitions, and cuts an endless list.
func fewer(diags hcl.Diagnostics) hcl.Diagnostics {
	sortDiags(diags)
	diags = once(diags)
	if len(diags) <= maxDiags {
		return diags
	}
	// Sorted by place; an error must not hide behind warnings.
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int { return int(a.Severity) - int(b.Severity) })
	rest := len(diags) - maxDiags
	return append(diags[:maxDiags], &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "And more", Detail: fmt.Sprintf("%d more diagnostics are not shown; mend these first.", rest)})
}

// once drops diagnostics that say the same of the same place: instances of one
// block share their lines.
func once(diags hcl.Diagnostics) hcl.Diagnostics {
	type key struct {
		summary, detail string
		at              hcl.Range
	}
	seen := map[key]bool{}
	var out hcl.Diagnostics
	for _, d := range diags {
		k := key{summary: d.Summary, detail: d.Detail}
		if d.Subject != nil {
			k.at = *d.Subject
		}
		if !seen[k] {
			seen[k] = true
			out = append(out, d)
		}
	}
	return out
}
