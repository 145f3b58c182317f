package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config/internal/syntax"
	"github.com/continuo-ml/continuo/resource"
)

// moduleConfig is what the files of one folder declare. All instances of a
// module share it.
type moduleConfig struct {
	dir       string // relative to the project folder, "." for the root
	vars      map[string]*variable
	locals    map[string]*formula
	outputs   map[string]*outputDecl
	calls     map[string]*moduleCall
	blocks    map[string]*declaration // by "kind.name"
	order     []*declaration          // as written, files by name
	providers []*providerDecl
	ml        *hclsyntax.Block
	moved     []*hclsyntax.Block
	removed   []*hclsyntax.Block
	imports   []*hclsyntax.Block
}

// formula is an expression with what it refers to.
type formula struct {
	name  string // as it is referred to: "local.x", "var.x"
	expr  hclsyntax.Expression
	refs  []ref
	heavy bool
	marks bool
	rng   hcl.Range // of the name
}

type outputDecl struct {
	formula
	description string
	sensitive   bool
}

// moduleCall is a `module "NAME"` block.
type moduleCall struct {
	name      string
	source    string
	rng       hcl.Range
	sourceRng hcl.Range
	expansion
	args      map[string]*formula
	argRanges map[string]hcl.Range
	cfg       *moduleConfig
}

// expansion is what makes instances of a block or a module, and what they wait for.
type expansion struct {
	forEach   *formula
	count     *formula
	dependsOn []ref
}

type providerDecl struct {
	name  string
	block *hclsyntax.Block
}

// declaration is a block as written, before for_each and count.
type declaration struct {
	kind *Kind
	name string
	body *hclsyntax.Body
	spec *bodySpec
	rng  hcl.Range

	refs     []ref // of the body
	condRefs []ref // of preconditions and postconditions
	expansion
	provider  *formula
	lifecycle lifecycleDecl
	pre, post []condition
	feedback  []ref
	sources   []sourcePath
	heavy     bool
	marks     bool
}

type lifecycleDecl struct {
	preventDestroy bool
	ignore         []string
	replaceOn      []ref
}

// condition is a precondition, postcondition or validation.
type condition struct {
	check, message formula
}

// sourcePath is an attribute that is nothing but a reference.
type sourcePath struct {
	path string
	ref  ref
	// via is set instead of ref for a bare local, variable or module output.
	via *hclsyntax.ScopeTraversalExpr
}

// declarer reads the files of one module.
type declarer struct {
	*loader
	cfg *moduleConfig
}

// topLevel are the blocks that are not kinds, with the number of their labels.
var topLevel = map[string]int{
	"variable": 1, "locals": 0, "output": 1, "module": 1, "provider": 1,
	"ml": 0, "moved": 0, "removed": 0, "import": 0,
}

func (d *declarer) file(f syntax.File) {
	bodies := f.Native
	if f.Body != nil {
		b, diags := syntax.BodyOfJSON(f.Body, d.rootSchema())
		d.add(diags...)
		bodies = append(bodies, b)
	}
	for _, b := range bodies {
		for name, a := range b.Attributes {
			d.add(errAt(a.NameRange, "Attribute outside of a block", "%q stands outside of any block; put it into a block, or into locals { … }.", name))
		}
		for _, blk := range b.Blocks {
			d.block(blk)
		}
	}
}

func (d *declarer) block(blk *hclsyntax.Block) {
	if k := d.kinds[blk.Type]; k != nil {
		d.kindBlock(k, blk)
		return
	}
	labels, ok := topLevel[blk.Type]
	if !ok {
		names := append(d.kinds.Names(), sortedKeys(topLevel)...)
		d.add(errAt(blk.TypeRange, "Unknown block", "There is no block %q.%s", blk.Type, didYouMean(blk.Type, names)))
		return
	}
	if len(blk.Labels) != labels {
		form := blk.Type + " { … }"
		if labels == 1 {
			form = blk.Type + ` "NAME" { … }`
		}
		d.add(errAt(blk.DefRange(), "Wrong number of labels", "Write %s", form))
		return
	}
	switch blk.Type {
	case "variable":
		d.variable(blk)
	case "locals":
		d.localsBlock(blk)
	case "output":
		d.output(blk)
	case "module":
		d.call(blk)
	case "provider":
		d.cfg.providers = append(d.cfg.providers, &providerDecl{name: blk.Labels[0], block: blk})
	case "ml":
		if d.cfg.ml != nil {
			d.add(errAt(blk.DefRange(), "Duplicate block", "Only one ml block may stand in a module; the first is at %s. Merge them.", d.cfg.ml.DefRange()))
			return
		}
		d.cfg.ml = blk
	case "moved":
		d.cfg.moved = append(d.cfg.moved, blk)
	case "removed":
		d.cfg.removed = append(d.cfg.removed, blk)
	case "import":
		d.cfg.imports = append(d.cfg.imports, blk)
	}
}

// name checks a label that becomes part of addresses.
func (d *declarer) name(blk *hclsyntax.Block) bool {
	if resource.ValidName(blk.Labels[0]) {
		return true
	}
	d.add(errAt(blk.LabelRanges[0], "Invalid name", "%q cannot be a name: a name has 1 to 40 of a–z, 0–9, _ and -, and starts with a letter.", blk.Labels[0]))
	return false
}

// collect reads an expression's references; self says whether `self` may stand in it.
func (d *declarer) collect(name string, attr *hclsyntax.Attribute, self bool) formula {
	c := &collector{kinds: d.kinds, funcs: d.funcNames, self: self}
	c.expr(attr.Expr)
	d.add(c.diags...)
	return formula{name: name, expr: attr.Expr, refs: c.refs, heavy: c.heavy, marks: c.marks, rng: attr.NameRange}
}

func (d *declarer) localsBlock(blk *hclsyntax.Block) {
	for _, b := range blk.Body.Blocks {
		d.add(errAt(b.DefRange(), "Unknown block", "Locals hold attributes only: %s = …", b.Type))
	}
	for name, a := range blk.Body.Attributes {
		if first, dup := d.cfg.locals[name]; dup {
			d.add(errAt(a.NameRange, "Duplicate local", "local.%s is set already, at %s; remove one.", name, first.rng))
			continue
		}
		f := d.collect("local."+name, a, false)
		d.cfg.locals[name] = &f
	}
}

// fields reads a small block with a fixed set of attributes and no others.
func (l *loader) fields(blk *hclsyntax.Block, attrs []string, blocks ...string) map[string]*hclsyntax.Attribute {
	out := map[string]*hclsyntax.Attribute{}
	for name, a := range blk.Body.Attributes {
		if !slices.Contains(attrs, name) {
			l.add(errAt(a.NameRange, "Unknown attribute", "There is no attribute %q in a %s block.%s", name, blk.Type, didYouMean(name, append(slices.Clone(attrs), blocks...))))
			continue
		}
		out[name] = a
	}
	for _, b := range blk.Body.Blocks {
		if !slices.Contains(blocks, b.Type) {
			l.add(errAt(b.TypeRange, "Unknown block", "There is no block %q in a %s block.%s", b.Type, blk.Type, didYouMean(b.Type, append(slices.Clone(attrs), blocks...))))
		}
	}
	return out
}

// literal evaluates an attribute that may hold neither references nor functions.
func (l *loader) literal(a *hclsyntax.Attribute, t cty.Type) (cty.Value, bool) {
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() || v.IsNull() || !v.Type().Equals(t) {
		l.add(errAt(a.Expr.Range(), "Not a plain value", "%s takes a plain %s here, without references or functions.", a.Name, t.FriendlyName()))
		return cty.NilVal, false
	}
	return v, true
}

func (d *declarer) output(blk *hclsyntax.Block) {
	name := blk.Labels[0]
	if !d.name(blk) {
		return
	}
	if first, dup := d.cfg.outputs[name]; dup {
		d.add(errAt(blk.DefRange(), "Duplicate output", "Output %q is declared already, at %s; rename one.", name, first.rng))
		return
	}
	attrs := d.fields(blk, []string{"value", "description", "sensitive"})
	out := &outputDecl{}
	d.cfg.outputs[name] = out
	if a := attrs["value"]; a != nil {
		out.formula = d.collect("output."+name, a, false)
	} else {
		d.add(errAt(blk.DefRange(), "Missing attribute", "Add value = … to the output."))
		out.expr = &hclsyntax.LiteralValueExpr{Val: cty.DynamicVal, SrcRange: blk.DefRange()}
	}
	out.name, out.rng = "output."+name, blk.DefRange()
	if a := attrs["description"]; a != nil {
		if v, ok := d.literalText(a); ok {
			out.description = v
		}
	}
	if a := attrs["sensitive"]; a != nil {
		if v, ok := d.literal(a, cty.Bool); ok {
			out.sensitive = v.True()
		}
	}
}

func (l *loader) literalText(a *hclsyntax.Attribute) (string, bool) {
	v, ok := l.literal(a, cty.String)
	if !ok {
		return "", false
	}
	return v.AsString(), true
}
