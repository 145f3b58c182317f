package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/internal/dag"
	"github.com/continuo-ml/continuo/resource"
)

// build makes the project of what was declared: instances of modules and
// blocks, their dependencies and their order.
func (l *loader) build(root *moduleConfig) {
	r := &resolver{loader: l, run: &run{evaluator: l.ev}, offers: map[resource.Address]cty.Value{}}
	r.run.offer = r.offer
	given := l.rootVars(root)
	if l.diags.HasErrors() {
		return
	}
	l.secrets(root, given)
	top := l.newInst(root, nil, nil, instance{}, given)
	l.ev.root = top
	r.settings(top)
	r.providerBlocks(top)
	b := &builder{resolver: r}
	b.module(top)
	if l.diags.HasErrors() {
		return
	}
	b.outputs(top)
	b.order()
	b.defaults()
	b.settled()
}

// secrets remembers the values of sensitive variables, to be masked everywhere.
func (l *loader) secrets(root *moduleConfig, vals map[string]given) {
	for _, m := range l.modules {
		for _, v := range m.vars {
			l.ev.marks = l.ev.marks || v.sensitive
		}
		for _, f := range m.locals {
			l.ev.marks = l.ev.marks || f.marks
		}
		for _, o := range m.outputs {
			l.ev.marks = l.ev.marks || o.marks || o.sensitive
		}
		for _, c := range m.calls {
			for _, a := range c.args {
				l.ev.marks = l.ev.marks || a.marks
			}
		}
		for _, d := range m.order {
			for _, f := range []*formula{d.forEach, d.count} {
				l.ev.marks = l.ev.marks || f != nil && f.marks
			}
		}
	}
	for _, name := range sortedKeys(root.vars) {
		if root.vars[name].sensitive {
			l.p.Sensitive = append(l.p.Sensitive, leaves(vals[name].val)...)
		}
	}
	slices.Sort(l.p.Sensitive)
	l.p.Sensitive = slices.Compact(l.p.Sensitive)
}

// leaves are the texts within a value, as they would be printed.
func leaves(v cty.Value) []string {
	var out []string
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() {
		return nil
	}
	switch t := v.Type(); {
	case t == cty.String:
		if s := v.AsString(); s != "" {
			out = append(out, s)
		}
	case t == cty.Number:
		out = append(out, v.AsBigFloat().Text('g', -1))
	case v.CanIterateElements():
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			out = append(out, leaves(e)...)
		}
	}
	return out
}

type builder struct {
	*resolver
	blocks []*Block
}

// module makes all blocks of a module instance and of those below it.
func (b *builder) module(m *moduleInst) {
	for _, name := range sortedKeys(m.vars) {
		b.slot(m.vars[name], m.vars[name].rng)
		if s := m.vars[name]; s.static() && !b.stuck && len(s.variable.validations) > 0 {
			b.validations(s)
		}
	}
	for _, name := range sortedKeys(m.locals) {
		b.slot(m.locals[name], m.locals[name].rng)
	}
	for _, name := range sortedKeys(m.cfg.calls) {
		b.children(m, m.cfg.calls[name])
	}
	for _, name := range sortedKeys(m.outputs) {
		b.slot(m.outputs[name], m.outputs[name].rng)
	}
	for _, d := range m.cfg.order {
		b.declared(m, d)
		if b.stuck || b.tooMany {
			return
		}
	}
	b.changes(m)
}

func (b *builder) validations(s *slot) {
	for _, c := range s.variable.validations {
		if deps := b.deps(slices.Concat(c.check.refs, c.message.refs), instance{mod: s.owner}); len(deps) > 0 {
			b.add(errAt(c.check.expr.Range(), "Not known at plan time", "A validation must be known before anything runs, but it depends on %s. Use a precondition of the block instead.", deps[0]))
			return
		}
	}
	if b.stuck {
		return
	}
	b.run.validate(s)
	b.add(b.run.take()...)
}

func (b *builder) children(m *moduleInst, c *moduleCall) {
	set := b.expandChild(m, c, c.rng)
	if set.bad || b.stuck {
		return
	}
	for i, child := range set.mods {
		extra := b.deps(c.dependsOn, instance{mod: m})
		b.mustExist(c.dependsOn, instance{mod: m})
		child.inst = set.insts[i]
		if len(extra) > 0 {
			child.extra = sortAddrs(slices.Concat(m.extra, extra))
		}
		for _, f := range c.dependsOn {
			child.extra = sortAddrs(append(child.extra, b.moduleBlocks(m, f)...))
		}
		b.module(child)
		if b.stuck || b.tooMany {
			return
		}
	}
}

// moduleBlocks are all blocks of the module that depends_on names.
func (b *builder) moduleBlocks(m *moduleInst, f ref) []resource.Address {
	if f.kind != refModule {
		return nil
	}
	set := b.expandChild(m, m.cfg.calls[f.name], f.rng)
	var out []resource.Address
	for _, child := range set.mods {
		out = append(out, b.below(child)...)
	}
	return out
}

func (b *builder) below(m *moduleInst) []resource.Address {
	var out []resource.Address
	for _, d := range m.cfg.order {
		out = append(out, b.expandBlock(m, d, d.rng).addrs...)
	}
	for _, name := range sortedKeys(m.cfg.calls) {
		for _, child := range b.expandChild(m, m.cfg.calls[name], m.cfg.calls[name].rng).mods {
			out = append(out, b.below(child)...)
		}
	}
	return out
}

// declared makes the instances of one block.
func (b *builder) declared(m *moduleInst, d *declaration) {
	set := b.expandBlock(m, d, d.rng)
	if set.bad || b.tooMany {
		return
	}
	for i, in := range set.insts {
		blk := &Block{Addr: set.addrs[i], Kind: d.kind, Range: d.rng, decl: d, inst: in}
		b.dependencies(blk)
		b.mustExist(d.dependsOn, in)
		b.mustExist(d.lifecycle.replaceOn, in)
		if b.stuck {
			return
		}
		blk.Provider = b.provider(d, in)
		blk.Feedback = b.feedback(d, in)
		blk.Lifecycle = Lifecycle{PreventDestroy: d.lifecycle.preventDestroy, IgnoreChanges: d.lifecycle.ignore, ReplaceOn: b.deps(d.lifecycle.replaceOn, in)}
		b.blocks = append(b.blocks, blk)
		b.p.byAddr[blk.Addr] = blk
	}
}

func (b *builder) dependencies(blk *Block) {
	d, in := blk.decl, blk.inst
	deps := b.deps(d.refs, in)
	if len(d.condRefs) > 0 {
		deps = append(deps, b.deps(d.condRefs, in)...)
	}
	deps = append(append(deps, b.deps(d.lifecycle.replaceOn, in)...), in.mod.extra...)
	explicit := b.deps(d.dependsOn, in)
	for _, f := range d.dependsOn {
		explicit = append(explicit, b.moduleBlocks(in.mod, f)...)
	}
	if len(explicit) == 0 {
		blk.Deps = sortAddrs(deps)
		return
	}
	explicit = sortAddrs(explicit)
	blk.Deps = sortAddrs(slices.Concat(deps, explicit))
	deps = sortAddrs(deps)
	for _, a := range explicit {
		if _, also := slices.BinarySearchFunc(deps, a, resource.Address.Compare); !also {
			blk.Explicit = append(blk.Explicit, a)
		}
	}
}

// feedback resolves the signals that a block listens to.
func (b *builder) feedback(d *declaration, in instance) []resource.SignalRef {
	var out []resource.SignalRef
	for i := range d.feedback {
		f := &d.feedback[i]
		set := b.expandBlock(in.mod, f.target, f.rng)
		n := b.pick(&set.instanceSet, f, in)
		switch {
		case set.bad:
			continue
		case n == missingInstance:
			b.add(b.run.missing[f])
			continue
		case n == allInstances:
			b.add(errAt(f.rng, "Only signals may stand here", "%s.%s has several instances; say which one's signal: %s.%s[\"KEY\"].%s.", f.root, f.name, f.root, f.name, attrStep(f.rest)))
			continue
		}
		out = append(out, resource.SignalRef{Address: set.addrs[n], Signal: attrStep(f.rest), Range: f.rng})
	}
	return out
}

func (b *builder) outputs(root *moduleInst) {
	for _, name := range sortedKeys(root.outputs) {
		s := root.outputs[name]
		b.p.Outputs = append(b.p.Outputs, &Output{Name: name, Description: s.output.description, Sensitive: s.output.sensitive, Deps: s.deps, expr: s.expr})
	}
}

// order sorts the blocks so that each comes after what it needs.
func (b *builder) order() {
	if b.diags.HasErrors() {
		return
	}
	g := dag.New[resource.Address]()
	for _, blk := range b.blocks {
		g.Add(blk.Addr)
	}
	for _, blk := range b.blocks {
		for _, dep := range blk.Deps {
			g.Edge(blk.Addr, dep)
		}
	}
	order, err := g.Order(resource.Address.Compare)
	var cycle *dag.CycleError[resource.Address]
	switch {
	case errors.As(err, &cycle):
		b.blockCycle(cycle.Path)
		return
	case err != nil:
		b.add(&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "The blocks cannot be ordered", Detail: sentence(err) + ". This is a defect of this program; please report it."})
		return
	}
	b.p.Blocks = make([]*Block, 0, len(order))
	for _, a := range order {
		b.p.Blocks = append(b.p.Blocks, b.p.byAddr[a])
	}
}

// blockCycle shows the whole path, with the line that each edge comes from.
func (b *builder) blockCycle(path []resource.Address) {
	var lines []string
	signal := ""
	for i := 0; i+1 < len(path); i++ {
		from := b.p.byAddr[path[i]]
		rng := b.edge(from, path[i+1])
		lines = append(lines, fmt.Sprintf("%s needs %s (%s:%d)", path[i], path[i+1], rng.Filename, rng.Start.Line))
		if to := b.p.byAddr[path[i+1]]; len(to.Kind.Signals) > 0 {
			signal = fmt.Sprintf(" To let %s react to a signal of %s, list it in retrain { on = [%s.%s] }, which orders nothing.", path[i], path[i+1], path[i+1], to.Kind.Signals[0])
		}
	}
	first := b.p.byAddr[path[0]]
	b.add(errAt(b.edge(first, path[1]), "Blocks need each other", "%s. Break the circle at one of these references.%s", strings.Join(lines, "; "), signal))
}

// edge finds where one block's need for another is written.
func (b *builder) edge(from *Block, to resource.Address) hcl.Range {
	d := from.decl
	for _, refs := range [][]ref{d.refs, d.condRefs, d.dependsOn, d.lifecycle.replaceOn} {
		for i := range refs {
			if slices.Contains(b.refDeps(nil, &refs[i], from.inst), to) {
				return refs[i].rng
			}
		}
	}
	return from.Range
}
