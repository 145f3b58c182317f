package config

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config/internal/funcs"
)

// variable is a `variable "NAME"` block.
type variable struct {
	name        string
	typ         cty.Type
	defaults    *typeexpr.Defaults
	def         cty.Value // NilVal = required
	description string
	sensitive   bool
	nullable    bool
	validations []condition
	rng         hcl.Range
}

func (d *declarer) variable(blk *hclsyntax.Block) {
	if !d.name(blk) {
		return
	}
	name := blk.Labels[0]
	if first, dup := d.cfg.vars[name]; dup {
		d.add(errAt(blk.DefRange(), "Duplicate variable", "var.%s is declared already, at %s; rename one.", name, first.rng))
		return
	}
	v := &variable{name: name, typ: cty.DynamicPseudoType, def: cty.NilVal, nullable: true, rng: blk.DefRange()}
	d.cfg.vars[name] = v
	attrs := d.fields(blk, []string{"type", "default", "description", "sensitive", "nullable"}, "validation")
	if a := attrs["type"]; a != nil {
		d.variableType(v, a)
	}
	if a := attrs["description"]; a != nil {
		v.description, _ = d.literalText(a)
	}
	for n, into := range map[string]*bool{"sensitive": &v.sensitive, "nullable": &v.nullable} {
		if a := attrs[n]; a != nil {
			if b, ok := d.literal(a, cty.Bool); ok {
				*into = b.True()
			}
		}
	}
	if a := attrs["default"]; a != nil {
		d.variableDefault(v, a)
	}
	for _, b := range blk.Body.Blocks {
		if b.Type == "validation" {
			if c, ok := d.readCondition(b, false); ok {
				v.validations = append(v.validations, c)
			}
		}
	}
}

func (d *declarer) variableType(v *variable, a *hclsyntax.Attribute) {
	t, defaults, diags := typeexpr.TypeConstraintWithDefaults(written(a.Expr))
	if diags.HasErrors() {
		for _, diag := range diags {
			d.add(errAt(a.Expr.Range(), "Invalid type", "%s Types are string, number, bool, any, list(T), set(T), map(T), tuple([T, …]) and object({ name = T, other = optional(T) }).", diag.Detail))
		}
		return
	}
	v.typ, v.defaults = t, defaults
}

func (d *declarer) variableDefault(v *variable, a *hclsyntax.Attribute) {
	val, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		d.add(errAt(a.Expr.Range(), "Not a plain value", "A default holds neither references nor functions; use a local for what has to be computed."))
		return
	}
	got, err := v.convert(val)
	if err != nil {
		d.add(errAt(a.Expr.Range(), "Wrong type", "The default of var.%s does not fit its type: %s.", v.name, sentence(err)))
		return
	}
	v.def = got
}

// convert fits a value to the variable's type.
func (v *variable) convert(val cty.Value) (cty.Value, error) {
	if v.defaults != nil && !val.IsNull() {
		val = v.defaults.Apply(val)
	}
	return funcs.Convert(val, v.typ)
}

// rootVars sets the root module's variables from outside.
func (l *loader) rootVars(cfg *moduleConfig) map[string]given {
	out := map[string]given{}
	for _, in := range l.varInputs() {
		v := cfg.vars[in.Name]
		if v == nil {
			l.undeclared(cfg, in)
			continue
		}
		val, diag := v.read(in)
		if diag != nil {
			l.add(diag)
		}
		out[in.Name] = given{val, in}
	}
	for _, name := range sortedKeys(cfg.vars) {
		v := cfg.vars[name]
		g, ok := out[name]
		switch {
		case !ok && v.def == cty.NilVal:
			l.add(errAt(v.rng, "Missing variable", "var.%s has no value and no default. Give one with -var %s=VALUE, in a variables file, or as ML_VAR_%s.", name, name, name))
			out[name] = given{val: cty.UnknownVal(v.typ.WithoutOptionalAttributesDeep())}
		case !ok:
			out[name] = given{val: v.def}
		case !v.nullable && g.val != cty.NilVal && g.val.IsNull():
			l.add(errAt(v.rng, "Missing variable", "var.%s may not be null, but %s sets it so.", name, g.in.Source))
		case g.val == cty.NilVal:
			out[name] = given{val: cty.UnknownVal(v.typ.WithoutOptionalAttributesDeep())}
		}
	}
	return out
}

// given is a variable's value and where it came from.
type given struct {
	val cty.Value
	in  VarInput
}

// varInputs merges what came from outside with the project's own files:
// environment, then files, then the rest in order.
func (l *loader) varInputs() []VarInput {
	auto, diags := autoVars(l.index, l.opts.Dir)
	l.add(diags...)
	var env, rest []VarInput
	for _, in := range l.opts.Vars {
		if fromEnv(in) {
			env = append(env, in)
		} else {
			rest = append(rest, in)
		}
	}
	return append(append(env, auto...), rest...)
}

// undeclared says that a value has no variable: an error for a flag, a warning
// for a file, which several projects may share, and nothing for the environment.
func (l *loader) undeclared(cfg *moduleConfig, in VarInput) {
	detail := fmt.Sprintf("%s gives a value for %q, but there is no variable \"%s\" block.%s", in.Source, in.Name, in.Name, didYouMean(in.Name, sortedKeys(cfg.vars)))
	switch {
	case fromEnv(in):
	case in.Range.Filename != "":
		l.add(warnAt(in.Range, "Unknown variable", "%s", detail))
	default:
		l.add(&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Unknown variable", Detail: detail})
	}
}

// read fits a value from outside to the variable. Text is taken as it is for
// strings, and as an HCL expression without references for other types.
func (v *variable) read(in VarInput) (cty.Value, *hcl.Diagnostic) {
	rng := in.Range
	if rng.Filename == "" {
		rng = v.rng
	}
	fail := func(what string) *hcl.Diagnostic {
		if v.sensitive {
			what = "the value does not fit"
		}
		return errAt(rng, "Wrong type", "%s: var.%s takes %s: %s.", in.Source, v.name, v.typ.FriendlyNameForConstraint(), what)
	}
	val := in.Value
	if in.Text != nil {
		parsed, err := v.parse(*in.Text)
		if err != nil {
			return cty.NilVal, fail(sentence(err))
		}
		val = parsed
	}
	if val == cty.NilVal {
		return val, fail("no value was given")
	}
	got, err := v.convert(val)
	if err != nil {
		return cty.NilVal, fail(sentence(err))
	}
	return got, nil
}

func (v *variable) parse(text string) (cty.Value, error) {
	if v.typ == cty.String {
		return cty.StringVal(text), nil
	}
	if len(text) > MaxFileBytes {
		return cty.NilVal, fmt.Errorf("the text is longer than %d bytes", MaxFileBytes)
	}
	literal := v.typ == cty.DynamicPseudoType
	if diags := scanText(text); diags != nil {
		return cty.NilVal, diags
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "", hcl.InitialPos)
	if !diags.HasErrors() {
		var val cty.Value
		if val, diags = expr.Value(nil); !diags.HasErrors() {
			return val, nil
		}
	}
	if literal {
		return cty.StringVal(text), nil
	}
	return cty.NilVal, fmt.Errorf("%q is not a value of that type", text)
}
