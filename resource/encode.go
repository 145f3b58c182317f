package resource

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// Encode makes the cty object that a struct's `ml` tags describe: what a driver
// returns as outputs. Nil pointers, slices and maps become null; a struct's
// type is the same whatever its content, so that plans can name unknowns in it.
func Encode(v any) (cty.Value, error) {
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer {
		if rv.IsNil() {
			t, err := ctyType(rv.Type())
			if err != nil {
				return cty.NilVal, err
			}
			return cty.NullVal(t.WithoutOptionalAttributesDeep()), nil
		}
		rv = rv.Elem()
	}
	if rv.Kind() != reflect.Struct {
		return cty.NilVal, fmt.Errorf("encode %T: a struct is needed", v)
	}
	return encodeValue(rv)
}

func encodeValue(v reflect.Value) (cty.Value, error) {
	t := v.Type()
	switch {
	case t == valueType:
		cv, ok := v.Interface().(cty.Value)
		if !ok || cv == cty.NilVal {
			return cty.NullVal(cty.DynamicPseudoType), nil
		}
		return cv, nil
	case t == durationType:
		return cty.StringVal(time.Duration(v.Int()).String()), nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			ct, err := ctyType(t)
			if err != nil {
				return cty.NilVal, err
			}
			return cty.NullVal(ct.WithoutOptionalAttributesDeep()), nil
		}
		if v.Kind() == reflect.Interface {
			return FromGo(v.Interface())
		}
		return encodeValue(v.Elem())
	case reflect.String:
		return cty.StringVal(v.String()), nil
	case reflect.Bool:
		return cty.BoolVal(v.Bool()), nil
	case reflect.Int, reflect.Int64:
		return cty.NumberIntVal(v.Int()), nil
	case reflect.Float64:
		return number(v.Float())
	case reflect.Struct:
		return encodeStruct(v)
	case reflect.Slice, reflect.Map:
		return encodeCollection(v)
	}
	return cty.NilVal, fmt.Errorf("a value of type %s cannot stand in HCL", t)
}

func number(f float64) (cty.Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return cty.NilVal, fmt.Errorf("%v is not a number that can be stored", f)
	}
	return cty.NumberFloatVal(f), nil
}

func encodeStruct(v reflect.Value) (cty.Value, error) {
	attrs := map[string]cty.Value{}
	if err := encodeFields(v, attrs); err != nil {
		return cty.NilVal, err
	}
	return cty.ObjectVal(attrs), nil
}

func encodeFields(v reflect.Value, attrs map[string]cty.Value) error {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Tag.Get("ml") == "" {
			if err := encodeFields(v.Field(i), attrs); err != nil {
				return err
			}
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("ml"), ",")
		if name == "" || name == "-" {
			continue
		}
		e, err := encodeValue(v.Field(i))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		attrs[name] = e
	}
	return nil
}

func encodeCollection(v reflect.Value) (cty.Value, error) {
	ct, err := ctyType(v.Type())
	if err != nil {
		return cty.NilVal, err
	}
	ct = ct.WithoutOptionalAttributesDeep()
	if v.IsNil() {
		return cty.NullVal(ct), nil
	}
	if v.Kind() == reflect.Map {
		return encodeMap(v, ct)
	}
	elems := make([]cty.Value, 0, v.Len())
	for i := range v.Len() {
		e, err := encodeValue(v.Index(i))
		if err != nil {
			return cty.NilVal, fmt.Errorf("[%d]: %w", i, err)
		}
		elems = append(elems, e)
	}
	switch {
	case ct == cty.DynamicPseudoType:
		return cty.TupleVal(elems), nil
	case len(elems) == 0:
		return cty.ListValEmpty(ct.ElementType()), nil
	}
	return cty.ListVal(elems), nil
}

func encodeMap(v reflect.Value, ct cty.Type) (cty.Value, error) {
	elems := make(map[string]cty.Value, v.Len())
	for it := v.MapRange(); it.Next(); {
		e, err := encodeValue(it.Value())
		if err != nil {
			return cty.NilVal, fmt.Errorf("%s: %w", it.Key().String(), err)
		}
		elems[it.Key().String()] = e
	}
	switch {
	case ct == cty.DynamicPseudoType:
		return cty.ObjectVal(elems), nil
	case len(elems) == 0:
		return cty.MapValEmpty(ct.ElementType()), nil
	}
	return cty.MapVal(elems), nil
}

// FromGo makes a cty value of plain JSON-like data: the reverse of ToGo.
func FromGo(v any) (cty.Value, error) {
	switch x := v.(type) {
	case nil:
		return cty.NullVal(cty.DynamicPseudoType), nil
	case string:
		return cty.StringVal(x), nil
	case bool:
		return cty.BoolVal(x), nil
	case float64:
		return number(x)
	case map[string]any:
		attrs := make(map[string]cty.Value, len(x))
		for k, e := range x {
			ev, err := FromGo(e)
			if err != nil {
				return cty.NilVal, fmt.Errorf("%s: %w", k, err)
			}
			attrs[k] = ev
		}
		return cty.ObjectVal(attrs), nil
	case []any:
		elems := make([]cty.Value, len(x))
		for i, e := range x {
			ev, err := FromGo(e)
			if err != nil {
				return cty.NilVal, fmt.Errorf("[%d]: %w", i, err)
			}
			elems[i] = ev
		}
		return cty.TupleVal(elems), nil
	}
	return encodeValue(reflect.ValueOf(v))
}
