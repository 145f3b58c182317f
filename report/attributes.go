package report

import (
	"sort"
	"strings"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// telling orders the attributes that say what a block is, whatever its kind;
// the others follow by name. It is a matter of reading only: a kind that uses
// other words loses nothing but its place.
var telling = []string{"source", "command", "image", "format", "type", "url", "model", "deployment", "inputs", "params", "threshold", "reference", "target", "expect", "split", "schedule", "replicas"}

func rank(name string) int {
	for i, t := range telling {
		if t == name {
			return i
		}
	}
	return len(telling)
}

// attributes shows what a new block is made of: the few that tell most, or all.
func (v *view) attributes(st *planner.Step) []row {
	tree, ok := decode(st.After)
	body, isObject := tree.(map[string]any)
	if !ok || !isObject {
		return nil
	}
	pending := map[string]string{}
	for _, p := range st.AfterUnknown {
		top, rest, nested := strings.Cut(p, ".")
		pending[top] = p
		if nested {
			setAt(body[top], rest, v.knownAfter(st, reasonAt(st, p)))
		}
	}
	var names []string
	for k := range body {
		if k == "threshold" && len(st.Gate) > 0 && !v.s.Verbose {
			continue // the gate's row says it already
		}
		if _, unknown := pending[k]; unknown || isSet(body[k]) {
			names = append(names, k)
		}
	}
	for k := range pending {
		if _, there := body[k]; !there && v.s.Verbose {
			names = append(names, k)
		}
	}
	sort.Slice(names, func(i, j int) bool {
		if a, b := rank(names[i]), rank(names[j]); a != b {
			return a < b
		}
		return names[i] < names[j]
	})
	var rows []row
	for _, k := range names {
		if !v.s.Verbose && (len(rows) == maxAttributes || rank(k) == len(telling)) {
			break
		}
		_, declared := body[k]
		if !declared { // an output of the block itself
			rows = append(rows, row{label: k, value: []span{{knownText + " " + st.Kind + ")", Faint}}})
			continue
		}
		rows = append(rows, v.attribute(st, k, body[k], pending[k]))
	}
	return rows
}

func (v *view) attribute(st *planner.Step, name string, value any, pending string) row {
	r := row{label: name, tone: Plain}
	text := ""
	switch {
	case sensitive(st, name):
		text = sensitiveText
	case pending == name:
		text = v.knownAfter(st, reasonAt(st, pending))
	case v.s.Verbose:
		var b strings.Builder
		writeValue(&b, value)
		text = b.String()
	default:
		text = summarise(value)
	}
	if !v.s.Verbose {
		text = v.s.cut(text, max(v.s.room(maxColumn-8), 0))
	}
	r.value = []span{{text, Plain}}
	if strings.HasPrefix(text, knownText) {
		r.value[0].tone = Faint
	}
	return r
}

func sensitive(st *planner.Step, name string) bool {
	for _, c := range st.Changes {
		if c.Path == name && c.Sensitive {
			return true
		}
	}
	return false
}

func reasonAt(st *planner.Step, path string) resource.Reason {
	for _, r := range st.Reasons {
		if r.Path == path {
			return r
		}
	}
	return resource.Reason{Path: path}
}

// setAt puts text in the place of a value that is not known yet.
func setAt(tree any, path, text string) {
	o, ok := tree.(map[string]any)
	if !ok {
		return
	}
	if key, rest, nested := strings.Cut(path, "."); nested && o[path] == nil && o[key] != nil {
		setAt(o[key], rest, text)
		return
	}
	o[path] = text
}
