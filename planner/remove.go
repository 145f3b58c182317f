package planner

import (
	"fmt"
	"slices"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// removals plans what the files declare no more, or everything with -destroy.
// What depends on a block goes before it, by the dependencies recorded then.
func (b *builder) removals() {
	gone := map[resource.Address]*state.Record{}
	for a, rec := range b.records {
		if b.targeted(a) && (b.in.Options.Destroy || b.in.Project.Block(a) == nil) {
			gone[a] = rec
		}
	}
	if b.in.Options.Destroy {
		b.widenDestroy(gone)
	}
	users := b.users()
	for _, a := range removalOrder(gone) {
		st := b.removal(a, gone[a])
		if st == nil {
			continue
		}
		for _, u := range users[a] {
			if _, also := gone[u]; also || b.steps[u] != nil && b.doing(b.steps[u]) {
				st.Needs = append(st.Needs, u)
			}
		}
		st.Needs = compact(st.Needs)
		b.steps[a] = st
		b.plan.Steps = append(b.plan.Steps, st)
	}
}

// widenDestroy adds what depends on the targets: it cannot stay without them.
func (b *builder) widenDestroy(gone map[resource.Address]*state.Record) {
	if b.targets == nil {
		return
	}
	for a := range gone {
		if !slices.Contains(b.in.Options.Targets, a) && !slices.Contains(b.in.Options.Targets, a.Block()) {
			delete(gone, a)
		}
	}
	users := b.users()
	queue := sortedKeys(gone)
	for len(queue) > 0 {
		a := queue[0]
		queue = queue[1:]
		for _, u := range users[a] {
			if _, ok := gone[u]; !ok {
				gone[u] = b.records[u]
				queue = append(queue, u)
			}
		}
	}
	b.plan.Complete = false
}

// users are, per address, the recorded blocks that depend on it, sorted.
func (b *builder) users() map[resource.Address][]resource.Address {
	users := map[resource.Address][]resource.Address{}
	for _, a := range sortedKeys(b.records) {
		for _, d := range b.records[a].Deps {
			users[d] = append(users[d], a)
		}
	}
	return users
}

// removalOrder sorts addresses so that each comes after all that depend on it.
// Recorded dependencies have no cycle; if a damaged record makes one, the rest
// follows in reverse address order.
func removalOrder(gone map[resource.Address]*state.Record) []resource.Address {
	waiting := map[resource.Address]int{} // how many that are gone depend on it
	for _, rec := range gone {
		for _, d := range rec.Deps {
			if _, ok := gone[d]; ok {
				waiting[d]++
			}
		}
	}
	keys := sortedKeys(gone)
	slices.Reverse(keys)
	var order []resource.Address
	done := map[resource.Address]bool{}
	for len(order) < len(keys) {
		before := len(order)
		for _, a := range keys {
			if done[a] || waiting[a] > 0 {
				continue
			}
			done[a] = true
			order = append(order, a)
			for _, d := range gone[a].Deps {
				waiting[d]--
			}
		}
		if len(order) == before {
			for _, a := range keys {
				if !done[a] {
					done[a] = true
					order = append(order, a)
				}
			}
		}
	}
	return order
}

// removal is the step that takes one address away.
func (b *builder) removal(a resource.Address, rec *state.Record) *Step {
	st := &Step{
		Address: a, Kind: a.Kind, Provider: rec.Provider, Action: resource.Delete,
		Before: orNull(rec.Spec), After: null,
		AfterUnknown: []string{}, Changes: []Change{}, Needs: []resource.Address{}, GatedBy: []resource.Address{},
		Exec: Exec{Deps: rec.Deps, Record: RecordDigest(b.in.Prior, b.recordedAt(a)), Live: LiveDigest(b.in.Live.Objects[a])},
	}
	reason := resource.Reason{Code: resource.ReasonRemoved, Message: "no file declares it any more"}
	if b.in.Options.Destroy {
		reason = resource.Reason{Code: resource.ReasonRequested, Message: "asked for with destroy"}
	}
	for _, r := range b.in.Project.Removed {
		if _, in := resource.WithinModule(a.Module, r.From.Module); r.From == a || r.From == a.Block() || r.From.Kind == "" && in {
			reason.Message = "a removed block says so"
			if !r.Destroy {
				st.Action = resource.Forget
				reason.Message = "a removed block says to forget it; the object itself stays"
			}
		}
	}
	st.Reasons = []resource.Reason{reason}
	blk := b.in.Project.Block(a)
	if (rec.Protected || blk != nil && blk.Lifecycle.PreventDestroy) && st.Action == resource.Delete {
		b.plan.Diagnostics = append(b.plan.Diagnostics, Diagnostic{
			Severity: "error", Summary: "This block must not be destroyed", Address: a.String(),
			Detail: fmt.Sprintf("%s was applied with lifecycle { prevent_destroy = true }. Apply it once without, or say removed { from = %s, lifecycle { destroy = false } } to forget it.", a, a),
		})
		return nil
	}
	return st
}

func orNull(raw []byte) []byte {
	if len(raw) == 0 {
		return null
	}
	return raw
}
