package resource

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// Role says what a moved attribute means.
type Role string

// The roles of an attribute.
const (
	// RoleInput: a run depends on it; moving it runs the block again.
	RoleInput Role = "input"
	// RolePolicy: how, not what: moving it updates the record and never runs anything.
	RolePolicy Role = "policy"
	// RoleJudge: moving it judges recorded results again without running.
	RoleJudge Role = "judge"
	// RoleSpec: part of an object's desired state; moving it updates or replaces the object.
	RoleSpec Role = "spec"
)

// Schema is a block's body: the attributes and nested blocks that it takes.
// It is made from a Go struct by [SchemaOf] and is the single source for
// decoding, validation, planning and the generated reference.
type Schema struct {
	Doc    string
	Attrs  []Attr  // sorted by name
	Blocks []Block // sorted by name
}

// Attr is one attribute of a body.
type Attr struct {
	Name string
	Doc  string
	// Type is the cty type to convert to; objects in it have optional attributes.
	// DynamicPseudoType takes any value.
	Type     cty.Type
	Required bool
	// Default stands in when the attribute is absent; cty.NilVal means null.
	Default   cty.Value
	Role      Role
	Code      Code // the reason code when it moves
	Immutable bool // moving it replaces the object
	Sensitive bool // kept as a keyed hash, shown as (sensitive)
	Probe     bool // part of what a provider reads at plan time to digest content
	Feedback  bool // a list of signal references: read from the record, orders nothing
	Duration  bool // a string such as "30s", "12h", "30d"
	Follow    bool // what it refers to is read as it is each time: only another address moves it
	Hold      bool // an output that keeps its last good value while the block's verdict is bad
	Enum      []string
	Min, Max  *float64
}

// Block is a nested block of a body.
type Block struct {
	Name   string
	Doc    string
	Label  string // the attribute that the block's one label fills, or ""
	Many   bool   // repeatable; otherwise at most one
	Needed bool   // at least one must stand there
	Schema *Schema
}

// Attr returns the attribute called name, or nil.
func (s *Schema) Attr(name string) *Attr {
	i := sort.Search(len(s.Attrs), func(i int) bool { return s.Attrs[i].Name >= name })
	if i < len(s.Attrs) && s.Attrs[i].Name == name {
		return &s.Attrs[i]
	}
	return nil
}

// Block returns the nested block called name, or nil.
func (s *Schema) Block(name string) *Block {
	i := sort.Search(len(s.Blocks), func(i int) bool { return s.Blocks[i].Name >= name })
	if i < len(s.Blocks) && s.Blocks[i].Name == name {
		return &s.Blocks[i]
	}
	return nil
}

// Type is the object type that the body decodes to: an attribute each, a null
// or object for a single nested block, a tuple for repeated ones (their
// elements may differ in type, hence dynamic).
func (s *Schema) Type() cty.Type {
	attrs := make(map[string]cty.Type, len(s.Attrs)+len(s.Blocks))
	for _, a := range s.Attrs {
		attrs[a.Name] = a.Type
	}
	for _, b := range s.Blocks {
		if b.Many {
			attrs[b.Name] = cty.DynamicPseudoType
			continue
		}
		attrs[b.Name] = b.Schema.Type()
	}
	return cty.Object(attrs).WithoutOptionalAttributesDeep()
}

// SchemaOf reads the schema off a struct. Fields carry three tags: `ml:"name,option…"`,
// `doc:"one sentence"` and, for strings, `enum:"a|b"`. Options: required,
// input and spec (or with a cause: input=params, spec=data|code|upstream),
// policy, judge, immutable, follow, sensitive, probe, feedback, hold, block,
// label, default=VALUE, min=N, max=N.
// Attributes of a nested block inherit the role of the field that holds it.
// It errors on a field that cannot stand in HCL, so a wrong struct is found by
// the first test that lists the kinds.
func SchemaOf(v any) (*Schema, error) {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return schemaOf(t, RoleSpec, ReasonConfigChanged)
}

func schemaOf(t reflect.Type, role Role, code Code) (*Schema, error) {
	s := &Schema{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Tag.Get("ml") == "" {
			inner, err := schemaOf(f.Type, role, code)
			if err != nil {
				return nil, err
			}
			s.Attrs = append(s.Attrs, inner.Attrs...)
			s.Blocks = append(s.Blocks, inner.Blocks...)
			continue
		}
		o, ok, err := parseTag(f, role, code)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name(), f.Name, err)
		}
		if !ok {
			continue
		}
		if o.block {
			b, err := blockOf(f, o)
			if err != nil {
				return nil, err
			}
			s.Blocks = append(s.Blocks, b)
			continue
		}
		a, err := attrOf(f, o)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name(), f.Name, err)
		}
		if !o.label {
			s.Attrs = append(s.Attrs, a)
		}
	}
	sort.Slice(s.Attrs, func(i, j int) bool { return s.Attrs[i].Name < s.Attrs[j].Name })
	sort.Slice(s.Blocks, func(i, j int) bool { return s.Blocks[i].Name < s.Blocks[j].Name })
	return s, nil
}

// tag is one parsed field tag.
type tag struct {
	name         string
	block, label bool
	attr         Attr
	def          string
}

func parseTag(f reflect.StructField, role Role, code Code) (tag, bool, error) {
	raw := f.Tag.Get("ml")
	if raw == "" || raw == "-" {
		return tag{}, false, nil
	}
	parts := strings.Split(raw, ",")
	o := tag{name: parts[0], attr: Attr{Name: parts[0], Doc: f.Tag.Get("doc"), Role: role, Code: code}}
	if e := f.Tag.Get("enum"); e != "" {
		o.attr.Enum = strings.Split(e, "|")
	}
	for _, p := range parts[1:] {
		if err := o.option(p); err != nil {
			return tag{}, false, err
		}
	}
	return o, true, nil
}

var causes = map[string]Code{
	"": ReasonConfigChanged, "params": ReasonParamsChanged, "data": ReasonDataChanged,
	"code": ReasonCodeChanged, "upstream": ReasonUpstreamChanged,
}

func (o *tag) option(p string) error {
	key, val, _ := strings.Cut(p, "=")
	a := &o.attr
	switch key {
	case "required":
		a.Required = true
	case "input", "spec":
		c, ok := causes[val]
		if !ok {
			return fmt.Errorf("unknown cause %q", val)
		}
		a.Role, a.Code = Role(key), c
	case "policy", "judge":
		a.Role = Role(key)
	case "follow":
		a.Follow = true
	case "immutable":
		a.Immutable = true
	case "sensitive":
		a.Sensitive = true
	case "probe":
		a.Probe = true
	case "feedback":
		a.Feedback = true
	case "hold":
		a.Hold = true
	case "block":
		o.block = true
	case "label":
		o.label = true
	case "default":
		o.def = val
	case "min", "max":
		n, err := strconv.ParseFloat(val, 64)
		if err != nil {
			return fmt.Errorf("option %q: %w", p, err)
		}
		if key == "min" {
			a.Min = &n
		} else {
			a.Max = &n
		}
	default:
		return fmt.Errorf("unknown option %q", p)
	}
	return nil
}

func blockOf(f reflect.StructField, o tag) (Block, error) {
	b := Block{Name: o.name, Doc: o.attr.Doc, Needed: o.attr.Required}
	t := f.Type
	if t.Kind() == reflect.Slice {
		b.Many, t = true, t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return b, fmt.Errorf("%s: a block field is a struct, a pointer to one or a slice of them, not %s", f.Name, f.Type)
	}
	s, err := schemaOf(t, o.attr.Role, o.attr.Code)
	if err != nil {
		return b, err
	}
	b.Schema = s
	b.Label = labelOf(t)
	return b, nil
}

func labelOf(t reflect.Type) string {
	for i := range t.NumField() {
		name, opts, _ := strings.Cut(t.Field(i).Tag.Get("ml"), ",")
		if opts == "label" || strings.HasPrefix(opts, "label,") {
			return name
		}
	}
	return ""
}

func attrOf(f reflect.StructField, o tag) (Attr, error) {
	a := o.attr
	t, err := ctyType(f.Type)
	if err != nil {
		return a, err
	}
	a.Type = t
	a.Duration = f.Type == durationType || f.Type == reflect.PointerTo(durationType)
	if a.Feedback {
		a.Type = cty.DynamicPseudoType
	}
	if o.def != "" {
		if a.Default, err = parseDefault(a, o.def); err != nil {
			return a, err
		}
	}
	return a, nil
}

func parseDefault(a Attr, def string) (cty.Value, error) {
	switch a.Type {
	case cty.String:
		return cty.StringVal(def), nil
	case cty.Bool:
		return cty.BoolVal(def == "true"), nil
	case cty.Number:
		return cty.ParseNumberVal(def)
	}
	return cty.NilVal, fmt.Errorf("a default needs a string, number or bool, not %s", a.Type.FriendlyName())
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	valueType    = reflect.TypeFor[cty.Value]()
)

// ctyType is the HCL type that a Go field takes.
func ctyType(t reflect.Type) (cty.Type, error) {
	switch {
	case t == durationType:
		return cty.String, nil
	case t == valueType, t.Kind() == reflect.Interface:
		return cty.DynamicPseudoType, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return ctyType(t.Elem())
	case reflect.String:
		return cty.String, nil
	case reflect.Bool:
		return cty.Bool, nil
	case reflect.Int, reflect.Int64, reflect.Float64:
		return cty.Number, nil
	case reflect.Slice:
		e, err := ctyType(t.Elem())
		if err == nil && (e == cty.DynamicPseudoType || t.Elem().Kind() == reflect.Struct) {
			return cty.DynamicPseudoType, nil
		}
		return cty.List(e), err
	case reflect.Map:
		e, err := ctyType(t.Elem())
		if err == nil && (e == cty.DynamicPseudoType || t.Elem().Kind() == reflect.Struct) {
			return cty.DynamicPseudoType, nil
		}
		return cty.Map(e), err
	case reflect.Struct:
		return objectType(t)
	default:
		return cty.NilType, fmt.Errorf("a field of type %s cannot stand in HCL", t)
	}
}

// objectType is the object type of a struct used as a value (an output such as
// a model, a window), not as a block. Its attributes are optional, so that users
// may leave some out; conversion fills in nulls.
func objectType(t reflect.Type) (cty.Type, error) {
	s, err := schemaOf(t, RoleSpec, ReasonConfigChanged)
	if err != nil {
		return cty.NilType, err
	}
	attrs := make(map[string]cty.Type, len(s.Attrs))
	names := make([]string, 0, len(s.Attrs))
	for _, a := range s.Attrs {
		attrs[a.Name] = a.Type
		names = append(names, a.Name)
	}
	return cty.ObjectWithOptionalAttrs(attrs, names), nil
}
