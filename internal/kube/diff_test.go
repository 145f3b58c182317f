package kube

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestADiffNamesFieldAndManager(t *testing.T) {
	got := compare(object(t, wantDeployment), object(t, liveDeployment))
	main := `spec.template.spec.containers[name="main"]`
	want := []FieldChange{
		{"spec.paused", "false", "", "kubectl-edit"}, // removed: nobody owns it now, this one wrote last
		{"spec.replicas", "2", "5", "kubectl (scale)"},
		{main + ".args", `["x"]`, `["u","v"]`, "kubectl-edit"},
		{main + ".image", `"a"`, `"b"`, "kubectl-edit"},
		{main + `.ports[containerPort=80,protocol="TCP"].name`, `"http"`, `"web"`, "kubectl-edit"},
		{`spec.template.spec.containers[name="side"]`, "", `{"name":"side"}`, "kubectl-edit"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := compare(object(t, wantDeployment), object(t, wantDeployment)); len(got) > 0 {
		t.Errorf("an object differs from itself: %v", got)
	}
}

func TestASecretIsNeverShown(t *testing.T) {
	secret := func(value string) string {
		return `{apiVersion: v1, kind: Secret, metadata: {name: x, annotations: {kubectl.kubernetes.io/last-applied-configuration: '` + value + `'}}, data: {token: ` + value + `}, stringData: {plain: ` + value + `}}`
	}
	got := compare(object(t, secret("aGVsbG8")), object(t, secret("d29ybGQ")))
	if len(got) != 3 {
		t.Fatalf("%v", got)
	}
	for _, c := range got {
		if c.Old != "(secret)" || c.New != "(secret)" {
			t.Errorf("%+v", c)
		}
	}
}

func TestADiffWritesNothingAndAsksTheServer(t *testing.T) {
	alone(t)
	f := newServer(t, nil, returns(deployment), returns(strings.Replace(deployment, `"metadata"`, `"spec":{"replicas":2},"metadata"`, 1)))
	got, err := connect(t, f.URL, nil).Diff(context.Background(), object(t, deployment))
	if err != nil || len(got) != 1 || got[0].Path != "spec" {
		t.Fatalf("%v, %v", got, err)
	}
	if q := f.requests[1].URL.Query(); q.Get("dryRun") != "All" {
		t.Errorf("it was no dry run: %s", f.requests[1].URL)
	}
	f = newServer(t, fails(404, "NotFound", "not found", `{"name":"x"}`))
	if _, err := connect(t, f.URL, nil).Diff(context.Background(), object(t, deployment)); !errors.Is(err, ErrNotFound) {
		t.Errorf("of an absent object: %v", err)
	}
}
