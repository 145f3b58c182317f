package planner

import (
	"encoding/json"
	"fmt"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// decideObject plans a block that is created, updated, replaced or left alone.
func (b *builder) decideObject(d *decision, s *subject) {
	switch {
	case b.imports(d, s):
	case s.rec == nil:
		b.object(d, s, resource.Create, resource.Reason{Code: resource.ReasonNew, Message: "not made yet"})
	case s.live.Phase == resource.PhaseMissing:
		b.object(d, s, resource.Create, append([]resource.Reason{{Code: resource.ReasonMissing, Message: missingMessage(s.live)}}, reasonsOf(s.moved)...)...)
	default:
		b.changedObject(d, s)
	}
}

// imports plans to take over an existing object that an import block names. A
// block that is recorded already has been imported, or was made otherwise.
func (b *builder) imports(d *decision, s *subject) bool {
	if s.rec != nil {
		return false
	}
	for _, imp := range b.in.Project.Imports {
		if imp.To != s.blk.Addr {
			continue
		}
		st := newStep(s.blk, resource.Import)
		st.Reasons = append(st.Reasons, resource.Reason{Code: resource.ReasonImported, New: imp.ID, Message: "taken over from " + imp.ID})
		b.fill(st, s)
		st.Exec.ImportID = imp.ID
		d.step, d.outputs, d.verdict = st, b.planned(s), b.carriesVerdict(s)
		return true
	}
	return false
}

func missingMessage(live Object) string {
	if live.Message != "" {
		return "it is gone: " + live.Message
	}
	return "it is gone"
}

// changedObject plans an object that exists.
func (b *builder) changedObject(d *decision, s *subject) {
	reasons := reasonsOf(s.moved)
	action := resource.Noop
	if len(s.moved) > 0 {
		action = resource.Update
	}
	for _, c := range s.live.Drift {
		action = resource.Update
		reasons = append(reasons, resource.Reason{Code: resource.ReasonLiveChanged, Path: c.Path, Old: rawText(c.Old), New: rawText(c.New), By: s.live.By, Message: "changed outside of ml"})
	}
	if s.rec.Phase == resource.PhaseFailed || s.live.Phase == resource.PhaseFailed {
		action = resource.Update
		reasons = append(reasons, resource.Reason{Code: resource.ReasonFailedBefore, Message: "its last apply failed: " + cmpOr(s.rec.Message, s.live.Message)})
	}
	why := b.replacement(s)
	whole := len(why) > 0
	if !whole && action == resource.Update {
		why = b.anewInPart(s)
	}
	if len(why) > 0 {
		action = resource.Replace
		reasons = append(reasons, why...)
	}
	if action == resource.Noop {
		b.quietObject(d, s)
		return
	}
	b.object(d, s, action, reasons...)
	if d.step != nil {
		d.step.Exec.DeleteFirst = whole
	}
}

// anewInPart says which parts of an object cannot be changed in place. The others stay.
func (b *builder) anewInPart(s *subject) []resource.Reason {
	var why []resource.Reason
	for _, part := range b.in.Live.Immutable[s.blk.Addr] {
		why = append(why, resource.Reason{Code: resource.ReasonImmutable, Path: part.Path, Message: part.Message})
	}
	return why
}

// replacement says why the object must be made anew, if it must.
func (b *builder) replacement(s *subject) []resource.Reason {
	var why []resource.Reason
	for _, m := range s.moved {
		if m.attr != nil && m.attr.Immutable {
			why = append(why, resource.Reason{Code: resource.ReasonImmutable, Path: m.path, Old: m.reason.Old, New: m.reason.New, Message: m.path + " cannot be changed in place"})
		}
	}
	if s.rec.Provider != s.blk.Provider {
		why = append(why, resource.Reason{Code: resource.ReasonImmutable, Path: "provider", Old: s.rec.Provider, New: s.blk.Provider, Message: "another provider"})
	}
	if b.replace[s.blk.Addr] {
		why = append(why, resource.Reason{Code: resource.ReasonRequested, Message: "asked for with -replace"})
	}
	return append(why, b.triggeredBy(s)...)
}

// triggeredBy says which of the blocks in replace_triggered_by change.
func (b *builder) triggeredBy(s *subject) []resource.Reason {
	var why []resource.Reason
	for _, a := range s.blk.Lifecycle.ReplaceOn {
		if r := b.results[a]; r != nil && r.changes {
			why = append(why, resource.Reason{Code: resource.ReasonUpstreamChanged, By: a.String(), Message: "replace_triggered_by"})
		}
	}
	return why
}

// quietObject plans an object of which at most policy moved.
func (b *builder) quietObject(d *decision, s *subject) {
	policy := s.movedPolicy()
	if len(policy) > 0 {
		st := newStep(s.blk, resource.Update)
		st.Reasons = append(st.Reasons, policyReasons(policy)...)
		b.fill(st, s)
		st.Exec.RecordOnly = true
		d.step = st
		return
	}
	if len(s.hold) > 0 {
		st := newStep(s.blk, resource.Noop)
		st.Reasons = s.hold
		d.step = st
	}
}

// object makes the step of an object that changes.
func (b *builder) object(d *decision, s *subject, action resource.Action, reasons ...resource.Reason) {
	st := newStep(s.blk, action)
	st.Reasons = append(st.Reasons, reasons...)
	st.Reasons = append(st.Reasons, s.hold...)
	b.fill(st, s)
	if action == resource.Replace && (s.rec.Protected || s.blk.Lifecycle.PreventDestroy) {
		d.diags = append(d.diags, diagnostic(s.blk, "This block must not be destroyed", fmt.Sprintf("%s has lifecycle { prevent_destroy = true }, and the change needs a replacement. Take the change back, or remove prevent_destroy first.", s.blk.Addr)))
		return
	}
	st.Value = unmarked(s.value)
	d.step = st
	d.outputs = b.planned(s)
	d.verdict = b.carriesVerdict(s)
}

// carriesVerdict says whether the step's own outcome may close the gate behind
// it: a dataset with rules, of its own or of a column's, and any run.
func (b *builder) carriesVerdict(s *subject) bool {
	if s.blk.Kind.Class == resource.Run {
		return true
	}
	if s.blk.Kind.Body().Block("expect") == nil {
		return false
	}
	for _, name := range []string{"expect", "column"} {
		if rules := attrOf(s.value, name); !rules.IsNull() && (!rules.IsKnown() || rules.LengthInt() > 0) {
			return true
		}
	}
	return false
}

// planned are the outputs as far as they are known before the step ran.
func (b *builder) planned(s *subject) cty.Value {
	k := s.blk.Kind
	known := map[string]cty.Value{}
	if k.Plan != nil {
		prior := b.recordedOutputs(k, s.rec)
		if prior == cty.NilVal {
			prior = cty.NullVal(cty.DynamicPseudoType)
		}
		known = k.Plan(s.value, s.probes, prior)
	}
	attrs := map[string]cty.Value{}
	for _, a := range k.OutputSchema().Attrs {
		switch v, ok := known[a.Name]; {
		case a.Name == "address":
			attrs[a.Name] = cty.StringVal(s.blk.Addr.String())
		case ok:
			attrs[a.Name] = v
		default:
			attrs[a.Name] = cty.UnknownVal(a.Type.WithoutOptionalAttributesDeep())
		}
	}
	return cty.ObjectVal(attrs)
}

func rawText(raw json.RawMessage) string { return unquoteText(string(raw)) }

// fill completes a step with what apply needs and what people read.
func (b *builder) fill(st *Step, s *subject) {
	e := &st.Exec
	e.Parts, e.Unknown, e.Probes = s.vals.inputs, s.vals.unknown, s.probes
	e.Record = RecordDigest(b.in.Prior, b.recordedAt(s.blk.Addr))
	e.Live = LiveDigest(s.live)
	e.Seen = b.epochs(s.blk)
	e.Estimate = estimate(b.in.Prior.Runs[b.recordedAt(s.blk.Addr)])
	if s.blk.Kind.Gate != nil {
		st.Gate = s.blk.Kind.Gate(s.value)
	}
	b.show(st, s)
}

// estimate is the median of what the last successful runs took, in seconds.
func estimate(runs []state.RunKey) float64 {
	var took []float64
	for i := len(runs) - 1; i >= 0 && len(took) < 5; i-- {
		if runs[i].Phase == resource.PhaseReady {
			took = append(took, runs[i].Finished.Sub(runs[i].Started).Seconds())
		}
	}
	if len(took) == 0 {
		return 0
	}
	for i := 1; i < len(took); i++ {
		for j := i; j > 0 && took[j] < took[j-1]; j-- {
			took[j], took[j-1] = took[j-1], took[j]
		}
	}
	return took[len(took)/2]
}

// LiveDigest is one digest over what was read of a live object; "" when it is
// as recorded.
func LiveDigest(o Object) resource.Digest {
	if o.Phase == "" && len(o.Drift) == 0 && o.Outputs == nil && len(o.Quarantined) == 0 {
		return ""
	}
	raw, err := json.Marshal(struct {
		Phase   resource.Phase
		Outputs json.RawMessage
		Drift   []Change
	}{o.Phase, o.Outputs, o.Drift})
	if err != nil {
		return resource.DigestOf([]byte(err.Error()))
	}
	return resource.DigestOf(raw)
}

// RecordDigest is a digest over an address's record, "" for none. A record that
// cannot be encoded, which no store returns, counts as moved.
func RecordDigest(snap *state.Snapshot, a resource.Address) resource.Digest {
	d, err := snap.RecordDigest(a)
	if err != nil {
		return resource.DigestOf([]byte(err.Error()))
	}
	return d
}
