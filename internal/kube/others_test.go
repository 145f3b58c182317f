package kube

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOthersAreWhoeverElseHasFieldsThatAreAppliedAlsoWithTheSameValue(t *testing.T) {
	main := `spec.template.spec.containers[name="main"]`
	live := object(t, liveDeployment)
	got := Others(object(t, wantDeployment), live)
	want := []Conflict{
		{"spec.replicas", "kubectl (scale)"},
		{main + ".args", "kubectl-edit"},
		{main + ".image", "kubectl-edit"},
		{main + `.ports[containerPort=80,protocol="TCP"].name`, "kubectl-edit"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := Others(object(t, wantDeployment), object(t, wantDeployment)); len(got) > 0 {
		t.Errorf("nobody else is there, and yet: %v", got)
	}
}

func TestAForeignFieldSaysHowItIsTakenOver(t *testing.T) {
	conflict := &ConflictError{Ref: Ref{Kind: "Deployment", Version: "v1", Namespace: "team", Name: "m"}, Conflicts: []Conflict{{`a[name="x"].b`, "argo"}}}
	for block, want := range map[string]string{
		"":       `Deployment team/m: a[name="x"].b belongs to "argo"; leave it to them, or take it over with force = ["Deployment/m:a[name=\"x\"].b"]`,
		"kserve": `Deployment team/m: a[name="x"].b belongs to "argo"; leave it to them, or take it over with kserve { force = ["Deployment/m:a[name=\"x\"].b"] }`,
	} {
		e := Foreign(conflict, "Deployment/m", block)
		var back *ConflictError
		if e.Error() != want || !errors.As(error(e), &back) {
			t.Errorf("%s", e)
		}
	}
	if got := Key(Ref{Group: "apps", Kind: "Deployment", Namespace: "team", Name: "m"}); got != "Deployment.apps/team/m" {
		t.Error(got)
	}
}
