package kube

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Others lists the fields of an object that is to be applied which managers besides us have in the live one, by path. Only these can be a
// conflict: the API server makes one of each whose value would change. Nothing is sent.
func Others(obj, live *unstructured.Unstructured) []Conflict {
	want := Prune(obj).Object
	delete(want, "apiVersion") // nobody owns what says which object it is
	delete(want, "kind")
	var out []Conflict
	others(place{}, want, owners(live), &out)
	slices.SortFunc(out, func(a, b Conflict) int { return strings.Compare(a.Path+" "+a.Manager, b.Path+" "+b.Manager) })
	return slices.Compact(out)
}

func others(p place, want any, by []owner, out *[]Conflict) {
	var parts []owner
	for _, o := range by {
		switch {
		case o.ours():
			parts = append(parts, o) // its keys tell list elements apart
		case len(o.node) == 0:
			*out = append(*out, Conflict{Path: p.path, Manager: o.manager})
		default:
			parts = append(parts, o)
		}
	}
	if !slices.ContainsFunc(parts, func(o owner) bool { return !o.ours() }) {
		return
	}
	switch w := want.(type) {
	case map[string]any:
		for _, name := range union(w, nil) {
			others(p.field(name), w[name], below(parts, "f:"+name), out)
		}
	case []any:
		for _, e := range w {
			if key, ok := keyOf(e, parts); ok {
				others(place{path: p.path + label(key)}, e, below(parts, key), out)
			}
		}
	}
}

// Key names an object as blocks do: KIND.GROUP/NAMESPACE/NAME, without group or namespace where there is none.
func Key(r Ref) string {
	kind := r.Kind
	if r.Group != "" {
		kind += "." + r.Group
	}
	if r.Namespace == "" {
		return kind + "/" + r.Name
	}
	return kind + "/" + r.Namespace + "/" + r.Name
}

// Targeted is the part behind the colon of KIND.GROUP/NAMESPACE/NAME:WHAT, if that names the object of the key. Group and namespace count where
// they are given.
func Targeted(target, key string) (string, bool) {
	name, what, ok := strings.Cut(target, ":")
	t, k := strings.Split(name, "/"), strings.Split(key, "/")
	if !ok || len(t) > len(k) || t[len(t)-1] != k[len(k)-1] || len(t) == 3 && t[1] != k[1] {
		return "", false
	}
	tKind, tGroup, hasGroup := strings.Cut(t[0], ".")
	kKind, kGroup, _ := strings.Cut(k[0], ".")
	if tKind != kKind || hasGroup && tGroup != kGroup {
		return "", false
	}
	return what, true
}

// ForeignError is a [ConflictError] with what can be done about it in a block.
type ForeignError struct {
	*ConflictError
	how string
}

// Error implements error.
func (e *ForeignError) Error() string { return e.how }

// Unwrap gives the conflict.
func (e *ForeignError) Unwrap() error { return e.ConflictError }

// Foreign says how a block takes the fields over that others own: by force, as it is written there, with the key of the object. With a nested block,
// force stands in that.
func Foreign(e *ConflictError, key, block string) *ForeignError {
	var parts, targets []string
	for _, c := range e.Conflicts {
		parts = append(parts, fmt.Sprintf("%s belongs to %q", c.Path, c.Manager))
		targets = append(targets, fmt.Sprintf("%q", key+":"+c.Path))
	}
	how := "force = [" + strings.Join(slices.Compact(targets), ", ") + "]"
	if block != "" {
		how = block + " { " + how + " }"
	}
	return &ForeignError{ConflictError: e, how: fmt.Sprintf("%s: %s; leave it to them, or take it over with %s", e.Ref, strings.Join(parts, ", "), how)}
}
