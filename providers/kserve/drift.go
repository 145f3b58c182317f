package kserve

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
)

// driftOf lists the fields of an object that others changed. The lists of an InferenceService have one owner as a whole, and KServe's
// webhook fills in what their elements leave open: only what was applied is compared, field by field.
func driftOf(u *unstructured.Unstructured) ([]kube.FieldChange, error) {
	changes, err := kube.Drift(u)
	if err != nil {
		return nil, err
	}
	return finer(u, changes)
}

// finer looks into the lists that have changed.
func finer(u *unstructured.Unstructured, changes []kube.FieldChange) ([]kube.FieldChange, error) {
	var out []kube.FieldChange
	for _, c := range changes {
		var was, is []any
		if json.Unmarshal([]byte(c.Old), &was) != nil || json.Unmarshal([]byte(c.New), &is) != nil {
			out = append(out, c)
			continue
		}
		err := differ(c.Path, was, is, func(path string, was, is any) error {
			before, e1 := text(was)
			now, e2 := text(is)
			out = append(out, kube.FieldChange{Path: path, Old: before, New: now, By: c.By})
			return cmpErr(e1, e2)
		})
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", kube.RefOf(u), err)
		}
	}
	return out, nil
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func text(v any) (string, error) {
	if v == nil {
		return "", nil
	}
	data, err := json.Marshal(v)
	return string(data), err
}

// differ tells each field of was that is otherwise.
func differ(path string, was, is any, tell func(path string, was, is any) error) error {
	switch w := was.(type) {
	case map[string]any:
		i, ok := is.(map[string]any)
		if !ok {
			return tell(path, was, is)
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			if err := differ(path+"."+k, w[k], i[k], tell); err != nil {
				return err
			}
		}
		return nil
	case []any:
		i, ok := is.([]any)
		if !ok || len(i) != len(w) {
			return tell(path, was, is)
		}
		for n := range w {
			if err := differ(fmt.Sprintf("%s[%d]", path, n), w[n], i[n], tell); err != nil {
				return err
			}
		}
		return nil
	}
	if was != is {
		return tell(path, was, is)
	}
	return nil
}
