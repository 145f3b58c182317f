package main

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/resource"
)

// objects collects the structs that are used as values, to be described once at
// the end of a page.
type objects struct{ seen []reflect.Type }

// attrType renders the type of an attribute with its bounds.
func (o *objects) attrType(a *resource.Attr, t reflect.Type) string {
	text := o.name(t)
	if a.Feedback {
		text = "list of signals"
	}
	if len(a.Enum) > 0 {
		quoted := make([]string, len(a.Enum))
		for i, e := range a.Enum {
			quoted[i] = "`" + e + "`"
		}
		text = strings.Join(quoted, ", ")
	}
	text += bounds(a)
	if a.Sensitive {
		text += ", sensitive"
	}
	return text
}

func bounds(a *resource.Attr) string {
	num := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	switch {
	case a.Min != nil && a.Max != nil:
		return " from " + num(*a.Min) + " to " + num(*a.Max)
	case a.Min != nil:
		return " ≥ " + num(*a.Min)
	case a.Max != nil:
		return " ≤ " + num(*a.Max)
	}
	return ""
}

// name renders a Go type as users know it.
func (o *objects) name(t reflect.Type) string {
	switch {
	case t == nil:
		return "any"
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return o.name(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + o.name(t.Elem())
	case reflect.Map:
		return "map of " + o.name(t.Elem())
	case reflect.Struct:
		if !slices.Contains(o.seen, t) {
			o.seen = append(o.seen, t)
		}
		return fmt.Sprintf("[%s](#%s)", objectName(t), objectName(t))
	}
	return "any"
}

// objectName is a struct's name without what tells it from the block's own struct.
func objectName(t reflect.Type) string {
	return strings.ToLower(strings.TrimSuffix(t.Name(), "Outputs"))
}

// tables writes the objects that the page mentioned, and those that they mention.
func (o *objects) tables(b *strings.Builder) {
	for i := 0; i < len(o.seen); i++ {
		t := o.seen[i]
		fmt.Fprintf(b, "\n## %s\n\n| attribute | type | |\n| --- | --- | --- |\n", objectName(t))
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("ml"), ",")
			if name == "" || name == "-" {
				continue
			}
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, o.name(f.Type), cell(f.Tag.Get("doc")))
		}
	}
}

// fieldType finds the type of the field that carries the attribute called name,
// nil when there is none.
func fieldType(t reflect.Type, name string) reflect.Type {
	if t == nil {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		if n, _, _ := strings.Cut(f.Tag.Get("ml"), ","); n == name {
			return f.Type
		}
	}
	return nil
}

// blockType finds the struct of a nested block.
func blockType(t reflect.Type, name string) reflect.Type {
	f := fieldType(t, name)
	for f != nil && (f.Kind() == reflect.Pointer || f.Kind() == reflect.Slice) {
		f = f.Elem()
	}
	return f
}
