package config

import (
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/continuo-ml/continuo/config/internal/funcs"
	"github.com/continuo-ml/continuo/resource"
)

// Conditions checks a block's preconditions, or with post its postconditions,
// in which self is the block's outputs. A condition that is not known yet holds
// for now.
func (p *Project) Conditions(b *Block, s Scope, self cty.Value, post bool) hcl.Diagnostics {
	list := b.decl.pre
	if post {
		list = b.decl.post
	}
	if len(list) == 0 {
		return nil
	}
	r := &run{evaluator: p.eval, scope: s}
	ctx := r.context(b.inst, b.decl.condRefs, b.Kind.complete(b.Addr, self))
	what := "Precondition failed"
	if post {
		what = "Postcondition failed"
	}
	for _, c := range list {
		r.check(c, ctx, what, b.Addr.String())
	}
	return r.take()
}

// check evaluates one condition and its message.
func (r *run) check(c condition, ctx *hcl.EvalContext, summary, subject string) {
	rng := c.check.expr.Range()
	v, diags := c.check.expr.Value(ctx)
	if diags.HasErrors() {
		r.diags = append(r.diags, r.clean(diags)...)
		return
	}
	v, _ = v.Unmark()
	if !v.IsKnown() {
		return
	}
	ok, err := convert.Convert(v, cty.Bool)
	if err != nil || ok.IsNull() {
		r.diags = append(r.diags, errAt(rng, "Invalid condition", "A condition is true or false, not %s.", v.Type().FriendlyName()))
		return
	}
	if ok.True() {
		return
	}
	r.diags = append(r.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: subject + ": " + r.message(c, ctx), Subject: rng.Ptr()})
}

// message is the text of a failed condition; one that would show something
// sensitive is not shown.
func (r *run) message(c condition, ctx *hcl.EvalContext) string {
	const instead = "the condition does not hold"
	v, diags := c.message.expr.Value(ctx)
	if diags.HasErrors() {
		r.diags = append(r.diags, r.clean(diags)...)
		return instead
	}
	plain, marks := v.UnmarkDeep()
	if len(marks) > 0 {
		return instead + " (its error_message holds something sensitive and is not shown)."
	}
	text, err := convert.Convert(plain, cty.String)
	if err != nil || text.IsNull() || !text.IsKnown() {
		return instead + "."
	}
	return text.AsString()
}

// validate checks a variable's validations once its value is known.
func (r *run) validate(s *slot) {
	for _, c := range s.variable.validations {
		ctx := r.context(instance{mod: s.owner}, append(append([]ref(nil), c.check.refs...), c.message.refs...), cty.NilVal)
		r.check(c, ctx, "Invalid value for a variable", "var."+s.variable.name)
	}
}

// EvalOutput evaluates an output of the root module. A value that came from
// something sensitive is refused unless the output says that it is.
func (p *Project) EvalOutput(o *Output, s Scope) (cty.Value, hcl.Diagnostics) {
	r := &run{evaluator: p.eval, scope: s}
	sl := p.eval.root.outputs[o.Name]
	v, marks := r.slotValue(sl).UnmarkDeep()
	diags := r.take()
	if _, secret := marks[funcs.SensitiveMark{}]; secret && !o.Sensitive {
		diags = append(diags, errAt(sl.expr.Range(), "Sensitive output", "The value of output %q comes from something sensitive. Add sensitive = true to the output, or nonsensitive() around what may be shown.", o.Name))
		return cty.DynamicVal, diags
	}
	return v, diags
}

// sourceOf follows a bare reference to the block that it names, through locals,
// variables and module outputs.
func (e *evaluator) sourceOf(s *sourcePath, in instance, depth int) (resource.Address, bool) {
	if s.via == nil {
		return e.blockOf(&s.ref, in)
	}
	if depth > MaxModuleDepth {
		return resource.Address{}, false
	}
	t := s.via.Traversal
	if len(t) < 2 {
		return resource.Address{}, false
	}
	name, ok := t[1].(hcl.TraverseAttr)
	if !ok {
		return resource.Address{}, false
	}
	var sl *slot
	switch t.RootName() {
	case "local":
		sl = in.mod.locals[name.Name]
	case "var":
		sl = in.mod.vars[name.Name]
	case "module":
		if cs := in.mod.children[name.Name]; cs != nil && cs.kind == noEach && len(cs.mods) == 1 && len(t) > 2 {
			sl = cs.mods[0].outputs[attrStep(t[2:])]
		}
	}
	if sl == nil || sl.expr == nil {
		return resource.Address{}, false
	}
	switch x := sl.expr.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		switch x.Traversal.RootName() {
		case "local", "var", "module":
			return e.sourceOf(&sourcePath{via: x}, sl.in, depth+1)
		}
	}
	f, ok := direct(e.kinds, sl.expr)
	if !ok || f.kind != refBlock || f.key != nil && f.key.expr != nil {
		return resource.Address{}, false
	}
	f.target = sl.in.mod.cfg.blocks[f.root+"."+f.name]
	return e.blockOf(&f, sl.in)
}

// blockOf is the one block that a direct reference names.
func (e *evaluator) blockOf(f *ref, in instance) (resource.Address, bool) {
	set := in.mod.blocks[f.target]
	if set == nil {
		return resource.Address{}, false
	}
	if set.kind == noEach {
		return set.addrs[0], len(set.addrs) == 1
	}
	r := &run{evaluator: e}
	if i := r.pick(&set.instanceSet, f, in); i >= 0 {
		return set.addrs[i], true
	}
	return resource.Address{}, false
}

// unquoteKey is the key inside of `["de"]` or `[0]`.
func unquoteKey(key string) (string, error) {
	inner := key[1 : len(key)-1]
	if inner[0] != '"' {
		return inner, nil
	}
	return strconv.Unquote(inner)
}
