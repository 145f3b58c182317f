package state

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// EncodeValue writes v as plain JSON without its type: attributes and map keys
// sorted, numbers in full. Equal values give equal bytes. It refuses values that
// are unknown, marked or hold a Go value, in whole or in part, and names the path.
func EncodeValue(v cty.Value) (json.RawMessage, error) {
	if v == cty.NilVal {
		return nil, errors.New("encode value: there is no value")
	}
	if err := storable(v); err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	raw, err := ctyjson.SimpleJSONValue{Value: v}.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	return raw, nil
}

func storable(v cty.Value) error {
	return cty.Walk(v, func(p cty.Path, v cty.Value) (bool, error) {
		switch {
		case v.IsMarked():
			return false, fmt.Errorf("%s is marked (sensitive?) and must be replaced before it is stored", pathName(p))
		case !v.IsKnown():
			return false, fmt.Errorf("%s is not known yet", pathName(p))
		case v.Type().IsCapsuleType():
			return false, fmt.Errorf("%s holds a %s, which cannot be stored", pathName(p), v.Type().FriendlyName())
		}
		return true, nil
	})
}

func pathName(p cty.Path) string {
	s := "the value"
	for _, step := range p {
		switch step := step.(type) {
		case cty.GetAttrStep:
			s += "." + step.Name
		case cty.IndexStep:
			if step.Key.Type() == cty.String {
				s += fmt.Sprintf("[%q]", step.Key.AsString())
			} else if step.Key.Type() == cty.Number {
				s += "[" + step.Key.AsBigFloat().Text('f', -1) + "]"
			}
		}
	}
	return s
}

// DecodeValue reads what EncodeValue wrote as a value of type t. An attribute
// that the JSON lacks is null, and one that t lacks is dropped, so that a value
// outlives a change of the schema. Where t is dynamic, the JSON's own shape
// decides: objects and tuples. Empty raw is null.
func DecodeValue(raw json.RawMessage, t cty.Type) (cty.Value, error) {
	if len(raw) == 0 {
		return cty.NullVal(t.WithoutOptionalAttributesDeep()), nil
	}
	shaped, err := decodeShaped(raw, t.WithoutOptionalAttributesDeep())
	if !errors.Is(err, errShape) {
		return shaped, err
	}
	wide, err := ctyjson.ImpliedType(raw)
	if err != nil {
		return cty.NilVal, fmt.Errorf("decode value: %w", err)
	}
	v, err := ctyjson.Unmarshal(raw, wide)
	if err != nil {
		return cty.NilVal, fmt.Errorf("decode value: %w", err)
	}
	if v, err = convert.Convert(v, t); err != nil {
		return cty.NilVal, fmt.Errorf("decode value as %s: %w", t.FriendlyName(), err)
	}
	return v, nil
}
