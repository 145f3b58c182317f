package planner

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

var null = json.RawMessage("null")

// show fills in what people read: the values before and after, the unknown
// paths, and each change. Sensitive values are masked.
func (b *builder) show(st *Step, s *subject) {
	st.Before, st.After = null, null
	if s.rec != nil && len(s.rec.Spec) > 0 {
		st.Before = maskRecorded(s.rec.Spec, s.vals)
	}
	st.After = after(s)
	for _, l := range s.vals.leaves {
		if l.unknown {
			st.AfterUnknown = append(st.AfterUnknown, l.path)
		}
	}
	st.AfterUnknown = append(st.AfterUnknown, s.pending...)
	sort.Strings(st.AfterUnknown)
	if s.rec != nil && len(s.rec.Parts) > 0 { // it was made once: a block that only ever failed has nothing to change from
		st.Changes = changes(s)
	}
}

// after is the planned body as JSON, with null for what is not known yet.
func after(s *subject) json.RawMessage {
	raw, err := state.EncodeValue(resource.Known(unmarked(s.value)))
	if err != nil {
		return null
	}
	return maskRecorded(raw, s.vals)
}

func unmarked(v cty.Value) cty.Value {
	u, _ := v.UnmarkDeep()
	return u
}

// maskRecorded hides sensitive attributes in a body's JSON.
func maskRecorded(raw json.RawMessage, vals *values) json.RawMessage {
	var paths []string
	for _, l := range vals.leaves {
		if l.attr.Sensitive || vals.hidden[l.path] {
			paths = append(paths, l.path)
		}
	}
	if len(paths) == 0 {
		return raw
	}
	var tree any
	if json.Unmarshal(raw, &tree) != nil {
		return null
	}
	for _, p := range paths {
		maskAt(tree, p, func(any) any { return MaskText })
	}
	out, err := json.Marshal(tree)
	if err != nil {
		return null
	}
	return out
}

// stored is a body as records keep it: sensitive attributes as keyed hashes.
func stored(v cty.Value, vals *values) (json.RawMessage, error) {
	raw, err := state.EncodeValue(unmarked(v))
	if err != nil || len(vals.hidden) == 0 {
		return raw, err
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return nil, err
	}
	for _, p := range sortedStrings(vals.hidden) {
		if l := vals.leaf(p); l != nil {
			maskAt(tree, p, func(v any) any { return hashed(v, unquoteText(l.text), l.attr.Type.HasDynamicTypes()) })
		}
	}
	return json.Marshal(tree)
}

// hashed puts the hash into v's place so that what is stored still has the
// attribute's type: lists and maps keep their shape, and a number or a truth,
// which a hash cannot be, is left out unless any type will do.
func hashed(v any, hash string, anyType bool) any {
	switch x := v.(type) {
	case []any:
		for i := range x {
			x[i] = hashed(x[i], hash, anyType)
		}
		return x
	case map[string]any:
		for k := range x {
			x[k] = hashed(x[k], hash, anyType)
		}
		return x
	case string:
		return hash
	}
	if anyType {
		return hash
	}
	return nil
}

// MaskText stands for a sensitive value wherever people read.
const MaskText = "(sensitive)"

// maskAt hides the value at a flattened path in decoded JSON. Keys may have dots in
// them, so that a path may be read in several ways: what any of them leads to is
// hidden, since what is shown in error cannot be taken back.
func maskAt(tree any, path string, with func(any) any) {
	switch t := tree.(type) {
	case map[string]any:
		for key, v := range t {
			switch rest, inside := strings.CutPrefix(path, key+"."); {
			case key == path && v != nil:
				t[key] = with(v)
			case inside:
				maskAt(v, rest, with)
			}
		}
	case []any: // repeated blocks, by label or number
		for i, e := range t {
			m, ok := e.(map[string]any)
			if !ok {
				continue
			}
			for label := range labels(m, strconv.Itoa(i)) {
				if rest, ok := strings.CutPrefix(path, label+"."); ok {
					maskAt(m, rest, with)
				}
			}
		}
	}
}

// labels are what a repeated block may be called by: its number, and any of its
// strings, since whichever attribute the kind fills with the label is one of them.
func labels(m map[string]any, number string) map[string]bool {
	out := map[string]bool{number: true}
	for _, v := range m {
		if s, ok := v.(string); ok {
			out[s] = true
		}
	}
	return out
}

// changes lists every attribute that differs, of all roles.
func changes(s *subject) []Change {
	out := []Change{}
	for _, m := range s.moved {
		c := Change{Path: m.path, Old: jsonOr(m.old), New: jsonOr(m.new), Unknown: m.unknown, Role: resource.RoleSpec}
		if m.attr != nil {
			c.Role = m.attr.Role
			c.Replaces = m.attr.Immutable && s.blk.Kind.Class == resource.Object
			c.Sensitive = m.attr.Sensitive || s.vals.hidden[m.path]
		}
		out = append(out, c.masked())
	}
	for role, pair := range map[resource.Role][2]resource.Parts{
		resource.RolePolicy: {s.rec.Policy, s.vals.policy}, resource.RoleJudge: {s.rec.Judge, s.vals.judge},
	} {
		for _, m := range movedPolicy(pair[0], pair[1]) {
			c := Change{Path: m.path, Old: jsonOr(m.old), New: jsonOr(m.new), Role: role, Sensitive: s.vals.hidden[m.path]}
			out = append(out, c.masked())
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out
}

func (c Change) masked() Change {
	if !c.Sensitive {
		return c
	}
	mask := json.RawMessage(quote(MaskText))
	if string(c.Old) != "null" {
		c.Old = mask
	}
	if string(c.New) != "null" {
		c.New = mask
	}
	return c
}

func jsonOr(text string) json.RawMessage {
	if text == "" {
		return null
	}
	return json.RawMessage(text)
}
