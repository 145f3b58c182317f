package engine

import (
	"encoding/json"
	"strings"

	"github.com/continuo-ml/continuo/planner"
)

// storedParams are the parameters as they are stored, with keyed hashes in the
// place of sensitive ones.
func (w *work) storedParams() any {
	var spec struct {
		Params any `json:"params"`
	}
	// A spec without parameters, or with others than a map, masks nothing.
	if json.Unmarshal(w.intent.Spec, &spec) != nil {
		return nil
	}
	return spec.Params
}

// maskLike hides the parameters that are stored as hashes: a driver sees their
// values and cannot tell which of them are secret.
func maskLike(params map[string]any, stored any) map[string]any {
	masked, ok := maskValue(params, stored).(map[string]any)
	if !ok || params == nil {
		return params
	}
	return masked
}

func maskValue(v, stored any) any {
	if text, ok := stored.(string); ok && strings.HasPrefix(text, "hash:") {
		return planner.MaskText
	}
	switch x := v.(type) {
	case map[string]any:
		like, ok := stored.(map[string]any)
		if !ok {
			return v
		}
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = maskValue(e, like[k])
		}
		return out
	case []any:
		like, ok := stored.([]any)
		if !ok || len(like) != len(x) {
			return v
		}
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = maskValue(e, like[i])
		}
		return out
	}
	return v
}
