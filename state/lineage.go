package state

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// DataIn are the datasets and splits that a recorded body names, each as its
// dataset gave it, in the order of the attributes' names. It errors on a body
// that is no JSON.
func DataIn(spec json.RawMessage) ([]json.RawMessage, error) {
	if len(spec) == 0 {
		return nil, nil
	}
	var v any
	if err := json.Unmarshal(spec, &v); err != nil {
		return nil, fmt.Errorf("read the data in a recorded body: %w", err)
	}
	var out []json.RawMessage
	err := eachData(v, func(data map[string]any) error {
		raw, err := json.Marshal(data)
		out = append(out, raw)
		return err
	})
	return out, err
}

func eachData(v any, found func(map[string]any) error) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := eachData(e, found); err != nil {
				return err
			}
		}
	case map[string]any:
		if isData(v) {
			return found(v)
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if err := eachData(v[k], found); err != nil {
				return err
			}
		}
	}
	return nil
}

// isData tells a dataset's value by what no other value has together.
func isData(v map[string]any) bool {
	for _, name := range []string{"address", "name", "digest", "path"} {
		if s, ok := v[name].(string); !ok || s == "" && name != "name" {
			return false
		}
	}
	_, ok := v["rows"]
	return ok
}
