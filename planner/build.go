package planner

import (
	"cmp"
	"fmt"
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
	// pending says that a verdict is still to come from this plan's own step.
	pending bool
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
	steps   map[resource.Address]*Step
	targets map[resource.Address]bool // nil = everything
	replace map[resource.Address]bool
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
	b.finish()
	return b.plan
}

func newBuilder(in Input) *builder {
	b := &builder{
		in: in, results: make(map[resource.Address]*result, len(in.Project.Blocks)),
		steps: map[resource.Address]*Step{}, replace: map[resource.Address]bool{},
	}
	for _, a := range in.Options.Replace {
		b.replace[a] = true
	}
	b.applyMoves()
	b.findTargets()
	return b
}

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

// asRecorded is what a block offers when nothing happens to it.
func (b *builder) asRecorded(blk *config.Block, rec *state.Record) *result {
	r := &result{lazy: rec, recorded: true}
	if rec == nil {
		r.absent = true
		r.closed = fmt.Sprintf("%s does not exist yet", blk.Addr)
		return r
	}
	if rec.Verdict.Bad() {
		r.closed = b.closedBy(blk, rec)
	}
	return r
}

// closedBy says why a block with a bad verdict lets nothing through, or "" when
// it holds its last good outputs and so lets those through.
func (b *builder) closedBy(blk *config.Block, rec *state.Record) string {
	if holds(blk.Kind) && b.heldOutputs(blk.Kind, rec) {
		return ""
	}
	return fmt.Sprintf("%s: %s", blk.Addr, rec.Verdict.Message)
}

// holds says whether the kind is a gate: a bad verdict keeps its last good outputs.
func holds(k *config.Kind) bool {
	for _, a := range k.OutputSchema().Attrs {
		if a.Hold {
			return true
		}
	}
	return false
}

// heldOutputs says whether every held output of the record has a value.
func (b *builder) heldOutputs(k *config.Kind, rec *state.Record) bool {
	out := b.recordedOutputs(k, rec)
	if out == cty.NilVal {
		return false
	}
	for _, a := range k.OutputSchema().Attrs {
		if a.Hold && (!out.Type().HasAttribute(a.Name) || out.GetAttr(a.Name).IsNull()) {
			return false
		}
	}
	return true
}

// recordedOutputs decodes a record's outputs; NilVal when there are none.
func (b *builder) recordedOutputs(k *config.Kind, rec *state.Record) cty.Value {
	return b.in.Decoder.Outputs(rec, k.OutputSchema().Type())
}

// offer is what the block offers downstream after its decision.
func (b *builder) offer(blk *config.Block, rec *state.Record, d *decision) *result {
	needs, gates := b.upstream(blk)
	if d.step == nil || !b.doing(d.step) || d.step.Action == resource.Move {
		r := b.asRecorded(blk, rec)
		r.needs, r.gates = needs, gates
		if d.closed != "" {
			r.closed = d.closed
		}
		return r
	}
	r := &result{outputs: d.outputs, changes: true, needs: needs, gates: gates}
	if d.outputs == cty.NilVal {
		r.lazy = rec
	}
	if d.verdict {
		r.pending = true
		r.gates = []resource.Address{blk.Addr}
	}
	return r
}

// Outputs implements config.Scope.
func (b *builder) Outputs(a resource.Address) cty.Value {
	r := b.results[a]
	if r == nil {
		return cty.NilVal
	}
	if r.outputs == cty.NilVal && r.lazy != nil {
		blk := b.in.Project.Block(a)
		if blk == nil {
			return cty.NilVal
		}
		r.outputs = b.recordedOutputs(blk.Kind, withLive(r.lazy, b.in.Live.Objects[a]))
		r.lazy = nil
	}
	return r.outputs
}

// withLive is the record with the outputs as they are now.
func withLive(rec *state.Record, live Object) *state.Record {
	if live.Outputs == nil || live.Err != "" {
		return rec
	}
	c := *rec
	c.Outputs = live.Outputs
	return &c
}

// Signal implements config.Scope: the signal as a refresh would record it.
func (b *builder) Signal(ref resource.SignalRef) config.Signal {
	s := b.signal(ref)
	if s == nil {
		return config.Signal{}
	}
	return config.Signal{Address: s.Address.String(), Name: s.Name, State: string(s.State), Epoch: s.Epoch}
}

func (b *builder) signal(ref resource.SignalRef) *state.Signal {
	for _, list := range [][]*state.Signal{b.in.Live.Signals[ref.Address], b.in.Prior.Signals[ref.Address]} {
		for _, s := range list {
			if s.Name == ref.Signal {
				return s
			}
		}
	}
	return nil
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
