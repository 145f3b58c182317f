package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// As a real API server recorded it, cut to what matters.
const wantDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: x
  namespace: ns
  managedFields:
  - {manager: continuo, operation: Apply, time: "2026-11-01T10:00:00Z", fieldsV1: {"f:spec": {"f:replicas": {}, "f:paused": {}, "f:template": {"f:spec": {"f:containers": {'k:{"name":"main"}': {".": {}, "f:name": {}, "f:image": {}, "f:args": {}, "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {"f:containerPort": {}}}}}}}}}}
spec:
  replicas: 2
  paused: false
  template: {spec: {containers: [{name: main, image: a, args: [x], ports: [{containerPort: 80, protocol: TCP, name: http}]}]}}
status: {replicas: 2}
`

const liveDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: x
  namespace: ns
  generation: 4
  managedFields:
  - {manager: continuo, operation: Apply, time: "2026-11-01T09:00:00Z", fieldsV1: {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"main"}': {".": {}, "f:name": {}}}}}}}}
  - {manager: kubectl, operation: Update, subresource: scale, time: "2026-11-01T09:10:00Z", fieldsV1: {"f:spec": {"f:replicas": {}}}}
  - {manager: kubectl-edit, operation: Update, time: "2026-11-01T09:20:00Z", fieldsV1: {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"main"}': {"f:image": {}, "f:args": {}, "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {"f:name": {}}}}, 'k:{"name":"side"}': {".": {}, "f:name": {}}}}}}}}
  - {manager: kube-controller-manager, operation: Update, subresource: status, time: "2026-11-01T09:30:00Z", fieldsV1: {"f:status": {"f:replicas": {}}}}
spec:
  replicas: 5
  template: {spec: {containers: [{name: side}, {name: main, image: b, args: [u, v], ports: [{containerPort: 80, protocol: TCP, name: web}]}]}}
status: {replicas: 5}
`

// live is what others made of an object that says what was applied to it.
func driftOf(t *testing.T, applied, live string) []FieldChange {
	t.Helper()
	a, l := object(t, applied), object(t, live)
	a.SetManagedFields(nil)
	if err := Remember(a); err != nil {
		t.Fatal(err)
	}
	l.SetAnnotations(map[string]string{AnnotationApplied: a.GetAnnotations()[AnnotationApplied], "someone/else": "x"})
	got, err := Drift(l)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDriftIsWhatOthersMadeOfOurFields(t *testing.T) {
	got := driftOf(t, wantDeployment, liveDeployment)
	main := `spec.template.spec.containers[name="main"]`
	want := []FieldChange{
		{"spec.paused", "false", "", "kubectl-edit"},
		{"spec.replicas", "2", "5", "kubectl (scale)"},
		{main + ".args", `["x"]`, `["u","v"]`, "kubectl-edit"},
		{main + ".image", `"a"`, `"b"`, "kubectl-edit"},
		{main + `.ports[containerPort=80,protocol="TCP"].name`, `"http"`, `"web"`, "kubectl-edit"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d) // the container "side" that another put beside ours is not ours
	}
	if got := driftOf(t, wantDeployment, wantDeployment); len(got) > 0 {
		t.Errorf("as applied: %v", got)
	}
}

func TestAnObjectThatRemembersNothingHasNoDrift(t *testing.T) {
	if got, err := Drift(object(t, liveDeployment)); err != nil || len(got) > 0 {
		t.Errorf("%v, %v", got, err)
	}
	broken := object(t, liveDeployment)
	broken.SetAnnotations(map[string]string{AnnotationApplied: "{"})
	if _, err := Drift(broken); err == nil {
		t.Error("a note that cannot be read is no error")
	}
}

func TestRememberingTwiceIsTheSame(t *testing.T) {
	a := object(t, wantDeployment)
	if err := Remember(a); err != nil {
		t.Fatal(err)
	}
	once := a.GetAnnotations()[AnnotationApplied]
	if err := Remember(a); err != nil || a.GetAnnotations()[AnnotationApplied] != once {
		t.Errorf("%v: %s", err, a.GetAnnotations()[AnnotationApplied])
	}
	secret := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "x"}}}
	if err := Remember(secret); err == nil {
		t.Error("a Secret is repeated in an annotation")
	}
}

func TestAFieldThatIsStillOursIsAsApplied(t *testing.T) {
	applied := object(t, `
apiVersion: v1
kind: Service
metadata: {name: x}
spec: {selector: {}, ports: [{port: 80, targetPort: 8080}], sessionAffinity: None, cpu: 0.5}
`)
	live := object(t, `
apiVersion: v1
kind: Service
metadata:
  name: x
  managedFields:
  - {manager: continuo, operation: Apply, time: "2026-11-01T09:00:00Z", fieldsV1: {"f:spec": {"f:selector": {}, "f:cpu": {}, "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}}}
  - {manager: kubectl-edit, operation: Update, time: "2026-11-01T09:20:00Z", fieldsV1: {"f:spec": {"f:sessionAffinity": {}, "f:ports": {'k:{"port":80,"protocol":"TCP"}': {"f:targetPort": {}}}}}}
spec: {ports: [{port: 80, protocol: TCP, targetPort: 9090}], sessionAffinity: ClientIP, cpu: 500m}
`)
	want := []FieldChange{
		{`spec.ports[port=80,protocol="TCP"].targetPort`, "8080", "9090", "kubectl-edit"}, // the key that nobody wrote is the server's default
		{"spec.sessionAffinity", `"None"`, `"ClientIP"`, "kubectl-edit"},
	}
	if d := cmp.Diff(want, DriftFrom(applied, live, nil)); d != "" {
		t.Error(d)
	}
}

func TestAHiddenValueIsComparedByWhoOwnsIt(t *testing.T) {
	hidden := func(s string) bool { return s == "hidden" }
	applied := object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {mine: hidden, theirs: hidden, plain: a}, list: [{name: hidden}]}")
	live := object(t, `
apiVersion: v1
kind: ConfigMap
metadata:
  name: x
  managedFields:
  - {manager: continuo, operation: Apply, time: "2026-11-01T09:00:00Z", fieldsV1: {"f:data": {"f:mine": {}}}}
  - {manager: kubectl-edit, operation: Update, time: "2026-11-01T09:20:00Z", fieldsV1: {"f:data": {"f:theirs": {}, "f:plain": {}}}}
data: {mine: one, theirs: two, plain: b}
list: [{name: three}]
`)
	want := []FieldChange{{"data.plain", `"a"`, `"b"`, "kubectl-edit"}, {"data.theirs", "(secret)", "(secret)", "kubectl-edit"}}
	if d := cmp.Diff(want, DriftFrom(applied, live, hidden)); d != "" {
		t.Error(d)
	}
}
