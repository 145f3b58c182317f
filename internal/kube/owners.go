package kube

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// owner is one manager's entry in managedFields, at some place of the object. Its node is the part of the entry below that place:
// `f:NAME` for fields, `k:{"name":"main"}` for the elements of a list with keys. An empty node owns all that is below.
type owner struct {
	manager string
	applied bool
	at      time.Time
	node    map[string]any
}

// name is how the manager is shown: with the subresource that it wrote through.
func managerName(e metav1.ManagedFieldsEntry) string {
	if e.Subresource != "" {
		return e.Manager + " (" + e.Subresource + ")"
	}
	return e.Manager
}

// owners reads managedFields. Entries that cannot be read own nothing.
func owners(u *unstructured.Unstructured) []owner {
	var out []owner
	for _, e := range u.GetManagedFields() {
		if e.FieldsV1 == nil || e.Subresource == "status" {
			continue
		}
		var node map[string]any
		if json.Unmarshal(e.FieldsV1.Raw, &node) != nil {
			continue
		}
		o := owner{manager: managerName(e), applied: e.Operation == metav1.ManagedFieldsOperationApply, node: node}
		if e.Time != nil {
			o.at = e.Time.Time
		}
		out = append(out, o)
	}
	return out
}

func (o owner) ours() bool { return o.applied && o.manager == FieldManager }

// below keeps the owners of one step down.
func below(all []owner, step string) []owner {
	var out []owner
	for _, o := range all {
		if len(o.node) == 0 {
			out = append(out, o)
			continue
		}
		if child, ok := o.node[step]; ok {
			o.node, _ = child.(map[string]any)
			out = append(out, o)
		}
	}
	return out
}

// keyOf finds the key under which some manager knows a list element, in the form that managedFields has: k:{"name":"main"}.
func keyOf(element any, all []owner) (string, bool) {
	fields, ok := element.(map[string]any)
	if !ok {
		return "", false
	}
	// A port may leave out its protocol, which is part of its key: the API server fills it in.
	for missing := range 2 {
		for _, o := range all {
			for _, step := range slices.Sorted(maps.Keys(o.node)) {
				text, ok := strings.CutPrefix(step, "k:")
				if !ok {
					continue
				}
				var key map[string]any
				if json.Unmarshal([]byte(text), &key) == nil && matches(fields, key, missing) {
					return step, true
				}
			}
		}
	}
	return "", false
}

// matches reports whether the element has the key, of which that many parts may be missing.
func matches(fields, key map[string]any, missing int) bool {
	there := 0
	for k, want := range key {
		got, ok := fields[k]
		if ok && text(got) != text(want) {
			return false
		}
		if ok {
			there++
		}
	}
	return there > 0 && there+missing >= len(key)
}

// label writes a key as the API server does in conflicts: [name="main"].
func label(step string) string {
	var key map[string]any
	if json.Unmarshal([]byte(strings.TrimPrefix(step, "k:")), &key) != nil {
		return "[" + step + "]"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(key)) {
		parts = append(parts, k+"="+text(key[k]))
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// culprit is who last wrote a field, of those that own it: never ourselves.
func culprit(all []owner) string {
	var last owner
	for _, o := range all {
		if !o.ours() && !o.at.Before(last.at) {
			last = o
		}
	}
	return last.manager
}
