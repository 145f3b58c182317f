package planner

import (
	"fmt"
	"slices"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// holdVersion keeps an object at the version that it is pinned at, or that
// serves while the wanted one is quarantined.
func (b *builder) holdVersion(s *subject, v cty.Value) (cty.Value, bool) {
	attr := s.blk.Kind.PinAttr
	if attr == "" || v.IsNull() || !v.IsKnown() {
		return v, false
	}
	wanted := v.GetAttr(attr)
	number := attrText(wanted, "version")
	if pin := b.in.Prior.Pins[s.blk.Addr]; pin != nil {
		if m, err := state.DecodeValue(pin.Model, wanted.Type()); err == nil {
			msg := fmt.Sprintf("pinned at version %d by %s", pin.Version, pin.Who)
			if number != "" && number != fmt.Sprint(pin.Version) {
				msg += fmt.Sprintf("; version %s is held until `ml unpin %s`", number, s.blk.Addr.Arg())
			}
			s.hold = append(s.hold, resource.Reason{Code: resource.ReasonPinned, Path: attr, Old: fmt.Sprint(pin.Version), New: number, Message: msg})
			return withAttr(v, attr, m), true
		}
	}
	q := b.quarantined(s, attrText(wanted, "digest"))
	if q == nil || s.rec == nil {
		return v, false
	}
	prior, ok := recordedAttr(s.rec, attr, wanted.Type())
	if !ok {
		return v, false
	}
	s.bad = fmt.Sprintf("%s: version %d is quarantined: %s", s.blk.Addr, q.Version, q.Reason)
	s.hold = append(s.hold, resource.Reason{
		Code: resource.ReasonQuarantined, Path: attr, New: number,
		Message: fmt.Sprintf("version %d is quarantined (%s); a newer version or `ml rollback %s -to %d` takes its place", q.Version, q.Reason, s.blk.Addr.Arg(), q.Version),
	})
	return withAttr(v, attr, prior), true
}

// keepData leaves data that belongs to a served version as it was applied, until
// a version that was trained on the new data serves: a reference that no served
// model has seen would make drift of its own, or hide some.
func (b *builder) keepData(s *subject, ev config.Evaluated) (cty.Value, bool) {
	attr := s.blk.Kind.KeepAttr
	if attr == "" || s.rec == nil || ev.Value.IsNull() || !ev.Value.IsKnown() {
		return ev.Value, false
	}
	wanted := ev.Value.GetAttr(attr)
	if wanted.IsNull() {
		return ev.Value, false
	}
	applied, ok := recordedAttr(s.rec, attr, wanted.Type())
	from, direct := ev.Sources[attr]
	if !ok || !direct || !sameData(applied, wanted, from) {
		return ev.Value, false
	}
	model := attrText(ev.Value.GetAttr(s.blk.Kind.KeepWith), "digest")
	kept, ok := b.trainedOn(model, wanted)
	if !ok {
		kept = applied
	}
	if attrText(kept, "digest") == attrText(wanted, "digest") || !b.servesOlder(model, from) {
		return ev.Value, false
	}
	return withAttr(ev.Value, attr, kept), true
}

// trainedOn is the data that the newest version with this digest was trained on:
// that of the dataset and split that is wanted now. After a rollback the applied
// one is not the served version's.
func (b *builder) trainedOn(model string, wanted cty.Value) (cty.Value, bool) {
	for _, v := range slices.Backward(b.versionsOf(model)) {
		for _, raw := range v.Data {
			d, err := state.DecodeValue(raw, wanted.Type())
			if err == nil && attrText(d, "address") == attrText(wanted, "address") && attrText(d, "name") == attrText(wanted, "name") {
				return d, true
			}
		}
	}
	return cty.NilVal, false
}

// madeVersion is a recorded version and the training whose it is.
type madeVersion struct {
	training resource.Address
	*state.Version
}

// versionsOf are the recorded versions with this digest, by training and number.
func (b *builder) versionsOf(model string) []madeVersion {
	if b.versions == nil {
		b.versions = map[string][]madeVersion{}
		for _, a := range sortedKeys(b.in.Prior.Versions) {
			for _, v := range b.in.Prior.Versions[a] {
				b.versions[string(v.Digest)] = append(b.versions[string(v.Digest)], madeVersion{a, v})
			}
		}
	}
	if model == "" {
		return nil
	}
	return b.versions[model]
}

// sameData says whether two data are versions of one: of the same dataset and split.
func sameData(applied, wanted cty.Value, from resource.Address) bool {
	return attrText(applied, "address") == from.String() && wanted.IsKnown() && attrText(applied, "name") == attrText(wanted, "name")
}

// servesOlder says whether the model with this digest was trained on other data
// of the dataset than its training reads now. Equal bytes may be several
// versions; one of them on the present data is enough. A version that this plan
// made itself is not recorded yet: it was trained on what the plan reads.
func (b *builder) servesOlder(model string, dataset resource.Address) bool {
	older := false
	for _, v := range b.versionsOf(model) {
		now := b.addressNow(v.training)
		if r := b.results[now]; r != nil && r.changes && !r.recorded && attrText(attrOf(b.Outputs(now), "model"), "digest") == model {
			return false
		}
		if !b.trainedBefore(now, v.Version, dataset) {
			return false
		}
		older = true
	}
	return older
}

// trainedBefore says whether a version was trained on another version of the
// dataset's data than its training would read now.
func (b *builder) trainedBefore(training resource.Address, v *state.Version, dataset resource.Address) bool {
	blk := b.in.Project.Block(training)
	if blk == nil {
		return false
	}
	ev, diags := b.in.Project.Eval(blk, b)
	if diags.HasErrors() {
		return false
	}
	now := flatten(b.body(blk), ev, b.hash)
	for _, path := range sortedStrings(ev.Sources) {
		if ev.Sources[path] == dataset && v.Parts[path] != "" && v.Parts[path] != now.inputs[path] {
			return true
		}
	}
	return false
}

func (b *builder) quarantined(s *subject, digest string) *state.Quarantine {
	if digest == "" {
		return nil
	}
	for i := range s.live.Quarantined {
		if string(s.live.Quarantined[i].Digest) == digest {
			return &s.live.Quarantined[i]
		}
	}
	for _, q := range b.in.Prior.Quarantines[s.blk.Addr] {
		if string(q.Digest) == digest {
			return q
		}
	}
	return nil
}

func withAttr(v cty.Value, name string, a cty.Value) cty.Value {
	m := v.AsValueMap()
	m[name] = a
	return cty.ObjectVal(m)
}

func attrOf(v cty.Value, name string) cty.Value {
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() || !v.Type().IsObjectType() || !v.Type().HasAttribute(name) {
		return cty.NullVal(cty.DynamicPseudoType)
	}
	return v.GetAttr(name)
}

// attrText is a known primitive attribute as text, or "".
func attrText(v cty.Value, name string) string {
	a := attrOf(v, name)
	if a.IsNull() || !a.IsKnown() {
		return ""
	}
	return unquoteText(canonical(a))
}

// recordedAttr is one attribute of the body as last applied.
func recordedAttr(rec *state.Record, name string, t cty.Type) (cty.Value, bool) {
	v, err := state.DecodeValue(rec.Spec, cty.Object(map[string]cty.Type{name: t}))
	if err != nil || v.IsNull() || v.GetAttr(name).IsNull() {
		return cty.NilVal, false
	}
	return v.GetAttr(name), true
}
