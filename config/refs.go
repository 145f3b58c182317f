package config

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// refKind says what a reference points at.
type refKind uint8

const (
	refBlock refKind = iota
	refVar
	refLocal
	refModule
	refEach
	refCount
	refPath
	refSelf
)

// ref is one reference in an expression, such as `dataset.x["a"].digest`.
type ref struct {
	kind   refKind
	root   string // "dataset", "var"
	name   string // "x"
	key    *refKey
	rest   hcl.Traversal // what follows name and key
	rng    hcl.Range
	target *declaration // bound for refBlock
}

// refKey is the key of an instance: a literal, or an expression with its own
// references. free says that the expression uses a loop variable, so that it
// has no value outside of the loop.
type refKey struct {
	lit  cty.Value
	expr hclsyntax.Expression
	refs []ref
	free bool
}

// collector walks expressions and gathers their references.
type collector struct {
	kinds  Kinds
	funcs  map[string]struct{}
	self   bool // `self` may stand here
	scopes []map[string]struct{}
	done   map[*hclsyntax.ScopeTraversalExpr]bool
	refs   []ref
	diags  hcl.Diagnostics
	// heavy is set when the value may be larger than the text it is written in.
	heavy bool
	// marks is set when the expression calls sensitive.
	marks bool
	// free is set when a loop variable is used.
	free bool
}

var fixedRoots = []string{"count", "each", "local", "module", "path", "self", "var"}

func (c *collector) expr(e hclsyntax.Expression) {
	_ = hclsyntax.Walk(e, c) // the collector finds no faults
}

// Enter implements hclsyntax.Walker.
func (c *collector) Enter(n hclsyntax.Node) hcl.Diagnostics {
	switch x := n.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		if !c.done[x] && !c.shadowed(x.Traversal.RootName()) {
			c.traversal(x.Traversal, nil)
		}
	case *hclsyntax.IndexExpr:
		c.index(x)
	case hclsyntax.ChildScope:
		c.scopes = append(c.scopes, x.LocalNames)
	case *hclsyntax.FunctionCallExpr:
		c.heavy = true
		c.marks = c.marks || x.Name == "sensitive"
		if _, ok := c.funcs[x.Name]; !ok {
			c.diags = append(c.diags, errAt(x.NameRange, "Unknown function", "There is no function called %q.%s", x.Name, didYouMean(x.Name, slices.Collect(maps.Keys(c.funcs)))))
		}
	case *hclsyntax.TemplateExpr:
		c.heavy = c.heavy || !x.IsStringLiteral()
	case *hclsyntax.ForExpr, *hclsyntax.SplatExpr:
		c.heavy = true
	}
	return nil
}

// Exit implements hclsyntax.Walker.
func (c *collector) Exit(n hclsyntax.Node) hcl.Diagnostics {
	if _, ok := n.(hclsyntax.ChildScope); ok {
		c.scopes = c.scopes[:len(c.scopes)-1]
	}
	return nil
}

func (c *collector) shadowed(name string) bool {
	for _, s := range c.scopes {
		if _, ok := s[name]; ok {
			c.free = true
			return true
		}
	}
	return false
}

// index handles `dataset.x[each.key]`: one instance, not all of them.
func (c *collector) index(x *hclsyntax.IndexExpr) {
	st, ok := x.Collection.(*hclsyntax.ScopeTraversalExpr)
	if !ok || len(st.Traversal) != 2 || c.shadowed(st.Traversal.RootName()) {
		return
	}
	root := st.Traversal.RootName()
	if _, isKind := c.kinds[root]; !isKind && root != "module" {
		return
	}
	inner := &collector{kinds: c.kinds, funcs: c.funcs, self: c.self, scopes: c.scopes}
	inner.expr(x.Key)
	key := &refKey{expr: x.Key, refs: inner.refs, free: inner.free || inner.diags.HasErrors()}
	if c.done == nil {
		c.done = map[*hclsyntax.ScopeTraversalExpr]bool{}
	}
	c.done[st] = true
	c.traversal(st.Traversal, key)
}

func (c *collector) traversal(t hcl.Traversal, key *refKey) {
	r, d := c.parse(t, key)
	if d != nil {
		c.diags = append(c.diags, d)
		return
	}
	c.refs = append(c.refs, r)
}

// parse reads a traversal as a reference.
func (c *collector) parse(t hcl.Traversal, key *refKey) (ref, *hcl.Diagnostic) {
	root := t.RootName()
	r := ref{root: root, rng: t.SourceRange(), key: key}
	var want string
	switch root {
	case "var":
		r.kind, want = refVar, "var.NAME"
	case "local":
		r.kind, want = refLocal, "local.NAME"
	case "module":
		r.kind, want = refModule, "module.NAME.OUTPUT"
	case "each":
		r.kind, want = refEach, "each.key or each.value"
	case "count":
		r.kind, want = refCount, "count.index"
	case "path":
		r.kind, want = refPath, "path.module or path.root"
	case "self":
		r.kind = refSelf
		if !c.self {
			return r, errAt(r.rng, "No self here", "self stands for a block's own outputs and may be used in a postcondition only. Name the block instead.")
		}
		r.rest = t[1:]
		return r, nil
	default:
		if _, ok := c.kinds[root]; !ok {
			names := append(c.kinds.Names(), fixedRoots...)
			return r, errAt(r.rng, "Unknown name", "%q is neither a kind of block nor one of var, local, module, each, count, path.%s To write text, put it in quotes.", root, didYouMean(root, names))
		}
		want = root + ".NAME"
	}
	if len(t) < 2 {
		return r, errAt(r.rng, "Incomplete reference", "%q alone is not a value; write %s.", root, want)
	}
	step, ok := t[1].(hcl.TraverseAttr)
	if !ok {
		return r, errAt(r.rng, "Incomplete reference", "After %q comes a dot and a name: %s.", root, want)
	}
	r.name, r.rest = step.Name, t[2:]
	if r.kind == refBlock || r.kind == refModule {
		if len(r.rest) > 0 && key == nil {
			if ix, ok := r.rest[0].(hcl.TraverseIndex); ok {
				r.key, r.rest = &refKey{lit: ix.Key}, r.rest[1:]
			}
		}
		return r, nil
	}
	if d := c.fixed(r, want); d != nil {
		return r, d
	}
	return r, nil
}

// fixed checks the names under each, count and path.
func (c *collector) fixed(r ref, want string) *hcl.Diagnostic {
	ok := true
	switch r.kind {
	case refEach:
		ok = r.name == "key" || r.name == "value"
	case refCount:
		ok = r.name == "index"
	case refPath:
		ok = r.name == "module" || r.name == "root"
	}
	if !ok {
		return errAt(r.rng, "Unknown name", "There is no %s.%s; write %s.", r.root, r.name, want)
	}
	return nil
}

// direct reads an expression that is nothing but a reference to a block:
// `dataset.x`, `dataset.x["a"].split.train`, `dataset.x[each.key].split`.
func direct(kinds Kinds, e hclsyntax.Expression) (ref, bool) {
	c := &collector{kinds: kinds}
	var key *refKey
	var rest hcl.Traversal
	if p, ok := e.(*hclsyntax.RelativeTraversalExpr); ok {
		e, rest = p.Source, p.Traversal
	}
	if ix, ok := e.(*hclsyntax.IndexExpr); ok {
		inner := &collector{kinds: kinds}
		inner.expr(ix.Key)
		key, e = &refKey{expr: ix.Key, refs: inner.refs}, ix.Collection
	}
	t, ok := e.(*hclsyntax.ScopeTraversalExpr)
	if !ok {
		return ref{}, false
	}
	r, d := c.parse(t.Traversal, key)
	if d != nil {
		return ref{}, false
	}
	if key != nil || len(rest) > 0 {
		r.rest = append(append(hcl.Traversal{}, r.rest...), rest...)
	}
	return r, true
}

// staticRef is direct for places that take references only, such as depends_on.
func staticRef(kinds Kinds, e hclsyntax.Expression) (ref, bool) { return direct(kinds, written(e)) }
