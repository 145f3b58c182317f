package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// FieldChange is one field that is not as it was applied. Values are JSON, "" when the field is absent; those of a Secret are "(secret)".
type FieldChange struct {
	Path string
	Old  string // as applied
	New  string // as it is now
	By   string // the manager that changed it; "" when nobody is recorded, as after `kubectl scale --replicas=0`
}

// strip removes what the API server counts and notes by itself.
func strip(u *unstructured.Unstructured) map[string]any {
	return Prune(u).Object
}

// lastOther is the manager that wrote last, apart from us: who removed a field is recorded nowhere else.
func lastOther(live *unstructured.Unstructured) string {
	all := owners(live)
	last := culprit(all)
	for _, o := range all {
		if !o.ours() {
			continue
		}
		for _, other := range all {
			if other.manager == last && other.at.After(o.at) {
				return last
			}
		}
	}
	return ""
}

type differ struct {
	last string
	out  []FieldChange
}

// place is where the walk is: known are the owners that the merged object has here, for the keys of its list elements.
type place struct {
	path  string
	known []owner
}

func (p place) field(name string) place {
	path := name
	if p.path != "" {
		path = p.path + "." + name
	}
	return place{path: path, known: below(p.known, "f:"+name)}
}

func (d *differ) walk(p place, want, live any, by []owner) {
	if reflect.DeepEqual(want, live) {
		return
	}
	w, wok := want.(map[string]any)
	l, lok := live.(map[string]any)
	if wok && lok {
		for _, name := range union(w, l) {
			d.walk(p.field(name), at(w, name), at(l, name), below(by, "f:"+name))
		}
		return
	}
	if d.lists(p, want, live, by) {
		return
	}
	d.leaf(p.path, want, live, by)
}

// lists walks into two lists whose elements have keys; false when they have none, and the list is one value.
func (d *differ) lists(p place, want, live any, by []owner) bool {
	w, wok := keyed(want, p.known, by)
	l, lok := keyed(live, p.known, by)
	if !wok || !lok || len(w)+len(l) == 0 {
		return false
	}
	for _, step := range union(w, l) {
		d.walk(place{path: p.path + label(step), known: below(p.known, step)}, at(w, step), at(l, step), below(by, step))
	}
	if len(w) == len(l) && slices.Equal(union(w, nil), union(l, nil)) && d.onlyOrder(w, l) {
		d.leaf(p.path, want, live, by)
	}
	return true
}

// onlyOrder reports that two lists hold the same elements: then it is their order that differs.
func (d *differ) onlyOrder(w, l map[string]any) bool { return reflect.DeepEqual(w, l) }

func keyed(v any, known, by []owner) (map[string]any, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := map[string]any{}
	for _, e := range list {
		key, ok := keyOf(e, known)
		if !ok {
			key, ok = keyOf(e, by)
		}
		if _, twice := out[key]; !ok || twice {
			return nil, false
		}
		out[key] = e
	}
	return out, true
}

func (d *differ) leaf(path string, want, live any, by []owner) {
	// A field that is still ours is as it was applied: the API server writes some values otherwise, as 0.5 CPUs as 500m, and an update
	// by anybody else takes the ownership.
	if slices.ContainsFunc(by, func(o owner) bool { return o.ours() && len(o.node) == 0 }) {
		return
	}
	c := FieldChange{Path: path, Old: text(want), New: text(live), By: culprit(by)}
	if live == nil {
		c.By = d.last
	}
	d.out = append(d.out, c)
}

func at(m map[string]any, name string) any { return m[name] }

func union(a, b map[string]any) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// text writes a value as JSON; nothing for an absent one.
func text(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
