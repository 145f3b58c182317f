package config

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config/internal/funcs"
	"github.com/continuo-ml/continuo/resource"
)

// moduleInst is one instance of a module: its own variables, locals and blocks.
type moduleInst struct {
	cfg      *moduleConfig
	path     string // "module.eu[\"a\"]", "" for the root
	depth    int
	parent   *moduleInst
	call     *moduleCall
	inst     instance // of the module block, for each and count in its arguments
	vars     map[string]*slot
	locals   map[string]*slot
	outputs  map[string]*slot
	children map[string]*childSet
	blocks   map[*declaration]*blockSet
	extra    []resource.Address // what depends_on of the module blocks above adds
}

// instance is what tells one instance of a declaration from the others.
type instance struct {
	mod   *moduleInst
	key   string    // `["de"]`, `[0]` or ""
	each  cty.Value // the for_each key as a string, or NilVal
	value cty.Value // the for_each value, or the count index
	// from are the blocks that the for_each value comes from. Without any, value
	// holds for ever; else it is what the files alone say, and evaluated anew.
	from    []resource.Address
	forEach *formula // set with from
	// loop is set with from when for_each is a loop, and element is the key and
	// value in its collection that this instance was made from.
	loop    *eachLoop
	element [2]cty.Value
	vars    map[string]cty.Value // of the loop, while its parts are evaluated
}

// instanceSet are the instances of one block or module block.
type instanceSet struct {
	kind  eachKind
	insts []instance
	index map[string]int
	ready bool // false while it is being expanded, to find cycles
	bad   bool
}

type blockSet struct {
	instanceSet
	addrs []resource.Address
}

type childSet struct {
	instanceSet
	mods []*moduleInst
}

// slot is a local, a variable or a module output of one module instance: an
// expression that is resolved once, when something needs it.
type slot struct {
	*formula
	in    instance // where the expression stands: its module and each
	state slotState
	// deps are the blocks that the value comes from. Without any, the value is
	// static and shared by all who use it.
	deps     []resource.Address
	value    cty.Value
	variable *variable
	output   *outputDecl
	owner    *moduleInst // of the variable
}

type slotState uint8

const (
	slotNew slotState = iota
	slotBusy
	slotReady
)

func (s *slot) static() bool { return len(s.deps) == 0 }

// newInst makes the slots of a module instance. args are the root's variables.
func (l *loader) newInst(cfg *moduleConfig, parent *moduleInst, c *moduleCall, in instance, args map[string]given) *moduleInst {
	m := &moduleInst{
		cfg: cfg, parent: parent, call: c, inst: in,
		vars: make(map[string]*slot, len(cfg.vars)), locals: make(map[string]*slot, len(cfg.locals)),
		outputs: make(map[string]*slot, len(cfg.outputs)), children: map[string]*childSet{}, blocks: map[*declaration]*blockSet{},
	}
	if parent != nil {
		m.depth = parent.depth + 1
		m.path = strings.TrimPrefix(parent.path+".module."+c.name+in.key, ".")
		m.extra = parent.extra
	}
	own := instance{mod: m}
	for n, f := range cfg.locals {
		m.locals[n] = &slot{formula: f, in: own}
	}
	for n, o := range cfg.outputs {
		m.outputs[n] = &slot{formula: &o.formula, in: own, output: o}
	}
	for n, v := range cfg.vars {
		s := &slot{formula: &formula{name: "var." + n, rng: v.rng}, variable: v, owner: m}
		switch {
		case parent == nil:
			s.value, s.state = args[n].val, slotReady
			if v.sensitive {
				s.value = s.value.Mark(funcs.SensitiveMark{})
			}
		case c.args[n] != nil:
			s.formula, s.in = c.args[n], in // which stands in the parent
		default:
			s.value, s.state = v.def, slotReady
			if v.sensitive {
				s.value = s.value.Mark(funcs.SensitiveMark{})
			}
		}
		m.vars[n] = s
	}
	return m
}

// expandBlock makes the instances of a declaration in a module instance.
func (r *resolver) expandBlock(m *moduleInst, d *declaration, from hcl.Range) *blockSet {
	s := m.blocks[d]
	if s == nil {
		s = &blockSet{}
		m.blocks[d] = s
		r.push(d.kind.Name+"."+d.name, d.rng)
		r.expand(&s.instanceSet, m, d.forEach, d.count)
		r.pop()
		for _, in := range s.insts {
			s.addrs = append(s.addrs, resource.Address{Module: m.path, Kind: d.kind.Name, Name: d.name, Key: in.key})
		}
		return s
	}
	if !s.ready {
		r.cycle(d.kind.Name+"."+d.name, from)
	}
	return s
}

// expandChild makes the instances of a module block.
func (r *resolver) expandChild(m *moduleInst, c *moduleCall, from hcl.Range) *childSet {
	s := m.children[c.name]
	if s != nil {
		if !s.ready {
			r.cycle("module."+c.name, from)
		}
		return s
	}
	s = &childSet{}
	m.children[c.name] = s
	if c.cfg == nil {
		s.ready, s.bad = true, true
		return s
	}
	r.push("module."+c.name, c.rng)
	r.expand(&s.instanceSet, m, c.forEach, c.count)
	r.pop()
	for _, in := range s.insts {
		child := r.newInst(c.cfg, m, c, in, nil)
		s.mods = append(s.mods, child)
	}
	return s
}

// expand evaluates for_each or count.
func (r *resolver) expand(s *instanceSet, m *moduleInst, forEach, count *formula) {
	s.kind = instanceKind(forEach, count)
	switch s.kind {
	case noEach:
		s.insts = []instance{{mod: m}}
	case hasCount:
		s.insts, s.bad = r.countInstances(m, count)
	case hasForEach:
		s.insts, s.bad = r.eachInstances(m, forEach)
	}
	s.index = make(map[string]int, len(s.insts))
	for i, in := range s.insts {
		s.index[in.key] = i
	}
	s.ready = true
	r.instances += len(s.insts)
	if r.instances > MaxInstances && !r.tooMany {
		r.tooMany = true
		rng := hcl.Range{}
		if f := forEach; f != nil {
			rng = f.expr.Range()
		} else if count != nil {
			rng = count.expr.Range()
		}
		r.add(errAt(rng, "Too many instances", "The project has more than %d instances. Split it into several projects.", MaxInstances))
	}
}

func (r *resolver) countInstances(m *moduleInst, f *formula) ([]instance, bool) {
	v, ok := r.planTime(f, instance{mod: m}, "count")
	if !ok {
		return nil, true
	}
	rng := f.expr.Range()
	if v.IsMarked() {
		r.add(errAt(rng, "Sensitive value as a key", "count comes from something sensitive, but the number of instances is shown in plans. Use another value, or nonsensitive()."))
		return nil, true
	}
	n := -1
	if v.Type() == cty.Number && !v.IsNull() && v.AsBigFloat().IsInt() {
		if i, _ := v.AsBigFloat().Int64(); i >= 0 && i <= MaxInstances {
			n = int(i)
		}
	}
	if n < 0 {
		r.add(errAt(rng, "Invalid count", "count is a whole number from 0 to %d.", MaxInstances))
		return nil, true
	}
	out := make([]instance, n)
	for i := range out {
		out[i] = instance{mod: m, key: resource.IntKey(i), value: cty.NumberIntVal(int64(i))}
	}
	return out, false
}

func (r *resolver) eachInstances(m *moduleInst, f *formula) ([]instance, bool) {
	v, ok := r.planTime(f, instance{mod: m}, "for_each")
	if !ok {
		return nil, true
	}
	v, from := origins(v)
	rng := f.expr.Range()
	if v.IsMarked() {
		r.add(errAt(rng, "Sensitive value as a key", "for_each comes from something sensitive, but keys are shown in plans. Use another value, or nonsensitive() on the keys."))
		return nil, true
	}
	t := v.Type()
	switch {
	case v.IsNull() || !t.IsMapType() && !t.IsObjectType() && !t.IsSetType():
		r.add(errAt(rng, "Invalid for_each", "for_each takes a map, an object or a set of strings, not %s. Write toset([…]) around a list of strings.", t.FriendlyName()))
		return nil, true
	case t.IsSetType() && t.ElementType() != cty.String && v.LengthInt() > 0:
		r.add(errAt(rng, "Invalid for_each", "for_each takes a set of strings, not a set of %s; give a map when the elements are something else.", t.ElementType().FriendlyName()))
		return nil, true
	}
	return r.eachOf(m, v, f, from)
}

func (r *resolver) eachOf(m *moduleInst, v cty.Value, f *formula, from []resource.Address) ([]instance, bool) {
	n, rng := v.LengthInt(), f.expr.Range()
	if n > MaxInstances {
		r.add(errAt(rng, "Too many instances", "for_each has %d elements; a project has at most %d instances. Split it into several projects.", n, MaxInstances))
		return nil, true
	}
	out := make([]instance, 0, n)
	var loop *eachLoop
	var elements map[string][2]cty.Value
	if !v.Type().IsSetType() && v.ContainsMarked() || len(from) > 0 {
		loop, elements = r.loopOf(f, m)
	}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		if k.IsNull() {
			r.add(errAt(rng, "Invalid for_each", "A key of for_each is null; a key is a string."))
			return nil, true
		}
		key := k.AsString()
		if key == "" || len(key) > 200 || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' }) {
			r.add(errAt(rng, "Invalid for_each", "The key %q cannot stand in an address: a key has 1 to 200 characters and no control characters.", key))
			return nil, true
		}
		in := instance{mod: m, key: resource.StringKey(key), each: k, value: e}
		if !v.Type().IsSetType() { // an element of a set is its key, which is known
			if in.from = originsOf(e, from); in.from != nil {
				in.forEach = f
				if element, ok := elements[in.key]; ok {
					in.loop, in.element = loop, element
				}
			}
		}
		out = append(out, in)
	}
	return out, false
}
