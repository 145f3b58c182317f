package kube

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// AnnotationApplied holds what was last applied to an object, as JSON, without this annotation itself. With it, one LIST is enough to
// see what others have changed since: what is asked for need not be known, and nothing is sent.
const AnnotationApplied = "continuo.dev/applied"

// Remember notes in the object itself what is applied to it. A Secret is refused: its values would stand in an annotation.
func Remember(obj *unstructured.Unstructured) error {
	if IsSecret(obj.GroupVersionKind()) {
		return fmt.Errorf("remember %s: the values of a Secret are not repeated in an annotation", RefOf(obj))
	}
	notes := obj.GetAnnotations()
	delete(notes, AnnotationApplied)
	if len(notes) == 0 {
		notes = nil
	}
	obj.SetAnnotations(notes)
	data, err := json.Marshal(Prune(obj).Object)
	if err != nil {
		return fmt.Errorf("remember %s: %w", RefOf(obj), err)
	}
	if notes == nil {
		notes = map[string]string{}
	}
	notes[AnnotationApplied] = string(data)
	obj.SetAnnotations(notes)
	return nil
}

// Drift compares a live object with what it says was last applied to it, and names who changed what. Fields that were never applied,
// and list elements that others added, are no drift. An object without the annotation has none. Nothing is sent.
func Drift(live *unstructured.Unstructured) ([]FieldChange, error) {
	text, ok := live.GetAnnotations()[AnnotationApplied]
	if !ok {
		return nil, nil
	}
	applied := &unstructured.Unstructured{}
	if err := applied.UnmarshalJSON([]byte(text)); err != nil {
		return nil, fmt.Errorf("read what was applied to %s: %w", RefOf(live), err)
	}
	return DriftFrom(applied, live, nil), nil
}

// DriftFrom is [Drift] for who knows what was applied. hidden tells values of which only that they were set is known, such as hashes; it may be
// nil. Of such a field, and of all values of a Secret, it counts who owns it: an update by somebody else takes the ownership, so that no
// value need be read. A list with something hidden in it is left out.
func DriftFrom(applied, live *unstructured.Unstructured, hidden func(string) bool) []FieldChange {
	by := owners(live)
	want, have := strip(applied), strip(live)
	d := differ{last: lastOther(live)}
	delete(want, "apiVersion") // nobody owns what says which object it is
	delete(want, "kind")
	if meta, ok := want["metadata"].(map[string]any); ok {
		delete(meta, "name")
		delete(meta, "namespace")
	}
	if hidden == nil {
		hidden = func(string) bool { return false }
	}
	if IsSecret(live.GroupVersionKind()) {
		for _, from := range []string{secretValues, writtenValues} {
			if values, ok := want[from].(map[string]any); ok {
				d.owned(place{path: secretValues}, values, have[secretValues], below(by, "f:"+secretValues), func(string) bool { return true })
			}
		}
		want = map[string]any{"metadata": want["metadata"]}
	}
	d.owned(place{}, want, have, by, hidden)
	d.walk(place{}, want, project(want, have, by), by)
	sort.Slice(d.out, func(i, j int) bool { return d.out[i].Path < d.out[j].Path })
	return d.out
}

// owned takes hidden fields out of want, and tells which of them are no longer ours.
func (d *differ) owned(p place, want map[string]any, live any, by []owner, hidden func(string) bool) {
	l, _ := live.(map[string]any)
	for name, v := range want {
		at, all := p.field(name), below(by, "f:"+name)
		switch v := v.(type) {
		case map[string]any:
			d.owned(at, v, l[name], all, hidden)
		case []any:
			if holds(v, hidden) {
				delete(want, name)
			}
		case string:
			if !hidden(v) {
				continue
			}
			delete(want, name)
			if slices.ContainsFunc(all, owner.ours) {
				continue
			}
			c := FieldChange{Path: at.path, Old: hiddenValue, New: hiddenValue, By: culprit(all)}
			if len(all) == 0 {
				c.New, c.By = "", d.last
			}
			d.out = append(d.out, c)
		}
	}
}

// holds reports whether a value has something hidden in it.
func holds(v any, hidden func(string) bool) bool {
	switch v := v.(type) {
	case string:
		return hidden(v)
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return holds(e, hidden) })
	case map[string]any:
		for _, e := range v {
			if holds(e, hidden) {
				return true
			}
		}
	}
	return false
}

// project keeps of live what want speaks about.
func project(want, live any, by []owner) any {
	switch w := want.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		if !ok {
			return live
		}
		out := map[string]any{}
		for name, v := range w {
			if there, ok := l[name]; ok {
				out[name] = project(v, there, below(by, "f:"+name))
			}
		}
		return out
	case []any:
		return projectList(w, live, by)
	}
	return live
}

// projectList keeps the elements that want has, in the order of want: others may have put theirs in between.
func projectList(want []any, live any, by []owner) any {
	w, wok := keyed(want, nil, by)
	l, lok := keyed(live, nil, by)
	if !wok || !lok {
		return live
	}
	out := []any{}
	for _, e := range want {
		step, ok := keyOf(e, by)
		if !ok {
			continue
		}
		if there, ok := l[step]; ok {
			out = append(out, project(w[step], there, below(by, step)))
		}
	}
	return out
}
