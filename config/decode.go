package config

import (
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config/internal/funcs"
)

// decoder turns one block's body into a value.
type decoder struct {
	run   *run
	diags hcl.Diagnostics
	// feedback stands in for the attributes that list signals.
	feedback cty.Value
	// sensitive collects the paths of marked values; nil when nothing can be marked.
	sensitive map[string]bool
	marks     bool
	heavy     bool
	provider  string // the one that serves the block
	loose     bool   // evaluate what no schema knows, to see what it costs
}

func (d *decoder) err(rng hcl.Range, summary, detail string, args ...any) {
	d.diags = append(d.diags, errAt(rng, summary, detail, args...))
}

// body decodes the attributes and nested blocks of one body.
func (d *decoder) body(b *hclsyntax.Body, spec *bodySpec, ctx *hcl.EvalContext, path string) map[string]cty.Value {
	vals := make(map[string]cty.Value, len(spec.attrs)+len(spec.blocks)+1)
	found := 0
	for i := range spec.attrs {
		a := &spec.attrs[i]
		attr, ok := b.Attributes[a.Name]
		if !ok {
			if a.Required {
				d.err(b.MissingItemRange(), "Missing attribute", "Add %s = …: %s", a.Name, a.Doc)
			}
			vals[a.Name] = a.absent
			continue
		}
		found++
		vals[a.Name] = d.attribute(attr, a, ctx, join(path, a.Name))
	}
	if found < len(b.Attributes) {
		d.unknownAttributes(b, spec)
	}
	d.nested(b, spec, ctx, path, vals)
	return vals
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (d *decoder) unknownAttributes(b *hclsyntax.Body, spec *bodySpec) {
	for name, a := range b.Attributes {
		if _, ok := spec.byName[name]; ok || spec.meta[name] {
			continue
		}
		if _, ok := spec.blocks[name]; ok {
			d.err(a.NameRange, "Block written as an attribute", "%q is a block here: write %s { … } without an equals sign.", name, name)
			continue
		}
		d.err(a.NameRange, "Unknown attribute", "There is no attribute %q here.%s", name, didYouMean(name, spec.names()))
	}
}

// attribute evaluates, converts and checks one attribute.
func (d *decoder) attribute(attr *hclsyntax.Attribute, a *attrSpec, ctx *hcl.EvalContext, path string) cty.Value {
	rng := attr.Expr.Range()
	if a.Feedback {
		return d.feedback
	}
	v, diags := attr.Expr.Value(ctx)
	if diags.HasErrors() {
		d.diags = append(d.diags, d.run.clean(diags)...)
		return cty.UnknownVal(a.absent.Type())
	}
	secret := false
	if d.marks {
		v, secret = d.unmark(v, path)
	}
	if d.heavy {
		if n := valueBytes(v, MaxValueBytes); n > MaxValueBytes {
			d.err(rng, "Value too large", "The value of %s is larger than %d MiB; keep data in files and name them.", a.Name, MaxValueBytes>>20)
			return cty.UnknownVal(a.absent.Type())
		}
	}
	return d.convert(v, a, rng, secret)
}

// convert fits a value to its attribute. Nothing of a secret stands in the
// diagnostics.
func (d *decoder) convert(v cty.Value, a *attrSpec, rng hcl.Range, secret bool) cty.Value {
	if v.IsNull() {
		if a.Required {
			d.err(rng, "Missing attribute", "%s is null, but a value is needed: %s", a.Name, a.Doc)
		}
		return a.absent
	}
	if a.ref && !d.isReference(v, a, rng) {
		return cty.UnknownVal(a.absent.Type())
	}
	if !v.Type().Equals(a.Type) && a.Type != cty.DynamicPseudoType {
		c, err := funcs.Convert(v, a.Type)
		if err != nil {
			why := sentence(err)
			if secret {
				why = "the sensitive value has another type"
			}
			d.err(rng, "Wrong type", "%s: %s. %s", a.Name, why, a.Doc)
			return cty.UnknownVal(a.absent.Type())
		}
		v = c
	}
	if problem := a.shape.check(v, a.Name); problem != "" {
		if secret {
			problem = a.Name + " is sensitive and not shown; it is not among the values that may stand here. " + a.Doc
		}
		d.err(rng, "Invalid value", "%s", problem)
	}
	return v
}

// sentence is an error as part of a sentence, without an end of its own.
func sentence(err error) string { return strings.TrimSuffix(err.Error(), ".") }

// whole is an error as a sentence of its own.
func whole(err error) string {
	if s := sentence(err); strings.HasSuffix(s, "?") {
		return s
	}
	return sentence(err) + "."
}

// isReference says whether an object is what the attribute takes, such as a
// model. Conversion alone would not: absent attributes become null.
func (d *decoder) isReference(v cty.Value, a *attrSpec, rng hcl.Range) bool {
	t := v.Type()
	if t == cty.DynamicPseudoType {
		return true
	}
	if t.IsObjectType() {
		missing := slices.ContainsFunc(a.refWith, func(n string) bool { return !t.HasAttribute(n) })
		if !missing {
			return true
		}
	}
	d.err(rng, "Wrong type", "%s does not take this %s. %s", a.Name, t.FriendlyName(), a.Doc)
	return false
}

// unmark takes sensitivity off a value and remembers where it was.
func (d *decoder) unmark(v cty.Value, path string) (cty.Value, bool) {
	plain, marks := v.UnmarkDeepWithPaths()
	for _, m := range marks {
		d.sensitive[path+pathText(m.Path)] = true
	}
	return plain, len(marks) > 0
}

func pathText(p cty.Path) string {
	var b strings.Builder
	for _, s := range p {
		switch x := s.(type) {
		case cty.GetAttrStep:
			b.WriteString("." + x.Name)
		case cty.IndexStep:
			switch key := x.Key; {
			case !key.IsWhollyKnown() || key.IsNull(): // an element of a set
				b.WriteString("[…]")
			case key.Type() == cty.String:
				b.WriteString("." + key.AsString())
			case key.Type() == cty.Number:
				b.WriteString("[" + key.AsBigFloat().Text('f', 0) + "]")
			default:
				b.WriteString("[…]")
			}
		}
	}
	return b.String()
}

// nested decodes the blocks of a body.
func (d *decoder) nested(b *hclsyntax.Body, spec *bodySpec, ctx *hcl.EvalContext, path string, vals map[string]cty.Value) {
	var groups map[string][]cty.Value
	unknown := map[string]bool{}
	if len(b.Blocks) > 0 {
		groups = d.group(b, spec, ctx, path, vals, unknown)
	}
	for _, name := range spec.order {
		blk := spec.blocks[name]
		got := groups[name]
		switch {
		case unknown[name] && blk.Many:
			vals[name] = cty.DynamicVal
		case unknown[name]:
			vals[name] = cty.UnknownVal(blk.body.null.Type())
		case blk.Many:
			vals[name] = cty.TupleVal(got)
		case len(got) == 0:
			vals[name] = blk.body.null
		default:
			vals[name] = got[0]
		}
		if blk.Needed && len(got) == 0 && !unknown[name] {
			d.err(b.MissingItemRange(), "Missing block", "Add a %s block: %s", name, blk.Doc)
		}
	}
	for name, p := range spec.providers {
		if name == d.provider && vals[name] == cty.NilVal {
			vals[name] = p.null
		}
	}
}

// group decodes the blocks in file order and collects them by name.
func (d *decoder) group(b *hclsyntax.Body, spec *bodySpec, ctx *hcl.EvalContext, path string, vals map[string]cty.Value, unknown map[string]bool) map[string][]cty.Value {
	groups := map[string][]cty.Value{}
	seen := map[string]hcl.Range{}
	for _, blk := range b.Blocks {
		switch {
		case spec.blocks[blk.Type] != nil:
			bs := spec.blocks[blk.Type]
			label, ok := d.label(blk, bs, seen)
			if !ok {
				continue
			}
			groups[blk.Type] = append(groups[blk.Type], d.block(blk.Body, bs, ctx, path, label))
		case blk.Type == "dynamic":
			d.dynamic(blk, spec, ctx, path, groups, unknown, seen)
		case spec.providers[blk.Type] != nil:
			d.providerBlock(blk, spec.providers[blk.Type], ctx, path, vals, seen)
		case spec.meta[blk.Type]:
		default:
			d.unknownBlock(blk, spec, ctx)
		}
	}
	return groups
}

func (d *decoder) unknownBlock(blk *hclsyntax.Block, spec *bodySpec, ctx *hcl.EvalContext) {
	if d.loose {
		d.raw(blk.Body, ctx)
	}
	if slices.Contains(spec.elsewhere, blk.Type) {
		return
	}
	if _, ok := spec.byName[blk.Type]; ok {
		d.err(blk.TypeRange, "Attribute written as a block", "%q is an attribute here: write %s = …", blk.Type, blk.Type)
		return
	}
	names := slices.Concat(spec.names(), sortedKeys(spec.providers), spec.elsewhere)
	d.err(blk.TypeRange, "Unknown block", "There is no block %q here.%s", blk.Type, didYouMean(blk.Type, names))
}

// raw evaluates every attribute of a body that no schema describes.
func (d *decoder) raw(b *hclsyntax.Body, ctx *hcl.EvalContext) {
	for _, a := range b.Attributes {
		_, _ = a.Expr.Value(ctx) // for the file functions in it; what is wrong with it is said where it stands
	}
	for _, blk := range b.Blocks {
		dyn, diag := readDynamic(blk)
		if blk.Type != "dynamic" || diag != nil {
			d.raw(blk.Body, ctx)
			continue
		}
		coll, diags := dyn.forEach.Expr.Value(ctx)
		coll, _ = coll.Unmark()
		if diags.HasErrors() || coll.IsNull() || !coll.CanIterateElements() {
			continue
		}
		for it := coll.ElementIterator(); it.Next(); {
			k, v := it.Element()
			inner := ctx.NewChild()
			inner.Variables = map[string]cty.Value{dyn.iterator: cty.ObjectVal(map[string]cty.Value{"key": k, "value": v})}
			d.raw(dyn.content, inner)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func (d *decoder) block(b *hclsyntax.Body, bs *blockSpec, ctx *hcl.EvalContext, path string, label cty.Value) cty.Value {
	p := join(path, bs.Name)
	if bs.Many && label != cty.NilVal && label.IsKnown() {
		p = join(p, label.AsString())
	}
	vals := d.body(b, bs.body, ctx, p)
	if bs.Label != "" {
		vals[bs.Label] = label
	}
	return cty.ObjectVal(vals)
}

// label checks a nested block's label and that it does not stand twice.
func (d *decoder) label(blk *hclsyntax.Block, bs *blockSpec, seen map[string]hcl.Range) (cty.Value, bool) {
	want := 0
	if bs.Label != "" {
		want = 1
	}
	if len(blk.Labels) != want {
		if want == 1 {
			d.err(blk.DefRange(), "Wrong number of labels", "A %s block has one label, its %s: %s \"NAME\" { … }", blk.Type, bs.Label, blk.Type)
		} else {
			d.err(blk.DefRange(), "Wrong number of labels", "A %s block has no label: %s { … }", blk.Type, blk.Type)
		}
		return cty.NilVal, false
	}
	label, key := cty.NilVal, blk.Type
	if want == 1 {
		label = cty.StringVal(blk.Labels[0])
		if bs.Many {
			key += "\x00" + blk.Labels[0]
		}
	}
	if bs.Many && want == 0 {
		return label, true
	}
	if first, dup := seen[key]; dup {
		d.duplicate(blk, bs, first)
		return cty.NilVal, false
	}
	seen[key] = blk.DefRange()
	return label, true
}

func (d *decoder) duplicate(blk *hclsyntax.Block, bs *blockSpec, first hcl.Range) {
	if bs.Many {
		d.err(blk.DefRange(), "Duplicate block", "%s %q stands here already, at %s; give it another label or remove one.", blk.Type, blk.Labels[0], first)
		return
	}
	d.err(blk.DefRange(), "Duplicate block", "Only one %s block may stand here; the first is at %s. Merge them.", blk.Type, first)
}

func (d *decoder) providerBlock(blk *hclsyntax.Block, p *bodySpec, ctx *hcl.EvalContext, path string, vals map[string]cty.Value, seen map[string]hcl.Range) {
	if len(blk.Labels) > 0 {
		d.err(blk.DefRange(), "Wrong number of labels", "A %s block has no label: %s { … }", blk.Type, blk.Type)
		return
	}
	if first, dup := seen[blk.Type]; dup {
		d.err(blk.DefRange(), "Duplicate block", "Only one %s block may stand here; the first is at %s. Merge them.", blk.Type, first)
		return
	}
	seen[blk.Type] = blk.DefRange()
	v := d.body(blk.Body, p, ctx, join(path, blk.Type))
	if blk.Type == d.provider {
		vals[blk.Type] = cty.ObjectVal(v)
	}
}
