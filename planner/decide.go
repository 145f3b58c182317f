package planner

import (
	"fmt"
	"sort"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// decision is what happens to one block, and why.
type decision struct {
	step    *Step
	value   cty.Value // the evaluated body
	vals    *values
	outputs cty.Value // planned; NilVal = as recorded
	verdict bool      // the step's own verdict is still to come
	closed  string    // why nothing behind it may run
	diags   []Diagnostic
}

// subject is one block under decision, with all that the decision reads.
type subject struct {
	blk     *config.Block
	rec     *state.Record
	live    Object
	value   cty.Value
	vals    *values
	probes  map[string]string
	pending []string // probe names that are not known yet
	moved   []moved
	hold    []resource.Reason // pinned, quarantined
	bad     string            // why its verdict is bad although nothing is recorded so
}

// decide plans one block. It reads what the blocks before it offer.
func (b *builder) decide(blk *config.Block, rec *state.Record) *decision {
	gate := b.closedGate(blk)
	s := &subject{blk: blk, rec: rec, live: b.in.Live.Objects[blk.Addr]}
	d := &decision{}
	if s.live.Err != "" {
		d.diags = append(d.diags, diagnostic(blk, "The live state cannot be read", s.live.Err))
		return d
	}
	body, diags := b.eval(blk)
	if !diags.HasErrors() {
		diags = append(diags, b.in.Project.Conditions(blk, b, cty.NilVal, false)...)
	}
	d.diags = append(d.diags, diagnostics(blk, diags, gate == nil)...)
	if diags.HasErrors() {
		if gate != nil {
			b.blocked(d, s, *gate)
		}
		return d
	}
	if body.quiet {
		return d
	}
	s.value, s.vals = b.valueOf(s, body)
	if msg := b.probe(s); msg != "" && gate == nil {
		d.diags = append(d.diags, diagnostic(blk, "The sources cannot be read", msg))
		return d
	}
	d.value, d.vals = s.value, s.vals
	b.compare(s)
	if blk.Kind.Class == resource.Run {
		b.decideRun(d, s)
	} else {
		b.decideObject(d, s)
	}
	if s.bad != "" {
		d.closed = s.bad
	}
	if gate != nil && d.step != nil && b.doing(d.step) && !d.step.Exec.policyOnly() {
		b.blocked(d, s, *gate)
	}
	return d
}

// body is what the block may hold: its kind's attributes and the nested block of
// its own provider.
func (b *builder) body(blk *config.Block) *resource.Schema {
	return b.in.Project.Body(blk.Kind, blk.Provider)
}

// eval evaluates a block's body. While everything that it depends on stays as
// recorded, what refresh evaluated on the records is the same.
func (b *builder) eval(blk *config.Block) (Body, hcl.Diagnostics) {
	body, ok := b.in.Evaluated[blk.Addr]
	ok = ok && len(b.moved) == 0
	for i := 0; ok && i < len(blk.Deps); i++ {
		dep := blk.Deps[i]
		_, live := b.in.Live.Objects[dep]
		r := b.results[dep]
		ok = r != nil && r.recorded && !live && len(b.in.Project.Block(dep).Kind.Signals) == 0
	}
	delete(b.in.Evaluated, blk.Addr) // asked for once; ten thousand of them are worth their memory
	if ok && (!body.quiet || !b.disturbed(blk)) {
		return body, nil
	}
	ev, diags := b.in.Project.Eval(blk, b)
	return Body{ev: ev}, diags
}

// valueOf is the body with what a pin, a quarantine or a served version holds in
// place, and its parts.
func (b *builder) valueOf(s *subject, body Body) (cty.Value, *values) {
	ev := body.ev
	v, version := b.holdVersion(s, ev.Value)
	ev.Value = v
	v, data := b.keepData(s, ev)
	ev.Value = v
	if body.vals == nil || version || data {
		return ev.Value, flatten(b.body(s.blk), ev, b.hash)
	}
	return ev.Value, body.vals
}

// policyOnly says that nothing outside changes and no version becomes current.
func (e *Exec) policyOnly() bool { return e.RecordOnly && e.AdoptRun == "" }

// closedGate returns the reason of the first block before blk that lets nothing through.
func (b *builder) closedGate(blk *config.Block) *resource.Reason {
	for _, dep := range blk.Deps {
		if r := b.results[dep]; r != nil && r.closed != "" {
			return &resource.Reason{Code: resource.ReasonGateClosed, By: dep.String(), Message: r.closed}
		}
	}
	return nil
}

// blocked turns the decision into a blocked one.
func (b *builder) blocked(d *decision, s *subject, gate resource.Reason) {
	reasons := []resource.Reason{gate}
	if d.step != nil {
		reasons = append(reasons, d.step.Reasons...)
	} else if s.rec == nil {
		reasons = append(reasons, resource.Reason{Code: resource.ReasonNew, Message: "not made yet"})
	}
	st := newStep(s.blk, resource.Blocked)
	st.Reasons = reasons
	d.step, d.outputs, d.verdict = st, cty.NilVal, false
	if s.rec == nil {
		d.closed = fmt.Sprintf("%s is blocked by %s", s.blk.Addr, gate.By)
	}
}

func newStep(blk *config.Block, action resource.Action) *Step {
	return &Step{
		Address: blk.Addr, Kind: blk.Kind.Name, Provider: blk.Provider, Action: action,
		Reasons: []resource.Reason{}, AfterUnknown: []string{}, Changes: []Change{},
		Needs: []resource.Address{}, GatedBy: []resource.Address{},
		Exec: Exec{Deps: blk.Deps},
	}
}

func (b *builder) hash(s string) string { return hashOr(b.in.Options.Hash)(s) }

func hashOr(hash func(string) string) func(string) string {
	if hash == nil {
		return func(s string) string { return string(resource.DigestOf([]byte(s))) }
	}
	return hash
}

// probe adds the content digests to the inputs. Without a refresh the recorded
// ones stand; a probe of something else than the value now names is unknown.
func (b *builder) probe(s *subject) string {
	names := s.blk.Kind.Probes
	if len(names) == 0 {
		return ""
	}
	key, known := b.in.Project.ProbeKey(s.blk, s.value)
	live, probed := b.in.Live.Probes[s.blk.Addr]
	s.probes = map[string]string{}
	recorded := b.in.Live.Probes == nil && !probed || probed && live.Recorded && live.Key == key
	switch {
	case known && probed && live.Key == key && !recorded:
		if live.Err != "" {
			return live.Err
		}
		for n, d := range live.Values {
			s.probes[n] = d
			s.vals.inputs[n] = quote(d)
		}
	case known && recorded && s.rec != nil:
		for _, n := range names {
			if t, ok := s.rec.Parts[n]; ok {
				s.probes[n], s.vals.inputs[n] = unquoteText(t), t
			}
		}
	default:
		s.probes = nil
		s.pending = names
		s.vals.unknown = append(s.vals.unknown, names...)
		sort.Strings(s.vals.unknown)
	}
	return ""
}
