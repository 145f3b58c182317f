package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// provider finds the configuration that serves an instance.
func (b *builder) provider(d *declaration, in instance) string {
	if d.provider == nil {
		return b.defaultFor(d)
	}
	v, ok := b.planTime(d.provider, in, "provider")
	if !ok {
		return localProvider
	}
	rng := d.provider.expr.Range()
	if v.IsMarked() {
		b.add(errAt(rng, "Sensitive value as a name", "A provider's name is shown in plans and cannot come from something sensitive. Use another value."))
		return localProvider
	}
	if v.IsNull() {
		return b.defaultFor(d)
	}
	if v.Type() != cty.String {
		b.add(errAt(rng, "Wrong type", "provider takes a name such as \"kubernetes\", or a name and an alias, \"kubernetes.eu\"."))
		return localProvider
	}
	b.serves(v.AsString(), d, rng)
	return v.AsString()
}

// serves checks that a provider exists, is configured under its alias, and
// serves the kind.
func (b *builder) serves(provider string, d *declaration, rng hcl.Range) {
	name, alias, _ := strings.Cut(provider, ".")
	if !b.knownProvider(name, rng) {
		return
	}
	if _, ok := b.p.Providers[provider]; alias != "" && !ok {
		b.add(errAt(rng, "Unknown provider", "There is no provider %q block with alias = %q in the root module.%s", name, alias, didYouMean(provider, sortedKeys(b.p.Providers))))
		return
	}
	if len(b.opts.Providers) > 0 && !slices.Contains(b.opts.Providers[name].Kinds, d.kind.Name) {
		b.add(errAt(rng, "Provider does not serve this kind", "Provider %q serves no %s; it serves: %s.%s", name, d.kind.Name, strings.Join(b.opts.Providers[name].Kinds, ", "), b.servers(d.kind.Name)))
	}
}

// servers is a sentence that names the providers of a kind.
func (b *builder) servers(kind string) string {
	var names []string
	for _, n := range sortedKeys(b.opts.Providers) {
		if slices.Contains(b.opts.Providers[n].Kinds, kind) {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " A " + kind + " is served by: " + strings.Join(names, ", ") + "."
}

// defaultFor is the first default provider that serves the kind, else local.
func (b *builder) defaultFor(d *declaration) string {
	for _, p := range b.p.Settings.DefaultProvider {
		name, _, _ := strings.Cut(p, ".")
		s := b.opts.Providers[name]
		if len(b.opts.Providers) == 0 || slices.Contains(s.Kinds, d.kind.Name) && !slices.Contains(s.Named, d.kind.Name) {
			return p
		}
	}
	if len(b.opts.Providers) > 0 && !slices.Contains(b.opts.Providers[localProvider].Kinds, d.kind.Name) {
		b.add(errAt(d.rng, "Provider does not serve this kind", "Neither default_provider nor the local provider serves a %s.%s Set provider = \"NAME\".", d.kind.Name, b.servers(d.kind.Name)))
	}
	return localProvider
}

// providerBlocks reads the `provider` blocks, which stand in the root module.
func (r *resolver) providerBlocks(top *moduleInst) {
	for _, dir := range sortedKeys(r.modules) {
		for _, p := range r.modules[dir].providers {
			if dir != "." {
				r.add(errAt(p.block.DefRange(), "Provider outside of the root module", "Provider blocks stand in the root module and are visible in every module; move it there."))
				continue
			}
			r.providerBlock(top, p)
		}
	}
}

func (r *resolver) providerBlock(top *moduleInst, p *providerDecl) {
	if slices.Contains(r.opts.Elsewhere, p.name) || !r.knownProvider(p.name, p.block.LabelRanges[0]) {
		return
	}
	cfg := ProviderConfig{Name: p.name, Range: p.block.DefRange()}
	body := *p.block.Body
	if a := body.Attributes["alias"]; a != nil {
		alias, ok := r.literalText(a)
		if ok && !resource.ValidName(alias) {
			r.add(errAt(a.Expr.Range(), "Invalid name", "%q cannot be a name: a name has 1 to 40 of a–z, 0–9, _ and -, and starts with a letter.", alias))
		}
		cfg.Alias = alias
		body.Attributes = withoutKey(body.Attributes, "alias")
	}
	key := strings.TrimSuffix(p.name+"."+cfg.Alias, ".")
	if first, dup := r.p.Providers[key]; dup {
		r.add(errAt(p.block.DefRange(), "Duplicate provider", "Provider %q is configured already, at %s; give this one another alias.", key, first.Range))
		return
	}
	schema := r.opts.Providers[p.name].Config
	if schema == nil {
		schema = &resource.Schema{}
	}
	before := len(r.diags)
	c := &collector{kinds: r.kinds, funcs: r.funcNames}
	for _, n := range sortedKeys(body.Attributes) {
		c.expr(body.Attributes[n].Expr)
	}
	d := &declarer{loader: r.loader, cfg: top.cfg}
	for _, blk := range body.Blocks {
		d.bodyRefs(&declaration{}, c, blk.Body, nil, blk.Type)
	}
	r.add(c.diags...)
	(&binder{loader: r.loader, cfg: top.cfg}).refs(c.refs)
	if r.diags[before:].HasErrors() {
		return
	}
	if deps := r.deps(c.refs, instance{mod: top}); len(deps) > 0 {
		r.add(errAt(p.block.DefRange(), "Not known at plan time", "provider must be known before anything runs, but it depends on %s, whose outputs are not. Use variables, locals or files instead.", deps[0]))
		return
	}
	dec := &decoder{run: r.run, marks: r.ev.marks || c.marks, sensitive: map[string]bool{}}
	vals := dec.body(&body, newBodySpec(schema, nil, nil), r.run.context(instance{mod: top}, c.refs, cty.NilVal), "")
	r.add(r.run.take()...)
	r.add(dec.diags...)
	cfg.Value = cty.ObjectVal(vals)
	r.p.Providers[key] = cfg
}

func withoutKey[V any](m map[string]V, key string) map[string]V {
	out := make(map[string]V, len(m))
	for k, v := range m {
		if k != key {
			out[k] = v
		}
	}
	return out
}

// defaults adds an empty configuration for each provider that serves blocks
// and has no block of its own.
func (b *builder) defaults() {
	for _, blk := range b.p.Blocks {
		if _, ok := b.p.Providers[blk.Provider]; ok {
			continue
		}
		cfg := ProviderConfig{Name: blk.Provider, Value: cty.EmptyObjectVal}
		if s := b.opts.Providers[blk.Provider].Config; s != nil {
			spec := newBodySpec(s, nil, nil)
			vals := map[string]cty.Value{}
			for _, a := range spec.attrs {
				if a.Required {
					b.add(errAt(blk.Range, "Provider not configured", "%s is served by provider %q, which needs %s; add provider %q { %s = … } to the root module.", blk.Addr, blk.Provider, a.Name, blk.Provider, a.Name))
				}
				vals[a.Name] = a.absent
			}
			for _, n := range spec.order {
				vals[n] = spec.blocks[n].body.null
				if spec.blocks[n].Many {
					vals[n] = cty.EmptyTupleVal
				}
			}
			cfg.Value = cty.ObjectVal(vals)
		}
		b.p.Providers[blk.Provider] = cfg
	}
}
