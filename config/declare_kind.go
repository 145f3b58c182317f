package config

import (
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// kindBlock reads a block of a kind: its meta-arguments and references.
func (d *declarer) kindBlock(k *Kind, blk *hclsyntax.Block) {
	if len(blk.Labels) != 1 {
		d.add(errAt(blk.DefRange(), "Wrong number of labels", "A %s block has one label, its name: %s \"NAME\" { … }", k.Name, k.Name))
		return
	}
	if !d.name(blk) {
		return
	}
	decl := &declaration{kind: k, name: blk.Labels[0], body: blk.Body, spec: d.specs[k.Name], rng: blk.DefRange()}
	key := k.Name + "." + decl.name
	if first, dup := d.cfg.blocks[key]; dup {
		d.add(errAt(blk.DefRange(), "Duplicate block", "%s is declared already, at %s; rename one.", key, first.rng))
		return
	}
	d.cfg.blocks[key] = decl
	d.cfg.order = append(d.cfg.order, decl)
	d.meta(decl)
	c := &collector{kinds: d.kinds, funcs: d.funcNames}
	d.bodyRefs(decl, c, blk.Body, decl.spec, "")
	decl.refs, decl.heavy = c.refs, c.heavy
	decl.marks = decl.marks || c.marks
	d.add(c.diags...)
}

// bodyRefs collects the references of a body and its nested blocks, the signals
// that it listens to, and the attributes that are nothing but a reference.
func (d *declarer) bodyRefs(decl *declaration, c *collector, b *hclsyntax.Body, spec *bodySpec, path string) {
	for name, a := range b.Attributes {
		if path == "" && metaAttrs[name] {
			continue
		}
		p := join(path, name)
		if i, ok := specAttr(spec, name); ok && spec.attrs[i].Feedback {
			d.feedbackList(decl, a, len(c.scopes) > 0)
			continue
		}
		c.expr(a.Expr)
		if len(c.scopes) == 0 {
			d.findSources(decl, a.Expr, p)
		}
	}
	for _, blk := range b.Blocks {
		if path == "" && metaBlocks[blk.Type] {
			continue
		}
		if blk.Type == "dynamic" {
			d.dynamicRefs(decl, c, blk, spec, path)
			continue
		}
		inner, p := innerSpec(spec, blk.Type), join(path, blk.Type)
		if len(blk.Labels) == 1 {
			p = join(p, blk.Labels[0])
		}
		d.bodyRefs(decl, c, blk.Body, inner, p)
	}
}

func specAttr(spec *bodySpec, name string) (int, bool) {
	if spec == nil {
		return 0, false
	}
	i, ok := spec.byName[name]
	return i, ok
}

func innerSpec(spec *bodySpec, name string) *bodySpec {
	if spec == nil {
		return nil
	}
	if b := spec.blocks[name]; b != nil {
		return b.body
	}
	return spec.providers[name]
}

// dynamicRefs treats the iterator as a loop variable of the content.
func (d *declarer) dynamicRefs(decl *declaration, c *collector, blk *hclsyntax.Block, spec *bodySpec, path string) {
	dyn, diag := readDynamic(blk)
	if diag != nil {
		return // decoding reports it
	}
	c.heavy = true
	c.expr(dyn.forEach.Expr)
	c.scopes = append(c.scopes, map[string]struct{}{dyn.iterator: {}})
	if dyn.labels != nil {
		c.expr(dyn.labels.Expr)
	}
	d.bodyRefs(decl, c, dyn.content, innerSpec(spec, dyn.name), join(path, dyn.name))
	c.scopes = c.scopes[:len(c.scopes)-1]
}

// findSources finds direct references in an attribute and in the objects and
// lists that it spells out.
func (d *declarer) findSources(decl *declaration, e hclsyntax.Expression, path string) {
	switch x := e.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		switch x.Traversal.RootName() {
		case "local", "var", "module":
			decl.sources = append(decl.sources, sourcePath{path: path, via: x})
			return
		}
		if r, ok := direct(d.kinds, x); ok && r.kind == refBlock {
			decl.sources = append(decl.sources, sourcePath{path: path, ref: r})
		}
	case *hclsyntax.RelativeTraversalExpr, *hclsyntax.IndexExpr:
		if r, ok := direct(d.kinds, x); ok && r.kind == refBlock {
			decl.sources = append(decl.sources, sourcePath{path: path, ref: r})
		}
	case *hclsyntax.TemplateWrapExpr:
		d.findSources(decl, x.Wrapped, path)
	case *hclsyntax.ObjectConsExpr:
		for _, it := range x.Items {
			if k, diags := it.KeyExpr.Value(nil); !diags.HasErrors() && k.Type() == cty.String && !k.IsNull() {
				d.findSources(decl, it.ValueExpr, join(path, k.AsString()))
			}
		}
	case *hclsyntax.TupleConsExpr:
		for i, v := range x.Exprs {
			d.findSources(decl, v, path+resource.IntKey(i))
		}
	}
}
