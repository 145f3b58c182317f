package config

import (
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// shape is what a value must look like beyond its type.
type shape struct {
	attr    *resource.Attr
	integer bool
	fields  map[string]*shape // of an object
	elem    *shape            // of a list or map
}

var (
	durationGo = reflect.TypeFor[time.Duration]()
	ctyValueGo = reflect.TypeFor[cty.Value]()
)

func newShape(a *resource.Attr, t reflect.Type) *shape {
	s := &shape{attr: a}
	s.fill(t)
	return s
}

// fill reads from the Go type what the schema does not hold.
func (s *shape) fill(t reflect.Type) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t == ctyValueGo || t == durationGo {
		return
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		s.integer = true
	case reflect.Slice, reflect.Map:
		s.elem = &shape{attr: s.attr}
		s.elem.fill(t.Elem())
	case reflect.Struct:
		inner, err := resource.SchemaOf(reflect.New(t).Interface())
		if err != nil {
			return // newKinds reports a struct that cannot stand in HCL
		}
		s.fields = map[string]*shape{}
		fields := structFields(t)
		for i := range inner.Attrs {
			a := &inner.Attrs[i]
			s.fields[a.Name] = newShape(a, fields[a.Name])
		}
	}
}

// check looks at known values only: what is unknown is checked when it is known.
func (s *shape) check(v cty.Value, name string) string {
	if v.IsNull() || !v.IsKnown() {
		return ""
	}
	t := v.Type()
	switch {
	case t == cty.Number:
		return s.number(v.AsBigFloat(), name)
	case t == cty.String:
		return s.text(v.AsString(), name)
	case s.fields != nil && t.IsObjectType():
		for _, f := range sortedKeys(s.fields) {
			if t.HasAttribute(f) {
				if p := s.fields[f].check(v.GetAttr(f), name+"."+f); p != "" {
					return p
				}
			}
		}
	case s.elem != nil && v.CanIterateElements():
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			if p := s.elem.check(e, name+pathText(cty.Path{cty.IndexStep{Key: k}})); p != "" {
				return p
			}
		}
	}
	return ""
}

func (s *shape) number(f *big.Float, name string) string {
	n, _ := f.Float64()
	given := strconv.FormatFloat(n, 'g', -1, 64)
	switch a := s.attr; {
	case f.IsInf() || n > 1.7e308 || n < -1.7e308:
		return fmt.Sprintf("%s must be a finite number.", name)
	case s.integer && !f.IsInt():
		return fmt.Sprintf("%s must be a whole number, not %s.", name, given)
	case s.integer && (n > 1<<53 || n < -(1<<53)):
		return fmt.Sprintf("%s is %s, which is too large; whole numbers go up to 2^53.", name, given)
	case a.Min != nil && n < *a.Min:
		return fmt.Sprintf("%s must be %s or more, not %s.", name, strconv.FormatFloat(*a.Min, 'g', -1, 64), given)
	case a.Max != nil && n > *a.Max:
		return fmt.Sprintf("%s must be %s or less, not %s.", name, strconv.FormatFloat(*a.Max, 'g', -1, 64), given)
	}
	return ""
}

func (s *shape) text(text, name string) string {
	a := s.attr
	if len(a.Enum) > 0 && !slices.Contains(a.Enum, text) {
		return fmt.Sprintf("%s is %q, which is not one of: %s.%s", name, text, strings.Join(a.Enum, ", "), suggestion(text, a.Enum))
	}
	if a.Duration {
		if _, err := resource.ParseDuration(text); err != nil {
			return fmt.Sprintf("%s: %s.", name, sentence(err))
		}
	}
	return ""
}

// suggestion is didYouMean without the list, where the list stands already.
func suggestion(given string, names []string) string {
	if s := didYouMean(given, names); strings.HasPrefix(s, " Did") {
		return s
	}
	return ""
}
