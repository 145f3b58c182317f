package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Confirmer checks, while a plan runs, that each step with its final values is
// still what was approved. It is told how steps ended through Done, and is
// used by one goroutine at a time.
type Confirmer struct {
	b       *builder
	planned map[resource.Address]*Step
}

// Final is a step with its final values, ready to run.
type Final struct {
	Action resource.Action
	Value  cty.Value // the wholly known body
	Spec   []byte    // the same as JSON, sensitive values as keyed hashes
	Parts  resource.Parts
	Policy resource.Parts
	Judge  resource.Parts
	Inputs resource.Digest
	Probes map[string]string
	Rows   map[string]int64
	Seen   map[string]int64
	Deps   []resource.Address
	// Exec is the final step's own: what the planned one said, or less.
	Exec Exec
	// Why explains a step that became a no-op or is blocked.
	Why string
}

// Outcome is how a step ended, as far as those behind it need to know.
type Outcome struct {
	Outputs []byte            // JSON; nil = none
	Verdict *resource.Verdict // nil = carries none
	// Blocked and Failed keep what is behind the step from running, unless it
	// can live with the outputs recorded before.
	Blocked, Failed string
	Changed         bool
}

// NewConfirmer starts from the input that the plan was built from, or, for a
// saved plan, from the same project, state and world read again.
func NewConfirmer(in Input, p *Plan) *Confirmer {
	b := newBuilder(in)
	b.plan = &Plan{}
	c := &Confirmer{b: b, planned: map[resource.Address]*Step{}}
	for _, st := range p.Steps {
		c.planned[st.Address] = st
	}
	for _, blk := range in.Project.Blocks {
		b.results[blk.Addr] = b.asRecorded(blk, b.records[blk.Addr])
	}
	return c
}

// Done tells how the step at addr ended.
func (c *Confirmer) Done(addr resource.Address, o Outcome) {
	blk := c.b.in.Project.Block(addr)
	if blk == nil {
		return
	}
	rec := c.b.records[addr]
	r := c.b.asRecorded(blk, rec)
	r.changes = o.Changed
	switch {
	case o.Failed != "" || o.Blocked != "":
		nothing := rec == nil || rec.Phase == resource.PhasePending && len(rec.Outputs) == 0
		if o.Failed != "" && (nothing || !blk.Kind.Versioned && !holds(blk.Kind)) {
			r.closed = fmt.Sprintf("%s failed: %s", addr, o.Failed)
		} else if nothing {
			r.closed = o.Blocked // which names what is in the way
		}
	default:
		now := &state.Record{Address: addr, Outputs: o.Outputs, Verdict: o.Verdict}
		r = c.b.asRecorded(blk, now)
		r.changes, r.recorded = o.Changed, false
	}
	c.b.results[addr] = r
}

// Sources evaluates a block with what is known now, for its content to be
// probed: the value and the key of what it names. known is false when that is
// still unknown.
func (c *Confirmer) Sources(addr resource.Address) (v cty.Value, key string, known bool) {
	blk := c.b.in.Project.Block(addr)
	if blk == nil {
		return cty.NilVal, "", false
	}
	ev, diags := c.b.in.Project.Eval(blk, c.b)
	if diags.HasErrors() {
		return cty.NilVal, "", false
	}
	key, known = c.b.in.Project.ProbeKey(blk, ev.Value)
	return ev.Value, key, known
}

// Confirm evaluates the planned step anew with what is known now. It errors
// when the result is neither the planned one completed nor less than it. The
// probes are those of the final values, read just now.
func (c *Confirmer) Confirm(planned *Step, probe Probe) (*Final, error) {
	blk := c.b.in.Project.Block(planned.Address)
	if blk == nil {
		return nil, fmt.Errorf("%s is not in the files any more: %w", planned.Address, ErrMismatch)
	}
	if c.b.in.Live.Probes == nil {
		c.b.in.Live.Probes = map[resource.Address]Probe{}
	}
	if probe.Key != "" {
		c.b.in.Live.Probes[planned.Address] = probe
	}
	d := c.b.decide(blk, c.b.records[planned.Address])
	if err := firstError(d.diags); err != nil {
		return nil, err
	}
	f, err := c.final(blk, planned, d)
	if err != nil || f.Action == resource.Noop || f.Action == resource.Blocked {
		return f, err
	}
	if path, ok := unchangedPlan(planned, d); !ok {
		return nil, fmt.Errorf("%s: %w: %s is now %s, the plan said %s; plan again", planned.Address, ErrMismatch, path, d.vals.inputs[path], planned.Exec.Parts[path])
	}
	if f.Value != cty.NilVal && !unmarked(f.Value).IsWhollyKnown() {
		return nil, fmt.Errorf("%s: %w: %s still unknown after all that it needs has run", planned.Address, ErrMismatch, strings.Join(d.vals.unknown, ", "))
	}
	return f, nil
}

// ErrMismatch says that a final value is not the one that was approved.
var ErrMismatch = fmt.Errorf("approved plan no longer matches")

// final compares the actions. A step may come out as planned, or as less.
func (c *Confirmer) final(blk *config.Block, planned *Step, d *decision) (*Final, error) {
	f := &Final{Action: resource.Noop, Deps: blk.Deps}
	if d.vals != nil {
		f.Value, f.Parts, f.Policy, f.Judge, f.Rows = d.value, d.vals.inputs, d.vals.policy, d.vals.judge, d.vals.rows
		f.Seen = c.b.epochs(blk)
		if unmarked(d.value).IsWhollyKnown() {
			spec, err := stored(d.value, d.vals)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", blk.Addr, err)
			}
			f.Spec = spec
		}
		if len(d.vals.unknown) == 0 {
			f.Inputs = d.vals.inputs.Digest()
		}
	}
	if d.step == nil {
		f.Why = "nothing left to do: the new values are the old ones"
		return f, nil
	}
	f.Action, f.Exec, f.Probes = d.step.Action, d.step.Exec, d.step.Exec.Probes
	if f.Action == resource.Blocked || f.Action == resource.Noop {
		f.Why = why(d.step)
		return f, nil
	}
	if !within(planned, d.step) {
		return nil, fmt.Errorf("%s: %w: it would %s now, the plan said %s; plan again", planned.Address, ErrMismatch, d.step.Action, planned.Action)
	}
	return f, nil
}

func why(st *Step) string {
	if len(st.Reasons) == 0 {
		return ""
	}
	return st.Reasons[0].Message
}

// within says whether the final step is the planned one or less: a run may turn
// out to have been run before, an update of thresholds stays one.
func within(planned, final *Step) bool {
	if planned.Action == final.Action {
		return planned.Exec.RecordOnly == final.Exec.RecordOnly || final.Exec.RecordOnly
	}
	switch planned.Action { //nolint:exhaustive // every other action must come out as planned
	case resource.RunIt:
		return final.Action == resource.Update && (final.Exec.RecordOnly || final.Exec.Judge)
	case resource.Replace:
		return final.Action == resource.Update
	}
	return false
}

// unchangedPlan checks that every input that the plan knew has its planned value.
func unchangedPlan(planned *Step, d *decision) (string, bool) {
	if d.vals == nil || planned.Exec.Parts == nil {
		return "", true
	}
	for _, path := range sortedStrings(planned.Exec.Parts) {
		if d.vals.inputs[path] != planned.Exec.Parts[path] {
			return path, false
		}
	}
	for path := range d.vals.inputs {
		if _, ok := planned.Exec.Parts[path]; !ok && !slices.ContainsFunc(planned.Exec.Unknown, func(u string) bool {
			return path == u || strings.HasPrefix(path, u+".")
		}) {
			return path, false
		}
	}
	return "", true
}
