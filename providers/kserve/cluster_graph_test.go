//go:build e2e

package kserve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// chooses is a graph with a node of every type: one row goes to the version alone, more go to it twice.
func chooses(d *deploymentSpec) {
	all := 100
	d.KServe.Graph = &graph{Replicas: 1, Nodes: []node{
		{Name: "root", Type: "Switch", Steps: []step{{Condition: "instances.1", Node: "twice"}, {Condition: "@this", Node: "once"}}},
		{Name: "once", Type: "Sequence", Steps: []step{{Dependency: "Hard"}}},
		{Name: "twice", Type: "Ensemble", Steps: []step{{Name: "a"}, {Name: "b", Node: "drawn"}}},
		{Name: "drawn", Type: "Splitter", Steps: []step{{Weight: &all}}},
	}}
}

// TestAGraphAnswersInTheVersionsPlace: it comes up with its version, is mended, and goes with it.
func TestAGraphAnswersInTheVersionsPlace(t *testing.T) {
	s := newSite(t, "chain")
	s.Must(s.format(1, chooses))
	s.chained(3, 7)
	s.asksAPod(s.format(1, chooses))
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("it reads %+v", o)
	}
	s.Kubectl("", "patch", "inferencegraph", "chain-v1-graph", "--type=merge", "-p", `{"spec":{"minReplicas":2,"maxReplicas":2}}`)
	if o := s.Read(); len(o.Drift) == 0 || !strings.HasPrefix(o.Drift[0].Path, "InferenceGraph/chain-v1-graph:spec.maxReplicas") || !strings.HasPrefix(o.Drift[0].By, "kubectl") {
		t.Errorf("drift %+v", o.Drift)
	}
	s.Must(s.format(1, chooses))
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("mended, it reads %+v", o)
	}
	s.Kubectl("", "delete", "inferencegraph", "chain-v1-graph", "--wait=true")
	if o := s.Read(); o.Phase != resource.PhaseMissing || !strings.Contains(o.Message, "InferenceGraph") {
		t.Errorf("without its graph it reads %+v", o)
	}
	s.Must(s.format(2, chooses))
	s.chained(6, 14)
	s.versions(2)
	s.Must(s.format(2, nil))
	s.predicts(`{"predictions": [6.0, 14.0]}`)
	if out := strings.TrimSpace(s.Kubectl("", "get", "inferencegraphs", "-o", "name")); out != "" {
		t.Errorf("a graph that the block has no more: %s", out)
	}
	s.Must(s.format(2, chooses))
	s.Remove()
	s.NothingLeft("inferenceservices.serving.kserve.io", "inferencegraphs.serving.kserve.io")
}

// asksAPod sends the golden request past the Service, as it must be with Knative.
func (s *site) asksAPod(spec deploymentSpec) {
	s.T.Helper()
	front, _, err := s.d.front(s.Client(), spec, s.Request("none", false))
	if err != nil {
		s.T.Fatal(err)
	}
	state, err := s.Client().Get(s.T.Context(), kube.Ref{Version: "v1", Kind: "ConfigMap", Namespace: front.Namespace, Name: front.Name})
	if err != nil {
		s.T.Fatal(err)
	}
	text, _, err := unstructured.NestedString(state.Object, "data", "rollout.json")
	if err != nil {
		s.T.Fatal(err)
	}
	var kept struct{ Resolved json.RawMessage }
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		s.T.Fatal(err)
	}
	rel, err := releaseOf(front, spec, spec.nest(s.d.settings, front.Namespace), kept.Resolved, "")
	if err != nil {
		s.T.Fatal(err)
	}
	f, err := newFleet(s.Client(), rel)
	if err != nil {
		s.T.Fatal(err)
	}
	at, err := f.pod(s.T.Context())
	if err != nil || at.Service || at.Name == "" {
		s.T.Fatalf("%+v, %v", at, err)
	}
	if err := f.ask(s.T.Context(), at); err != nil {
		s.T.Errorf("its pod answers otherwise: %v", err)
	}
	f.nested.Golden.Answer = `{"predictions": [-1]}`
	if err := f.ask(s.T.Context(), at); err == nil {
		s.T.Error("any answer will do")
	}
}

// chained wants a and b for the two rows of s.predicts, as the graph of chooses answers.
func (s *site) chained(a, b int) {
	s.T.Helper()
	s.predicts(fmt.Sprintf(`{"a":{"predictions":[%d,%d]},"b":{"predictions":[%d,%d]}}`, a, b, a, b))
	status, got, err := s.call(http.MethodPost, "/v1/models/chain:predict", `{"instances": [[1, 2]]}`)
	if want := fmt.Sprintf(`{"predictions": [%d.0]}`, a); err != nil || status != http.StatusOK || got != want {
		s.T.Errorf("one row: %d %s (%v), want %s", status, got, err, want)
	}
}

// TestACanaryBySplitter: an InferenceGraph carries the requests; what its pods have is read back, a version whose golden answer is wrong
// gets none, and a rollback restores the model.
func TestACanaryBySplitter(t *testing.T) {
	s := newSite(t, "split")
	split := func(d *deploymentSpec) {
		d.KServe.Canary = bySplitter
		d.Rollout = &config.Rollout{Strategy: "canary", Steps: []int{50, 100}, Interval: 5 * time.Second}
	}
	res := s.Must(s.format(1, split))
	if out := res.Outputs.(config.DeploymentOutputs); out.Version != 1 || out.Metrics != "" || !strings.HasPrefix(out.Endpoint, "http://split.") {
		t.Errorf("outputs %+v", out)
	}
	s.predicts(`{"predictions": [3.0, 7.0]}`)
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("it reads %+v", o)
	}
	before := s.served("split-v1")
	bad := s.Must(s.format(2, func(d *deploymentSpec) { split(d); d.KServe.Golden.Answer = `{"predictions": [7]}` }))
	if !bad.Verdict.Bad() || len(bad.Quarantined) != 1 || !strings.Contains(bad.Message, "golden request") {
		t.Errorf("a version with a wrong answer: %+v", bad)
	}
	s.predicts(`{"predictions": [3.0, 7.0]}`)
	seen := map[string]bool{}
	req := s.Request("split-3", false)
	emit := req.Emit
	req.Emit = func(e resource.Event) {
		emit(e)
		if !strings.Contains(e.Message, "version 1: 50 %, version 3: 50 %") {
			return
		}
		for range 40 { // the pods of both versions answer
			if _, got, err := s.call(http.MethodPost, "/v1/models/split:predict", `{"instances": [[1, 2]]}`); err == nil {
				seen[got] = true
			}
		}
	}
	res, err := s.d.Apply(t.Context(), s.format(3, split), req)
	if err != nil || res.Outputs.(config.DeploymentOutputs).Version != 3 {
		t.Fatalf("a version that works: %+v, %v", res, err)
	}
	if !seen[`{"predictions": [3.0]}`] || !seen[`{"predictions": [9.0]}`] || len(seen) != 2 {
		t.Errorf("at 50 %% the answers were %v", seen)
	}
	s.predicts(`{"predictions": [9.0, 21.0]}`)
	s.versions(3)
	s.Kubectl("", "patch", "inferencegraph", "split", "--type=merge", "-p", `{"spec":{"minReplicas":2,"maxReplicas":2}}`)
	if o := s.Read(); len(o.Drift) == 0 || !strings.HasPrefix(o.Drift[0].Path, "InferenceGraph/split:spec.") {
		t.Errorf("drift %+v", o.Drift)
	}
	if res, err = s.Apply(t.Context(), s.format(1, split), true); err != nil || res.Outputs.(config.DeploymentOutputs).Version != 1 {
		t.Fatalf("a rollback: %+v, %v", res, err)
	}
	s.predicts(`{"predictions": [3.0, 7.0]}`)
	if after := s.served("split-v1"); after != before {
		t.Errorf("the pods served %s, and after the rollback %s", before, after)
	}
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("after the rollback it reads %+v", o)
	}
	if _, err := s.Apply(t.Context(), s.format(1, nil), false); err == nil || !strings.Contains(err.Error(), "-replace") {
		t.Errorf("routers in the place of a splitter: %v", err)
	}
	if _, err := s.d.Captured(t.Context(), s.Addr, s.Record); err == nil || !strings.Contains(err.Error(), "captures none") {
		t.Errorf("a monitor: %v", err)
	}
	s.Remove()
	s.NothingLeft("inferenceservices.serving.kserve.io", "inferencegraphs.serving.kserve.io")
}

// fickle answers as it should once.
const fickle = `
import http.server, json, os
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0
    def do_GET(self):
        if self.path != "/healthz":
            H.asked += 1
        data = json.dumps({"value": os.environ["VALUE"] if H.asked < 2 else "other"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), H).serve_forever()
`

// TestASplitterLeadsBackFromABadVersion: one that answers otherwise by the time that it gets requests is taken back, with model and image.
func TestASplitterLeadsBackFromABadVersion(t *testing.T) {
	s := newSite(t, "fickle")
	split := func(d *deploymentSpec) {
		d.KServe = &nested{Canary: bySplitter, Golden: &golden{Path: "/", Answer: fmt.Sprintf(`{"value": %q}`, d.Env["VALUE"])}}
		d.Rollout = &config.Rollout{Strategy: "canary", Steps: []int{50, 100}, Interval: 5 * time.Second}
	}
	s.Must(s.own(1, split))
	before := s.served("fickle-v1")
	res := s.Must(s.own(2, func(d *deploymentSpec) {
		split(d)
		d.Command = []string{"python3", "-u", "-c", fickle}
	}))
	if !res.Verdict.Bad() || len(res.Quarantined) != 1 || !strings.Contains(res.Message, `the golden request got {"value": "other"}`) {
		t.Errorf("a version that answers otherwise: %+v", res)
	}
	if out := s.Kubectl("", "get", "inferencegraph", "fickle", "-o", "jsonpath={.spec.nodes.root.steps[*].weight} {.spec.nodes.root.steps[*].serviceUrl}"); !strings.HasPrefix(out, "100 http://fickle-v1-predictor.") {
		t.Errorf("the splitter leads to %s", out)
	}
	s.versions(1)
	if after := s.served("fickle-v1"); after != before {
		t.Errorf("the pods served %s, and after the abort %s", before, after)
	}
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("it reads %+v", o)
	}
}

// transform doubles what it gets on its way to the predictor.
const transform = `
import http.server, json, os, urllib.request
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body["instances"] = [[2 * x for x in row] for row in body["instances"]]
        ask = urllib.request.Request("http://" + os.environ["PREDICTOR_HOST"] + self.path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        data = urllib.request.urlopen(ask).read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), H).serve_forever()
`

// keeper writes what it is told.
const keeper = `
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = self.headers["Ce-Type"] + " " + self.rfile.read(int(self.headers["Content-Length"])).decode().strip()
        print(told + "\n", end="", flush=True) # in one piece
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", 8080), H).serve_forever()
`

// TestATransformerALoggerAndABatcherWork: clients speak to the transformer; the agent beside the predictor joins requests and tells.
func TestATransformerALoggerAndABatcherWork(t *testing.T) {
	s := newSite(t, "beside")
	image := s.Registry + "/python-sklearn:12"
	s.Kubectl("", "delete", "pod,service", "keeper", "--ignore-not-found", "--wait=true", "--grace-period=1")
	s.Kubectl("", "run", "keeper", "--image="+image, "--port=8080", "--expose", "--command", "--", "python3", "-c", keeper)
	t.Cleanup(func() { s.Kubectl("", "delete", "pod,service", "keeper", "--ignore-not-found", "--grace-period=1") })
	s.Kubectl("", "wait", "pod/keeper", "--for=condition=Ready", "--timeout=120s")
	beside := func(mode string, batches *batcher) func(*deploymentSpec) {
		return func(d *deploymentSpec) {
			d.KServe.Transformer = &component{Image: image, Command: []string{"python3", "-u", "-c", transform}}
			d.KServe.Logger = &logger{URL: "http://keeper." + s.Namespace + ":8080", Mode: mode}
			d.KServe.Batcher = batches
			d.KServe.Golden.Answer = `{"predictions": [6]}` // doubled on its way
		}
	}
	s.Must(s.format(1, beside("request", &batcher{MaxBatchSize: 2, MaxLatency: 5 * time.Second})))
	var group sync.WaitGroup
	answers := make([]string, 2)
	for i := range answers {
		group.Go(func() {
			status, got, err := s.call(http.MethodPost, "/v1/models/beside:predict", fmt.Sprintf(`{"instances": [[%d, 2]]}`, i))
			answers[i] = fmt.Sprint(status, " ", got, " ", err)
		})
	}
	group.Wait()
	for i, got := range answers {
		if !strings.Contains(got, fmt.Sprintf(`"predictions":[%d]`, 2*(i+2))) || !strings.Contains(got, "batchId") {
			t.Errorf("request %d was answered %s", i, got)
		}
	}
	s.told("inference.request", "[[0, 4]]")
	s.Must(s.format(1, beside("all", nil)))
	s.predicts(`{"predictions": [6.0, 14.0]}`)
	s.told("inference.response", "[6.0, 14.0]")
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("it reads %+v", o)
	}
}

// told waits for what the logger tells: an event of a type, with a text in it.
func (s *site) told(event, text string) {
	s.T.Helper()
	told := ""
	err := eventually(s.T, func() bool {
		told = s.Kubectl("", "logs", "keeper")
		for line := range strings.Lines(told) {
			if strings.Contains(line, event) && strings.Contains(line, text) {
				return true
			}
		}
		return false
	})
	if err != nil {
		s.T.Errorf("no %s with %s: %v:\n%s", event, text, err, told)
	}
}

// eventually looks until something is so, for at most 30 seconds.
func eventually(t *testing.T, so func() bool) error {
	t.Helper()
	end := time.NewTimer(30 * time.Second)
	defer end.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-end.C:
			return fmt.Errorf("not within 30 s")
		case <-tick.C:
		}
	}
	return nil
}

// TestAPlanAsksTheCluster: what it would ignore stands in the plan, and what it does not know how to serve.
func TestAPlanAsksTheCluster(t *testing.T) {
	s := newSite(t, "planned")
	for want, change := range map[string]func(*deploymentSpec){
		"":                              nil,
		"kserve.container_concurrency:": func(d *deploymentSpec) { d.KServe.ContainerConcurrency = 2 },
		"kserve.runtime: the cluster has no nothing; it has": func(d *deploymentSpec) { d.KServe.Runtime = "nothing" },
		"kserve.runtime: continuo-sklearn does not fit":      func(d *deploymentSpec) { d.Format, d.KServe.Runtime = "onnx", "continuo-sklearn" },
		"it does not speak protocol v2":                      func(d *deploymentSpec) { d.KServe.ProtocolVersion = "v2" },
		// It has one since scenario q; plan_test.go has a cluster without.
		"kserve.canary: ": func(d *deploymentSpec) { d.KServe.DeploymentMode, d.KServe.Canary = knative, "spec" },
	} {
		spec, err := resource.Encode(s.format(1, change))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.d.Preflight(t.Context(), providers.PreflightRequest{Address: s.Addr, Action: resource.Create, Spec: spec})
		if err != nil || (len(got) == 0) != (want == "") || len(got) > 0 && !strings.Contains(got[0].Detail, want) {
			t.Errorf("want %q: %+v, %v", want, got, err)
		}
	}
}

// TestWhatIsRenderedIsTakenByTheCluster: every golden object, whether or not it could run here, passes the schema and KServe's webhooks.
func TestWhatIsRenderedIsTakenByTheCluster(t *testing.T) {
	s := newSite(t, "dry")
	for name, change := range releases {
		s.dry(name, func(r *release) {
			if change != nil {
				change(r)
			}
		})
	}
	for name, change := range graphs {
		s.dry(name, change)
	}
}

func (s *site) dry(name string, change func(*release)) {
	s.T.Helper()
	r := example(change)
	r.Namespace = s.Namespace
	f, err := newFleet(s.Client(), r)
	if err != nil {
		s.T.Fatal(err)
	}
	if _, err := s.Client().Apply(s.T.Context(), f.object, kube.ApplyOptions{DryRun: true}); err != nil {
		s.T.Errorf("%s: %v", name, err)
	}
	u, err := f.splitter(gateway.Routes{Current: backend(2), Candidate: backend(3), Weight: 20})
	if err != nil {
		s.T.Fatal(err)
	}
	if _, err := s.Client().Apply(s.T.Context(), u, kube.ApplyOptions{DryRun: true}); err != nil {
		s.T.Errorf("%s: its splitter: %v", name, err)
	}
	if f.graph == nil {
		return
	}
	if _, err := s.Client().Apply(s.T.Context(), f.graph, kube.ApplyOptions{DryRun: true}); err != nil {
		s.T.Errorf("%s: %v", name, err)
	}
}
