package config

import (
	"maps"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// context is what an expression sees: exactly what its references name.
func (r *run) context(in instance, refs []ref, self cty.Value) *hcl.EvalContext {
	ctx := &hcl.EvalContext{Functions: r.funcs}
	if len(refs) == 0 && len(in.vars) == 0 {
		return ctx
	}
	vars := make(map[string]map[string]cty.Value, 4)
	put := func(root, name string, v cty.Value) {
		g := vars[root]
		if g == nil {
			g = make(map[string]cty.Value, 2)
			vars[root] = g
		}
		g[name] = v
	}
	ctx.Variables = make(map[string]cty.Value, 4)
	for i := range refs {
		f := &refs[i]
		switch f.kind {
		case refVar:
			put("var", f.name, r.slotValue(in.mod.vars[f.name]))
		case refLocal:
			put("local", f.name, r.slotValue(in.mod.locals[f.name]))
		case refEach:
			put("each", "key", orUnknown(in.each))
			if f.name == "value" {
				put("each", "value", r.eachValue(in))
			}
		case refCount:
			put("count", "index", orUnknown(in.value))
		case refPath:
			put("path", "module", cty.StringVal(in.mod.cfg.dir))
			put("path", "root", cty.StringVal("."))
		case refSelf:
			ctx.Variables["self"] = self
		case refBlock, refModule:
			if _, done := vars[f.root][f.name]; !done {
				put(f.root, f.name, r.instances(in, refs[i:], f))
			}
		}
		if f.key != nil && f.key.expr != nil {
			r.keyContext(in, f.key.refs, put)
		}
	}
	for root, names := range vars {
		ctx.Variables[root] = cty.ObjectVal(names)
	}
	maps.Copy(ctx.Variables, in.vars)
	return ctx
}

// keyContext adds what an instance key refers to.
func (r *run) keyContext(in instance, refs []ref, put func(root, name string, v cty.Value)) {
	in.vars = nil // they are there already
	inner := r.context(in, refs, cty.NilVal)
	for root, v := range inner.Variables {
		for name, e := range v.AsValueMap() {
			put(root, name, e)
		}
	}
}

func orUnknown(v cty.Value) cty.Value {
	if v == cty.NilVal {
		return cty.DynamicVal
	}
	return v
}

// instances is the value of `kind.name` or `module.name` for all references to
// it among refs: the block's outputs, or those of the instances that are meant.
func (r *run) instances(in instance, refs []ref, first *ref) cty.Value {
	var set *instanceSet
	var get func(i int) cty.Value
	if first.kind == refBlock {
		bs := in.mod.blocks[first.target]
		set, get = &bs.instanceSet, func(i int) cty.Value { return r.outputs(bs, i, first.target) }
	} else {
		cs := in.mod.children[first.name]
		set, get = &cs.instanceSet, func(i int) cty.Value { return r.moduleValue(cs.mods[i], refs, first) }
	}
	switch {
	case set.bad:
		return cty.DynamicVal
	case set.kind == noEach:
		return get(0)
	}
	picked := map[string]cty.Value{}
	for i := range refs {
		f := &refs[i]
		if f.kind != first.kind || f.root != first.root || f.name != first.name {
			continue
		}
		switch n := r.pick(set, f, in); n {
		case missingInstance:
		case allInstances:
			return r.all(set, get)
		default:
			picked[keyName(set.insts[n].key)] = get(n)
		}
	}
	return cty.ObjectVal(picked)
}

// pick finds the instance that a reference means. What is missing is noted: the
// evaluation that needs it fails, and then says so.
func (r *run) pick(s *instanceSet, f *ref, in instance) int {
	switch {
	case s.bad || !s.ready:
		return missingInstance
	case s.kind == noEach:
		return 0
	case f.key == nil || f.key.free && in.vars == nil:
		return allInstances
	}
	v := f.key.lit
	if f.key.expr != nil {
		var diags hcl.Diagnostics
		if v, diags = f.key.expr.Value(r.context(in, f.key.refs, cty.NilVal)); diags.HasErrors() {
			return allInstances
		}
	}
	key, ok := keyText(v)
	if !ok {
		return allInstances
	}
	i, ok := s.index[key]
	if !ok {
		if r.missing == nil {
			r.missing = map[*ref]*hcl.Diagnostic{}
		}
		r.missing[f] = s.noInstance(f, key)
		return missingInstance
	}
	return i
}

// noInstance says that a set has no instance under a key.
func (s *instanceSet) noInstance(f *ref, key string) *hcl.Diagnostic {
	var keys []string
	for _, in := range s.insts {
		keys = append(keys, strings.Trim(in.key, `[]"`))
	}
	hint := didYouMean(strings.Trim(key, `[]"`), keys)
	if len(keys) == 0 {
		hint = " It has none at all; use one(), or a condition around it."
	}
	return errAt(f.rng, "No such instance", "%s.%s has no instance %s.%s", f.root, f.name, key, hint)
}

func keyText(v cty.Value) (string, bool) {
	v, _ = v.Unmark()
	switch {
	case v == cty.NilVal || v.IsNull() || !v.IsKnown():
		return "", false
	case v.Type() == cty.String:
		return resource.StringKey(v.AsString()), true
	case v.Type() == cty.Number:
		return "[" + v.AsBigFloat().Text('f', 0) + "]", true
	}
	return "", false
}

// keyName is the key as it stands between the brackets of an address.
func keyName(key string) string {
	k, err := unquoteKey(key)
	if err != nil {
		return key
	}
	return k
}

// all is the object or tuple of every instance.
func (r *run) all(set *instanceSet, get func(int) cty.Value) cty.Value {
	if set.kind == hasCount {
		vals := make([]cty.Value, len(set.insts))
		for i := range set.insts {
			vals[i] = get(i)
		}
		return cty.TupleVal(vals)
	}
	vals := make(map[string]cty.Value, len(set.insts))
	for i, in := range set.insts {
		vals[in.each.AsString()] = get(i)
	}
	return cty.ObjectVal(vals)
}

// moduleValue is the object of a module's outputs, of those that are meant.
func (r *run) moduleValue(m *moduleInst, refs []ref, first *ref) cty.Value {
	want := map[string]bool{}
	for i := range refs {
		f := &refs[i]
		if f.kind != refModule || f.name != first.name {
			continue
		}
		name := attrStep(f.rest)
		if name == "" {
			want = nil
			break
		}
		want[name] = true
	}
	vals := map[string]cty.Value{}
	for n, s := range m.outputs {
		if want == nil || want[n] {
			vals[n] = r.slotValue(s)
		}
	}
	return cty.ObjectVal(vals)
}

// outputs is the value of a block: what the scope knows of it, completed with
// unknowns, and its signals as recorded. While loading there is no scope, only
// what the files say.
func (r *run) outputs(set *blockSet, i int, d *declaration) cty.Value {
	addr, k := set.addrs[i], d.kind
	if r.scope == nil {
		if r.offer == nil {
			return k.complete(addr, cty.NilVal)
		}
		return r.offer(addr, d, set.insts[i])
	}
	v := k.complete(addr, r.scope.Outputs(addr))
	if len(k.Signals) == 0 {
		return v
	}
	attrs := v.AsValueMap()
	for _, name := range k.Signals {
		sig := r.scope.Signal(resource.SignalRef{Address: addr, Signal: name})
		if sig == (Signal{}) {
			sig = Signal{State: string(resource.SignalTooFew)}
		}
		sig.Address, sig.Name = addr.String(), name
		if sv, err := resource.Encode(sig); err == nil {
			attrs[name] = sv
		}
	}
	return cty.ObjectVal(attrs)
}

// complete adds unknowns for the outputs that v lacks, and the address, which
// is known of every block.
func (k *Kind) complete(addr resource.Address, v cty.Value) cty.Value {
	nothing := v == cty.NilVal || v.IsNull() || !v.IsKnown()
	if !nothing && k.isComplete(v) {
		return v
	}
	attrs := k.unknown.AsValueMap()
	if !nothing {
		for n, e := range v.AsValueMap() {
			attrs[n] = e
		}
	}
	if a, ok := attrs["address"]; ok && !a.IsKnown() {
		attrs["address"] = cty.StringVal(addr.String())
	}
	return cty.ObjectVal(attrs)
}

func (k *Kind) isComplete(v cty.Value) bool {
	t := v.Type()
	if !t.IsObjectType() {
		return false
	}
	for _, a := range k.outputs.Attrs {
		if !t.HasAttribute(a.Name) {
			return false
		}
	}
	return !t.HasAttribute("address") || v.GetAttr("address").IsKnown()
}
