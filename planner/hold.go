package planner

import (
	"fmt"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// holdVersion keeps an object at the version that it is pinned at, or that
// serves while the wanted one is quarantined.
func (b *builder) holdVersion(s *subject, v cty.Value) cty.Value {
	attr := s.blk.Kind.PinAttr
	if attr == "" || v.IsNull() || !v.IsKnown() {
		return v
	}
	wanted := v.GetAttr(attr)
	number := attrText(wanted, "version")
	if pin := b.in.Prior.Pins[s.blk.Addr]; pin != nil {
		if m, err := state.DecodeValue(pin.Model, wanted.Type()); err == nil {
			msg := fmt.Sprintf("pinned at version %d by %s", pin.Version, pin.Who)
			if number != "" && number != fmt.Sprint(pin.Version) {
				msg += fmt.Sprintf("; version %s is held until `ml unpin %s`", number, s.blk.Addr)
			}
			s.hold = append(s.hold, resource.Reason{Code: resource.ReasonPinned, Path: attr, Old: fmt.Sprint(pin.Version), New: number, Message: msg})
			return withAttr(v, attr, m)
		}
	}
	q := b.quarantined(s, attrText(wanted, "digest"))
	if q == nil || s.rec == nil {
		return v
	}
	prior, ok := recordedAttr(s.rec, attr, wanted.Type())
	if !ok {
		return v
	}
	s.bad = fmt.Sprintf("%s: version %d is quarantined: %s", s.blk.Addr, q.Version, q.Reason)
	s.hold = append(s.hold, resource.Reason{
		Code: resource.ReasonQuarantined, Path: attr, New: number,
		Message: fmt.Sprintf("version %d is quarantined (%s); a newer version or `ml rollback %s -to %d` takes its place", q.Version, q.Reason, s.blk.Addr, q.Version),
	})
	return withAttr(v, attr, prior)
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

// attrText is a known primitive attribute as text, or "".
func attrText(v cty.Value, name string) string {
	if v.IsNull() || !v.IsKnown() || !v.Type().IsObjectType() || !v.Type().HasAttribute(name) {
		return ""
	}
	a := v.GetAttr(name)
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
