package funcs

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

func twoTexts(description string, f func(a, b string) bool) function.Function {
	return function.New(&function.Spec{
		Description: description,
		Params:      []function.Parameter{{Name: "str", Type: cty.String}, {Name: "part", Type: cty.String}},
		Type:        function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

var (
	startsWith  = twoTexts("whether a text starts with another", strings.HasPrefix)
	endsWith    = twoTexts("whether a text ends with another", strings.HasSuffix)
	strContains = twoTexts("whether a text contains another", strings.Contains)
)

// lengthFunc counts elements, or the characters of a text.
var lengthFunc = function.New(&function.Spec{
	Description: "number of elements of a list, set, map or object, or of characters of a text",
	Params:      []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true, AllowUnknown: true, AllowMarked: true}},
	Type: func(args []cty.Value) (cty.Type, error) {
		t := args[0].Type()
		if t == cty.String || t == cty.DynamicPseudoType || t.IsTupleType() || t.IsObjectType() || t.IsCollectionType() {
			return cty.Number, nil
		}
		return cty.NilType, errors.New("a text, list, set, map or object is needed")
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v, marks := args[0].Unmark()
		switch t := v.Type(); {
		case t == cty.DynamicPseudoType:
			return cty.UnknownVal(cty.Number).WithMarks(marks), nil
		case t.IsTupleType():
			return cty.NumberIntVal(int64(len(t.TupleElementTypes()))).WithMarks(marks), nil
		case t.IsObjectType():
			return cty.NumberIntVal(int64(len(t.AttributeTypes()))).WithMarks(marks), nil
		case !v.IsKnown():
			return cty.UnknownVal(cty.Number).WithMarks(marks), nil
		case v.IsNull():
			return cty.NilVal, errors.New("the value is null")
		case t == cty.String:
			n, err := stdlib.Strlen(v)
			return n.WithMarks(marks), err
		}
		return v.Length().WithMarks(marks), nil
	},
})

// lookupFunc reads an attribute or key, with a default.
var lookupFunc = function.New(&function.Spec{
	Description: "the element of a map or object under a key, or a default",
	Params: []function.Parameter{
		{Name: "map", Type: cty.DynamicPseudoType}, {Name: "key", Type: cty.String},
	},
	VarParam: &function.Parameter{Name: "default", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true, AllowMarked: true},
	Type: func(args []cty.Value) (cty.Type, error) {
		if len(args) > 3 {
			return cty.NilType, errors.New("lookup takes a map, a key and one default")
		}
		t := args[0].Type()
		switch {
		case t.IsMapType():
			return t.ElementType(), nil
		case t.IsObjectType() && args[1].IsKnown():
			k, _ := args[1].Unmark()
			if t.HasAttribute(k.AsString()) {
				return t.AttributeType(k.AsString()), nil
			}
			if len(args) == 3 {
				return args[2].Type(), nil
			}
			return cty.NilType, errors.New("the object has no such attribute, and there is no default")
		case t.IsObjectType():
			return cty.DynamicPseudoType, nil
		}
		return cty.NilType, errors.New("a map or object is needed")
	},
	Impl: func(args []cty.Value, want cty.Type) (cty.Value, error) {
		m, key := args[0], args[1].AsString()
		switch {
		case m.Type().IsObjectType() && m.Type().HasAttribute(key):
			return m.GetAttr(key), nil
		case m.Type().IsMapType() && m.HasIndex(args[1]).True():
			return m.Index(args[1]), nil
		case len(args) == 3:
			return convert.Convert(args[2], want)
		}
		return cty.NilVal, errors.New("the map has no such key, and there is no default")
	},
})

// elements are the elements of a list, set or tuple argument.
func elements(v cty.Value) ([]cty.Value, error) {
	t := v.Type()
	if v.IsNull() || !t.IsListType() && !t.IsSetType() && !t.IsTupleType() {
		return nil, errors.New("a list or set is needed")
	}
	return v.AsValueSlice(), nil
}

func overList(description string, result cty.Type, f func(elems []cty.Value) (cty.Value, error)) function.Function {
	return function.New(&function.Spec{
		Description: description,
		Params:      []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
		Type: func(args []cty.Value) (cty.Type, error) {
			if _, err := kindOfList(args[0].Type()); err != nil {
				return cty.NilType, err
			}
			return result, nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			elems, err := elements(args[0])
			if err != nil {
				return cty.NilVal, err
			}
			return f(elems)
		},
	})
}

func kindOfList(t cty.Type) (cty.Type, error) {
	if t == cty.DynamicPseudoType || t.IsListType() || t.IsSetType() || t.IsTupleType() {
		return t, nil
	}
	return cty.NilType, errors.New("a list or set is needed")
}

// truths folds a list of booleans; stop is the value that decides.
func truths(elems []cty.Value, stop bool) (cty.Value, error) {
	unknown := false
	for _, e := range elems {
		b, err := convert.Convert(e, cty.Bool)
		switch {
		case err != nil:
			return cty.NilVal, fmt.Errorf("an element is not true or false: %w", err)
		case b.IsNull():
			if !stop {
				return cty.False, nil
			}
		case !b.IsKnown():
			unknown = true
		case b.True() == stop:
			return cty.BoolVal(stop), nil
		}
	}
	if unknown {
		return cty.UnknownVal(cty.Bool), nil
	}
	return cty.BoolVal(!stop), nil
}

var (
	allTrue = overList("whether all elements are true", cty.Bool, func(e []cty.Value) (cty.Value, error) { return truths(e, false) })
	anyTrue = overList("whether any element is true", cty.Bool, func(e []cty.Value) (cty.Value, error) { return truths(e, true) })
	sumFunc = overList("the sum of numbers", cty.Number, func(elems []cty.Value) (cty.Value, error) {
		if len(elems) == 0 {
			return cty.NilVal, errors.New("an empty list has no sum")
		}
		total := cty.Zero
		for _, e := range elems {
			n, err := convert.Convert(e, cty.Number)
			if err != nil || n.IsNull() {
				return cty.NilVal, errors.New("an element is not a number")
			}
			total = total.Add(n)
		}
		return total, nil
	})
)

// oneFunc is the only element of a list, or null when it is empty.
var oneFunc = function.New(&function.Spec{
	Description: "the only element of a list or set, or null when it is empty",
	Params:      []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
	Type: func(args []cty.Value) (cty.Type, error) {
		t, err := kindOfList(args[0].Type())
		switch {
		case err != nil:
			return cty.NilType, err
		case t.IsTupleType() && t.Length() == 1:
			return t.TupleElementType(0), nil
		case t.IsTupleType() && t.Length() > 1:
			return cty.NilType, fmt.Errorf("the list has %d elements, not one or none", t.Length())
		case t.IsCollectionType():
			return t.ElementType(), nil
		}
		return cty.DynamicPseudoType, nil
	},
	Impl: func(args []cty.Value, want cty.Type) (cty.Value, error) {
		elems, err := elements(args[0])
		switch {
		case err != nil:
			return cty.NilVal, err
		case len(elems) == 0:
			return cty.NullVal(want), nil
		case len(elems) > 1:
			return cty.NilVal, fmt.Errorf("the list has %d elements, not one or none", len(elems))
		}
		return elems[0], nil
	},
})

// indexFunc is the position of a value in a list.
var indexFunc = function.New(&function.Spec{
	Description: "the position of a value in a list",
	Params:      []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}, {Name: "value", Type: cty.DynamicPseudoType}},
	Type:        function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if t := args[0].Type(); !t.IsListType() && !t.IsTupleType() {
			return cty.NilVal, errors.New("a list is needed")
		}
		for i, e := range args[0].AsValueSlice() {
			eq, err := stdlib.Equal(e, args[1])
			switch {
			case err != nil:
				return cty.NilVal, err
			case !eq.IsKnown():
				return cty.UnknownVal(cty.Number), nil
			case eq.True():
				return cty.NumberIntVal(int64(i)), nil
			}
		}
		return cty.NilVal, errors.New("the list does not hold that value")
	},
})

// matchKeys keeps the values whose key is among those searched for.
var matchKeys = function.New(&function.Spec{
	Description: "the values whose key, at the same position, is among those searched for",
	Params: []function.Parameter{
		{Name: "values", Type: cty.List(cty.DynamicPseudoType)}, {Name: "keys", Type: cty.List(cty.DynamicPseudoType)}, {Name: "search", Type: cty.List(cty.DynamicPseudoType)},
	},
	Type: func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
	Impl: func(args []cty.Value, want cty.Type) (cty.Value, error) {
		if args[0].LengthInt() != args[1].LengthInt() {
			return cty.NilVal, errors.New("values and keys differ in length")
		}
		search := map[string]bool{}
		for _, s := range args[2].AsValueSlice() {
			search[s.GoString()] = true
		}
		var out []cty.Value
		keys := args[1].AsValueSlice()
		for i, v := range args[0].AsValueSlice() {
			if search[keys[i].GoString()] {
				out = append(out, v)
			}
		}
		if len(out) == 0 {
			return cty.ListValEmpty(want.ElementType()), nil
		}
		return cty.ListVal(out), nil
	},
})

// transposeFunc swaps the keys and values of a map of lists of strings.
var transposeFunc = function.New(&function.Spec{
	Description: "swaps the keys and the values of a map of lists of texts",
	Params:      []function.Parameter{{Name: "map", Type: cty.Map(cty.List(cty.String))}},
	Type:        function.StaticReturnType(cty.Map(cty.List(cty.String))),
	Impl: func(args []cty.Value, want cty.Type) (cty.Value, error) {
		turned := map[string][]string{}
		for it := args[0].ElementIterator(); it.Next(); {
			k, list := it.Element()
			if list.IsNull() {
				return cty.NilVal, errors.New("a list in the map is null")
			}
			for _, e := range list.AsValueSlice() {
				if e.IsNull() {
					return cty.NilVal, errors.New("a text in the map is null")
				}
				turned[e.AsString()] = append(turned[e.AsString()], k.AsString())
			}
		}
		if len(turned) == 0 {
			return cty.MapValEmpty(cty.List(cty.String)), nil
		}
		out := make(map[string]cty.Value, len(turned))
		for k, list := range turned {
			sort.Strings(list)
			vals := make([]cty.Value, len(list))
			for i, s := range list {
				vals[i] = cty.StringVal(s)
			}
			out[k] = cty.ListVal(vals)
		}
		return cty.MapVal(out), nil
	},
})

func marking(description string, f func(v cty.Value) cty.Value) function.Function {
	return function.New(&function.Spec{
		Description: description,
		Params:      []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowMarked: true, AllowDynamicType: true}},
		Type:        func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
		Impl:        func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f(args[0]), nil },
	})
}

var (
	sensitive    = marking("marks a value as sensitive", func(v cty.Value) cty.Value { return v.Mark(SensitiveMark{}) })
	nonsensitive = marking("takes the mark of sensitivity off a value", func(v cty.Value) cty.Value {
		v, _ = v.Unmark()
		return v
	})
)
