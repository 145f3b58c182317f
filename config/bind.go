package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// bind connects the references of a module with what they name, and reports
// those that name nothing.
func (l *loader) bind(cfg *moduleConfig) {
	b := &binder{loader: l, cfg: cfg}
	for _, name := range sortedKeys(cfg.locals) {
		b.refs(cfg.locals[name].refs)
	}
	for _, name := range sortedKeys(cfg.outputs) {
		b.refs(cfg.outputs[name].refs)
	}
	for _, name := range sortedKeys(cfg.vars) {
		for _, c := range cfg.vars[name].validations {
			b.refs(c.check.refs)
			b.refs(c.message.refs)
		}
	}
	for _, name := range sortedKeys(cfg.calls) {
		b.call(cfg.calls[name])
	}
	for _, d := range cfg.order {
		b.each = instanceKind(d.forEach, d.count)
		b.formula(d.forEach)
		b.formula(d.count)
		b.formula(d.provider)
		b.instance = true
		for _, refs := range [][]ref{d.refs, d.condRefs, d.dependsOn, d.lifecycle.replaceOn, d.feedback} {
			b.refs(refs)
		}
		for _, cs := range [][]condition{d.pre, d.post} {
			for i := range cs {
				b.self(d, cs[i])
			}
		}
		for i := range d.sources {
			if d.sources[i].via == nil {
				b.bindOne(&d.sources[i].ref, true)
			}
		}
		b.instance, b.each = false, noEach
	}
}

// eachKind says which of each and count has a meaning.
type eachKind uint8

const (
	noEach eachKind = iota
	hasForEach
	hasCount
)

func instanceKind(forEach, count *formula) eachKind {
	switch {
	case forEach != nil:
		return hasForEach
	case count != nil:
		return hasCount
	}
	return noEach
}

type binder struct {
	*loader
	cfg      *moduleConfig
	each     eachKind
	instance bool // inside of a body, where each and count may stand
}

func (b *binder) formula(f *formula) {
	if f != nil {
		inside := b.instance
		b.instance = f.name == "provider"
		b.refs(f.refs)
		b.instance = inside
	}
}

func (b *binder) call(c *moduleCall) {
	b.each = instanceKind(c.forEach, c.count)
	b.formula(c.forEach)
	b.formula(c.count)
	b.instance = true
	b.refs(c.dependsOn)
	for _, n := range sortedKeys(c.args) {
		b.refs(c.args[n].refs)
	}
	b.instance, b.each = false, noEach
	if c.cfg == nil {
		return
	}
	for _, n := range sortedKeys(c.args) {
		if c.cfg.vars[n] == nil {
			b.add(errAt(c.argRanges[n], "Unknown variable", "The module in %s has no variable %q.%s", c.cfg.dir, n, didYouMean(n, sortedKeys(c.cfg.vars))))
		}
	}
	for _, n := range sortedKeys(c.cfg.vars) {
		if v := c.cfg.vars[n]; v.def == cty.NilVal && c.args[n] == nil {
			b.add(errAt(c.rng, "Missing variable", "The module in %s needs %s = …; it has no default.", c.cfg.dir, n))
		}
	}
}

func (b *binder) refs(refs []ref) {
	for i := range refs {
		b.bindOne(&refs[i], false)
	}
}

// bindOne binds one reference; quiet when it stands elsewhere too.
func (b *binder) bindOne(r *ref, quiet bool) {
	if r.key != nil {
		for i := range r.key.refs {
			b.bindOne(&r.key.refs[i], quiet)
		}
	}
	var d *hcl.Diagnostic
	switch r.kind {
	case refBlock:
		d = b.blockRef(r)
	case refVar:
		if b.cfg.vars[r.name] == nil {
			d = errAt(r.rng, "Unknown variable", "There is no variable %q.%s", r.name, didYouMean(r.name, sortedKeys(b.cfg.vars)))
		}
	case refLocal:
		if b.cfg.locals[r.name] == nil {
			d = errAt(r.rng, "Unknown local", "There is no local.%s.%s", r.name, didYouMean(r.name, sortedKeys(b.cfg.locals)))
		}
	case refModule:
		d = b.moduleRef(r)
	case refEach:
		if !b.instance || b.each != hasForEach {
			d = errAt(r.rng, "No each here", "each.%s has a meaning only inside a block with for_each, not in for_each itself.", r.name)
		}
	case refCount:
		if !b.instance || b.each != hasCount {
			d = errAt(r.rng, "No count here", "count.%s has a meaning only inside a block with count, not in count itself.", r.name)
		}
	}
	if d != nil && !quiet {
		b.add(d)
	}
}

func (b *binder) blockRef(r *ref) *hcl.Diagnostic {
	r.target = b.cfg.blocks[r.root+"."+r.name]
	if r.target == nil {
		var names []string
		for key := range b.cfg.blocks {
			if n, ok := strings.CutPrefix(key, r.root+"."); ok {
				names = append(names, n)
			}
		}
		return errAt(r.rng, "Unknown block", "There is no %s %q in this module.%s", r.root, r.name, didYouMean(r.name, names))
	}
	many := instanceKind(r.target.forEach, r.target.count) != noEach
	switch {
	case !many && r.key != nil:
		return errAt(r.rng, "Not a set of instances", "%s.%s has neither for_each nor count, so it takes no key; remove [ ].", r.root, r.name)
	case many && r.key == nil && attrStep(r.rest) != "":
		key := `"KEY"`
		if r.target.count != nil {
			key = "0"
		}
		return errAt(r.rng, "Missing instance key", "%s.%s has several instances; say which: %s.%s[%s].%s.", r.root, r.name, r.root, r.name, key, attrStep(r.rest))
	case r.key != nil || !many:
		return walkType(r, r.target.kind.outputsType, r.rest)
	}
	return nil
}

// walkType follows a reference's steps through a type, as far as it is known.
func walkType(r *ref, t cty.Type, rest hcl.Traversal) *hcl.Diagnostic {
	for _, s := range rest {
		if !t.IsObjectType() {
			return nil
		}
		step, ok := s.(hcl.TraverseAttr)
		if !ok {
			return nil
		}
		if !t.HasAttribute(step.Name) {
			names := sortedKeys(t.AttributeTypes())
			return errAt(step.SrcRange, "Unknown output", "%s.%s has no %q here.%s", r.root, r.name, step.Name, didYouMean(step.Name, names))
		}
		t = t.AttributeType(step.Name)
	}
	return nil
}

func (b *binder) moduleRef(r *ref) *hcl.Diagnostic {
	c := b.cfg.calls[r.name]
	if c == nil {
		return errAt(r.rng, "Unknown module", "There is no module %q.%s", r.name, didYouMean(r.name, sortedKeys(b.cfg.calls)))
	}
	if c.cfg == nil {
		return nil // its source is reported
	}
	many := instanceKind(c.forEach, c.count) != noEach
	out := attrStep(r.rest)
	switch {
	case !many && r.key != nil:
		return errAt(r.rng, "Not a set of instances", "module.%s has neither for_each nor count, so it takes no key; remove [ ].", r.name)
	case many && r.key == nil && out != "":
		return errAt(r.rng, "Missing instance key", "module.%s has several instances; say which: module.%s[\"KEY\"].%s.", r.name, r.name, out)
	case out != "" && c.cfg.outputs[out] == nil:
		return errAt(r.rng, "Unknown output", "The module in %s has no output %q.%s", c.cfg.dir, out, didYouMean(out, sortedKeys(c.cfg.outputs)))
	}
	return nil
}

// self checks what a postcondition reads of its own block.
func (b *binder) self(d *declaration, c condition) {
	for _, r := range slices.Concat(c.check.refs, c.message.refs) {
		if r.kind == refSelf {
			r.root, r.name = d.kind.Name, d.name
			if diag := walkType(&r, d.kind.outputsType, r.rest); diag != nil {
				b.add(diag)
			}
		}
	}
}
