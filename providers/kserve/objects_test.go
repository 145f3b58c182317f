package kserve

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/resource"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	modelRef = "oci://registry.example.com/ml/modelcars/training.tumors@sha256:aaaa"
	imageRef = "registry.example.com/ml/packages/tumors@sha256:bbbb"
)

// a release of version 3 of deployment.tumors, by format.
func example(change func(*release)) release {
	r := release{
		Front:    rollout.Front{Name: "tumors", Namespace: "team", Address: resource.Address{Kind: "deployment", Name: "tumors"}, Project: "lineage"}.WithDefaults(),
		resolved: resolved{Mode: standard, Model: modelRef, Runtime: "sklearnserver", Args: []string{"--model_name=tumors"}},
		name:     "tumors-v3", number: 3,
	}
	r.spec.Format, r.spec.Replicas = "sklearn", 2
	r.spec.Model = &config.Model{Name: "tumors", Version: 3, Digest: "sha256:cccc"}
	r.spec.KServe = &nested{}
	if change != nil {
		change(&r)
	}
	r.nested = r.spec.nest(settings{}, "team")
	return r
}

// own makes it a server of the deployment's own.
func own(r *release) {
	r.spec.Format, r.spec.Image, r.Image, r.Runtime, r.Args = "", "registry.example.com/ml/packages/tumors:1", imageRef, "", nil
	r.spec.Command, r.spec.Env, r.envKey = []string{"python3", "serve.py"}, map[string]string{"TOKEN": "s3cret"}, "0123456789"
	r.spec.Readiness = &config.Readiness{Path: "/healthz", Timeout: 90 * time.Second}
	r.spec.Resources = &config.ServerUse{CPU: "500m", Memory: "1Gi", GPU: 1}
}

var releases = map[string]func(*release){
	"format": nil,
	"own":    own,
	"beside": func(r *release) {
		own(r)
		r.Headless, r.Transformer, r.Explainer = true, imageRef, imageRef
		r.spec.Transformer = &config.Transformer{Command: []string{"python3", "transform.py"}, Env: map[string]string{"A": "1"}}
		r.spec.KServe.Explainer = &component{Image: imageRef, Args: []string{"--kind=square"}}
	},
	"knative-own": func(r *release) { own(r); r.Mode = knative },
	"knative": func(r *release) {
		r.Mode = knative
		r.spec.Scale = &config.Scale{Min: 0, Max: 5, Metric: "concurrency", Target: 10}
		k := r.spec.KServe
		k.ProtocolVersion, k.FormatVersion, k.RuntimeVersion, k.Args = "v2", "1", "latest", []string{"--workers=2"}
		k.ContainerConcurrency, k.Timeout, k.ServiceAccount = 4, 90*time.Second, "models"
		k.Logger, k.Batcher = &logger{URL: "http://logs.team", Mode: "all"}, &batcher{MaxBatchSize: 8, MaxLatency: 500 * time.Millisecond}
		k.Labels, k.Annotations, k.NodeSelector = map[string]string{"team": "a"}, map[string]string{"example.com/a": "b"}, map[string]string{"disk": "ssd"}
		k.Tolerations = []toleration{{Key: "gpu", Operator: "Exists", Effect: "NoSchedule"}}
		k.ImagePullSecrets, k.EnvFrom = []string{"pull"}, []string{"passwords"}
	},
}

// graphs by which one version after another is asked, and others beside it.
var graphs = map[string]func(*release){
	"graph": func(r *release) {
		weight := func(n int) *int { return &n }
		r.spec.KServe.ServiceAccount, r.spec.KServe.NodeSelector = "models", map[string]string{"disk": "ssd"}
		r.spec.KServe.Graph = &graph{Replicas: 2, Timeout: 3 * time.Second, Nodes: []node{
			{Name: "root", Type: "Sequence", Steps: []step{
				{Name: "clean", URL: "http://clean.team/v1/models/clean:predict", Dependency: "Hard"},
				{Node: "halves", Data: "$response", Map: true}, {Node: "kinds", Condition: "predictions"}, {Node: "all"},
			}},
			{Name: "halves", Type: "Splitter", Steps: []step{{Weight: weight(90)}, {Service: "other", Weight: weight(10)}}},
			{Name: "kinds", Type: "Switch", Steps: []step{{Condition: "instances.#(kind==1)", Path: "/v1/models/a:predict"}, {Condition: "@this", Service: "other"}}},
			{Name: "all", Type: "Ensemble", Steps: []step{{Name: "a"}, {Name: "b", Service: "other"}}},
		}}
	},
	"graph-beside": func(r *release) {
		own(r)
		r.Headless, r.Transformer = true, imageRef
		r.spec.Transformer = &config.Transformer{Command: []string{"python3", "transform.py"}}
		r.spec.KServe.ProtocolVersion = "v2"
		r.spec.KServe.Graph = &graph{Nodes: []node{{Name: "root", Type: "Sequence", Steps: []step{{}}}}}
	},
}

func TestAGraphIsTheGoldenFile(t *testing.T) {
	t.Parallel()
	for name, change := range graphs {
		r := example(change)
		if err := r.nested.Graph.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		u, err := r.pipeline("0123")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantGolden(t, name, u)
	}
	_, with, err := example(graphs["graph"]).service()
	if err != nil {
		t.Fatal(err)
	}
	_, without, err := example(func(r *release) { graphs["graph"](r); r.spec.KServe.Graph = nil }).service()
	if err != nil || with == without {
		t.Errorf("with a graph and without it the servers have the same key (%v)", err)
	}
}

func TestAGraphThatKServeWouldRefuseOrIgnoreSaysWhy(t *testing.T) {
	t.Parallel()
	one, hundred := 1, 100
	for want, nodes := range map[string][]node{
		`begins at node "root"`:         {{Name: "first", Type: "Sequence", Steps: []step{{}}}},
		`"root": it is there twice`:     {{Name: "root", Type: "Sequence", Steps: []step{{}}}, {Name: "root", Type: "Sequence", Steps: []step{{}}}},
		`"root": it has no step`:        {{Name: "root", Type: "Sequence"}},
		"give one of node, service":     {{Name: "root", Type: "Sequence", Steps: []step{{URL: "http://a", Service: "b"}}}},
		`there is no node "b"`:          {{Name: "root", Type: "Sequence", Steps: []step{{Node: "b"}}}},
		"path is for this deployment's": {{Name: "root", Type: "Sequence", Steps: []step{{URL: "http://a", Path: "/b"}}}},
		"a weight is what the steps":    {{Name: "root", Type: "Sequence", Steps: []step{{Weight: &one}}}},
		"step 2: a weight is":           {{Name: "root", Type: "Splitter", Steps: []step{{Weight: &hundred}, {}}}},
		"add up to 1, not 100":          {{Name: "root", Type: "Splitter", Steps: []step{{Weight: &one}}}},
		"a switch needs a condition":    {{Name: "root", Type: "Switch", Steps: []step{{}}}},
		"would be ignored":              {{Name: "root", Type: "Ensemble", Steps: []step{{Data: "$response"}}}},
		"never end: root → b → root":    {{Name: "root", Type: "Sequence", Steps: []step{{}, {Node: "b"}}}, {Name: "b", Type: "Sequence", Steps: []step{{Node: "root"}}}},
		"no step goes to this":          {{Name: "root", Type: "Sequence", Steps: []step{{URL: "http://a"}}}},
	} {
		if err := (&graph{Nodes: nodes}).check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestWhatWasGoodIsReadBackWithItsGraph(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*release){"format": nil, "graph": graphs["graph"]} {
		f, err := newFleet(nil, example(change))
		if err != nil {
			t.Fatal(err)
		}
		good, err := f.Good()
		if err != nil {
			t.Fatal(err)
		}
		service, graph, err := unkept(good)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(f.object.Object, service.Object); d != "" {
			t.Errorf("%s: the service: -was +is\n%s", name, d)
		}
		if (graph == nil) != (f.graph == nil) || graph != nil && !cmp.Equal(f.graph.Object, graph.Object) {
			t.Errorf("%s: the graph was %v and is %v", name, f.graph, graph)
		}
	}
}

func TestWhatIsAppliedIsTheGoldenFile(t *testing.T) {
	t.Parallel()
	for name, change := range releases {
		u, key, err := example(change).service()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := u.GetAnnotations()[kube.AnnotationApplied]; !strings.Contains(got, key) {
			t.Errorf("%s does not remember what was applied: %s", name, got)
		}
		wantGolden(t, name, u)
	}
}

// wantGolden compares an object with its file, but for what it remembers of what was applied.
func wantGolden(t *testing.T, name string, u *unstructured.Unstructured) {
	t.Helper()
	unstructured.RemoveNestedField(u.Object, "metadata", "annotations", kube.AnnotationApplied)
	got, err := yaml.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".yaml")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s: -want +got\n%s", name, d)
	}
	if strings.Contains(string(got), "s3cret") {
		t.Errorf("%s: a variable's value stands in the object", name)
	}
}

func TestNewServersAreNeededWhenTheirPodsDiffer(t *testing.T) {
	t.Parallel()
	key := func(change func(*release)) string {
		t.Helper()
		_, key, err := example(change).service()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	same := key(nil)
	if key(func(r *release) { r.spec.Replicas = 5 }) != same {
		t.Error("more replicas are more of the same servers")
	}
	for name, change := range map[string]func(*release){
		"model":   func(r *release) { r.Model = modelRef + "b" },
		"runtime": func(r *release) { r.Runtime = "other" },
		"code":    func(r *release) { r.Code = "sha256:1" },
		"label":   func(r *release) { r.spec.KServe.Labels = map[string]string{"a": "b"} },
		"account": func(r *release) { r.spec.KServe.ServiceAccount = "a" },
		"memory":  func(r *release) { r.spec.Resources = &config.ServerUse{Memory: "1Gi"} },
	} {
		if key(change) == same {
			t.Errorf("another %s has the same servers", name)
		}
	}
}

func TestAStatusIsNotBelievedBeforeItSaysReady(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]api.Status{
		`{}`: {Message: "its controller has not looked at it yet"},
		`{"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Waits", "message": "for pods"}]}`:                                      {Message: "Waits: for pods"},
		`{"conditions": [{"type": "Ready", "status": "True"}], "address": {"url": "http://a.b:8080"}, "url": "http://a.example.com", "later": 1}`: {Ready: true, URL: "http://a.b:8080"},
		`{"components": {"predictor": {"traffic": [{"revisionName": "r1", "percent": 90}, {"revisionName": "r2", "percent": 10}]}}}`: {
			Message: "its controller has not looked at it yet", Traffic: map[string]int64{"r1": 90, "r2": 10}},
	} {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte("status: "+text), &u.Object); err != nil {
			t.Fatal(err)
		}
		got, err := api.StatusOf(u)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", text, d)
		}
	}
}
