package rollout

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
)

func TestForceNamesFieldsOfObjectsThatTheDeploymentHas(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"Deployment/tumors:spec.replicas":                    "",
		"Deployment.apps/team/tumors-v12:spec.replicas":      "",
		"InferenceGraph/tumors-v1-graph:spec.nodes":          "",
		"Deployment/tumours-v1:spec.replicas":                "names no object",
		"Deployment/tumors-v1x:spec.replicas":                "names no object",
		"Deployment/tumors-v1":                               "is not KIND/NAME:PATH",
		"tumors-v1:spec.replicas":                            "is not KIND/NAME:PATH",
		`Service/tumors-v1:spec.ports[port=80,protocol="T"]`: "",
	} {
		f := front()
		f.Block, f.Force = "kubernetes", []string{target}
		err := f.CheckForce()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// liveWith is a Deployment of the front's whose replicas a manager wrote.
func liveWith(t *testing.T, manager, subresource string) (want, live *unstructured.Unstructured) {
	t.Helper()
	want, err := front().routerDeployment()
	if err != nil {
		t.Fatal(err)
	}
	live = want.DeepCopy()
	live.SetAnnotations(nil) // what was applied is not the affair of this test
	entry := map[string]any{"manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:spec": map[string]any{"f:replicas": map[string]any{}}}}
	if subresource != "" {
		entry["subresource"] = subresource
	}
	if err := unstructured.SetNestedSlice(live.Object, []any{entry}, "metadata", "managedFields"); err != nil {
		t.Fatal(err)
	}
	return want, live
}

func TestOnlyWhatTheBlockNamesAndWhatAnAutoscalerLeftIsTakenFromOthers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		manager, sub string
		force        []string
		want         string
	}{
		"somebody's":                             {manager: "argo"},
		"somebody's that the block names":        {manager: "argo", force: []string{"Deployment/tumors:spec.replicas"}, want: "spec.replicas"},
		"another object's":                       {manager: "argo", force: []string{"Deployment/tumors-v1:spec.replicas"}},
		"what an autoscaler of before left":      {manager: "kube-controller-manager", sub: "scale", want: "spec.replicas"},
		"what somebody scaled, who is no scaler": {manager: "kubectl", sub: "scale"},
	} {
		f := front()
		f.Force = test.force
		want, live := liveWith(t, test.manager, test.sub)
		got, err := f.taken(want, live)
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestAConflictThatHoldsWhateverComesIsAnErrorAndAnyOtherAWarning(t *testing.T) {
	t.Parallel()
	replicas, image := kube.Conflict{Path: "spec.replicas", Manager: "argo"}, kube.Conflict{Path: "image", Manager: "updater"}
	both := map[string]*kube.ConflictError{"Deployment/m": {Conflicts: []kube.Conflict{image, replicas}}}
	var tr Trial
	tr.Front.Block = "kubernetes"
	sure := tr.findings(both, nil)
	if len(sure) != 1 || sure[0].Warning || !strings.Contains(sure[0].Detail, `image belongs to "updater", spec.replicas belongs to "argo"`) || !strings.Contains(sure[0].Detail, "kubernetes { force = [") {
		t.Errorf("%+v", sure)
	}
	open := tr.findings(both, map[string]*kube.ConflictError{"Deployment/m": {Conflicts: []kube.Conflict{replicas}}})
	if len(open) != 2 || open[0].Warning || strings.Contains(open[0].Detail, "image") || !open[1].Warning || !strings.Contains(open[1].Detail, `image belongs to "updater"`) {
		t.Errorf("%+v", open)
	}
}
