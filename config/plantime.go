package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// origin marks a value that comes from a block, while loading, so that each
// element of a for_each knows which blocks it needs.
type origin struct{ addr resource.Address }

// offer is what a block offers whatever will run: its address, and what follows
// from its body alone, such as the names of a dataset's splits. All else is unknown.
func (r *resolver) offer(addr resource.Address, d *declaration, in instance) cty.Value {
	if v, ok := r.offers[addr]; ok {
		return v
	}
	v := d.kind.complete(addr, cty.NilVal)
	r.offers[addr] = v.Mark(origin{addr}) // what a circle sees; it is reported where blocks are ordered
	if d.kind.Plan == nil {
		return r.offers[addr]
	}
	r.push(addr.String(), d.rng)
	r.deps(d.refs, in)
	r.pop()
	if r.stuck {
		return r.offers[addr]
	}
	dec := &decoder{run: r.run, marks: true, feedback: cty.EmptyTupleVal, sensitive: map[string]bool{}}
	body := cty.ObjectVal(dec.body(d.body, d.spec, r.run.context(in, d.refs, cty.NilVal), ""))
	r.run.diags = nil // evaluating the block by itself says the same
	if len(dec.sensitive) == 0 && !dec.diags.HasErrors() {
		v = d.kind.complete(addr, cty.ObjectVal(d.kind.Plan(body, nil, cty.NilVal)))
	}
	r.offers[addr] = v.Mark(origin{addr})
	return r.offers[addr]
}

// origins takes the origins off a value, but not off what is in it.
func origins(v cty.Value) (cty.Value, []resource.Address) {
	plain, marks := v.Unmark()
	var from []resource.Address
	for m := range marks {
		if o, ok := m.(origin); ok {
			from = append(from, o.addr)
			continue
		}
		plain = plain.Mark(m)
	}
	return plain, sortAddrs(from)
}

// withoutOrigins takes the origins off a value and all that is in it.
func withoutOrigins(v cty.Value) cty.Value {
	if !v.ContainsMarked() {
		return v
	}
	plain, marks := v.UnmarkDeepWithPaths()
	for _, m := range marks {
		for mark := range m.Marks {
			if _, ok := mark.(origin); ok {
				delete(m.Marks, mark)
			}
		}
	}
	return plain.MarkWithPaths(slices.DeleteFunc(marks, func(m cty.PathValueMarks) bool { return len(m.Marks) == 0 }))
}

// originsOf are the blocks that an element comes from, with those that the
// collection around it comes from; nil when it is a plain value.
func originsOf(element cty.Value, around []resource.Address) []resource.Address {
	from := slices.Clone(around)
	if element.ContainsMarked() {
		_, marks := element.UnmarkDeep()
		for m := range marks {
			if o, ok := m.(origin); ok {
				from = append(from, o.addr)
			}
		}
	}
	return sortAddrs(from)
}

// eachValue is the for_each value of an instance.
func (r *run) eachValue(in instance) cty.Value {
	if in.forEach == nil || r.scope == nil {
		return orUnknown(in.value)
	}
	if in.loop != nil {
		return r.loopValue(in)
	}
	// for_each = dataset.x is the usual chain: one block, not all of them.
	if f := in.forEach; len(f.refs) == 1 && isBare(f) {
		if f.refs[0].kind == refBlock {
			set := in.mod.blocks[f.refs[0].target]
			if i, ok := set.index[in.key]; ok && set.kind == hasForEach {
				return r.outputs(set, i, f.refs[0].target)
			}
		}
	}
	all, _ := r.value(in.forEach, in).Unmark()
	if all.IsNull() || !all.IsKnown() || !all.CanIterateElements() {
		return cty.DynamicVal
	}
	v, diags := hcl.Index(all, in.each, in.forEach.expr.Range().Ptr())
	r.diags = append(r.diags, r.clean(diags)...)
	return v
}

// isBare says whether a formula is nothing but `KIND.NAME`.
func isBare(f *formula) bool {
	return len(f.refs[0].rest) == 0 && f.refs[0].key == nil && f.expr.Range() == f.refs[0].rng
}

// planTime evaluates what must be known before anything runs. Of for_each that
// is the keys; all else is needed whole.
func (r *resolver) planTime(f *formula, in instance, what string) (cty.Value, bool) {
	deps := r.deps(f.refs, in)
	if r.stuck {
		return cty.NilVal, false
	}
	before := len(r.diags)
	v := r.run.value(f, in)
	r.add(r.run.take()...)
	if r.diags[before:].HasErrors() {
		return cty.NilVal, false
	}
	switch {
	case f.name == "for_each" && v.IsKnown() && (!v.Type().IsSetType() || v.IsWhollyKnown()): // the elements of a set are its keys
		return v, true
	case v.IsWhollyKnown():
		return withoutOrigins(v), true
	case len(deps) == 0 && r.diags.HasErrors():
		return cty.NilVal, false // what it comes from is reported
	}
	cause := "its value is unknown"
	if len(deps) > 0 {
		cause = fmt.Sprintf("%s is known only after %s", r.culprit(f, in), strings.Join(few(deps), ", "))
	}
	remedy := "Use variables, locals, files, or what the files say of a block."
	if what == "for_each" {
		remedy = "Take the keys from variables or locals, or from another block's for_each or split names, and refer to outputs in the values."
	}
	r.add(errAt(f.expr.Range(), "Not known at plan time", "%s must be known before anything runs, but %s. %s", what, cause, remedy))
	return cty.NilVal, false
}

// culprit is the reference that is not known, as it is written.
func (r *resolver) culprit(f *formula, in instance) string {
	for i := range f.refs {
		if ref := &f.refs[i]; len(r.deps(f.refs[i:i+1], in)) > 0 {
			key := ""
			if ref.key != nil {
				key = "[…]"
				if text, ok := keyText(ref.key.lit); ok {
					key = text
				}
			}
			return ref.root + "." + ref.name + key + stepsText(ref.rest)
		}
	}
	return "it"
}

func few(list []resource.Address) []string {
	var out []string
	for i, a := range list {
		if i == 3 {
			return append(out, "…")
		}
		out = append(out, a.String())
	}
	return out
}
