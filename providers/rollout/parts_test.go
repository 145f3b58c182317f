package rollout

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func TestWhatStandsInFront(t *testing.T) {
	t.Parallel()
	f := Front{Name: "tumors", Namespace: "ns", Address: resource.Address{Kind: "deployment", Name: "tumors"}, Project: "p1", Runner: "r.example/ml/runner@sha256:aa"}.WithDefaults()
	s := &State{Op: "op1", Asked: gateway.Version{Number: 3, Digest: "sha256:33"}, Live: gateway.Live{Generation: 7, Current: gateway.Version{Number: 2, Digest: "sha256:22"}},
		URLs: map[int]string{2: "http://tumors-v2.ns.svc.cluster.local.:80"}}
	providertest.Golden(t, "testdata/router.json", providertest.Object(t)(f.routerService()), providertest.Object(t)(f.routerDeployment()), providertest.Object(t)(f.tokenSecret("secret", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: f.Name, UID: "u1"})),
		providertest.Object(t)(f.configMap(s.routes(f, gateway.Capture{Enabled: true}, nil), s)))
}

// exampleParts are those of a provider whose versions are Deployments.
func exampleParts() Parts {
	return Parts{
		Kinds:   []Kind{{GroupVersionKind: gvkService, Part: PartRouter}, {GroupVersionKind: gvkDeployment}},
		Version: []schema.GroupVersionKind{gvkDeployment}, Now: time.Now,
		Health: func(o Objects, name string) (Health, error) {
			_, down, err := ReadyPods(o.Get(gvkDeployment, name), time.Now())
			return Health{Down: down, Info: map[string]string{"x": "y"}}, err
		},
		Drift: func(_ Objects, u *unstructured.Unstructured) ([]kube.FieldChange, error) { return kube.Drift(u) },
	}
}

// alive is a deployment's objects as the API server has them when all is well.
func alive(t *testing.T, change func(*State)) (Front, Objects) {
	t.Helper()
	f, three := front(), gateway.Version{Number: 3, Digest: "sha256:33"}
	s := &State{Asked: three, Live: gateway.Live{Generation: 1, Phase: gateway.PhaseReady, Current: three}}
	if change != nil {
		change(s)
	}
	version := providertest.Object(t)(Remembered(gvkDeployment, appsv1.Deployment{ObjectMeta: f.Meta(f.VersionName(3), PartServer), Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))}}))
	o := Objects{}
	for _, u := range []*unstructured.Unstructured{providertest.Object(t)(f.routerService()), providertest.Object(t)(f.routerDeployment()), providertest.Object(t)(f.configMap(s.routes(f, gateway.Capture{}, nil), s)), version} {
		o.Put(u)
	}
	return f, o
}

func TestTheLiveStateOfADeployment(t *testing.T) {
	t.Parallel()
	version := "Deployment/" + front().VersionName(3)
	for name, c := range map[string]struct {
		state   func(*State)
		change  func(Objects)
		phase   resource.Phase
		message string
		drift   string
	}{
		"all is well":          {phase: resource.PhaseReady},
		"no ConfigMap":         {change: func(o Objects) { delete(o, "ConfigMap/tumors") }, phase: resource.PhaseMissing, message: "ConfigMap team/tumors"},
		"no router":            {change: func(o Objects) { delete(o, "Deployment/tumors") }, phase: resource.PhaseMissing, message: "Deployment team/tumors is not there"},
		"a router that goes":   {change: func(o Objects) { o["Deployment/tumors"].SetDeletionTimestamp(new(metav1.Now())) }, phase: resource.PhaseMissing, message: "is being deleted"},
		"no Service":           {change: func(o Objects) { delete(o, "Service/tumors") }, phase: resource.PhaseMissing, message: "Service team/tumors is"},
		"no servers":           {change: func(o Objects) { delete(o, version) }, phase: resource.PhaseMissing, message: "tumors-v3"},
		"a rollout on its way": {state: func(s *State) { s.Live.Phase, s.Live.Message = gateway.PhaseRolling, "version 4: x" }, phase: resource.PhaseRunning, message: "version 4: x"},
		"a rollout that waits": {state: func(s *State) { s.Live.Phase, s.Live.Message = gateway.PhaseHeld, "version 4: x" }, phase: resource.PhaseRunning, message: "waits for traffic"},
		"nothing ever served": {state: func(s *State) {
			s.Live.Current, s.Live.Phase, s.Live.Message = gateway.Version{}, gateway.PhaseFailed, "version 3: no"
		}, phase: resource.PhaseFailed, message: "version 3: no"},
		"servers that are down": {change: func(o Objects) { down(o[version]) }, phase: resource.PhaseFailed, message: "version 3: nobody"},
		"routers that are down": {change: func(o Objects) { down(o["Deployment/tumors"]) }, phase: resource.PhaseFailed, message: "no router is ready: nobody"},
		"a change by others": {change: func(o Objects) {
			o[version].Object["spec"].(map[string]any)["replicas"] = int64(7)
		}, phase: resource.PhaseReady, drift: version + ":spec.replicas 2 7"},
		"routes that others wrote": {change: func(o Objects) {
			o["ConfigMap/tumors"].Object["data"].(map[string]any)[routesKey] = "{}"
		}, phase: resource.PhaseReady, drift: "ConfigMap/tumors:data.routes.json as applied changed"},
	} {
		f, o := alive(t, c.state)
		if c.change != nil {
			c.change(o)
		}
		got, _, err := exampleParts().object(f, o, readRequest(f))
		var drift []string
		for _, d := range got.Drift {
			drift = append(drift, d.Path+" "+d.Old+" "+d.New)
		}
		if err != nil || got.Phase != c.phase || !strings.Contains(got.Message, c.message) || strings.Join(drift, "; ") != c.drift {
			t.Errorf("%s: %v %+v", name, err, got)
		}
	}
	f, o := alive(t, func(s *State) { s.Live.Candidate, s.Live.Weight = &gateway.Version{Number: 4}, 10 })
	got, _, err := exampleParts().object(f, o, readRequest(f))
	if err != nil || got.Info["weights"] != "version 3: 90 %, version 4: 10 %" || got.Info["x"] != "y" || got.Outputs != nil {
		t.Errorf("%v %+v", err, got)
	}
	req := readRequest(f)
	req.Record.Outputs = json.RawMessage(`{"version":2}`)
	if got, _, err := exampleParts().object(f, o, req); err != nil || got.Outputs == nil {
		t.Errorf("another version serves than the record says, and it does not tell: %v %+v", err, got)
	}
}

// down makes a Deployment one without a ready pod for long.
func down(u *unstructured.Unstructured) {
	u.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": string(appsv1.DeploymentAvailable), "status": string(corev1.ConditionFalse), "message": "nobody",
		"lastTransitionTime": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)}}}
}

func readRequest(f Front) providers.ReadRequest {
	return providers.ReadRequest{Address: f.Address, Record: &state.Record{Address: f.Address, Phase: resource.PhaseReady,
		Outputs: json.RawMessage(`{"endpoint":"http://tumors.team.svc.cluster.local","version":3,"digest":"sha256:33"}`)}}
}

func TestObjectsAreFoundByTheirOwner(t *testing.T) {
	t.Parallel()
	x := &Index{owned: map[string]Objects{}, all: map[string]Objects{"team": {}, "other": {}}}
	f := front()
	mine, stray := providertest.Object(t)(f.routerService()), providertest.Object(t)(f.routerDeployment())
	stray.SetLabels(map[string]string{pods.LabelAddress: f.Labels("")[pods.LabelAddress]})
	x.put("team", mine)
	x.put("team", stray)
	x.put("other", mine)
	if o := x.Of(f); len(o) != 1 || o.Get(gvkService, "tumors") != mine {
		t.Errorf("%v", o)
	}
	if o := x.In("team"); len(o) != 2 {
		t.Errorf("%v", o)
	}
	f.Project = "q"
	if o := x.Of(f); len(o) != 0 {
		t.Errorf("objects of another project: %v", o)
	}
}

func TestARecordSaysWhereADeploymentIs(t *testing.T) {
	t.Parallel()
	f := Front{Name: "tumors", Namespace: "team", Address: resource.Address{Kind: "deployment", Name: "tumors"}}
	for name, c := range map[string]struct {
		rec  state.Record
		want string
	}{
		"nothing applied": {state.Record{}, "team/tumors http://tumors.team.svc.cluster.local 30s"},
		"no reference":    {state.Record{Spec: json.RawMessage(`{"port":81,"drain":"9s","kubernetes":{"namespace":"x","cluster_domain":"c"}}`)}, "x/tumors http://tumors.x.svc.c:81 9s"},
		"a reference":     {state.Record{Spec: json.RawMessage(`{"kubernetes":{"namespace":"x"}}`), Ref: json.RawMessage(`{"name":"old","namespace":"y","project":"p"}`)}, "y/old http://old.y.svc.cluster.local 30s"},
		"another block":   {state.Record{Spec: json.RawMessage(`{"kserve":{"namespace":"x"}}`)}, "team/tumors http://tumors.team.svc.cluster.local 30s"},
	} {
		got, err := f.Recorded(&c.rec, "kubernetes")
		if text := got.Namespace + "/" + got.Name + " " + got.endpoint() + " " + got.Drain.String(); err != nil || text != c.want {
			t.Errorf("%s: %s %v, want %s", name, text, err, c.want)
		}
	}
	if _, err := f.Recorded(&state.Record{Ref: json.RawMessage(`{`)}, "kubernetes"); err == nil {
		t.Error("a reference that cannot be read is no error")
	}
	kept, err := f.Kept(&state.Record{Ref: json.RawMessage(`{"name":"old","namespace":"team"}`)})
	if moved, err2 := f.Kept(&state.Record{Ref: json.RawMessage(`{"name":"old","namespace":"other"}`)}); err != nil || err2 != nil || kept.Name != "old" || moved.Name != "tumors" {
		t.Errorf("%v %v %v %v", kept, err, moved, err2)
	}
}
