package kserve

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func backend(n int) *gateway.Backend {
	return &gateway.Backend{Version: n, URL: fmt.Sprintf("http://tumors-v%d-predictor.team.svc.cluster.local.:80", n)}
}

func TestASplitterIsTheGoldenFile(t *testing.T) {
	t.Parallel()
	f, err := newFleet(nil, example(func(r *release) { r.spec.KServe.Canary, r.Front.Routers.Replicas = bySplitter, 2 }))
	if err != nil {
		t.Fatal(err)
	}
	u, err := f.splitter(gateway.Routes{Current: backend(2), Candidate: backend(3), Weight: 20})
	if err != nil {
		t.Fatal(err)
	}
	wantGolden(t, "splitter", u)
	if first, err := f.splitter(gateway.Routes{Current: backend(2)}); err != nil || cmp.Equal(first, u) {
		t.Errorf("without a candidate: %v, %v", first, err)
	}
}

func TestTheSharesAreThoseOfTheRoutes(t *testing.T) {
	t.Parallel()
	f, err := newFleet(nil, example(nil))
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int) string { return backend(n).URL + "/v1/models/tumors:predict" }
	for name, test := range map[string]struct {
		routes gateway.Routes
		want   map[string]int
	}{
		"one version":    {gateway.Routes{Current: backend(2)}, map[string]int{at(2): 100}},
		"a canary":       {gateway.Routes{Current: backend(2), Candidate: backend(3), Weight: 20}, map[string]int{at(2): 80, at(3): 20}},
		"not yet":        {gateway.Routes{Current: backend(2), Candidate: backend(3)}, map[string]int{at(2): 100}},
		"all of it":      {gateway.Routes{Current: backend(2), Candidate: backend(3), Weight: 100}, map[string]int{at(3): 100}},
		"a stale weight": {gateway.Routes{Current: backend(2), Weight: 30}, map[string]int{at(2): 100}},
	} {
		if d := cmp.Diff(test.want, f.shares(test.routes)); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
	}
}

func TestTheWeightsAreReadFromThePods(t *testing.T) {
	t.Parallel()
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	pod.Spec.Containers = []corev1.Container{{Args: []string{"--graph-json", `{"nodes":{"root":{"routerType":"Splitter","steps":[{"serviceUrl":"http://a","weight":90},{"serviceUrl":"http://b","weight":10}]}}}`}}}
	got, err := sharesOf(pod)
	if d := cmp.Diff(map[string]int{"http://a": 90, "http://b": 10}, got); err != nil || d != "" {
		t.Errorf("%v, -want +got\n%s", err, d)
	}
	pod.Spec.Containers[0].Args[1] = "{"
	if _, err := sharesOf(pod); err == nil {
		t.Error("what is no JSON was read")
	}
	pod.Spec.Containers[0].Args = []string{"--graph-json"}
	if got, err := sharesOf(pod); err != nil || got != nil {
		t.Errorf("a pod without weights has %v, %v", got, err)
	}
}

func TestWhatASplitterCannotDoIsAnError(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*deploymentSpec){
		"rollout.strategy:":    func(d *deploymentSpec) { d.Rollout = &config.Rollout{Strategy: "shadow"} },
		"rollout.abort:":       func(d *deploymentSpec) { d.Rollout = &config.Rollout{Strategy: "canary", Abort: &config.Abort{}} },
		"sink:":                func(d *deploymentSpec) { d.Sink = &config.Sink{URL: "http://a"} },
		"capture:":             func(d *deploymentSpec) { d.Capture = &config.Capture{Enabled: true} },
		"port:":                func(d *deploymentSpec) { d.Port = 8080 },
		"kserve.service_type:": func(d *deploymentSpec) { d.KServe.ServiceType = "NodePort" },
		"kserve.explainer:":    func(d *deploymentSpec) { d.KServe.Explainer = &component{Image: "a"} },
		"kserve.canary:":       func(d *deploymentSpec) { d.KServe.DeploymentMode = knative },
	} {
		spec := deploymentSpec{KServe: &nested{Canary: bySplitter}}
		spec.Format, spec.Replicas, spec.Model = "sklearn", 1, &config.Model{Version: 1, Digest: "sha256:a"}
		spec.Rollout = &config.Rollout{Strategy: "canary"}
		if err := spec.check(); err != nil {
			t.Fatalf("a splitter can do this: %v", err)
		}
		change(&spec)
		if err := spec.check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
		spec.KServe.Canary, spec.KServe.DeploymentMode = "router", ""
		if err := spec.check(); err != nil {
			t.Errorf("%s: routers can do this: %v", want, err)
		}
	}
}

func TestWhatCarriesRequestsIsNotExchangedUnderThem(t *testing.T) {
	t.Parallel()
	spec := deploymentSpec{KServe: &nested{Canary: bySplitter}}
	by := func(raw string, a resource.Action) error {
		return noRollout(spec, providers.PreflightRequest{Action: a, Prior: &state.Record{Ref: []byte(raw)}})
	}
	if err := by(`{"name": "a"}`, resource.Update); err == nil || !strings.Contains(err.Error(), "-replace") {
		t.Errorf("from routers to a splitter: %v", err)
	}
	for name, err := range map[string]error{"the same": by(`{"name": "a", "canary": "graph"}`, resource.Update), "made anew": by(`{"name": "a"}`, resource.Replace)} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhereExplanationsAreAskedFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*release)
		want   string
	}{
		"nobody explains":     {nil, ""},
		"a server of its own": {func(r *release) { r.spec.KServe.Explainer = &component{Image: "a"} }, "http://tumors-v3-explainer.team.svc.cluster.local.:80"},
		"without an address":  {func(r *release) { r.Headless, r.spec.KServe.Explainer = true, &component{Image: "a"} }, "http://tumors-v3-explainer.team.svc.cluster.local.:8080"},
	} {
		var by rollout.Explainer = &fleet{release: example(test.change)}
		if got := by.Explain(); got != test.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
