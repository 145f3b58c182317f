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
	// missing are the instances that expressions refer to and that are not there.
	missing map[*ref]*hcl.Diagnostic
	// offer is what a block offers whatever will run; set while loading, when
	// there is no scope.
	offer func(resource.Address, *declaration, instance) cty.Value
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
		r.diags = append(r.diags, r.clean(diags)...)
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
	if s.variable != nil && r.scope != nil {
		r.validate(s)
	}
	return v
}

// Eval evaluates a block's body. Unknown outputs of other blocks give unknown
// values. The value is free of marks; what came from something sensitive is
// listed by path.
func (p *Project) Eval(b *Block, s Scope) (Evaluated, hcl.Diagnostics) {
	r := &run{evaluator: p.eval, scope: s}
	d := b.decl
	dec := &decoder{
		run: r, marks: p.eval.marks || d.marks, heavy: d.heavy, provider: providerName(b.Provider), loose: p.eval.loose,
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
	if d.kind.Derive != nil && !dec.diags.HasErrors() {
		dec.derive(d, &out)
	}
	if d.kind.Check != nil && !dec.diags.HasErrors() {
		for _, p := range d.kind.Check(out.Value) {
			dec.problem(d, p)
		}
	}
	sortDiags(dec.diags)
	return out, dec.diags
}

// derive gives a body its kind's own form. What of it came from something
// sensitive cannot be told apart any more: then every part of it counts as that.
func (d *decoder) derive(decl *declaration, out *Evaluated) {
	v, secret, problems := decl.kind.Derive(out.Value)
	for _, p := range problems {
		d.problem(decl, p)
	}
	if len(problems) > 0 {
		return
	}
	for name, now := range v.AsValueMap() {
		if was := out.Value.GetAttr(name); len(out.Sensitive) > 0 && !was.RawEquals(now) && !now.IsNull() {
			out.Sensitive[name] = true
		}
	}
	out.Value = v
	for _, path := range secret {
		out.Sensitive[path] = true
	}
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
