package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// changes reads the moved, removed and import blocks of a module instance.
func (b *builder) changes(m *moduleInst) {
	for _, blk := range m.cfg.moved {
		b.moved(m, blk)
	}
	for _, blk := range m.cfg.removed {
		b.removed(m, blk)
	}
	for _, blk := range m.cfg.imports {
		b.imported(m, blk)
	}
}

func (b *builder) moved(m *moduleInst, blk *hclsyntax.Block) {
	attrs := b.fields(blk, []string{"from", "to"})
	from, ok1 := b.address(m, blk, attrs, "from", true)
	to, ok2 := b.address(m, blk, attrs, "to", true)
	if !ok1 || !ok2 {
		return
	}
	switch {
	case from == to:
		b.add(errAt(blk.DefRange(), "Nothing moved", "from and to are both %s. Name the old address and the new one.", shown(from)))
		return
	case from.Kind == "" || to.Kind == "":
		if from.Kind != to.Kind {
			b.add(errAt(blk.DefRange(), "Nothing moved", "A module moves to a module, and a block to a block."))
			return
		}
	case from.Kind != to.Kind:
		b.add(errAt(blk.DefRange(), "Nothing moved", "A %s cannot become a %s; only its name, key or module can change.", from.Kind, to.Kind))
		return
	}
	for _, other := range b.p.Moved {
		if other.From == from || other.To == to {
			b.add(errAt(blk.DefRange(), "Moved twice", "%s is moved to %s already, at %s; remove one.", shown(other.From), shown(other.To), other.Range))
			return
		}
	}
	b.p.Moved = append(b.p.Moved, Moved{From: from, To: to, Range: blk.DefRange()})
}

func (b *builder) removed(m *moduleInst, blk *hclsyntax.Block) {
	attrs := b.fields(blk, []string{"from"}, "lifecycle")
	from, ok := b.address(m, blk, attrs, "from", true)
	if !ok {
		return
	}
	out := Removed{From: from, Destroy: true, Range: blk.DefRange()}
	for _, inner := range blk.Body.Blocks {
		if inner.Type != "lifecycle" {
			continue
		}
		if a := b.fields(inner, []string{"destroy"})["destroy"]; a != nil {
			if v, ok := b.literal(a, cty.Bool); ok {
				out.Destroy = v.True()
			}
		}
	}
	b.p.Removed = append(b.p.Removed, out)
}

func (b *builder) imported(m *moduleInst, blk *hclsyntax.Block) {
	attrs := b.fields(blk, []string{"to", "id"})
	to, ok := b.address(m, blk, attrs, "to", false)
	if attrs["id"] == nil {
		b.add(errAt(blk.DefRange(), "Missing attribute", "Add id = \"…\": how the provider calls the object that is adopted."))
		return
	}
	id, ok2 := b.setting(m, attrs["id"], cty.String)
	if !ok || !ok2 {
		return
	}
	b.p.Imports = append(b.p.Imports, Import{To: to, ID: id.AsString(), Range: blk.DefRange()})
}

// settled checks, once all blocks are there, that what is removed is gone and
// what is imported is declared.
func (b *builder) settled() {
	for _, mv := range b.p.Moved {
		if b.declares(mv.From, mv.To) {
			b.add(errAt(mv.Range, "Still declared", "%s is said to have moved to %s, but is declared still. Remove its block, or this one.", shown(mv.From), shown(mv.To)))
		}
	}
	for _, rm := range b.p.Removed {
		if b.declares(rm.From, resource.Address{}) {
			b.add(errAt(rm.Range, "Still declared", "%s is said to be removed, but is declared still. Remove its block, or this one.", shown(rm.From)))
		}
	}
	seen := map[resource.Address]bool{}
	for _, im := range b.p.Imports {
		if b.p.byAddr[im.To] == nil {
			b.add(errAt(im.Range, "Unknown block", "There is no block %s to import into. Declare it first.", im.To))
		}
		if seen[im.To] {
			b.add(errAt(im.Range, "Imported twice", "%s is imported by another block already; remove one.", im.To))
		}
		seen[im.To] = true
	}
}

// declares says whether a block, or a block in a module, is in the files. What
// is within except counts as gone: a module may become an instance of itself.
func (b *builder) declares(a, except resource.Address) bool {
	if a.Kind != "" {
		return b.p.byAddr[a] != nil
	}
	return slices.ContainsFunc(b.p.Blocks, func(blk *Block) bool {
		_, in := resource.WithinModule(blk.Addr.Module, a.Module)
		_, out := resource.WithinModule(blk.Addr.Module, except.Module)
		return in && !out
	})
}

// shown is an address, or that of a module.
func shown(a resource.Address) string {
	if a.Kind == "" {
		return a.Module
	}
	return a.String()
}

// address reads an attribute that names a block, or where modules may stand a
// module: a plain traversal.
func (b *builder) address(m *moduleInst, blk *hclsyntax.Block, attrs map[string]*hclsyntax.Attribute, name string, modules bool) (resource.Address, bool) {
	a := attrs[name]
	if a == nil {
		b.add(errAt(blk.DefRange(), "Missing attribute", "Add %s = KIND.NAME to the %s block.", name, blk.Type))
		return resource.Address{}, false
	}
	text, ok := traversalText(a.Expr)
	addr, err := resource.ParseAddress(text)
	if err != nil && modules {
		addr.Module, err = resource.ParseModule(text)
	}
	if !ok || err != nil {
		b.add(errAt(a.Expr.Range(), "Invalid address", "%s takes an address such as training.churn or module.eu.training.churn[\"de\"], without quotes.", name))
		return addr, false
	}
	if addr.Kind != "" && b.kinds[addr.Kind] == nil {
		b.add(errAt(a.Expr.Range(), "Invalid address", "There is no kind %q.%s", addr.Kind, didYouMean(addr.Kind, b.kinds.Names())))
		return addr, false
	}
	addr.Module = strings.Trim(m.path+"."+addr.Module, ".")
	return addr, true
}

// traversalText renders an expression that is nothing but a traversal.
func traversalText(e hclsyntax.Expression) (string, bool) {
	t, ok := written(e).(*hclsyntax.ScopeTraversalExpr)
	if !ok {
		return "", false
	}
	return t.Traversal.RootName() + stepsText(t.Traversal[1:]), true
}

// stepsText is a traversal's steps as they are written.
func stepsText(steps hcl.Traversal) string {
	var out strings.Builder
	for _, s := range steps {
		switch x := s.(type) {
		case hcl.TraverseAttr:
			out.WriteString("." + x.Name)
		case hcl.TraverseIndex:
			key, _ := keyText(x.Key)
			out.WriteString(key)
		}
	}
	return out.String()
}
