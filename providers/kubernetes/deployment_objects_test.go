package kubernetes

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/resource"
)

func exampleVersion(change func(*version)) version {
	f := rollout.Front{Name: "tumors", Namespace: "ns", Address: resource.Address{Kind: "deployment", Name: "tumors"}, Project: "p1", Drain: 30 * time.Second}.WithDefaults()
	v := version{Front: f, Number: 3, resolved: resolved{Image: "r.example/ml/server@sha256:bb", FetchBy: "r.example/ml/runner@sha256:aa"}}
	v.Spec.Command, v.Spec.Replicas = []string{"python3", "serve.py"}, 2
	v.Spec.Model = &config.Model{Version: 3, Digest: "sha256:33"}
	if change != nil {
		change(&v)
	}
	return v
}

func TestAPlainVersion(t *testing.T) {
	v := exampleVersion(nil)
	providertest.Golden(t, "testdata/deployment/plain.json", providertest.Object(t)(v.service()), providertest.Object(t)(v.deployment(v.replicas())))
}

func TestAVersionWithEverything(t *testing.T) {
	v := exampleVersion(func(v *version) {
		v.Namespace, v.Nest.ServiceAccount, v.Nest.ImagePullSecrets, v.Nest.EnvFrom = "other", "robot", []string{"registry"}, []string{"keys"}
		v.Nest.Labels, v.Nest.Annotations = map[string]string{"team": "a", rollout.LabelVersion: "9"}, map[string]string{"note": "x"}
		v.Nest.NodeSelector, v.Nest.Tolerations = map[string]string{"gpu": "yes"}, []serverTolerance{{Key: "gpu", Operator: "Exists", Effect: "NoSchedule"}}
		v.Spec.Resources = &config.ServerUse{CPU: "500m", Memory: "1Gi", GPU: 1}
		v.Spec.Readiness = &config.Readiness{Path: "/ready", Timeout: 90 * time.Second}
		v.Spec.Scale = &config.Scale{Min: 2, Max: 5, Metric: "cpu", Target: 70}
		v.Spec.Transformer = &config.Transformer{Command: []string{"python3", "pre.py"}, Env: map[string]string{"MODE": "x"}}
		v.Spec.Env = map[string]string{"GREETING": "hello"}
		v.Fetch, v.ModelDir, v.WorkDir, v.CodeDigest = `{"v":1}`, pods.Home+"/model", pods.Home+"/code", "sha256:cc"
		v.EnvKey = "0123456789"
	})
	owner := kube.Ref{Version: "v1", Kind: "Service", Namespace: "other", Name: "tumors-v3", UID: "u1"}
	providertest.Golden(t, "testdata/deployment/everything.json", providertest.Object(t)(v.service()), providertest.Object(t)(v.envSecret(rollout.OwnedBy(owner))), providertest.Object(t)(v.deployment(v.replicas())), providertest.Object(t)(v.scaler()))
}

func TestAnAutoscalersReplicasAreNotApplied(t *testing.T) {
	v := exampleVersion(func(v *version) { v.Spec.Scale = &config.Scale{Min: 2, Max: 5} })
	u := providertest.Object(t)(v.deployment(v.replicas()))
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
	text, err := json.Marshal(providertest.Object(t)(v.deployment(v.replicas())).Object)
	if err != nil || strings.Contains(string(text), "hunter2") || !strings.Contains(string(text), v.envName()) {
		t.Errorf("%v %s", err, text)
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
		"NAMESPACE/NAME":    func(s *deploymentSpec) { s.Kubernetes = &serverSettings{Route: &routeSettings{Gateway: "a/b/c"}} },
		"begins with /": func(s *deploymentSpec) {
			s.Kubernetes = &serverSettings{Route: &routeSettings{Gateway: "a/b", Path: "x"}}
		},
		"use at least 1": func(s *deploymentSpec) { s.Scale = &config.Scale{Max: 2} },
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

func TestTheReplicasOfAnAutoscalerAreNoDrift(t *testing.T) {
	v := exampleVersion(func(v *version) { v.Spec.Scale = &config.Scale{Min: 1, Max: 9} })
	u := providertest.Object(t)(v.deployment(new(int32(2))))
	if err := unstructured.SetNestedField(u.Object, int64(7), "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	o := rollout.Objects{}
	o.Put(u)
	if got, err := drift(o, u); err != nil || len(got) != 1 {
		t.Errorf("without an autoscaler: %v %v", got, err)
	}
	o.Put(providertest.Object(t)(v.scaler()))
	if got, err := drift(o, u); err != nil || len(got) != 0 {
		t.Errorf("with one: %v %v", got, err)
	}
}

func TestWhatWasResolvedSaysWhereTheServerFindsThings(t *testing.T) {
	for fetch, want := range map[string][2]string{
		"": {}, `{"v":1,"model":{"ref":"x"}}`: {pods.Home + "/model", ""}, `{"v":1,"code":{"ref":"x"}}`: {"", pods.Home + "/code"},
	} {
		raw, err := json.Marshal(resolved{Image: "x@sha256:dd", Fetch: fetch})
		if err != nil {
			t.Fatal(err)
		}
		f, err := newFleet(nil, exampleVersion(nil), raw, "secret")
		if err != nil || f.ModelDir != want[0] || f.WorkDir != want[1] || f.Image != "x@sha256:dd" || f.Key() == "" {
			t.Errorf("%q: %+v %v", fetch, f, err)
		}
	}
	if _, err := newFleet(nil, exampleVersion(nil), json.RawMessage(`{`), "secret"); err == nil {
		t.Error("what cannot be read is no error")
	}
}
