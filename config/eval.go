package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/continuo-ml/continuo/config/internal/funcs"
	"github.com/continuo-ml/continuo/resource"
)

// evaluator holds what evaluation shares between blocks.
type evaluator struct {
	kinds Kinds
	funcs map[string]function.Function
	marks bool // something in the project may be sensitive
	loose bool // evaluate what no schema knows, too
	trace func(what string)
	root  *moduleInst
}

// run evaluates expressions against one scope. Values that come from blocks are
// computed once per run.
type run struct {
	*evaluator
	scope Scope
	memo  map[*slot]cty.Value
	diags hcl.Diagnostics
}

func (r *run) take() hcl.Diagnostics {
	d := r.diags
	r.diags = nil
	return d
}

// value evaluates a formula where it stands.
func (r *run) value(f *formula, in instance) cty.Value {
	if r.trace != nil {
		r.trace(f.name)
	}
	ctx := r.context(in, f.refs, cty.NilVal)
	v, diags := f.expr.Value(ctx)
	if diags.HasErrors() {
		r.diags = append(r.diags, clean(diags)...)
		return cty.DynamicVal
	}
	if f.heavy {
		if n := valueBytes(v, MaxValueBytes); n > MaxValueBytes {
			r.diags = append(r.diags, errAt(f.expr.Range(), "Value too large", "The value of %s is larger than %d MiB; keep data in files and name them.", f.name, MaxValueBytes>>20))
			return cty.DynamicVal
		}
	}
	return v
}

// compute evaluates a slot: a variable is fitted to its type, an output marked.
func (r *run) compute(s *slot) cty.Value {
	v := r.value(s.formula, s.in)
	if s.variable != nil {
		v = r.argument(s, v)
	}
	if s.output != nil && s.output.sensitive {
		v = v.Mark(funcs.SensitiveMark{})
	}
	return v
}

// argument fits the value that a module block gives to a variable.
func (r *run) argument(s *slot, v cty.Value) cty.Value {
	vr := s.variable
	if v.IsNull() && vr.def != cty.NilVal && !vr.nullable {
		v = vr.def
	}
	got, err := vr.convert(v)
	if err != nil {
		r.diags = append(r.diags, errAt(s.expr.Range(), "Wrong type", "var.%s of the module in %s takes %s: %s.", vr.name, s.owner.cfg.dir, vr.typ.FriendlyNameForConstraint(), sentence(err)))
		return cty.UnknownVal(vr.typ.WithoutOptionalAttributesDeep())
	}
	if vr.sensitive {
		got = got.Mark(funcs.SensitiveMark{})
	}
	return got
}

// slotValue is the value of a local, variable or output under this scope.
func (r *run) slotValue(s *slot) cty.Value {
	if s.static() {
		if s.value == cty.NilVal {
			return cty.DynamicVal
		}
		return s.value
	}
	if v, ok := r.memo[s]; ok {
		return v
	}
	if r.memo == nil {
		r.memo = map[*slot]cty.Value{}
	}
	r.memo[s] = cty.DynamicVal // a cycle would have been refused by Load
	v := r.compute(s)
	r.memo[s] = v
	if s.variable != nil {
		r.validate(s)
	}
	return v
}

// group is what an expression sees under one root: names, and for blocks and
// modules with instances the ones that are meant.
type group struct {
	whole bool
	keys  map[string]cty.Value
	value cty.Value
	outs  map[string]bool // outputs of a module; nil = all
}

// context is what an expression sees: exactly what its references name.
func (r *run) context(in instance, refs []ref, self cty.Value) *hcl.EvalContext {
	ctx := &hcl.EvalContext{Functions: r.funcs}
	if len(refs) == 0 {
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
			put("each", "value", orUnknown(in.value))
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
	return ctx
}

// keyContext adds what an instance key refers to.
func (r *run) keyContext(in instance, refs []ref, put func(root, name string, v cty.Value)) {
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
		set, get = &bs.instanceSet, func(i int) cty.Value { return r.outputs(bs.addrs[i], first.target.kind) }
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
		n, ok := r.pickAgain(set, f, in)
		if !ok {
			return r.all(set, get)
		}
		k := set.insts[n].key
		picked[keyName(k)] = get(n)
	}
	return cty.ObjectVal(picked)
}

// pickAgain is resolver.pick for evaluation, where failures were reported.
func (r *run) pickAgain(set *instanceSet, f *ref, in instance) (int, bool) {
	if f.key == nil {
		return 0, false
	}
	v := f.key.lit
	if f.key.expr != nil {
		if f.key.free {
			return 0, false
		}
		var diags hcl.Diagnostics
		if v, diags = f.key.expr.Value(r.context(in, f.key.refs, cty.NilVal)); diags.HasErrors() {
			return 0, false
		}
	}
	key, ok := keyText(v)
	if !ok {
		return 0, false
	}
	i, ok := set.index[key]
	return i, ok
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
// unknowns, and its signals as recorded.
func (r *run) outputs(addr resource.Address, k *Kind) cty.Value {
	v := cty.NilVal
	if r.scope != nil {
		v = r.scope.Outputs(addr)
	}
	switch {
	case v == cty.NilVal || v.IsNull():
		v = k.unknown
	case !v.IsKnown():
		v = k.unknown
	default:
		v = k.complete(v)
	}
	if len(k.Signals) == 0 || r.scope == nil {
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

// complete adds unknowns for the outputs that v lacks.
func (k *Kind) complete(v cty.Value) cty.Value {
	t := v.Type()
	if t.IsObjectType() {
		missing := false
		for _, a := range k.outputs.Attrs {
			if !t.HasAttribute(a.Name) {
				missing = true
				break
			}
		}
		if !missing {
			return v
		}
	}
	attrs := k.unknown.AsValueMap()
	for n, e := range v.AsValueMap() {
		attrs[n] = e
	}
	return cty.ObjectVal(attrs)
}

// Eval evaluates a block's body. Unknown outputs of other blocks give unknown
// values. The value is free of marks; what came from something sensitive is
// listed by path.
func (p *Project) Eval(b *Block, s Scope) (Evaluated, hcl.Diagnostics) {
	r := &run{evaluator: p.eval, scope: s}
	d := b.decl
	dec := &decoder{
		marks: p.eval.marks || d.marks, heavy: d.heavy, provider: providerName(b.Provider), loose: p.eval.loose,
		feedback: feedbackValue(b.Feedback), sensitive: map[string]bool{},
	}
	ctx := r.context(b.inst, d.refs, cty.NilVal)
	dec.diags = r.take()
	vals := dec.body(d.body, d.spec, ctx, "")
	out := Evaluated{Value: cty.ObjectVal(vals), Sources: p.eval.sources(b), Sensitive: dec.sensitive}
	for i := range d.spec.attrs {
		if a := &d.spec.attrs[i]; a.Sensitive && !vals[a.Name].IsNull() {
			out.Sensitive[a.Name] = true
		}
	}
	if d.kind.Check != nil && !dec.diags.HasErrors() {
		for _, p := range d.kind.Check(out.Value) {
			dec.problem(d, p)
		}
	}
	sortDiags(dec.diags)
	return out, dec.diags
}

// problem places a contradiction at the attribute or block that it names.
func (d *decoder) problem(decl *declaration, p Problem) {
	rng, body := decl.rng, decl.body
	for _, step := range strings.Split(p.Path, ".") {
		if a := body.Attributes[step]; a != nil {
			rng = a.SrcRange
			break
		}
		i := slices.IndexFunc(body.Blocks, func(b *hclsyntax.Block) bool { return b.Type == step })
		if i < 0 {
			break
		}
		rng, body = body.Blocks[i].DefRange(), body.Blocks[i].Body
	}
	detail := p.Detail
	for path := range d.sensitive {
		if first, _, _ := strings.Cut(p.Path, "."); path == first || strings.HasPrefix(path, first+".") || strings.HasPrefix(path, first+"[") {
			detail = "The cause is not shown, because the value is sensitive."
		}
	}
	d.diags = append(d.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: p.Summary, Detail: detail, Subject: rng.Ptr()})
}

func providerName(provider string) string {
	name, _, _ := strings.Cut(provider, ".")
	return name
}

func feedbackValue(refs []resource.SignalRef) cty.Value {
	vals := make([]cty.Value, len(refs))
	for i, f := range refs {
		vals[i] = cty.StringVal(f.String())
	}
	return cty.TupleVal(vals)
}

// sources are the blocks that attributes come from by direct reference.
func (e *evaluator) sources(b *Block) map[string]resource.Address {
	out := map[string]resource.Address{}
	for i := range b.decl.sources {
		s := &b.decl.sources[i]
		if addr, ok := e.sourceOf(s, b.inst, 0); ok {
			out[s.path] = addr
		}
	}
	return out
}
