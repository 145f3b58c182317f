package planner

import (
	"cmp"
	"slices"
	"sort"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// result is what a block offers to those behind it.
type result struct {
	// outputs may hold unknowns; NilVal when the block has none.
	outputs cty.Value
	// lazy decodes the recorded outputs on first use.
	lazy *state.Record
	// closed says why nothing behind this block may run: a bad verdict.
	closed string
	// absent says that the block never came to be and will not in this plan.
	absent bool
	// recorded says that the outputs are those of the record.
	recorded bool
	// changes says that the step changes the object or makes a new version.
	changes bool
	// needs are the steps that whoever depends on this block must wait for.
	needs []resource.Address
	// gates are the nearest blocks whose verdict is still to come.
	gates []resource.Address
}

// builder makes decisions about blocks one by one, in dependency order.
type builder struct {
	in      Input
	plan    *Plan
	results map[resource.Address]*result
	records map[resource.Address]*state.Record    // after moves
	moved   map[resource.Address]resource.Address // new → old
	now     map[resource.Address]resource.Address // the other way round
	steps   map[resource.Address]*Step
	targets map[resource.Address]bool // nil = everything
	replace map[resource.Address]bool
	// uncompared are sensitive values whose key is not at hand, as "ADDRESS path".
	uncompared []string

	versions map[string][]madeVersion // by digest; made when the first is asked for
}

// Build compares the project with what is recorded and live and returns the
// plan. Errors stand in Plan.Diagnostics; a plan with an error must not be applied.
func Build(in Input) *Plan {
	b := newBuilder(in)
	b.plan = &Plan{
		FormatVersion: FormatVersion, Lineage: in.Prior.Lineage, Serial: in.Prior.Serial,
		ConfigDigest: in.Project.Digest, Commit: in.Live.Commit, Created: in.Now, Complete: true,
		Steps: []*Step{}, Drift: []DriftEntry{}, Diagnostics: []Diagnostic{},
	}
	b.aliases()
	b.leftOut()
	b.drift()
	if in.Options.RefreshOnly {
		b.finish()
		return b.plan
	}
	if !in.Options.Destroy {
		for _, blk := range in.Project.Blocks {
			b.block(blk)
		}
	}
	b.removals()
	b.gateLinks()
	b.sayUncompared()
	b.finish()
	return b.plan
}

func newBuilder(in Input) *builder {
	b := &builder{
		in: in, results: make(map[resource.Address]*result, len(in.Project.Blocks)),
		steps: map[resource.Address]*Step{}, replace: map[resource.Address]bool{},
	}
	b.applyMoves()
	b.findTargets()
	b.findReplaced()
	return b
}

// block decides one block and keeps what it offers downstream.
func (b *builder) block(blk *config.Block) {
	rec := b.records[blk.Addr]
	if !b.targeted(blk.Addr) {
		b.results[blk.Addr] = b.asRecorded(blk, rec)
		b.plan.Complete = false
		return
	}
	d := b.decide(blk, rec)
	b.plan.Diagnostics = append(b.plan.Diagnostics, d.diags...)
	res := b.offer(blk, rec, d)
	b.results[blk.Addr] = res
	if _, ok := b.moved[blk.Addr]; ok && d.step == nil {
		d.step = newStep(blk, resource.Noop)
	}
	if d.step == nil {
		return
	}
	st := d.step
	if from, ok := b.moved[blk.Addr]; ok {
		st.From = &from
		st.Reasons = append([]resource.Reason{{Code: resource.ReasonMoved, Old: from.String(), New: blk.Addr.String(), Message: "moved from " + from.String()}}, st.Reasons...)
		if st.Action == resource.Noop {
			st.Action = resource.Move
		}
	}
	if st.Action == resource.Noop && len(st.Reasons) == 0 {
		return
	}
	if st.Exec.RecordOnly || st.Exec.Judge {
		st.Exec.Estimate = 0 // it takes what writing down takes, not what the run took
	}
	needs, gates := b.upstream(blk)
	st.Needs, st.GatedBy = needs, gates
	if b.doing(st) {
		res.needs = []resource.Address{blk.Addr}
	}
	b.steps[blk.Addr] = st
	b.plan.Steps = append(b.plan.Steps, st)
}

// doing says whether apply does anything for the step.
func (b *builder) doing(st *Step) bool {
	return st.Action != resource.Noop && st.Action != resource.Blocked
}

// makes says whether the step may come to a verdict or a version, which taking
// something away does not.
func (b *builder) makes(st *Step) bool {
	return b.doing(st) && st.Action != resource.Delete && st.Action != resource.Forget
}

// upstream collects the steps that a block must wait for and the verdicts still to come.
func (b *builder) upstream(blk *config.Block) (needs, gates []resource.Address) {
	for _, d := range blk.Deps {
		if r := b.results[d]; r != nil {
			needs = append(needs, r.needs...)
			gates = append(gates, r.gates...)
		}
	}
	return compact(needs), compact(gates)
}

func compact(as []resource.Address) []resource.Address {
	if len(as) == 0 {
		return []resource.Address{}
	}
	slices.SortFunc(as, resource.Address.Compare)
	return slices.Compact(as)
}

// drift lists what someone else changed, for every record that was read.
func (b *builder) drift() {
	for _, a := range sortedKeys(b.in.Live.Objects) {
		o := b.in.Live.Objects[a]
		if len(o.Drift) == 0 && o.Phase != resource.PhaseMissing {
			continue
		}
		e := DriftEntry{Address: a, Message: o.Message, Changes: o.Drift, By: o.By}
		if e.Changes == nil {
			e.Changes = []Change{}
		}
		b.plan.Drift = append(b.plan.Drift, e)
	}
}

// gateLinks tells each step that makes a version which gates will judge it.
func (b *builder) gateLinks() {
	for _, st := range b.plan.Steps {
		blk := b.in.Project.Block(st.Address)
		if blk == nil || !holds(blk.Kind) || !b.makes(st) {
			continue
		}
		for _, d := range blk.Deps {
			up := b.steps[d]
			if up != nil && b.makes(up) && b.in.Project.Block(d).Kind.Versioned {
				up.GatedBy = compact(append(up.GatedBy, st.Address))
			}
		}
	}
}

// finish counts the steps. Their order is already one in which they can run.
func (b *builder) finish() {
	s := &b.plan.Summary
	for _, st := range b.plan.Steps {
		switch st.Action {
		case resource.Create:
			s.Create++
		case resource.Update:
			s.Update++
		case resource.Replace:
			s.Replace++
		case resource.Delete:
			s.Delete++
		case resource.RunIt:
			s.Run++
		case resource.Blocked:
			s.Blocked++
		case resource.Move:
			s.Move++
		case resource.Import:
			s.Import++
		case resource.Forget:
			s.Forget++
		case resource.Noop:
		}
		if b.doing(st) && len(st.Gate) > 0 {
			s.Gates++
		}
	}
	s.Noop = max(0, len(b.in.Project.Blocks)-s.Create-s.Update-s.Replace-s.Run-s.Blocked-s.Move-s.Import)
	if b.in.Options.Destroy {
		s.Noop = 0
	}
}

func sortedKeys[V any](m map[resource.Address]V) []resource.Address {
	keys := make([]resource.Address, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].Compare(keys[j]) < 0 })
	return keys
}

func sortedStrings[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmp.Compare[string])
	return keys
}
