package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// eachLoop is a for_each of the form `{ for K, V in COLLECTION : KEY => VALUE }`,
// which is evaluated for one instance alone. Whole, each of its instances would
// evaluate it for all, which is quadratic.
type eachLoop struct {
	expr  *hclsyntax.ForExpr
	of    *declaration // the block that the collection is; nil when its elements are known
	value formula
}

// loopOf reads a for_each as one, or gives nil. It finds, by the key of each
// instance, which element of the collection it was made from.
func (r *resolver) loopOf(f *formula, m *moduleInst) (*eachLoop, map[string][2]cty.Value) {
	if len(f.refs) == 1 && f.refs[0].kind == refLocal && isBare(f) {
		f = m.locals[f.refs[0].name].formula
	}
	x, ok := f.expr.(*hclsyntax.ForExpr)
	if !ok || x.KeyExpr == nil || x.Group || rebinds(x) {
		return nil, nil
	}
	loop := &eachLoop{expr: x, value: f.part(x.ValExpr)}
	coll, key := f.part(x.CollExpr), f.part(x.KeyExpr)
	if len(coll.refs) == 1 && coll.refs[0].kind == refBlock && isBare(&coll) && coll.refs[0].target.forEach != nil {
		loop.of = coll.refs[0].target
	}
	all, _ := r.run.value(&coll, instance{mod: m}).Unmark()
	if all.IsNull() || !all.IsKnown() || !all.CanIterateElements() || loop.of == nil && !all.IsWhollyKnown() {
		return nil, nil // what is not known yet is evaluated anew
	}
	from := make(map[string][2]cty.Value, all.LengthInt())
	for it := all.ElementIterator(); it.Next(); {
		k, v := it.Element()
		k, _ = k.Unmark()
		made := r.run.value(&key, instance{mod: m, vars: loop.vars(k, v)})
		if text, ok := keyText(made); ok {
			from[text] = [2]cty.Value{k, withoutOrigins(v)}
		}
	}
	r.run.diags = nil // evaluating it whole has said the same
	return loop, from
}

// part is a part of a formula, with the references in it.
func (f *formula) part(e hclsyntax.Expression) formula {
	out := formula{name: f.name, expr: e, heavy: f.heavy, rng: f.rng}
	for _, one := range f.refs {
		if e.Range().ContainsPos(one.rng.Start) {
			out.refs = append(out.refs, one)
		}
	}
	return out
}

// rebinds says whether a loop within names one of its variables again.
func rebinds(x *hclsyntax.ForExpr) bool {
	found := false
	for _, e := range []hclsyntax.Expression{x.KeyExpr, x.ValExpr} {
		_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics { // it finds no faults
			if s, ok := n.(hclsyntax.ChildScope); ok {
				_, key := s.LocalNames[x.KeyVar]
				_, val := s.LocalNames[x.ValVar]
				found = found || key || val
			}
			return nil
		})
	}
	return found
}

// vars are the loop's variables at one element.
func (l *eachLoop) vars(key, value cty.Value) map[string]cty.Value {
	out := map[string]cty.Value{l.expr.ValVar: value}
	if l.expr.KeyVar != "" {
		out[l.expr.KeyVar] = key
	}
	return out
}

// loopValue is the each.value of an instance that a loop made.
func (r *run) loopValue(in instance) cty.Value {
	l, value := in.loop, in.element[1]
	if l.of != nil {
		set := in.mod.blocks[l.of]
		i, ok := set.index[resource.StringKey(in.element[0].AsString())]
		if !ok {
			return cty.DynamicVal
		}
		value = r.outputs(set, i, l.of)
	}
	in.vars = l.vars(in.element[0], value)
	return r.value(&l.value, in)
}
