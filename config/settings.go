package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

var settingsAttrs = []string{"required_version", "artifacts", "default_provider", "parallelism"}

// settings reads the ml block of the root module, and required_version of every module.
func (r *resolver) settings(top *moduleInst) {
	for _, dir := range sortedKeys(r.modules) {
		blk := r.modules[dir].ml
		if blk == nil {
			continue
		}
		attrs := r.fields(blk, settingsAttrs, "backend")
		r.backend(blk, dir == ".")
		if a := attrs["required_version"]; a != nil {
			r.requiredVersion(a, dir)
		}
		if dir != "." {
			for _, n := range settingsAttrs[1:] {
				if a := attrs[n]; a != nil {
					r.add(errAt(a.NameRange, "Setting outside of the root module", "%s stands in the root module's ml block only; a module takes required_version alone.", n))
				}
			}
			continue
		}
		if a := attrs["artifacts"]; a != nil {
			if v, ok := r.setting(top, a, cty.String); ok {
				r.p.Settings.Artifacts = v.AsString()
				if scheme, _, remote := strings.Cut(v.AsString(), "://"); remote && scheme != "oci" {
					r.add(errAt(a.Expr.Range(), "No store of artifacts", "Models are kept in a folder of this machine or, for a cluster, in a registry, and not at %s://. Write a path such as \".ml/artifacts\", or \"oci://HOST/NAME\". Datasets may come from a bucket.", scheme))
				}
			}
		}
		if a := attrs["parallelism"]; a != nil {
			if v, ok := r.setting(top, a, cty.Number); ok {
				n, _ := v.AsBigFloat().Int64()
				if !v.AsBigFloat().IsInt() || n < 1 || n > 10_000 {
					r.add(errAt(a.Expr.Range(), "Invalid value", "parallelism is a whole number from 1 to 10000."))
				}
				r.p.Settings.Parallelism = int(n)
			}
		}
		if a := attrs["default_provider"]; a != nil {
			r.defaultProvider(top, a)
		}
	}
	if len(r.p.Settings.DefaultProvider) == 0 {
		r.p.Settings.DefaultProvider = []string{localProvider}
	}
}

// localProvider serves what no other provider was asked for.
const localProvider = "local"

// setting evaluates an attribute that must be known at plan time.
func (r *resolver) setting(top *moduleInst, a *hclsyntax.Attribute, t cty.Type) (cty.Value, bool) {
	v, ok := r.known(top, a)
	if !ok {
		return v, false
	}
	got, err := convert.Convert(v, t)
	if err != nil || got.IsNull() || !got.IsWhollyKnown() {
		r.add(errAt(a.Expr.Range(), "Wrong type", "%s takes a %s.", a.Name, t.FriendlyName()))
		return cty.NilVal, false
	}
	return got, true
}

// known evaluates an attribute outside of any kind's body.
func (r *resolver) known(m *moduleInst, a *hclsyntax.Attribute) (cty.Value, bool) {
	before := len(r.diags)
	c := &collector{kinds: r.kinds, funcs: r.funcNames}
	c.expr(a.Expr)
	r.add(c.diags...)
	f := &formula{name: a.Name, expr: a.Expr, refs: c.refs, heavy: c.heavy, rng: a.NameRange}
	(&binder{loader: r.loader, cfg: m.cfg}).refs(f.refs)
	if r.diags[before:].HasErrors() {
		return cty.NilVal, false
	}
	v, ok := r.planTime(f, instance{mod: m}, a.Name)
	if !ok {
		return v, false
	}
	if v.ContainsMarked() {
		r.add(errAt(a.Expr.Range(), "Sensitive value as a name", "%s is shown in plans and cannot come from something sensitive. Use another value.", a.Name))
		return cty.NilVal, false
	}
	return v, true
}

func (r *resolver) defaultProvider(top *moduleInst, a *hclsyntax.Attribute) {
	v, ok := r.known(top, a)
	if !ok {
		return
	}
	if v.Type() == cty.String && !v.IsNull() {
		v = cty.TupleVal([]cty.Value{v})
	}
	list, err := convert.Convert(v, cty.List(cty.String))
	if err != nil || list.IsNull() || !list.IsWhollyKnown() || list.LengthInt() == 0 {
		r.add(errAt(a.Expr.Range(), "Wrong type", "default_provider takes a provider's name or a list of names, of which a block takes the first that serves its kind."))
		return
	}
	for _, e := range list.AsValueSlice() {
		if e.IsNull() {
			r.add(errAt(a.Expr.Range(), "Wrong type", "default_provider takes a provider's name or a list of names, of which a block takes the first that serves its kind."))
			return
		}
		r.p.Settings.DefaultProvider = append(r.p.Settings.DefaultProvider, e.AsString())
		r.knownProvider(e.AsString(), a.Expr.Range())
	}
}

func (r *resolver) requiredVersion(a *hclsyntax.Attribute, dir string) {
	text, ok := r.literalText(a)
	if !ok {
		return
	}
	ok, err := meets(r.opts.ToolVersion, text)
	switch {
	case err != nil:
		r.add(errAt(a.Expr.Range(), "Invalid version constraint", "%s. Write one such as \">= 0.1, < 2\".", sentence(err)))
	case !ok:
		r.add(errAt(a.Expr.Range(), "Another version is required", "The module in %s asks for %s, but this is %s. Install a version that fits, or change required_version.", dir, text, r.opts.ToolVersion))
	}
	if dir == "." {
		r.p.Settings.RequiredVersion = text
	}
}

// meets says whether a version satisfies a constraint. One that is not released
// ("", "dev") meets every constraint, and a pre-release counts as its release.
func meets(have, constraint string) (bool, error) {
	want, err := version.NewConstraint(constraint)
	if err != nil {
		return false, err
	}
	v, err := version.NewVersion(have)
	return err != nil || want.Check(v.Core()), nil
}

// knownProvider checks a provider's name, without alias.
func (r *resolver) knownProvider(name string, rng hcl.Range) bool {
	if len(r.opts.Providers) == 0 {
		return true
	}
	if _, ok := r.opts.Providers[name]; ok {
		return true
	}
	if slices.Contains(r.opts.Elsewhere, name) {
		r.add(errAt(rng, "Provider not available", "This program does not have the provider %q; it has: %s. Choose one of them.", name, strings.Join(sortedKeys(r.opts.Providers), ", ")))
		return false
	}
	r.add(errAt(rng, "Unknown provider", "There is no provider %q.%s", name, didYouMean(name, sortedKeys(r.opts.Providers))))
	return false
}
