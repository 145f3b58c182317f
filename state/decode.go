package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/zclconf/go-cty/cty"
)

// errShape says that the JSON does not have the type's shape as it stands, so
// that a conversion has to decide.
var errShape = errors.New("another shape")

// decodeShaped reads JSON straight into a value of type t: one pass, because
// every plan decodes the outputs of every block that another one refers to. It
// gives errShape where only a conversion could help.
func decodeShaped(raw []byte, t cty.Type) (cty.Value, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return cty.NilVal, fmt.Errorf("decode value: this is not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return cty.NilVal, errors.New("decode value: this is not JSON: something follows it")
	}
	return shaped(tree, t)
}

func shaped(v any, t cty.Type) (cty.Value, error) {
	if t == cty.DynamicPseudoType {
		return implied(v)
	}
	if v == nil {
		return cty.NullVal(t), nil
	}
	switch x := v.(type) {
	case string:
		if t == cty.String {
			return cty.StringVal(x), nil
		}
	case bool:
		if t == cty.Bool {
			return cty.BoolVal(x), nil
		}
	case json.Number:
		if t == cty.Number {
			return numberVal(x)
		}
	case map[string]any:
		return shapedObject(x, t)
	case []any:
		if t.IsListType() {
			return shapedList(x, t)
		}
	}
	return cty.NilVal, errShape
}

// numberVal spares small integers the way through big floats.
func numberVal(n json.Number) (cty.Value, error) {
	if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
		return cty.NumberIntVal(i), nil
	}
	return cty.ParseNumberVal(string(n))
}

func shapedObject(m map[string]any, t cty.Type) (cty.Value, error) {
	switch {
	case t.IsObjectType():
		attrs := make(map[string]cty.Value, len(t.AttributeTypes()))
		for name, at := range t.AttributeTypes() {
			e, err := shaped(m[name], at)
			if err != nil {
				return cty.NilVal, err
			}
			attrs[name] = e
		}
		return cty.ObjectVal(attrs), nil
	case t.IsMapType() && t.ElementType() != cty.DynamicPseudoType:
		if len(m) == 0 {
			return cty.MapValEmpty(t.ElementType()), nil
		}
		elems := make(map[string]cty.Value, len(m))
		for k, e := range m {
			ev, err := shaped(e, t.ElementType())
			if err != nil {
				return cty.NilVal, err
			}
			elems[k] = ev
		}
		return cty.MapVal(elems), nil
	}
	return cty.NilVal, errShape
}

func shapedList(list []any, t cty.Type) (cty.Value, error) {
	if t.ElementType() == cty.DynamicPseudoType {
		return cty.NilVal, errShape
	}
	if len(list) == 0 {
		return cty.ListValEmpty(t.ElementType()), nil
	}
	elems := make([]cty.Value, len(list))
	for i, e := range list {
		ev, err := shaped(e, t.ElementType())
		if err != nil {
			return cty.NilVal, err
		}
		elems[i] = ev
	}
	return cty.ListVal(elems), nil
}

// implied gives JSON the type that it shows: objects and tuples.
func implied(v any) (cty.Value, error) {
	switch x := v.(type) {
	case nil:
		return cty.NullVal(cty.DynamicPseudoType), nil
	case string:
		return cty.StringVal(x), nil
	case bool:
		return cty.BoolVal(x), nil
	case json.Number:
		return numberVal(x)
	case map[string]any:
		attrs := make(map[string]cty.Value, len(x))
		for k, e := range x {
			ev, err := implied(e)
			if err != nil {
				return cty.NilVal, err
			}
			attrs[k] = ev
		}
		return cty.ObjectVal(attrs), nil
	case []any:
		elems := make([]cty.Value, len(x))
		for i, e := range x {
			ev, err := implied(e)
			if err != nil {
				return cty.NilVal, err
			}
			elems[i] = ev
		}
		return cty.TupleVal(elems), nil
	}
	return cty.NilVal, errShape
}
