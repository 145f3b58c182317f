package resource

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/gocty"
)

// ErrUnknown is wrapped by Decode when a value is not known yet, so that no
// driver ever sees a half-known spec.
var ErrUnknown = errors.New("value is not known yet")

// Decode fills the struct that into points at from an object value of the type
// that the struct's schema describes. Absent attributes leave the zero value.
// It errors, naming the path, on an unknown value (ErrUnknown), a wrong type or
// a duration that cannot be read.
func Decode(v cty.Value, into any) error {
	rv := reflect.ValueOf(into)
	if rv.Kind() != reflect.Pointer || rv.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("decode into %T: a pointer to a struct is needed", into)
	}
	return decodeStruct(v, rv.Elem(), "")
}

// Known is v with null in place of what is not known yet. Marks are dropped.
func Known(v cty.Value) cty.Value {
	v, _ = v.UnmarkDeep()
	out, err := cty.Transform(v, func(_ cty.Path, v cty.Value) (cty.Value, error) {
		if !v.IsKnown() {
			return cty.NullVal(v.Type()), nil
		}
		return v, nil
	})
	if err != nil { // nothing above errors
		return cty.NullVal(v.Type())
	}
	return out
}

func decodeStruct(v cty.Value, into reflect.Value, path string) error {
	v, _ = v.Unmark() // level by level: unmarking deep would rebuild every value, and few have marks
	if v.IsNull() {
		return nil
	}
	if !v.IsKnown() {
		return fmt.Errorf("%s: %w", strings.TrimPrefix(path, "."), ErrUnknown)
	}
	t := into.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Tag.Get("ml") == "" {
			if err := decodeStruct(v, into.Field(i), path); err != nil {
				return err
			}
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("ml"), ",")
		if name == "" || name == "-" {
			continue
		}
		av, ok := attribute(v, name)
		if !ok || av.IsNull() {
			continue
		}
		if err := decodeValue(av, into.Field(i), path+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func attribute(v cty.Value, name string) (cty.Value, bool) {
	switch t := v.Type(); {
	case t.IsObjectType():
		if !t.HasAttribute(name) {
			return cty.NilVal, false
		}
		return v.GetAttr(name), true
	case t.IsMapType():
		k := cty.StringVal(name)
		if v.HasIndex(k).False() {
			return cty.NilVal, false
		}
		return v.Index(k), true
	}
	return cty.NilVal, false
}

func decodeValue(v cty.Value, into reflect.Value, path string) error {
	where := strings.TrimPrefix(path, ".")
	if into.Type() == valueType {
		if v.ContainsMarked() {
			v, _ = v.UnmarkDeep()
		}
		into.Set(reflect.ValueOf(v))
		return nil
	}
	v, _ = v.Unmark()
	if !v.IsKnown() {
		return fmt.Errorf("%s: %w", where, ErrUnknown)
	}
	if v.IsNull() {
		return nil
	}
	if into.Type() == durationType {
		return decodeDuration(v, into, where)
	}
	switch into.Kind() {
	case reflect.Pointer:
		p := reflect.New(into.Type().Elem())
		if err := decodeValue(v, p.Elem(), path); err != nil {
			return err
		}
		into.Set(p)
		return nil
	case reflect.Struct:
		return decodeStruct(v, into, path)
	case reflect.Interface:
		g, err := ToGo(v)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		into.Set(reflect.ValueOf(&g).Elem())
		return nil
	case reflect.Slice:
		return decodeSlice(v, into, path)
	case reflect.Map:
		return decodeMap(v, into, path)
	}
	if err := gocty.FromCtyValue(v, into.Addr().Interface()); err != nil { // a primitive: there is nothing below it
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

func decodeDuration(v cty.Value, into reflect.Value, where string) error {
	if v.Type() != cty.String {
		return fmt.Errorf("%s: a duration is a string such as \"30s\" or \"12h\", not %s", where, v.Type().FriendlyName())
	}
	d, err := ParseDuration(v.AsString())
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	into.SetInt(int64(d))
	return nil
}

func decodeSlice(v cty.Value, into reflect.Value, path string) error {
	if !v.CanIterateElements() {
		return fmt.Errorf("%s: a list is needed, not %s", strings.TrimPrefix(path, "."), v.Type().FriendlyName())
	}
	out := reflect.MakeSlice(into.Type(), 0, v.LengthInt())
	for it, i := v.ElementIterator(), 0; it.Next(); i++ {
		_, ev := it.Element()
		e := reflect.New(into.Type().Elem()).Elem()
		if err := decodeValue(ev, e, path+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
		out = reflect.Append(out, e)
	}
	into.Set(out)
	return nil
}

func decodeMap(v cty.Value, into reflect.Value, path string) error {
	if !v.CanIterateElements() {
		return fmt.Errorf("%s: a map is needed, not %s", strings.TrimPrefix(path, "."), v.Type().FriendlyName())
	}
	out := reflect.MakeMapWithSize(into.Type(), v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		k, ev := it.Element()
		if k.Type() != cty.String {
			return fmt.Errorf("%s: a map with string keys is needed", strings.TrimPrefix(path, "."))
		}
		e := reflect.New(into.Type().Elem()).Elem()
		if err := decodeValue(ev, e, path+"."+k.AsString()); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(k.AsString()), e)
	}
	into.Set(out)
	return nil
}

// ToGo turns a wholly known value into what encoding/json would make of it:
// nil, bool, string, int64 or float64, []any, map[string]any.
func ToGo(v cty.Value) (any, error) {
	v, _ = v.Unmark()
	if !v.IsKnown() {
		return nil, ErrUnknown
	}
	if v.IsNull() {
		return nil, nil
	}
	switch t := v.Type(); {
	case t == cty.String:
		return v.AsString(), nil
	case t == cty.Bool:
		return v.True(), nil
	case t == cty.Number:
		f := v.AsBigFloat()
		if i, acc := f.Int64(); acc == 0 {
			return i, nil
		}
		n, _ := f.Float64()
		return n, nil
	case t.IsMapType() || t.IsObjectType():
		out := make(map[string]any, v.LengthInt())
		for it := v.ElementIterator(); it.Next(); {
			k, ev := it.Element()
			e, err := ToGo(ev)
			if err != nil {
				return nil, err
			}
			out[k.AsString()] = e
		}
		return out, nil
	case v.CanIterateElements():
		out := make([]any, 0, v.LengthInt())
		for it := v.ElementIterator(); it.Next(); {
			_, ev := it.Element()
			e, err := ToGo(ev)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("a value of type %s has no plain form", t.FriendlyName())
	}
}

// MaxDuration is the longest duration that a file may ask for, ten years: more
// is a typing mistake, and keeps arithmetic with time.Time safe.
const MaxDuration = 10 * 365 * 24 * time.Hour

// ParseDuration reads "30s", "1h30m" as Go does, and "30d" and "2w" besides.
// It errors on a negative duration and on more than MaxDuration.
func ParseDuration(s string) (time.Duration, error) {
	d, err := parseDuration(s)
	switch {
	case err != nil:
		return 0, err
	case d < 0:
		return 0, fmt.Errorf("duration %q is negative; give one such as \"30s\" or \"12h\"", s)
	case d > MaxDuration:
		return 0, fmt.Errorf("duration %q is longer than ten years", s)
	}
	return d, nil
}

func parseDuration(s string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			f, err := strconv.ParseFloat(n, 64)
			if err == nil && f >= -4000 && f <= 4000 {
				return time.Duration(f * float64(unit)), nil
			}
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; give one such as \"30s\", \"12h\" or \"30d\"", s)
	}
	return d, nil
}
