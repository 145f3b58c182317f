package config

import (
	"strings"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// ProbeKey names what a provider reads at plan time for a block: the attributes
// tagged probe, as canonical JSON. known is false while any of them is unknown.
// Engine and planner compare keys, so that a digest counts only for what it is of.
func (p *Project) ProbeKey(b *Block, v cty.Value) (key string, known bool) {
	if v.IsNull() || !v.IsKnown() {
		return "", false
	}
	var out strings.Builder
	out.WriteString(b.Provider)
	for _, a := range b.Kind.body.Attrs {
		if !a.Probe || !v.Type().HasAttribute(a.Name) {
			continue
		}
		av := v.GetAttr(a.Name) // an evaluated body carries no marks
		if !av.IsWhollyKnown() {
			return "", false
		}
		if av.IsNull() {
			continue
		}
		raw, err := ctyjson.SimpleJSONValue{Value: av}.MarshalJSON()
		if err != nil {
			return "", false
		}
		out.WriteString("\n" + a.Name + "=")
		out.Write(raw)
	}
	return out.String(), true
}
