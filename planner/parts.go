package planner

import (
	"encoding/json"
	"math"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// leaf is one attribute of a body, flattened to its path.
type leaf struct {
	path string
	attr *resource.Attr
	// text is the canonical JSON of the value, or "" when unknown.
	text    string
	unknown bool
	// by is the block that the value came from, when it is a reference; model says
	// that it is one model version.
	by    string
	model bool
	// rows counts the rows of a data input; -1 when it is none or not known.
	rows int64
}

// values are a block's flattened attributes by role.
type values struct {
	inputs, policy, judge resource.Parts
	leaves                []leaf   // all roles, in the order of the schema
	unknown               []string // paths of inputs that are not known yet, sorted
	rows                  map[string]int64
	hidden                map[string]bool // sensitive paths
}

// Body is a block's body, evaluated on what is recorded, and its parts. Of a body
// that by itself asks for nothing it says only that: ten thousand of them are
// worth their memory.
type Body struct {
	ev    config.Evaluated
	vals  *values
	quiet bool
}

// NewBody takes the evaluated body of a block apart. rec is what is recorded of the
// block, probe what its sources hold now; nil when there is none. hash is the one
// of [Options].
func NewBody(p *config.Project, blk *config.Block, ev config.Evaluated, rec *state.Record, probe *Probe, hash func(string) string) Body {
	vals := flatten(p.Body(blk.Kind, blk.Provider), ev, hashOr(hash))
	if quiet(&subject{blk: blk, rec: rec, value: ev.Value, vals: vals}, probe) {
		return Body{quiet: true}
	}
	return Body{ev: ev, vals: vals}
}

// sensitive says whether something sensitive is at path, around it (a map of
// secrets) or inside it (one element of a list, which is kept whole).
func (f *flattener) sensitive(path string) bool {
	for p := range f.ev.Sensitive {
		if inside(p, path) || inside(path, p) {
			return true
		}
	}
	return false
}

// inside says whether path lies inside outer, or is the same.
func inside(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// leaf finds the attribute at path; nil when the body does not set it.
func (v *values) leaf(path string) *leaf {
	for i := range v.leaves {
		if v.leaves[i].path == path {
			return &v.leaves[i]
		}
	}
	return nil
}

// set makes the map that a block may do without: most of ten thousand do.
func set[M ~map[string]V, V any](m *M, path string, v V) {
	if *m == nil {
		*m = M{}
	}
	(*m)[path] = v
}

// flatten turns a body's value into leaves. Data and models count as their
// digest; maps and objects are taken apart, lists are kept whole.
func flatten(schema *resource.Schema, ev config.Evaluated, hash func(string) string) *values {
	v := &values{inputs: resource.Parts{}, leaves: make([]leaf, 0, len(schema.Attrs)/2)}
	f := flattener{values: v, ev: ev, hash: hash}
	f.body(schema, ev.Value, "")
	sort.Strings(v.unknown)
	return v
}

type flattener struct {
	values *values
	ev     config.Evaluated
	hash   func(string) string
}

func (f *flattener) body(s *resource.Schema, v cty.Value, prefix string) {
	if v.IsNull() || !v.IsKnown() {
		return
	}
	for i := range s.Attrs {
		a := &s.Attrs[i]
		if !a.Feedback && v.Type().HasAttribute(a.Name) {
			f.value(a, v.GetAttr(a.Name), prefix+a.Name)
		}
	}
	for i := range s.Blocks {
		b := &s.Blocks[i]
		if !v.Type().HasAttribute(b.Name) {
			continue
		}
		f.block(b, v.GetAttr(b.Name), prefix+b.Name)
	}
}

func (f *flattener) block(b *resource.Block, v cty.Value, path string) {
	if !b.Many {
		f.body(b.Schema, v, path+".")
		return
	}
	if v.IsNull() || !v.IsKnown() || !v.CanIterateElements() {
		return
	}
	for i, e := range v.AsValueSlice() {
		name := strconv.Itoa(i)
		if b.Label != "" && e.IsKnown() && e.Type().HasAttribute(b.Label) {
			if l := e.GetAttr(b.Label); l.IsKnown() && !l.IsNull() {
				name = l.AsString()
			}
		}
		f.body(b.Schema, e, path+"."+name+".")
	}
}

// maxFlatDepth bounds how deep values are taken apart; deeper ones are kept whole.
const maxFlatDepth = 8

func (f *flattener) value(a *resource.Attr, v cty.Value, path string) {
	if v.IsMarked() {
		v, _ = v.UnmarkDeep()
	}
	f.add(a, v, path, 0)
}

func (f *flattener) add(a *resource.Attr, v cty.Value, path string, depth int) {
	if v.IsKnown() && v.IsNull() {
		return
	}
	l := leaf{path: path, attr: a, rows: -1, by: f.by(path)}
	switch {
	case a.Follow && f.followed(&l, v):
	case !v.IsKnown():
		l.unknown, l.model = true, isModel(v.Type())
	case isVersioned(v):
		f.versioned(&l, v)
	case depth < maxFlatDepth && (v.Type().IsObjectType() || v.Type().IsMapType()):
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			f.add(a, e, path+"."+k.AsString(), depth+1)
		}
		return
	case v.IsWhollyKnown():
		l.text = canonical(v)
	default:
		l.unknown = true
	}
	f.put(l)
}

// followed takes what is read as it is each time as its address, which is known
// before its content is.
func (f *flattener) followed(l *leaf, v cty.Value) bool {
	addr := cmpOr(attrText(v, "address"), l.by)
	if addr == "" {
		return false
	}
	l.by, l.text = addr, quote(strings.TrimSuffix(addr+" "+attrText(v, "name"), " "))
	return true
}

// versioned takes a dataset, split or model as its digest.
func (f *flattener) versioned(l *leaf, v cty.Value) {
	l.model = isModel(v.Type())
	d := v.GetAttr("digest")
	if !d.IsKnown() {
		l.unknown = true
	} else if !d.IsNull() {
		l.text = quote(d.AsString())
	}
	if a := v.GetAttr("address"); a.IsKnown() && !a.IsNull() {
		l.by = a.AsString()
	}
	if v.Type().HasAttribute("rows") {
		if r := v.GetAttr("rows"); r.IsKnown() && !r.IsNull() {
			l.rows, _ = r.AsBigFloat().Int64()
		}
	}
}

// isModel says whether values of the type are model versions, and not data.
func isModel(t cty.Type) bool {
	return t.IsObjectType() && t.HasAttribute("digest") && t.HasAttribute("version") && t.HasAttribute("metrics")
}

func isVersioned(v cty.Value) bool {
	t := v.Type()
	return t.IsObjectType() && t.HasAttribute("digest") && t.HasAttribute("address")
}

func (f *flattener) by(path string) string {
	if a, ok := f.ev.Sources[path]; ok {
		return a.String()
	}
	return ""
}

func (f *flattener) put(l leaf) {
	v := f.values
	if l.attr.Sensitive || f.sensitive(l.path) {
		set(&v.hidden, l.path, true)
		if !l.unknown {
			l.text = quote("hash:" + f.hash(l.text))
		}
	}
	v.leaves = append(v.leaves, l)
	switch l.attr.Role {
	case resource.RolePolicy:
		if !l.unknown {
			set(&v.policy, l.path, l.text)
		}
	case resource.RoleJudge:
		if !l.unknown {
			set(&v.judge, l.path, l.text)
		}
	default:
		if l.unknown {
			v.unknown = append(v.unknown, l.path)
			return
		}
		v.inputs[l.path] = l.text
		if l.rows >= 0 {
			set(&v.rows, l.path, l.rows)
		}
	}
}

// canonical is the JSON text of a wholly known value with sorted keys.
func canonical(v cty.Value) string {
	if !v.IsNull() {
		switch v.Type() {
		case cty.String:
			return quote(v.AsString())
		case cty.Bool:
			return strconv.FormatBool(v.True())
		case cty.Number:
			f := v.AsBigFloat()
			// Integers are most of all numbers, and printing a big float is slow.
			if i, acc := f.Int64(); acc == big.Exact {
				return strconv.FormatInt(i, 10)
			}
			return decimal(f)
		}
	}
	raw, err := state.EncodeValue(v)
	if err != nil {
		// Capsules and the like cannot stand in a body; the schema refused them.
		return quote(v.GoString())
	}
	return string(raw)
}

// decimal prints a number like f.Text('f', -1), which takes ten times as long on
// what people write. The shortest decimal of a float64 has at most 17 digits; when
// it reads back as f at f's own precision, no other decimal that short does.
func decimal(f *big.Float) string {
	x, _ := f.Float64()
	if size := math.Abs(x); f.Prec() >= 64 && size > 1e-6 && size < 1e15 {
		text := strconv.FormatFloat(x, 'f', -1, 64)
		if back, _, err := big.ParseFloat(text, 10, f.Prec(), f.Mode()); err == nil && back.Cmp(f) == 0 {
			return text
		}
	}
	return f.Text('f', -1)
}

func quote(s string) string {
	if plain(s) {
		return `"` + s + `"`
	}
	b, err := json.Marshal(s)
	if err != nil {
		return strconv.Quote(s)
	}
	return string(b)
}

// plain says that s stands in JSON as it is.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c >= utf8.RuneSelf, c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// unquoteText shows a part's text as people read it: strings without quotes.
func unquoteText(text string) string {
	if strings.HasPrefix(text, `"`) {
		if in := strings.TrimSuffix(text[1:], `"`); len(in) == len(text)-2 && plain(in) {
			return in
		}
		var s string
		if json.Unmarshal([]byte(text), &s) == nil {
			return s
		}
	}
	return text
}
