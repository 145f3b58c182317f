package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config/internal/syntax"
	"github.com/continuo-ml/continuo/resource"
)

// bodySpec is a resource.Schema made ready for decoding many bodies.
type bodySpec struct {
	schema *resource.Schema
	attrs  []attrSpec // sorted by name
	byName map[string]int
	blocks map[string]*blockSpec
	order  []string // names of blocks, sorted
	null   cty.Value
	// providers are the bodies of nested blocks named after a provider; only at
	// the top of a kind's body.
	providers map[string]*bodySpec
	// elsewhere are providers whose nested blocks are passed over.
	elsewhere []string
	// meta are the names that every kind's body may hold besides, read elsewhere.
	meta map[string]bool
}

type attrSpec struct {
	*resource.Attr
	shape   *shape
	absent  cty.Value // the default, or null
	ref     bool      // the type of something that is only ever referred to, such as a model
	refWith []string  // the attributes that such a value has
}

type blockSpec struct {
	resource.Block
	body *bodySpec
}

// newBodySpec prepares a schema. goType is the struct that it was read from, or
// nil: it tells integers from other numbers and what objects are made of.
func newBodySpec(s *resource.Schema, goType reflect.Type, refTypes map[string][]string) *bodySpec {
	b := &bodySpec{schema: s, byName: make(map[string]int, len(s.Attrs)), blocks: map[string]*blockSpec{}}
	fields := structFields(goType)
	for i := range s.Attrs {
		a := &s.Attrs[i]
		as := attrSpec{Attr: a, absent: a.Default}
		if a.Default == cty.NilVal {
			as.absent = cty.NullVal(a.Type.WithoutOptionalAttributesDeep())
		}
		as.shape = newShape(a, fields[a.Name])
		as.refWith, as.ref = refTypes[typeKey(a.Type)]
		b.byName[a.Name] = len(b.attrs)
		b.attrs = append(b.attrs, as)
	}
	for _, blk := range s.Blocks {
		b.order = append(b.order, blk.Name)
		b.blocks[blk.Name] = &blockSpec{Block: blk, body: newBodySpec(blk.Schema, elemType(fields[blk.Name]), refTypes)}
	}
	b.null = cty.NullVal(b.valueType())
	return b
}

// valueType is the type of the object that a body decodes to.
func (b *bodySpec) valueType() cty.Type {
	t := b.schema.Type()
	attrs := maps.Clone(t.AttributeTypes())
	for _, blk := range b.blocks {
		if blk.Label != "" && !blk.Many {
			attrs[blk.Name] = blk.body.labelled(blk.Label)
		}
	}
	return cty.Object(attrs)
}

func (b *bodySpec) labelled(label string) cty.Type {
	attrs := maps.Clone(b.valueType().AttributeTypes())
	attrs[label] = cty.String
	return cty.Object(attrs)
}

func typeKey(t cty.Type) string {
	if !t.IsObjectType() {
		return ""
	}
	names := slices.Sorted(maps.Keys(t.AttributeTypes()))
	return strings.Join(names, " ")
}

// names lists what may stand in the body: attributes and blocks.
func (b *bodySpec) names() []string {
	names := append([]string(nil), b.order...)
	for _, a := range b.attrs {
		names = append(names, a.Name)
	}
	for n := range b.meta {
		names = append(names, n)
	}
	return names
}

// jsonSchema is the body as JSON files may write it.
func (b *bodySpec) jsonSchema() *syntax.BodySchema {
	s := &syntax.BodySchema{Blocks: map[string]syntax.BlockSchema{}}
	for _, a := range b.attrs {
		s.Attrs = append(s.Attrs, a.Name)
	}
	add := func(name, label string, body *bodySpec) {
		var labels []string
		if label != "" {
			labels = []string{label}
		}
		s.Blocks[name] = syntax.BlockSchema{Labels: labels, Body: body.jsonSchema}
	}
	for n, blk := range b.blocks {
		add(n, blk.Label, blk.body)
	}
	for n, p := range b.providers {
		add(n, "", p)
	}
	for _, n := range b.elsewhere {
		s.Blocks[n] = syntax.BlockSchema{Body: func() *syntax.BodySchema { return &syntax.BodySchema{Any: true} }}
	}
	if b.meta != nil {
		addMetaJSON(s)
	}
	if len(b.order) > 0 {
		s.Blocks["dynamic"] = syntax.BlockSchema{Labels: []string{"type"}, Body: b.dynamicJSON}
	}
	return s
}

// dynamicJSON is the body of a dynamic block. Which block it makes is its
// label, which the schema of JSON bodies cannot depend on; so its content may
// hold what any of the blocks may, and decoding checks the rest.
func (b *bodySpec) dynamicJSON() *syntax.BodySchema {
	content := &syntax.BodySchema{Blocks: map[string]syntax.BlockSchema{}}
	seen := map[string]bool{}
	for _, n := range b.order {
		inner := b.blocks[n].body.jsonSchema()
		for _, a := range inner.Attrs {
			if !seen[a] {
				seen[a] = true
				content.Attrs = append(content.Attrs, a)
			}
		}
		maps.Copy(content.Blocks, inner.Blocks)
	}
	return &syntax.BodySchema{
		Attrs:  []string{"for_each", "iterator", "labels"},
		Blocks: map[string]syntax.BlockSchema{"content": {Body: func() *syntax.BodySchema { return content }}},
	}
}

// structFields gives the Go types of a struct's tagged fields, by name.
func structFields(t reflect.Type) map[string]reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	out := map[string]reflect.Type{}
	if t == nil || t.Kind() != reflect.Struct {
		return out
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Tag.Get("ml") == "" {
			maps.Copy(out, structFields(f.Type))
			continue
		}
		if name, _, _ := strings.Cut(f.Tag.Get("ml"), ","); name != "" && name != "-" {
			out[name] = f.Type
		}
	}
	return out
}

func elemType(t reflect.Type) reflect.Type {
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) {
		t = t.Elem()
	}
	return t
}

// referenceTypes are the types of values that files never spell out: a block's
// outputs, and objects among them, such as a model. The attributes of each say
// whether a given object is one.
func referenceTypes(kinds Kinds) map[string][]string {
	out := map[string][]string{}
	add := func(t cty.Type) {
		if k := typeKey(t); k != "" {
			out[k] = strings.Fields(k)
		}
	}
	for _, k := range kinds {
		attrs := map[string]cty.Type{}
		for _, a := range k.outputs.Attrs {
			attrs[a.Name] = a.Type
			add(a.Type)
		}
		add(cty.Object(attrs))
	}
	// Data is what a dataset's splits are, whose type a map of any cannot tell.
	if s, err := resource.SchemaOf(Data{}); err == nil {
		add(s.Type())
	}
	return out
}
