package kube

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestAFieldIsLookedForInThePublishedSchema(t *testing.T) {
	t.Parallel()
	const doc = `{"components":{"schemas":{
		"a.Meta":{"properties":{"name":{"type":"string"}}},
		"a.Service":{"x-kubernetes-group-version-kind":[{"group":"a","kind":"Service","version":"v1"}],
			"properties":{"spec":{"properties":{"canary":{"type":"array","items":{"properties":{"percent":{}}}},
				"open":{"x-kubernetes-preserve-unknown-fields":true}}}}}}}}`
	service := schema.GroupVersionKind{Group: "a", Version: "v1", Kind: "Service"}
	for want, paths := range map[bool][][]string{
		true:  {{"spec"}, {"spec", "canary"}, {"spec", "open", "anything"}},
		false: {{"canary"}, {"spec", "predictor"}, {"spec", "canary", "percent"}},
	} {
		for _, path := range paths {
			if got, err := hasField([]byte(doc), service, path); err != nil || got != want {
				t.Errorf("%v: %v, %v", path, got, err)
			}
		}
	}
	if _, err := hasField([]byte(doc), schema.GroupVersionKind{Group: "a", Version: "v2", Kind: "Service"}, []string{"spec"}); err == nil {
		t.Error("a version that is not there has the field")
	}
	if _, err := hasField([]byte("<html>"), service, nil); err == nil {
		t.Error("what is no JSON was read")
	}
}
