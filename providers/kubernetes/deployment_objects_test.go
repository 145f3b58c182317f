package kubernetes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// golden compares objects with a file. With ML_UPDATE_GOLDEN=1 it writes the file, for a person to read.
func golden(t *testing.T, name string, objects ...*unstructured.Unstructured) {
	t.Helper()
	var b strings.Builder
	for _, u := range objects {
		notes := u.GetAnnotations()
		if _, ok := notes[kube.AnnotationApplied]; ok {
			delete(notes, kube.AnnotationApplied) // the same once more
			u.SetAnnotations(notes)
		}
		text, err := json.MarshalIndent(u.Object, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(text, '\n'))
	}
	file := filepath.Join("testdata", "deployment", name+".json")
	if os.Getenv("ML_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("%s: %s", file, d)
	}
}

func must(t *testing.T) func(*unstructured.Unstructured, error) *unstructured.Unstructured {
	return func(u *unstructured.Unstructured, err error) *unstructured.Unstructured {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
}

func exampleFront() front {
	f := front{Name: "tumors", Address: resource.Address{Kind: "deployment", Name: "tumors"}, Project: "p1", Runner: "r.example/ml/runner@sha256:aa", Port: 80, Drain: 30 * time.Second}
	f.serverSettings = f.withDefaults(pods.Settings{}, "ns")
	return f
}

func exampleVersion(change func(*version)) version {
	v := version{front: exampleFront(), Number: 3, Digest: "sha256:33", Image: "r.example/ml/server@sha256:bb"}
	v.Spec.Command, v.Spec.Replicas = []string{"python3", "serve.py"}, 2
	v.Spec.Model = &config.Model{Version: 3, Digest: "sha256:33"}
	if change != nil {
		change(&v)
	}
	return v
}

func TestTheRouterOfADeployment(t *testing.T) {
	f := exampleFront()
	state := rollout{Op: "op1", Asked: gateway.Version{Number: 3, Digest: "sha256:33"}, Live: gateway.Live{Generation: 7, Current: gateway.Version{Number: 2, Digest: "sha256:22"}}}
	golden(t, "router", must(t)(f.routerService()), must(t)(f.routerDeployment()), must(t)(f.tokenSecret("secret", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: f.Name, UID: "u1"})), must(t)(f.configMap(state.routes(f, deploymentSpec{}), state)))
}

func TestAPlainVersion(t *testing.T) {
	v := exampleVersion(nil)
	golden(t, "plain", must(t)(v.service()), must(t)(v.deployment(v.replicas())))
}

func TestAVersionWithEverything(t *testing.T) {
	v := exampleVersion(func(v *version) {
		v.Namespace, v.ServiceAccount, v.ImagePullSecrets, v.EnvFrom = "other", "robot", []string{"registry"}, []string{"keys"}
		v.Labels, v.Annotations = map[string]string{"team": "a", labelVersion: "9"}, map[string]string{"note": "x"}
		v.NodeSelector, v.Tolerations = map[string]string{"gpu": "yes"}, []serverTolerance{{Key: "gpu", Operator: "Exists", Effect: "NoSchedule"}}
		v.Spec.Resources = &config.ServerUse{CPU: "500m", Memory: "1Gi", GPU: 1}
		v.Spec.Readiness = &config.Readiness{Path: "/ready", Timeout: 90 * time.Second}
		v.Spec.Scale = &config.Scale{Min: 2, Max: 5, Metric: "cpu", Target: 70}
		v.Spec.Transformer = &config.Transformer{Command: []string{"python3", "pre.py"}, Env: map[string]string{"MODE": "x"}}
		v.Spec.Env = map[string]string{"GREETING": "hello"}
		v.Fetch, v.ModelDir, v.WorkDir, v.CodeDigest = `{"v":1}`, pods.Home+"/model", pods.Home+"/code", "sha256:cc"
		v.EnvKey = "0123456789"
	})
	owner := kube.Ref{Version: "v1", Kind: "Service", Namespace: "other", Name: "tumors-v3", UID: "u1"}
	golden(t, "everything", must(t)(v.service()), must(t)(v.envSecret(ownedBy(owner))), must(t)(v.deployment(v.replicas())), must(t)(v.scaler()))
}

func TestAnAutoscalersReplicasAreNotApplied(t *testing.T) {
	v := exampleVersion(func(v *version) { v.Spec.Scale = &config.Scale{Min: 2, Max: 5} })
	u := must(t)(v.deployment(v.replicas()))
	if _, found, err := unstructured.NestedInt64(u.Object, "spec", "replicas"); found || err != nil {
		t.Errorf("replicas are applied: %v", err)
	}
}

// New pods are rolled out when they differ, and only then.
func TestTheKeyOfAVersionMovesWithItsPods(t *testing.T) {
	keyOf := func(change func(*version)) string {
		t.Helper()
		k, err := exampleVersion(change).key()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := keyOf(nil)
	for name, change := range map[string]func(*version){
		"image":   func(v *version) { v.Image = "x@sha256:dd" },
		"command": func(v *version) { v.Spec.Command = []string{"y"} },
		"env":     func(v *version) { v.EnvKey = "1" },
		"code":    func(v *version) { v.CodeDigest = "sha256:ee" },
		"memory":  func(v *version) { v.Spec.Resources = &config.ServerUse{Memory: "2Gi"} },
	} {
		if keyOf(change) == base {
			t.Errorf("%s: other pods have the same key", name)
		}
	}
	for name, change := range map[string]func(*version){
		"replicas": func(v *version) { v.Spec.Replicas = 9 },
		"rollout":  func(v *version) { v.Spec.Rollout = &config.Rollout{Strategy: "canary"} },
	} {
		if keyOf(change) != base {
			t.Errorf("%s: the same pods have another key", name)
		}
	}
}

func TestVariablesStandInNoTemplate(t *testing.T) {
	v := exampleVersion(func(v *version) { v.Spec.Env = map[string]string{"PASSWORD": "hunter2"} })
	a, err := v.envKey("k1")
	if err != nil {
		t.Fatal(err)
	}
	b, err := v.envKey("k2")
	if err != nil || a == b || a == "" {
		t.Errorf("the key %q says something to who does not know the secret (%v)", a, err)
	}
	v.EnvKey = a
	text, err := json.Marshal(must(t)(v.deployment(v.replicas())).Object)
	if err != nil || strings.Contains(string(text), "hunter2") || !strings.Contains(string(text), v.envName()) {
		t.Errorf("%v %s", err, text)
	}
}

func TestNamesOfObjects(t *testing.T) {
	long := strings.Repeat("a", 40)
	for _, c := range []struct {
		addr resource.Address
		want string
	}{
		{resource.Address{Kind: "deployment", Name: "tumors"}, "tumors"},
		{resource.Address{Kind: "deployment", Name: "a_b"}, "a-b"},
		{resource.Address{Module: "module.eu", Kind: "deployment", Name: "tumors"}, "module-eu-tumors"},
	} {
		if got := objectName(c.addr); got != c.want {
			t.Errorf("%s: %q, want %q", c.addr, got, c.want)
		}
	}
	x := objectName(resource.Address{Module: "module." + long, Kind: "deployment", Name: long})
	y := objectName(resource.Address{Module: "module." + long, Kind: "deployment", Name: long[1:] + "b"})
	if len(x) > 48 || len(y) > 48 || x == y {
		t.Errorf("%q, %q", x, y)
	}
}

func TestWhatCannotBeServedHereIsSaidBeforehand(t *testing.T) {
	for want, change := range map[string]func(*deploymentSpec){
		"no model version":  func(s *deploymentSpec) { s.Model = nil },
		"is KServe's":       func(s *deploymentSpec) { s.Format, s.Command = "sklearn", nil },
		"give sink.url":     func(s *deploymentSpec) { s.Sink = &config.Sink{File: "x"} },
		"env_from":          func(s *deploymentSpec) { s.PassEnv = []string{"X"} },
		"PORT is set by":    func(s *deploymentSpec) { s.Env = map[string]string{"PORT": "1"} },
		"replicas: 0":       func(s *deploymentSpec) { s.Replicas = 0 },
		"scale by rps":      func(s *deploymentSpec) { s.Scale = &config.Scale{Min: 1, Max: 2, Metric: "rps"} },
		"less than min":     func(s *deploymentSpec) { s.Scale = &config.Scale{Min: 3, Max: 2} },
		"resources { cpu }": func(s *deploymentSpec) { s.Scale = &config.Scale{Min: 1, Max: 2} },
		"use at least 1":    func(s *deploymentSpec) { s.Scale = &config.Scale{Max: 2} },
	} {
		spec := exampleVersion(nil).Spec
		change(&spec)
		if err := spec.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := exampleVersion(nil).Spec.check(); err != nil {
		t.Error(err)
	}
}

func TestRoutesFollowTheRollout(t *testing.T) {
	f, one, two := exampleFront(), gateway.Version{Number: 1, Digest: "sha256:1"}, gateway.Version{Number: 2, Digest: "sha256:2"}
	p99 := time.Second
	s := rollout{Policy: gateway.Rollout{Strategy: gateway.Canary, Abort: gateway.Abort{P99: &p99}}.WithDefaults(), Live: gateway.Live{Generation: 1, Candidate: &one}}
	if r := s.routes(f, deploymentSpec{}); r.Current != nil || r.Candidate != nil || r.Validate() != nil {
		t.Errorf("before anything serves: %+v, %v", r, r.Validate())
	}
	s.Live.Current, s.Live.Candidate = one, &two
	if r := s.routes(f, deploymentSpec{}); r.Current.URL != "http://tumors-v1.ns.svc.cluster.local.:80" || r.Candidate != nil {
		t.Errorf("before the first step: %+v", r)
	}
	s.Live.Progress.StepStarted, s.Live.Weight = time.Now(), 10
	if r := s.routes(f, deploymentSpec{}); r.Candidate == nil || r.Weight != 10 || r.Mirror || r.SlowAfter != p99 || r.Validate() != nil {
		t.Errorf("at its first step: %+v", r)
	}
	s.Policy.Strategy, s.Live.Weight = gateway.Shadow, 0
	if r := s.routes(f, deploymentSpec{}); !r.Mirror || r.Weight != 0 {
		t.Errorf("a shadow: %+v", r)
	}
	s.Live.Progress.Holding = true
	if r := s.routes(f, deploymentSpec{}); r.Mirror {
		t.Errorf("a shadow that has seen enough: %+v", r)
	}
}

func TestAnObjectOfAnotherIsNotTouched(t *testing.T) {
	f := exampleFront()
	mine := must(t)(f.routerService())
	if err := ours(mine, f); err != nil {
		t.Error(err)
	}
	for name, labels := range map[string]map[string]string{
		"none":            nil,
		"another project": {kube.ManagedBy: kube.FieldManager, pods.LabelAddress: "deployment.tumors", pods.LabelProject: "p2"},
		"another block":   {kube.ManagedBy: kube.FieldManager, pods.LabelAddress: "deployment.other", pods.LabelProject: "p1"},
	} {
		u := mine.DeepCopy()
		u.SetLabels(labels)
		if err := ours(u, f); err == nil || !strings.Contains(err.Error(), "Service ns/tumors exists") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// live is a deployment's objects as the API server has them when all is well.
func liveGroup(t *testing.T, change func(*rollout)) (front, group) {
	t.Helper()
	f, v := exampleFront(), exampleVersion(nil)
	s := rollout{Asked: gateway.Version{Number: 3, Digest: "sha256:33"}, Live: gateway.Live{Generation: 1, Phase: gateway.PhaseReady, Current: gateway.Version{Number: 3, Digest: "sha256:33"}}}
	if change != nil {
		change(&s)
	}
	g := group{}
	for _, u := range []*unstructured.Unstructured{must(t)(f.routerService()), must(t)(f.routerDeployment()), must(t)(f.configMap(s.routes(f, deploymentSpec{}), s)), must(t)(v.service()), must(t)(v.deployment(v.replicas()))} {
		g[groupKey(u.GetKind(), u.GetName())] = u
	}
	return f, g
}

func TestTheLiveStateOfADeployment(t *testing.T) {
	for name, c := range map[string]struct {
		state   func(*rollout)
		change  func(group)
		phase   resource.Phase
		message string
		drift   int
	}{
		"all is well":          {phase: resource.PhaseReady},
		"no ConfigMap":         {change: func(g group) { delete(g, "ConfigMap/tumors") }, phase: resource.PhaseMissing, message: "ConfigMap ns/tumors"},
		"no router":            {change: func(g group) { delete(g, "Deployment/tumors") }, phase: resource.PhaseMissing, message: "Deployment ns/tumors is"},
		"no Service":           {change: func(g group) { delete(g, "Service/tumors") }, phase: resource.PhaseMissing, message: "Service ns/tumors is"},
		"no servers":           {change: func(g group) { delete(g, "Deployment/tumors-v3") }, phase: resource.PhaseMissing, message: "tumors-v3"},
		"a rollout on its way": {state: func(s *rollout) { s.Live.Phase, s.Live.Message = gateway.PhaseRolling, "version 4: x" }, phase: resource.PhaseRunning, message: "version 4: x"},
		"a rollout that waits": {state: func(s *rollout) { s.Live.Phase, s.Live.Message = gateway.PhaseHeld, "version 4: x" }, phase: resource.PhaseRunning, message: "waits for traffic"},
		"nothing ever served": {state: func(s *rollout) {
			s.Live.Current, s.Live.Phase, s.Live.Message = gateway.Version{}, gateway.PhaseFailed, "version 3: no"
		}, phase: resource.PhaseFailed, message: "version 3: no"},
		"servers that are down": {change: func(g group) { down(t, g["Deployment/tumors-v3"]) }, phase: resource.PhaseFailed, message: "no server of version 3 is ready: nobody"},
		"routers that are down": {change: func(g group) { down(t, g["Deployment/tumors"]) }, phase: resource.PhaseFailed, message: "no router is ready: nobody"},
		"a change by others": {change: func(g group) {
			if err := unstructured.SetNestedField(g["Deployment/tumors-v3"].Object, int64(7), "spec", "replicas"); err != nil {
				t.Fatal(err)
			}
		}, phase: resource.PhaseReady, drift: 1},
		"an autoscaler's change": {change: func(g group) {
			if err := unstructured.SetNestedField(g["Deployment/tumors-v3"].Object, int64(7), "spec", "replicas"); err != nil {
				t.Fatal(err)
			}
			g["HorizontalPodAutoscaler/tumors-v3"] = must(t)(exampleVersion(func(v *version) { v.Spec.Scale = &config.Scale{Min: 1, Max: 9} }).scaler())
		}, phase: resource.PhaseReady},
	} {
		f, g := liveGroup(t, c.state)
		if c.change != nil {
			c.change(g)
		}
		d := &deployment{now: time.Now}
		o, err := d.object(readRequest(f), f, g)
		if err != nil || o.Phase != c.phase || !strings.Contains(o.Message, c.message) || len(o.Drift) != c.drift {
			t.Errorf("%s: %v %+v", name, err, o)
		}
	}
}

// down makes a Deployment one without a ready pod for long.
func down(t *testing.T, u *unstructured.Unstructured) {
	t.Helper()
	var d appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &d); err != nil {
		t.Fatal(err)
	}
	status := map[string]any{"conditions": []any{map[string]any{"type": "Available", "status": "False", "message": "nobody",
		"lastTransitionTime": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)}}}
	u.Object["status"] = status
}

func readRequest(f front) providers.ReadRequest {
	return providers.ReadRequest{Address: f.Address, Record: &state.Record{Address: f.Address, Phase: resource.PhaseReady,
		Outputs: json.RawMessage(`{"endpoint":"http://tumors.ns.svc.cluster.local","version":3,"digest":"sha256:33"}`)}}
}
