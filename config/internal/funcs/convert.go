package funcs

import (
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// Convert is convert.Convert, linear where that one compares every element's
// type with every other's: tuples and objects whose elements agree already.
func Convert(v cty.Value, want cty.Type) (cty.Value, error) {
	if got, ok := collect(v, want); ok {
		return got, nil
	}
	return convert.Convert(v, want)
}

func collect(v cty.Value, want cty.Type) (cty.Value, bool) {
	if !want.IsCollectionType() || v.IsMarked() || !v.IsKnown() || v.IsNull() {
		return v, false
	}
	t, elem := v.Type(), want.ElementType()
	if !t.IsTupleType() && !t.IsObjectType() || t.IsObjectType() != want.IsMapType() || v.LengthInt() == 0 {
		return v, false
	}
	common, ok := commonType(t)
	if !ok || common.HasDynamicTypes() || elem != cty.DynamicPseudoType && !common.Equals(elem) {
		return v, false
	}
	switch {
	case want.IsListType():
		return cty.ListVal(v.AsValueSlice()), true
	case want.IsMapType():
		return cty.MapVal(v.AsValueMap()), true
	}
	return cty.SetVal(v.AsValueSlice()), true
}

// commonType is the type that all elements of a tuple or object type have.
func commonType(t cty.Type) (cty.Type, bool) {
	var common cty.Type
	if t.IsTupleType() {
		for i, e := range t.TupleElementTypes() {
			if i == 0 {
				common = e
			}
			if !e.Equals(common) {
				return e, false
			}
		}
		return common, true
	}
	first := true
	for _, e := range t.AttributeTypes() {
		if first {
			common, first = e, false
		}
		if !e.Equals(common) {
			return e, false
		}
	}
	return common, !first
}

// fast lets a function that takes collections of any type convert its arguments
// by Convert; the evaluator would otherwise convert them before the call.
func fast(f function.Function) function.Function {
	params, rest := f.Params(), f.VarParam()
	loose := false
	loosen := func(p *function.Parameter) cty.Type {
		t := p.Type
		if t.IsCollectionType() && t.ElementType() == cty.DynamicPseudoType {
			p.Type, loose = cty.DynamicPseudoType, true
		}
		return t
	}
	types := make([]cty.Type, len(params))
	for i := range params {
		types[i] = loosen(&params[i])
	}
	var restType cty.Type
	if rest != nil {
		p := *rest
		restType = loosen(&p)
		rest = &p
	}
	if !loose {
		return f
	}
	args := func(given []cty.Value) ([]cty.Value, error) {
		out := make([]cty.Value, len(given))
		for i, v := range given {
			want := restType
			if i < len(types) {
				want = types[i]
			}
			got, err := Convert(v, want)
			if err != nil {
				return nil, function.NewArgError(i, err)
			}
			out[i] = got
		}
		return out, nil
	}
	return function.New(&function.Spec{
		Description: f.Description(), Params: params, VarParam: rest,
		Type: func(given []cty.Value) (cty.Type, error) {
			a, err := args(given)
			if err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(a)
		},
		Impl: func(given []cty.Value, _ cty.Type) (cty.Value, error) {
			a, err := args(given)
			if err != nil {
				return cty.NilVal, err
			}
			return f.Call(a)
		},
	})
}

// to is the function that converts to a type.
func to(want cty.Type) function.Function {
	return function.New(&function.Spec{
		Description: "converts a value to a " + want.FriendlyNameForConstraint(),
		Params:      []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowMarked: true, AllowDynamicType: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			v, err := convertTo(args[0], want)
			return v.Type(), err
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return convertTo(args[0], want) },
	})
}

func convertTo(v cty.Value, want cty.Type) (cty.Value, error) {
	plain, marks := v.Unmark()
	got, err := Convert(plain, want)
	if err != nil {
		return cty.DynamicVal, err
	}
	return got.WithMarks(marks), nil
}
