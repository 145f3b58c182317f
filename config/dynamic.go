package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// dynamicBlock is a `dynamic "NAME" { for_each, iterator, labels, content }`.
type dynamicBlock struct {
	name     string
	iterator string
	forEach  *hclsyntax.Attribute
	labels   *hclsyntax.Attribute
	content  *hclsyntax.Body
	rng      hcl.Range
}

// readDynamic reads the form of a dynamic block, without evaluating it.
func readDynamic(blk *hclsyntax.Block) (dynamicBlock, *hcl.Diagnostic) {
	const form = `Write dynamic "BLOCK" { for_each = …, content { … } }`
	out := dynamicBlock{rng: blk.DefRange()}
	if len(blk.Labels) != 1 {
		return out, errAt(blk.DefRange(), "Invalid dynamic block", "A dynamic block has one label, the block that it makes. %s", form)
	}
	out.name, out.iterator = blk.Labels[0], blk.Labels[0]
	out.forEach, out.labels = blk.Body.Attributes["for_each"], blk.Body.Attributes["labels"]
	if it := blk.Body.Attributes["iterator"]; it != nil {
		out.iterator = hcl.ExprAsKeyword(written(it.Expr))
		if out.iterator == "" {
			return out, errAt(it.Expr.Range(), "Invalid dynamic block", "iterator is a plain name, without quotes: iterator = item.")
		}
	}
	for _, inner := range blk.Body.Blocks {
		if inner.Type == "content" && out.content == nil {
			out.content = inner.Body
			continue
		}
		return out, errAt(inner.DefRange(), "Invalid dynamic block", "A dynamic block holds one content block and nothing else. %s", form)
	}
	for name, a := range blk.Body.Attributes {
		if name != "for_each" && name != "labels" && name != "iterator" {
			return out, errAt(a.NameRange, "Invalid dynamic block", "A dynamic block has no attribute %q; what the block holds goes into content. %s", name, form)
		}
	}
	if out.forEach == nil || out.content == nil {
		return out, errAt(blk.DefRange(), "Invalid dynamic block", "for_each or content is missing. %s", form)
	}
	return out, nil
}

// dynamic decodes the blocks that a dynamic block makes.
func (d *decoder) dynamic(blk *hclsyntax.Block, spec *bodySpec, ctx *hcl.EvalContext, path string, groups map[string][]cty.Value, unknown map[string]bool, seen map[string]hcl.Range) {
	dyn, diag := readDynamic(blk)
	if diag != nil {
		d.diags = append(d.diags, diag)
		return
	}
	bs := spec.blocks[dyn.name]
	if bs == nil {
		d.err(blk.LabelRanges[0], "Unknown block", "There is no block %q here that could be made.%s", dyn.name, didYouMean(dyn.name, spec.order))
		return
	}
	coll, diags := dyn.forEach.Expr.Value(ctx)
	if diags.HasErrors() {
		d.diags = append(d.diags, d.run.clean(diags)...)
		return
	}
	coll, marks := coll.Unmark()
	switch {
	case !coll.IsKnown():
		unknown[dyn.name] = true
		d.dynamicBody(dyn, bs, ctx, path, cty.DynamicVal, cty.DynamicVal)
		return
	case coll.IsNull():
		d.err(dyn.forEach.Expr.Range(), "Wrong type", "for_each is null; for no blocks at all write an empty list, [].")
		return
	case !coll.CanIterateElements():
		d.err(dyn.forEach.Expr.Range(), "Wrong type", "for_each takes a list, set, map or object, not %s.", coll.Type().FriendlyName())
		return
	}
	for it := coll.ElementIterator(); it.Next(); {
		k, v := it.Element()
		k, v = k.WithMarks(marks), v.WithMarks(marks)
		if coll.Type().IsSetType() {
			k = v
		}
		got, label := d.dynamicBody(dyn, bs, ctx, path, k, v)
		if label != cty.NilVal && label.IsKnown() {
			key := dyn.name + "\x00" + label.AsString()
			if first, dup := seen[key]; dup {
				d.err(dyn.rng, "Duplicate block", "for_each makes %s %q, which stands here already, at %s; labels must differ.", dyn.name, label.AsString(), first)
				return
			}
			seen[key] = dyn.rng
		}
		groups[dyn.name] = append(groups[dyn.name], got)
	}
	if !bs.Many && len(groups[dyn.name]) > 1 {
		d.err(dyn.rng, "Duplicate block", "Only one %s block may stand here, but for_each makes %d.", dyn.name, len(groups[dyn.name]))
	}
}

// dynamicBody decodes the content for one element.
func (d *decoder) dynamicBody(dyn dynamicBlock, bs *blockSpec, ctx *hcl.EvalContext, path string, key, value cty.Value) (cty.Value, cty.Value) {
	inner := ctx.NewChild()
	inner.Variables = map[string]cty.Value{dyn.iterator: cty.ObjectVal(map[string]cty.Value{"key": key, "value": value})}
	label := cty.NilVal
	if bs.Label != "" {
		label = d.dynamicLabel(dyn, bs, inner)
	}
	return d.block(dyn.content, bs, inner, path, label), label
}

func (d *decoder) dynamicLabel(dyn dynamicBlock, bs *blockSpec, ctx *hcl.EvalContext) cty.Value {
	if dyn.labels == nil {
		d.err(dyn.rng, "Wrong number of labels", "A %s block has a label: add labels = [%s.key].", dyn.name, dyn.iterator)
		return cty.UnknownVal(cty.String)
	}
	v, diags := dyn.labels.Expr.Value(ctx)
	if diags.HasErrors() {
		d.diags = append(d.diags, d.run.clean(diags)...)
		return cty.UnknownVal(cty.String)
	}
	if d.marks {
		plain, marks := v.UnmarkDeep()
		if len(marks) > 0 {
			d.err(dyn.labels.Expr.Range(), "Sensitive value as a name", "A label is shown in plans and cannot come from something sensitive. Use another value.")
		}
		v = plain
	}
	if !v.IsKnown() {
		return cty.UnknownVal(cty.String)
	}
	if v.IsNull() || !v.Type().IsListType() && !v.Type().IsTupleType() || v.LengthInt() != 1 {
		d.err(dyn.labels.Expr.Range(), "Wrong number of labels", "labels is a list of one string, the %s: labels = [%s.key].", bs.Label, dyn.iterator)
		return cty.UnknownVal(cty.String)
	}
	label, err := convert.Convert(v.Index(cty.NumberIntVal(0)), cty.String)
	if err != nil || label.IsNull() {
		d.err(dyn.labels.Expr.Range(), "Wrong type", "labels is a list of one string, the %s: labels = [%s.key].", bs.Label, dyn.iterator)
		return cty.UnknownVal(cty.String)
	}
	return label
}
