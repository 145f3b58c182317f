package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config/internal/syntax"
)

// The meta-arguments that every kind's block takes.
var (
	metaAttrs  = map[string]bool{"provider": true, "depends_on": true, "for_each": true, "count": true}
	metaBlocks = map[string]bool{"lifecycle": true, "precondition": true, "postcondition": true}
)

func metaNames() map[string]bool {
	out := map[string]bool{}
	for n := range metaAttrs {
		out[n] = true
	}
	for n := range metaBlocks {
		out[n] = true
	}
	return out
}

var conditionAttrs = []string{"condition", "error_message"}

func conditionJSON() syntax.BlockSchema {
	return syntax.BlockSchema{Body: func() *syntax.BodySchema { return &syntax.BodySchema{Attrs: conditionAttrs} }}
}

// addMetaJSON adds the meta-arguments to a JSON body.
func addMetaJSON(s *syntax.BodySchema) {
	s.Attrs = append(s.Attrs, sortedKeys(metaAttrs)...)
	s.Blocks["precondition"], s.Blocks["postcondition"] = conditionJSON(), conditionJSON()
	s.Blocks["lifecycle"] = syntax.BlockSchema{Body: func() *syntax.BodySchema {
		return &syntax.BodySchema{Attrs: lifecycleAttrs, Blocks: map[string]syntax.BlockSchema{"precondition": conditionJSON(), "postcondition": conditionJSON()}}
	}}
}

var lifecycleAttrs = []string{"prevent_destroy", "ignore_changes", "replace_triggered_by"}

// meta reads the meta-arguments of a block.
func (d *declarer) meta(decl *declaration) {
	attrs := decl.body.Attributes
	decl.expansion = d.expansion(attrs)
	decl.provider = d.optional(attrs["provider"])
	seen := false
	for _, blk := range decl.body.Blocks {
		switch blk.Type {
		case "lifecycle":
			if seen {
				d.add(errAt(blk.DefRange(), "Duplicate block", "Only one lifecycle block may stand here. Merge them."))
				continue
			}
			seen = true
			d.lifecycle(decl, blk)
		case "precondition", "postcondition":
			d.condition(decl, blk)
		}
	}
}

// expansion reads what blocks of a kind and module blocks have in common.
func (d *declarer) expansion(attrs hclsyntax.Attributes) expansion {
	e := expansion{forEach: d.optional(attrs["for_each"]), count: d.optional(attrs["count"])}
	if e.forEach != nil && e.count != nil {
		d.add(errAt(attrs["count"].NameRange, "for_each and count exclude each other", "Remove one: count makes numbered instances, for_each named ones."))
		e.count = nil
	}
	if a := attrs["depends_on"]; a != nil {
		e.dependsOn = d.refList(a, "depends_on", "depends_on = [check.unit]", refBlock, refModule)
	}
	return e
}

// optional reads an attribute that may be absent.
func (d *declarer) optional(a *hclsyntax.Attribute) *formula {
	if a == nil {
		return nil
	}
	f := d.collect(a.Name, a, false)
	return &f
}

func (d *declarer) lifecycle(decl *declaration, blk *hclsyntax.Block) {
	attrs := d.fields(blk, lifecycleAttrs, "precondition", "postcondition")
	if a := attrs["prevent_destroy"]; a != nil {
		if v, ok := d.literal(a, cty.Bool); ok {
			decl.lifecycle.preventDestroy = v.True()
		}
	}
	if a := attrs["ignore_changes"]; a != nil {
		decl.lifecycle.ignore = d.ignoreChanges(decl, a)
	}
	if a := attrs["replace_triggered_by"]; a != nil {
		decl.lifecycle.replaceOn = d.refList(a, "replace_triggered_by", "replace_triggered_by = [deployment.a]", refBlock)
	}
	for _, b := range blk.Body.Blocks {
		if b.Type == "precondition" || b.Type == "postcondition" {
			d.condition(decl, b)
		}
	}
}

// ignoreChanges reads `all` or a list of attribute paths of the block.
func (d *declarer) ignoreChanges(decl *declaration, a *hclsyntax.Attribute) []string {
	if hcl.ExprAsKeyword(written(a.Expr)) == "all" {
		return []string{"all"}
	}
	list, ok := a.Expr.(*hclsyntax.TupleConsExpr)
	if !ok {
		d.add(errAt(a.Expr.Range(), "Invalid ignore_changes", "Write a list of attributes, ignore_changes = [params], or ignore_changes = all."))
		return nil
	}
	var out []string
	for _, e := range list.Exprs {
		path, first := ignorePath(e)
		if first == "" {
			d.add(errAt(e.Range(), "Invalid ignore_changes", "Write a list of attributes, ignore_changes = [params], or ignore_changes = all."))
			continue
		}
		_, attr := decl.spec.byName[first]
		if !attr && decl.spec.blocks[first] == nil && decl.spec.providers[first] == nil && !slices.Contains(decl.spec.elsewhere, first) {
			d.add(errAt(e.Range(), "Unknown attribute", "%s has no attribute %q that could be ignored.%s", decl.kind.Name, first, didYouMean(first, decl.spec.names())))
			continue
		}
		out = append(out, path)
	}
	return out
}

func ignorePath(e hclsyntax.Expression) (path, first string) {
	t, ok := written(e).(*hclsyntax.ScopeTraversalExpr)
	if !ok {
		return "", ""
	}
	path = t.Traversal.RootName()
	for _, s := range t.Traversal[1:] {
		switch x := s.(type) {
		case hcl.TraverseAttr:
			path += "." + x.Name
		case hcl.TraverseIndex:
			path += pathText(cty.Path{cty.IndexStep{Key: x.Key}})
		}
	}
	return path, t.Traversal.RootName()
}

// written is the expression that a plain string of a JSON file spells, where no
// text may stand: JSON has no other way to write one. Any other is itself.
func written(e hclsyntax.Expression) hclsyntax.Expression {
	t, ok := e.(*hclsyntax.TemplateExpr)
	if !ok || !t.IsStringLiteral() || !isJSON(e.Range().Filename) {
		return e
	}
	v, _ := t.Value(nil)
	inner, diags := hclsyntax.ParseExpression([]byte(v.AsString()), e.Range().Filename, e.Range().Start)
	if diags.HasErrors() {
		return e
	}
	return inner
}

// refList reads a list that may hold references only.
func (d *declarer) refList(a *hclsyntax.Attribute, name, form string, kinds ...refKind) []ref {
	list, ok := a.Expr.(*hclsyntax.TupleConsExpr)
	if !ok {
		d.add(errAt(a.Expr.Range(), "A list of references is needed", "%s takes a list of references: %s.", name, form))
		return nil
	}
	var out []ref
	for _, e := range list.Exprs {
		r, ok := staticRef(d.kinds, e)
		if !ok || !slices.Contains(kinds, r.kind) {
			d.add(errAt(e.Range(), "A list of references is needed", "%s takes references to blocks, without quotes or functions: %s.", name, form))
			continue
		}
		r.rng = e.Range()
		out = append(out, r)
	}
	return out
}

func (d *declarer) condition(decl *declaration, blk *hclsyntax.Block) {
	c, ok := d.readCondition(blk, blk.Type == "postcondition")
	if !ok {
		return
	}
	decl.condRefs = append(append(decl.condRefs, c.check.refs...), c.message.refs...)
	decl.marks = decl.marks || c.check.marks || c.message.marks
	if blk.Type == "precondition" {
		decl.pre = append(decl.pre, c)
	} else {
		decl.post = append(decl.post, c)
	}
}

func (d *declarer) readCondition(blk *hclsyntax.Block, self bool) (condition, bool) {
	attrs := d.fields(blk, conditionAttrs)
	check, message := attrs["condition"], attrs["error_message"]
	if check == nil || message == nil {
		d.add(errAt(blk.DefRange(), "Missing attribute", "A %s needs condition = … and error_message = \"…\".", blk.Type))
		return condition{}, false
	}
	return condition{check: d.collect("condition", check, self), message: d.collect("error_message", message, self)}, true
}

// feedbackList reads `on = [monitor.x.drift]`: references to signals, which
// order nothing.
func (d *declarer) feedbackList(decl *declaration, a *hclsyntax.Attribute, dynamic bool) {
	const form = "List signals directly, such as on = [monitor.x.drift]: no functions, locals, variables or other modules."
	list, ok := a.Expr.(*hclsyntax.TupleConsExpr)
	if !ok || dynamic {
		d.add(errAt(a.Expr.Range(), "Only signals may stand here", "%s", form))
		return
	}
	for _, e := range list.Exprs {
		r, ok := staticRef(d.kinds, e)
		if !ok || r.kind != refBlock {
			d.add(errAt(e.Range(), "Only signals may stand here", "%s", form))
			continue
		}
		r.rng = e.Range()
		if signal := attrStep(r.rest); len(r.rest) != 1 || !slices.Contains(d.kinds[r.root].Signals, signal) {
			d.add(errAt(e.Range(), "Only signals may stand here", "%s.%s has no signal here that could be listened to. %s%s", r.root, r.name, form, suggestion(signal, d.kinds[r.root].Signals)))
			continue
		}
		decl.feedback = append(decl.feedback, r)
	}
}

// attrStep is the name of the first step of a traversal's rest, or "".
func attrStep(rest hcl.Traversal) string {
	if len(rest) == 0 {
		return ""
	}
	if a, ok := rest[0].(hcl.TraverseAttr); ok {
		return a.Name
	}
	return ""
}
