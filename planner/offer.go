package planner

import (
	"fmt"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

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
		r.gates = []resource.Address{blk.Addr}
	}
	return r
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
	return fmt.Sprintf("%s did not pass: %s", blk.Addr, rec.Verdict.Message)
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
