package planner

import (
	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// applyMoves lets the plan see each record under its new address.
func (b *builder) applyMoves() {
	b.records = b.in.Prior.Records
	b.moved = map[resource.Address]resource.Address{}
	for _, m := range b.in.Project.Moved {
		for from := range b.in.Prior.Records {
			to, ok := movedTo(from, m)
			if !ok {
				continue
			}
			if _, taken := b.in.Prior.Records[to]; taken {
				continue
			}
			b.moved[to] = from
		}
	}
	if len(b.moved) == 0 {
		return
	}
	b.records = make(map[resource.Address]*state.Record, len(b.in.Prior.Records))
	for a, r := range b.in.Prior.Records {
		b.records[a] = r
	}
	for to, from := range b.moved {
		b.records[to] = b.records[from]
		delete(b.records, from)
	}
}

// movedTo applies one moved statement; a statement without a key moves every instance.
func movedTo(from resource.Address, m config.Moved) (resource.Address, bool) {
	if from == m.From {
		return m.To, true
	}
	if m.From.Key == "" && m.To.Key == "" && from.Block() == m.From {
		to := m.To
		to.Key = from.Key
		return to, true
	}
	return resource.Address{}, false
}

// addressNow is where the files have what is recorded at a.
func (b *builder) addressNow(a resource.Address) resource.Address {
	for to, from := range b.moved {
		if from == a {
			return to
		}
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

func (b *builder) targeted(a resource.Address) bool {
	return b.targets == nil || b.targets[a]
}
