package config

import (
	"math"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// What evaluation in this process may cost by estimate; above it a child
// process with limits evaluates first. One unit of work is about a microsecond.
const (
	maxLoopWork  = 1e6 // of one expression
	maxTotalWork = 2e7 // of the project
	maxMagnitude = 1e5 // decimal digits that printing a number could take
)

// cost is about what evaluating an expression takes and what its value is.
type cost struct {
	work   float64 // steps
	bytes  float64 // of the value
	n      float64 // elements of the value
	leaves float64 // elements, through all levels
	digits float64 // of a number, written out
}

// element is one element of a collection, by the average.
func (c cost) element() cost {
	n := math.Max(c.n, 1)
	return cost{work: 1, bytes: c.bytes / n, n: math.Max(c.leaves/n, 1), leaves: math.Max(c.leaves/n, 1), digits: c.digits}
}

// estimator adds up the static cost of a project, without evaluating anything.
type estimator struct {
	cfg    *moduleConfig
	given  map[string]float64 // bytes of variables from outside
	memo   map[*formula]cost
	scopes []loopScope
	each   cost
	worst  float64
	over   bool // a value or number is too large by itself
	depth  int
}

type loopScope struct {
	names map[string]cost
}

// expensive says whether evaluating the project could take more than a moment.
func (l *loader) expensive() bool {
	e := &estimator{memo: map[*formula]cost{}, given: map[string]float64{}}
	for _, in := range l.opts.Vars {
		if in.Text != nil {
			e.given[in.Name] = float64(len(*in.Text))
		} else if in.Value != cty.NilVal {
			e.given[in.Name] = float64(valueBytes(in.Value, MaxValueBytes))
		}
	}
	times := l.multiplicity(e)
	total := 0.0
	for _, dir := range sortedKeys(l.modules) {
		total += times[dir] * e.module(l.modules[dir])
	}
	return e.over || e.worst > maxLoopWork || total > maxTotalWork
}

// multiplicity is about how many instances of each module there are.
func (l *loader) multiplicity(e *estimator) map[string]float64 {
	times := map[string]float64{".": 1}
	for range MaxModuleDepth {
		next := map[string]float64{".": 1}
		for _, dir := range sortedKeys(l.modules) {
			e.cfg = l.modules[dir]
			for _, name := range sortedKeys(e.cfg.calls) {
				if c := e.cfg.calls[name]; c.cfg != nil {
					next[c.cfg.dir] += times[dir] * e.instances(c.forEach, c.count)
				}
			}
		}
		times = next
	}
	return times
}

// instances is about how many instances for_each or count makes.
func (e *estimator) instances(forEach, count *formula) float64 {
	switch {
	case forEach != nil:
		c := e.formula(forEach)
		e.each = c.element()
		return math.Max(c.n, 1)
	case count != nil:
		if lit, ok := count.expr.(*hclsyntax.LiteralValueExpr); ok && lit.Val.Type() == cty.Number {
			n, _ := lit.Val.AsBigFloat().Float64()
			return math.Min(math.Max(n, 1), MaxInstances) // more is refused
		}
		e.formula(count)
		return 100
	}
	return 1
}

func (e *estimator) module(cfg *moduleConfig) float64 {
	e.cfg = cfg
	total := 0.0
	for _, n := range sortedKeys(cfg.locals) {
		total += e.formula(cfg.locals[n]).work
	}
	for _, n := range sortedKeys(cfg.outputs) {
		total += e.formula(&cfg.outputs[n].formula).work
	}
	for _, n := range sortedKeys(cfg.calls) {
		c := cfg.calls[n]
		times := e.instances(c.forEach, c.count)
		for _, a := range sortedKeys(c.args) {
			total += times * e.formula(c.args[a]).work
		}
	}
	for _, d := range cfg.order {
		times := e.instances(d.forEach, d.count)
		for _, f := range []*formula{d.forEach, d.count} {
			if f != nil {
				total += e.formula(f).work
			}
		}
		total += times * e.body(d.body, onceAttrs)
	}
	return total
}

// onceAttrs are evaluated once for all instances of a block.
var onceAttrs = map[string]bool{"for_each": true, "count": true}

// body is what one evaluation of a body takes, without the attributes in skip.
func (e *estimator) body(b *hclsyntax.Body, skip map[string]bool) float64 {
	total := 1.0
	for _, a := range b.Attributes {
		if !skip[a.Name] {
			total += e.expr(a.Expr).work
		}
	}
	for _, blk := range b.Blocks {
		if blk.Type != "dynamic" {
			total += e.body(blk.Body, nil)
			continue
		}
		dyn, diag := readDynamic(blk)
		if diag != nil {
			continue
		}
		coll := e.expr(dyn.forEach.Expr)
		e.scopes = append(e.scopes, loopScope{map[string]cost{dyn.iterator: coll.element()}})
		work := coll.work + math.Max(coll.n, 1)*e.body(dyn.content, nil)
		e.scopes = e.scopes[:len(e.scopes)-1]
		e.worst = math.Max(e.worst, work)
		total += work
	}
	return total
}

// formula is memoised: what refers to it pays for a reference only.
func (e *estimator) formula(f *formula) cost {
	if c, ok := e.memo[f]; ok {
		return c
	}
	if f.expr == nil || e.depth > maxChain {
		return cost{work: 1, bytes: 16, n: 1, leaves: 1}
	}
	e.memo[f] = cost{work: 1} // a cycle is reported elsewhere
	scopes := e.scopes
	e.scopes = nil
	e.depth++
	c := e.expr(f.expr)
	e.depth--
	e.scopes = scopes
	e.memo[f] = c
	return c
}

func (e *estimator) expr(x hclsyntax.Expression) cost {
	c := e.node(x)
	e.worst = math.Max(e.worst, c.work)
	if c.bytes > 4*MaxValueBytes || c.digits > maxMagnitude {
		e.over = true
	}
	return c
}
