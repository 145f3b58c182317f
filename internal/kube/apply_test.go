package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	replicasConflict = `{"causes":[{"reason":"FieldManagerConflict","message":"conflict with \"kubectl-edit\" using apps/v1","field":".spec.replicas"}]}`
	twoConflicts     = `{"causes":[{"reason":"FieldManagerConflict","message":"conflict with \"kube-controller-manager\" with subresource \"scale\" using apps/v1","field":".spec.replicas"},
		{"reason":"FieldManagerConflict","message":"conflict with \"kubectl-edit\" using apps/v1","field":".spec.template.spec.containers[name=\"main\"].image"}]}`
)

func TestAConflictNamesFieldAndManager(t *testing.T) {
	alone(t)
	f := newServer(t, fails(409, "Conflict", "Apply failed with 2 conflicts", twoConflicts))
	_, err := connect(t, f.URL, nil).Apply(context.Background(), object(t, deployment), ApplyOptions{})
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("%v", err)
	}
	want := []Conflict{{"spec.replicas", "kube-controller-manager (scale)"}, {`spec.template.spec.containers[name="main"].image`, "kubectl-edit"}}
	if d := cmp.Diff(want, conflict.Conflicts); d != "" {
		t.Error(d)
	}
	if q := f.requests[0].URL.Query(); f.count() != 1 || q.Get("fieldManager") != "continuo" || q.Has("force") {
		t.Errorf("%d requests, the first %s", f.count(), f.requests[0].URL)
	}
}

func TestOnlyTheNamedFieldsAreTakenOver(t *testing.T) {
	alone(t)
	ctx := context.Background()
	conflict := fails(409, "Conflict", "Apply failed", twoConflicts)
	f := newServer(t, conflict, returns(deployment), conflict)
	_, err := connect(t, f.URL, nil).Apply(ctx, object(t, deployment), ApplyOptions{Force: []string{"spec.replicas"}})
	var left *ConflictError
	if !errors.As(err, &left) || len(left.Conflicts) != 1 || left.Conflicts[0].Manager != "kubectl-edit" {
		t.Fatalf("%v", err)
	}
	for _, r := range f.requests {
		if r.URL.Query().Has("force") {
			t.Errorf("forced although a field was not named: %s", r.URL)
		}
	}
	f = newServer(t, returns(deployment), returns(deployment), conflict)
	if _, err := connect(t, f.URL, nil).Apply(ctx, object(t, deployment), ApplyOptions{Force: []string{"spec.replicas", "spec.template"}}); err != nil {
		t.Fatal(err)
	}
	last := f.requests[len(f.requests)-1]
	if last.URL.Query().Get("force") != "true" || !strings.Contains(f.bodies[len(f.bodies)-1], `"resourceVersion":"7"`) {
		t.Errorf("the forced request must rest on what was looked at: %s %s", last.URL, f.bodies[len(f.bodies)-1])
	}
}

func TestForcingBeginsAnewWhenTheObjectMoved(t *testing.T) {
	alone(t)
	moved := fails(409, "Conflict", "the object has been modified", "")
	f := newServer(t, returns(deployment), returns(deployment), fails(409, "Conflict", "", replicasConflict), moved, returns(strings.Replace(deployment, `"7"`, `"8"`, 1)), fails(409, "Conflict", "", replicasConflict))
	if _, err := connect(t, f.URL, nil).Apply(context.Background(), object(t, deployment), ApplyOptions{Force: []string{"spec.replicas"}}); err != nil {
		t.Fatal(err)
	}
	if last := f.bodies[len(f.bodies)-1]; f.count() != 6 || !strings.Contains(last, `"resourceVersion":"8"`) {
		t.Errorf("%d requests, the last %s", f.count(), last)
	}
}

func TestAPathCoversWhatIsBelowIt(t *testing.T) {
	for path, want := range map[string]bool{"spec.replicas": true, "spec.replicas.x": true, "spec.replicasX": false, "spec": false, `spec.containers[name="a"].image`: true, `spec.containers[name="b"].image`: false} {
		if got := covered(path, []string{".spec.replicas", `spec.containers[name="a"]`}); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestAnApplyOwnsOnlyWhatSomebodySet(t *testing.T) {
	d := appsv1.Deployment{}
	d.Name = "x"
	d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main"}}
	u, err := FromTyped(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{"template":{"spec":{"containers":[{"name":"main"}],"volumes":[{"emptyDir":{},"name":"tmp"}]}}}}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	m := Prune(object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: x, uid: u, creationTimestamp: null}, data: {a: "", b: null}, status: {x: 1}}`))
	if b, err = json.Marshal(m.Object); err != nil || string(b) != `{"apiVersion":"v1","data":{"a":""},"kind":"ConfigMap","metadata":{"name":"x"}}` {
		t.Errorf("what a manifest says is kept: %s, %v", b, err)
	}
}

func TestAFieldThatCannotBeChangedIsToldAsSuch(t *testing.T) {
	alone(t)
	long := strings.Repeat("x", 5000)
	cause := func(field, message string) string {
		return fmt.Sprintf(`{"reason":"FieldValueInvalid","field":%q,"message":%q}`, field, message)
	}
	fixed := cause("spec.template", "Invalid value: "+long+": field is immutable")
	other := cause("spec.replicas", "Invalid value: -1: must be greater than or equal to 0")
	f := newServer(t, nil, fails(422, "Invalid", "…", `{"name":"x","causes":[`+fixed+`]}`), fails(422, "Invalid", "two", `{"name":"x","causes":[`+fixed+`,`+other+`]}`))
	c := connect(t, f.URL, nil)
	_, err := c.Apply(context.Background(), object(t, deployment), ApplyOptions{})
	var is *ImmutableError
	if !errors.As(err, &is) || err.Error() != "apply Deployment ns/x: spec.template cannot be changed in place: field is immutable" {
		t.Errorf("%v", err)
	}
	// One that is wrong as well stays wrong in an object that is made anew.
	if _, err := c.Apply(context.Background(), object(t, deployment), ApplyOptions{}); err == nil || errors.As(err, &is) {
		t.Errorf("%v", err)
	}
}
