package kube

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// serverFields are what the API server fills in. An apply that names them would claim them, or be refused.
var serverFields = []string{"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields", "selfLink", "uid", "resourceVersion"}

// saysSomething are fields whose empty value is a choice: `emptyDir: {}`, a selector that matches everything, the default class.
var saysSomething = []string{"emptyDir", "podSelector", "namespaceSelector", "selector", "labelSelector", "matchLabels", "storageClassName", "egress", "ingress", "priorityClassName", "suspend"}

// Prune returns a copy without nulls, status and what the API server fills in. Empty values stay: in a manifest somebody wrote them.
func Prune(u *unstructured.Unstructured) *unstructured.Unstructured {
	out := u.DeepCopy()
	delete(out.Object, "status")
	if meta, ok := out.Object["metadata"].(map[string]any); ok {
		for _, f := range serverFields {
			delete(meta, f)
		}
	}
	prune(out.Object, func(_ string, v any) bool { return v == nil })
	return out
}

// FromTyped makes an object of a Go struct. The structs of the Kubernetes API write empty strings, maps and lists that nobody set, and
// an apply would then own fields that it has no opinion on: they are dropped, except where the empty value is a choice.
func FromTyped(gvk schema.GroupVersionKind, obj any) (*unstructured.Unstructured, error) {
	b, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", gvk.Kind, err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{}}
	// Only this decoder keeps whole numbers whole.
	if err := u.UnmarshalJSON(withKind(b, gvk)); err != nil {
		return nil, fmt.Errorf("read %s as an object: %w", gvk.Kind, err)
	}
	u = Prune(u)
	prune(u.Object, func(key string, v any) bool { return empty(v) && !slices.Contains(saysSomething, key) })
	u.SetGroupVersionKind(gvk)
	return u, nil
}

// withKind adds apiVersion and kind, without which the decoder refuses an object. JSON's last key of a name wins.
func withKind(b []byte, gvk schema.GroupVersionKind) []byte {
	head := fmt.Sprintf(`,"apiVersion":%q,"kind":%q}`, gvk.GroupVersion().String(), gvk.Kind)
	if len(b) <= 2 {
		head = "{" + head[1:]
		return []byte(head)
	}
	return append(b[:len(b)-1], head...)
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// prune drops map entries from the leaves up, so that what becomes empty by it can go, too.
func prune(v any, drop func(key string, v any) bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			prune(e, drop)
			if drop(k, e) {
				delete(v, k)
			}
		}
	case []any:
		for _, e := range v {
			prune(e, drop)
		}
	}
}
