package config

import (
	"math"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

func (e *estimator) node(x hclsyntax.Expression) cost {
	switch x := x.(type) {
	case *hclsyntax.LiteralValueExpr:
		return literalCost(x.Val)
	case *hclsyntax.TemplateExpr:
		return e.sum(x.Parts, false)
	case *hclsyntax.TemplateWrapExpr:
		return e.expr(x.Wrapped)
	case *hclsyntax.ParenthesesExpr:
		return e.expr(x.Expression)
	case *hclsyntax.TemplateJoinExpr:
		return e.expr(x.Tuple)
	case *hclsyntax.TupleConsExpr:
		return e.sum(x.Exprs, true)
	case *hclsyntax.ObjectConsExpr:
		var all []hclsyntax.Expression
		for _, it := range x.Items {
			all = append(all, it.ValueExpr)
		}
		c := e.sum(all, true)
		for _, it := range x.Items {
			k := e.expr(it.KeyExpr)
			c.work, c.bytes = c.work+k.work, c.bytes+k.bytes
		}
		return c
	case *hclsyntax.ObjectConsKeyExpr:
		return cost{work: 1, bytes: 32}
	case *hclsyntax.ForExpr:
		return e.loop(x)
	case *hclsyntax.SplatExpr:
		src := e.expr(x.Source)
		src.work += math.Max(src.n, 1)
		return src
	case *hclsyntax.FunctionCallExpr:
		return e.call(x)
	case *hclsyntax.ConditionalExpr:
		a, b := e.expr(x.TrueResult), e.expr(x.FalseResult)
		return cost{
			work:  e.expr(x.Condition).work + a.work + b.work,
			bytes: math.Max(a.bytes, b.bytes), n: math.Max(a.n, b.n), leaves: math.Max(a.leaves, b.leaves), digits: math.Max(a.digits, b.digits),
		}
	case *hclsyntax.BinaryOpExpr:
		return e.binary(x)
	case *hclsyntax.UnaryOpExpr:
		c := e.expr(x.Val)
		return cost{work: c.work + 1, bytes: 16, n: 1, leaves: 1, digits: c.digits}
	case *hclsyntax.IndexExpr:
		c := e.expr(x.Collection).element()
		c.work += e.expr(x.Key).work + e.expr(x.Collection).work
		return c
	case *hclsyntax.RelativeTraversalExpr:
		src := e.expr(x.Source)
		c := src.element()
		c.work += src.work
		return c
	case *hclsyntax.ScopeTraversalExpr:
		return e.traversal(x)
	}
	return cost{work: 1, bytes: 64, n: 1, leaves: 1}
}

func (e *estimator) sum(parts []hclsyntax.Expression, elements bool) cost {
	c := cost{work: 1}
	for _, p := range parts {
		x := e.expr(p)
		c.work += x.work
		c.bytes += x.bytes
		c.digits = math.Max(c.digits, x.digits)
		if elements {
			c.n++
			c.bytes += 16
			c.leaves += math.Max(x.leaves, 1)
		}
	}
	if !elements {
		c.n, c.leaves = 1, 1
		c.work += c.bytes / 1000
	}
	return c
}

// exponential is a number in a text that a conversion would turn into a huge one.
var exponential = regexp.MustCompile(`^\s*[+-]?[0-9.]+[eE][+-]?[0-9]{4,}\s*$`)

func literalCost(v cty.Value) cost {
	c := cost{work: 1, bytes: 16, n: 1, leaves: 1}
	switch {
	case v.IsNull() || !v.IsKnown():
	case v.Type() == cty.String:
		s := v.AsString()
		c.bytes += float64(len(s))
		if exponential.MatchString(s) {
			c.digits = math.Inf(1)
		}
	case v.Type() == cty.Number:
		c.digits = math.Abs(float64(v.AsBigFloat().MantExp(nil))) / 3
	}
	return c
}

func (e *estimator) binary(x *hclsyntax.BinaryOpExpr) cost {
	a, b := e.expr(x.LHS), e.expr(x.RHS)
	c := cost{work: a.work + b.work + 1, bytes: 16, n: 1, leaves: 1}
	switch x.Op {
	case hclsyntax.OpMultiply, hclsyntax.OpDivide:
		c.digits = a.digits + b.digits
	case hclsyntax.OpAdd, hclsyntax.OpSubtract, hclsyntax.OpModulo:
		c.digits = math.Max(a.digits, b.digits)
	}
	return c
}

func (e *estimator) loop(x *hclsyntax.ForExpr) cost {
	coll := e.expr(x.CollExpr)
	names := map[string]cost{x.ValVar: coll.element()}
	if x.KeyVar != "" {
		names[x.KeyVar] = cost{work: 1, bytes: 32, n: 1, leaves: 1}
	}
	e.scopes = append(e.scopes, loopScope{names})
	body := e.expr(x.ValExpr)
	work := body.work + 1
	for _, part := range []hclsyntax.Expression{x.KeyExpr, x.CondExpr} {
		if part != nil {
			work += e.expr(part).work
		}
	}
	e.scopes = e.scopes[:len(e.scopes)-1]
	n := math.Max(coll.n, 1)
	return cost{work: coll.work + n*work, bytes: n * (body.bytes + 16), n: n, leaves: n * math.Max(body.leaves, 1), digits: body.digits}
}

// call knows the functions whose result is much larger, or of another shape,
// than their arguments.
func (e *estimator) call(x *hclsyntax.FunctionCallExpr) cost {
	c := cost{work: 1}
	product := 1.0
	for _, a := range x.Args {
		v := e.expr(a)
		c.work += v.work
		c.bytes += v.bytes
		c.leaves += v.leaves
		c.n = math.Max(c.n, v.n)
		c.digits = math.Max(c.digits, v.digits)
		product *= math.Max(v.n, 1)
	}
	switch x.Name {
	case "range":
		n := rangeLength(x)
		c = cost{work: c.work + n, bytes: 16 * n, n: n, leaves: n}
	case "setproduct":
		c.n, c.leaves, c.bytes = product, product*float64(len(x.Args)), product*32
	case "flatten", "concat", "merge", "setunion":
		c.n = c.leaves
	case "split", "regexall", "jsondecode", "yamldecode", "csvdecode":
		c.n, c.leaves, c.bytes = c.bytes/8, c.bytes/8, c.bytes*8
	case "file", "templatefile", "filebase64":
		c.bytes += 4096
	case "length", "sum", "abs", "index", "can":
		c.bytes, c.n, c.leaves = 16, 1, 1
	case "distinct", "matchkeys", "setintersection", "setsubtract":
		c.work += c.n * math.Min(c.n, 100)
	}
	c.work += c.n + c.bytes/1000
	return c
}

// rangeLength is exact for range(LITERAL); the function itself stops at 1024.
func rangeLength(x *hclsyntax.FunctionCallExpr) float64 {
	if len(x.Args) == 1 {
		if lit, ok := x.Args[0].(*hclsyntax.LiteralValueExpr); ok && lit.Val.Type() == cty.Number && !lit.Val.IsNull() {
			n, _ := lit.Val.AsBigFloat().Float64()
			return math.Min(math.Max(n, 1), 1024)
		}
	}
	return 1024
}

func (e *estimator) traversal(x *hclsyntax.ScopeTraversalExpr) cost {
	root := x.Traversal.RootName()
	for i := len(e.scopes) - 1; i >= 0; i-- {
		if c, ok := e.scopes[i].names[root]; ok {
			for range x.Traversal[1:] {
				c = c.element()
			}
			c.work = 1
			return c
		}
	}
	c := e.root(x.Traversal)
	for range x.Traversal[min(len(x.Traversal), 2):] {
		c = c.element()
	}
	c.work = 1 // computed once, wherever it stands
	return c
}

// root is the value that the first two steps of a traversal name.
func (e *estimator) root(t hcl.Traversal) cost {
	outside := cost{work: 1, bytes: 1024, n: 16, leaves: 16}
	if len(t) < 2 {
		return outside
	}
	step, ok := t[1].(hcl.TraverseAttr)
	if !ok {
		return outside
	}
	switch t.RootName() {
	case "local":
		if f := e.cfg.locals[step.Name]; f != nil {
			return e.formula(f)
		}
	case "each":
		return e.each
	case "var":
		v := e.cfg.vars[step.Name]
		if v == nil {
			return outside
		}
		bytes := e.given[step.Name]
		if v.def != cty.NilVal {
			bytes = math.Max(bytes, float64(valueBytes(v.def, MaxValueBytes)))
		}
		n := 1 + bytes/32
		return cost{work: 1, bytes: math.Max(bytes, 256), n: n, leaves: n}
	default:
		if d := e.cfg.blocks[t.RootName()+"."+step.Name]; d != nil && instanceKind(d.forEach, d.count) != noEach {
			each := e.each
			n := e.instances(d.forEach, d.count)
			e.each = each
			return cost{work: 1, bytes: n * outside.bytes, n: n, leaves: n * outside.leaves}
		}
	}
	return outside
}
