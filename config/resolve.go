package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// maxChain caps how many locals, variables and outputs may refer to each other
// in a row: resolving them recurses.
const maxChain = 2000

// resolver finds, for one load, what each expression needs, and evaluates what
// must be known at plan time.
type resolver struct {
	*loader
	run       *run
	stack     []frame
	instances int
	tooMany   bool
	stuck     bool // a cycle or an overlong chain is reported
}

// frame is one step on the way to what is being resolved.
type frame struct {
	name string
	rng  hcl.Range
}

func (r *resolver) push(name string, rng hcl.Range) {
	r.stack = append(r.stack, frame{name, rng})
}

func (r *resolver) pop() { r.stack = r.stack[:len(r.stack)-1] }

// cycle reports that name is needed to resolve itself.
func (r *resolver) cycle(name string, rng hcl.Range) {
	if r.stuck {
		return
	}
	r.stuck = true
	start := 0
	for i, f := range r.stack {
		if f.name == name {
			start = i
		}
	}
	var way []string
	for _, f := range r.stack[start:] {
		way = append(way, fmt.Sprintf("%s (%s:%d)", f.name, f.rng.Filename, f.rng.Start.Line))
	}
	r.add(errAt(rng, "Reference cycle", "%s → %s: each needs the next. Break the circle at one of them.", strings.Join(way, " → "), name))
}

// slot resolves a slot: its dependencies and, if it has none, its value.
func (r *resolver) slot(s *slot, from hcl.Range) {
	switch {
	case s.state == slotReady:
		return
	case s.state == slotBusy:
		r.cycle(s.name, from)
		return
	case len(r.stack) > maxChain:
		if !r.stuck {
			r.stuck = true
			r.add(errAt(s.rng, "Chain of references too long", "More than %d locals, variables and outputs refer to each other in a row.", maxChain))
		}
		return
	}
	s.state = slotBusy
	r.push(s.name, s.rng)
	s.deps = r.deps(s.refs, s.in)
	r.pop()
	s.state = slotReady
	if !s.static() || r.stuck {
		if s.value == cty.NilVal {
			s.value = cty.DynamicVal
		}
		return
	}
	s.value = r.run.compute(s)
	r.add(r.run.take()...)
}

// deps lists the blocks that references reach, sorted, each once.
func (r *resolver) deps(refs []ref, in instance) []resource.Address {
	var out []resource.Address
	for i := range refs {
		out = r.refDeps(out, &refs[i], in)
	}
	return sortAddrs(out)
}

func sortAddrs(list []resource.Address) []resource.Address {
	if len(list) < 2 {
		return list
	}
	slices.SortFunc(list, resource.Address.Compare)
	return slices.Compact(list)
}

func (r *resolver) refDeps(out []resource.Address, f *ref, in instance) []resource.Address {
	m := in.mod
	switch f.kind {
	case refVar:
		s := m.vars[f.name]
		r.slot(s, f.rng)
		return append(out, s.deps...)
	case refLocal:
		s := m.locals[f.name]
		r.slot(s, f.rng)
		return append(out, s.deps...)
	case refBlock:
		if f.key != nil && f.key.expr != nil {
			out = append(out, r.deps(f.key.refs, in)...)
		}
		set := r.expandBlock(m, f.target, f.rng)
		if i, ok := r.pick(&set.instanceSet, f, in); ok {
			return append(out, set.addrs[i])
		} else if i == -1 {
			return append(out, set.addrs...)
		}
	case refModule:
		return r.moduleDeps(out, f, in)
	}
	return out
}

func (r *resolver) moduleDeps(out []resource.Address, f *ref, in instance) []resource.Address {
	if f.key != nil && f.key.expr != nil {
		out = append(out, r.deps(f.key.refs, in)...)
	}
	set := r.expandChild(in.mod, in.mod.cfg.calls[f.name], f.rng)
	mods := set.mods
	if i, ok := r.pick(&set.instanceSet, f, in); ok && i < len(mods) {
		mods = mods[i : i+1]
	} else if i != -1 {
		return out
	}
	name := attrStep(f.rest)
	for _, child := range mods {
		for _, n := range sortedKeys(child.outputs) {
			if name == "" || n == name {
				s := child.outputs[n]
				r.slot(s, f.rng)
				out = append(out, s.deps...)
			}
		}
	}
	return out
}

// pick finds the one instance that a reference means. It returns -1 and false
// when it means all of them, or cannot be told before evaluation; and -2 and
// false, with a diagnostic, when there is no such instance.
func (r *resolver) pick(s *instanceSet, f *ref, in instance) (int, bool) {
	if s.bad || !s.ready {
		return -2, false
	}
	if s.kind == noEach {
		return 0, true
	}
	if f.key == nil {
		return -1, false
	}
	key, known := r.key(f, in)
	if !known {
		return -1, false
	}
	i, ok := s.index[key]
	if !ok {
		r.noInstance(s, f, key)
		return -2, false
	}
	return i, true
}

func (r *resolver) noInstance(s *instanceSet, f *ref, key string) {
	var keys []string
	for _, in := range s.insts {
		keys = append(keys, strings.Trim(in.key, `[]"`))
	}
	r.add(errAt(f.rng, "No such instance", "%s.%s has no instance %s.%s", f.root, f.name, key, didYouMean(strings.Trim(key, `[]"`), keys)))
}

// key evaluates an instance key that is static, rendered as in an address.
func (r *resolver) key(f *ref, in instance) (string, bool) {
	v := f.key.lit
	if f.key.expr != nil {
		if f.key.free || len(r.deps(f.key.refs, in)) > 0 || r.stuck {
			return "", false
		}
		ctx := r.run.context(in, f.key.refs, cty.NilVal)
		var diags hcl.Diagnostics
		v, diags = f.key.expr.Value(ctx)
		if diags.HasErrors() {
			return "", false
		}
	}
	return keyText(v)
}

func keyText(v cty.Value) (string, bool) {
	v, _ = v.Unmark()
	switch {
	case v == cty.NilVal || v.IsNull() || !v.IsKnown():
		return "", false
	case v.Type() == cty.String:
		return resource.StringKey(v.AsString()), true
	case v.Type() == cty.Number:
		return "[" + v.AsBigFloat().Text('f', 0) + "]", true
	}
	return "", false
}

// planTime evaluates what must be known before anything runs.
func (r *resolver) planTime(f *formula, in instance, what string) (cty.Value, bool) {
	if deps := r.deps(f.refs, in); len(deps) > 0 {
		r.add(errAt(f.expr.Range(), "Not known at plan time", "%s must be known before anything runs, but it depends on %s, whose outputs are not. Use variables, locals or files instead.", what, deps[0]))
		return cty.NilVal, false
	}
	if r.stuck {
		return cty.NilVal, false
	}
	before := len(r.diags)
	v := r.run.value(f, in)
	r.add(r.run.take()...)
	for _, d := range r.diags[before:] {
		if d.Severity == hcl.DiagError {
			return cty.NilVal, false
		}
	}
	if u, _ := v.Unmark(); !u.IsKnown() {
		r.add(errAt(f.expr.Range(), "Not known at plan time", "%s must be known before anything runs, but its value is unknown. Use variables, locals or files instead.", what))
		return cty.NilVal, false
	}
	return v, true
}
