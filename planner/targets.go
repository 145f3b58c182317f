package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
)

// applyMoves lets the plan see each record under its new address. Moves chain:
// what moved twice over the years is found wherever its record still is.
func (b *builder) applyMoves() {
	b.records = b.in.Prior.Records
	b.moved, b.now = map[resource.Address]resource.Address{}, map[resource.Address]resource.Address{}
	if len(b.in.Project.Moved) == 0 {
		return
	}
	exact := make(map[resource.Address]resource.Address, len(b.in.Project.Moved))
	var modules []config.Moved
	for _, m := range b.in.Project.Moved {
		exact[m.From] = m.To
		if m.From.Kind == "" {
			modules = append(modules, m)
		}
	}
	for _, from := range slices.SortedFunc(maps.Keys(b.in.Prior.Records), resource.Address.Compare) {
		to := from
		for range b.in.Project.Moved { // a circle of moves ends here
			next, ok := movedTo(to, exact, modules)
			if !ok {
				break
			}
			to = next
		}
		if _, taken := b.in.Prior.Records[to]; taken {
			continue
		}
		if _, taken := b.moved[to]; !taken {
			b.moved[to], b.now[from] = from, to
		}
	}
	if len(b.moved) == 0 {
		return
	}
	b.records = maps.Clone(b.in.Prior.Records)
	for to, from := range b.moved {
		b.records[to] = b.records[from]
		delete(b.records, from)
	}
}

// movedTo applies the move that fits best: of this very address, of the block
// with all its instances, of the module around it.
func movedTo(a resource.Address, exact map[resource.Address]resource.Address, modules []config.Moved) (resource.Address, bool) {
	if to, ok := exact[a]; ok {
		return to, true
	}
	if to, ok := exact[a.Block()]; ok && to.Key == "" {
		to.Key = a.Key
		return to, true
	}
	for _, m := range modules {
		if rest, in := resource.WithinModule(a.Module, m.From.Module); in && !(strings.HasPrefix(rest, "[") && strings.HasSuffix(m.To.Module, "]")) {
			a.Module = m.To.Module + rest
			return a, true
		}
	}
	return a, false
}

// addressNow is where the files have what is recorded at a.
func (b *builder) addressNow(a resource.Address) resource.Address {
	if to, ok := b.now[a]; ok {
		return to
	}
	return a
}

func (b *builder) recordedAt(a resource.Address) resource.Address {
	if from, ok := b.moved[a]; ok {
		return from
	}
	return a
}

// findTargets closes the -target list over what the targets need.
func (b *builder) findTargets() {
	if len(b.in.Options.Targets) == 0 {
		return
	}
	b.targets = map[resource.Address]bool{}
	var mark func(a resource.Address)
	mark = func(a resource.Address) {
		if b.targets[a] {
			return
		}
		b.targets[a] = true
		if b.in.Options.Only {
			return
		}
		if blk := b.in.Project.Block(a); blk != nil {
			for _, d := range blk.Deps {
				mark(d)
			}
		}
	}
	for _, t := range b.in.Options.Targets {
		mark(t)
		for _, blk := range b.in.Project.Blocks {
			if blk.Addr.Block() == t {
				mark(blk.Addr)
			}
		}
	}
}

// findReplaced lists what -replace names: an address, or all instances of a block.
func (b *builder) findReplaced() {
	for _, a := range b.in.Options.Replace {
		b.replace[a] = true
		for _, blk := range b.in.Project.Blocks {
			if blk.Addr.Block() == a {
				b.replace[blk.Addr] = true
			}
		}
	}
}

// leftOut says which blocks are to be replaced, but are not among the targets.
func (b *builder) leftOut() {
	if len(b.replace) == 0 {
		return
	}
	for _, blk := range b.in.Project.Blocks {
		if b.replace[blk.Addr] && !b.targeted(blk.Addr) {
			b.plan.Diagnostics = append(b.plan.Diagnostics, diagnostic(blk, "Replaced, but left out", fmt.Sprintf("-replace asks for %s, but no -target names or needs it. Add -target %s, or plan without -target.", blk.Addr, blk.Addr)))
		}
	}
}

func (b *builder) targeted(a resource.Address) bool {
	return b.targets == nil || b.targets[a]
}
