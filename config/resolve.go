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
	offers    map[resource.Address]cty.Value
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
		switch i := r.pick(&set.instanceSet, f, in); i {
		case missingInstance:
		case allInstances:
			return append(out, set.addrs...)
		default:
			return append(out, set.addrs[i])
		}
	case refEach:
		if f.name == "value" {
			return append(out, in.from...)
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
	switch i := r.pick(&set.instanceSet, f, in); {
	case i == missingInstance:
		return out
	case i != allInstances && i < len(mods):
		mods = mods[i : i+1]
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

// allInstances stands for every instance of a set, or for one that is not known yet.
const allInstances = -1

// missingInstance stands for one that is not there. That is no error by itself:
// it may stand in a branch that is not taken.
const missingInstance = -2

// pick finds the instance that a reference means, by a key that is known
// before anything runs.
func (r *resolver) pick(s *instanceSet, f *ref, in instance) int {
	if f.key != nil && f.key.expr != nil && (len(r.deps(f.key.refs, in)) > 0 || r.stuck) {
		return allInstances
	}
	return r.run.pick(s, f, in)
}

// mustExist is for places that take references only, where a missing instance
// is a mistake whatever happens.
func (r *resolver) mustExist(refs []ref, in instance) {
	for i := range refs {
		f := &refs[i]
		var s *instanceSet
		switch f.kind {
		case refBlock:
			s = &r.expandBlock(in.mod, f.target, f.rng).instanceSet
		case refModule:
			s = &r.expandChild(in.mod, in.mod.cfg.calls[f.name], f.rng).instanceSet
		default:
			continue
		}
		if r.pick(s, f, in) == missingInstance && !s.bad {
			r.add(r.run.missing[f])
		}
	}
}
