package kubernetes

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/state"
)

// foreign is a Deployment of somebody else that serves.
func foreign(t *testing.T, change func(*unstructured.Unstructured)) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"legacy","namespace":"ns","generation":1},"spec":{"replicas":1,
		"template":{"spec":{"containers":[{"name":"app","image":"x"}]}}},"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1,
		"conditions":[{"type":"Available","status":"True"},{"type":"Progressing","status":"True"}]}}`)); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(u)
	}
	return u
}

func TestWhatCanBeImported(t *testing.T) {
	if _, err := importable(foreign(t, nil)); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*unstructured.Unstructured){
		"already (deployment.x)": func(u *unstructured.Unstructured) {
			u.SetLabels(map[string]string{pods.LabelAddress: "deployment.x"})
			u.SetAnnotations(map[string]string{pods.LabelAddress: "deployment.x"})
		},
		"is not ready": func(u *unstructured.Unstructured) {
			u.Object["status"] = map[string]any{"observedGeneration": int64(1)}
		},
		"have 2 containers": func(u *unstructured.Unstructured) {
			list := []any{map[string]any{"name": "a", "image": "x"}, map[string]any{"name": "b", "image": "x"}}
			if err := unstructured.SetNestedSlice(u.Object, list, "spec", "template", "spec", "containers"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if _, err := importable(foreign(t, change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestAnImportedDeploymentHasNoRouter(t *testing.T) {
	ref := &deploymentRef{Ref: rollout.Ref{Namespace: "ns", Name: "legacy"}, Imported: "legacy"}
	for want, change := range map[string]func(*deploymentSpec){
		"rollout.strategy":  func(s *deploymentSpec) { s.Rollout = &config.Rollout{Strategy: "canary"} },
		"transformer:":      func(s *deploymentSpec) { s.Transformer = &config.Transformer{Command: []string{"x"}} },
		"kubernetes.route:": func(s *deploymentSpec) { s.Kubernetes = &serverSettings{Route: &routeSettings{Gateway: "a"}} },
		"scale: Deployment": func(s *deploymentSpec) {
			s.Scale, s.Resources = &config.Scale{Min: 1, Max: 2}, &config.ServerUse{CPU: "1"}
		},
		"no model version": func(s *deploymentSpec) { s.Model = nil },
	} {
		spec := exampleVersion(nil).Spec
		change(&spec)
		if err := spec.checkImported(ref, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := exampleVersion(nil).Spec.checkImported(ref, false); err != nil {
		t.Error(err)
	}
	data, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := importedBy(&state.Record{Ref: data}); err != nil || got == nil || *got != *ref {
		t.Errorf("%s is read as %+v, %v", data, got, err)
	}
	if got, err := importedBy(&state.Record{Ref: json.RawMessage(`{"namespace":"ns","name":"x"}`)}); err != nil || got != nil {
		t.Errorf("one that was made here counts as imported: %+v, %v", got, err)
	}
}
