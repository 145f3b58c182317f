//go:build e2e

package kserve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// site is a deployment on a real cluster, in a namespace of its own.
type site struct {
	*providertest.Site[deploymentSpec]
	client *kube.Client
	d      *deployment
	base   string
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	c := providertest.OnCluster(t, "kserve-test")
	client, images := c.Client(), oci.New(oci.Options{Insecure: []string{c.Registry}})
	base := c.Registry + "/kserve-drivers"
	store := pods.Store{URI: oci.Scheme + base, Client: images}
	work, err := runs.NewWorkspace(providertest.Env(t.TempDir()), 0)
	if err != nil {
		t.Fatal(err)
	}
	runner := &pods.Runner{Store: store, Given: c.Image(images, base+"/runner", providertest.Program(t), nil)}
	d := &deployment{settings: settings{SystemNamespace: "kserve", ModelcarBase: c.Registry + "/busybox:1"}, artifacts: store, work: work, now: time.Now, runner: runner.Image,
		cluster: func() (*kube.Client, error) { return client, nil }, system: func() (*kube.Client, error) { return c.Everywhere(), nil }}
	s := &site{client: client, d: d, base: base,
		Site: &providertest.Site[deploymentSpec]{Cluster: c, Driver: d, Provider: "kserve", Addr: resource.Address{Kind: "deployment", Name: name}}}
	s.runtime()
	s.Cleaned()
	return s
}

func TestMain(m *testing.M) { providertest.Main(m) }

// runtime gives the namespace a serving runtime for scikit-learn.
func (s *site) runtime() {
	s.T.Helper()
	text, err := os.ReadFile("../../e2e/testdata/kserve/sklearn-runtime.yaml")
	if err != nil {
		s.T.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(bytes.ReplaceAll(text, []byte("IMAGE"), []byte(s.Registry+"/python-sklearn:12")), &u.Object); err != nil {
		s.T.Fatal(err)
	}
	u.SetNamespace(s.Namespace)
	if _, err := s.Admin.Apply(s.T.Context(), u, kube.ApplyOptions{}); err != nil {
		s.T.Fatal(err)
	}
}

// model stores version n of a model that multiplies the sum of a row by n, as a training in a pod does.
func (s *site) model(n int) *config.Model {
	s.T.Helper()
	dir := s.T.TempDir()
	pickle := fmt.Sprintf("(dp0\nVfactor\np1\nI%d\ns.", n)
	if err := os.WriteFile(filepath.Join(dir, "model.joblib"), []byte(pickle), 0o644); err != nil {
		s.T.Fatal(err)
	}
	m, err := pod.PushModel(s.T.Context(), s.d.artifacts.Client, pod.ModelPlace{Repo: s.base + "/models/training.tumors"}, dir)
	if err != nil {
		s.T.Fatal(err)
	}
	digest, _, err := files.DigestDir(dir)
	if err != nil {
		s.T.Fatal(err)
	}
	return &config.Model{Name: "tumors", Address: "training.tumors", Version: n, Digest: "sha256:" + digest, URI: m.Ref}
}

// format is a deployment by a serving runtime.
func (s *site) format(n int, change func(*deploymentSpec)) deploymentSpec {
	spec := deploymentSpec{}
	spec.Model, spec.Format, spec.Replicas, spec.Drain = s.model(n), "sklearn", 1, 10*time.Second
	spec.KServe = &nested{Golden: &golden{Path: "/v1/models/" + s.Addr.Name + ":predict", Body: `{"instances": [[1, 2]]}`, Answer: fmt.Sprintf(`{"predictions": [%d]}`, 3*n)}}
	if change != nil {
		change(&spec)
	}
	return spec
}

// own is a deployment with a server of its own: it answers with VALUE, the first byte of the model and the name of its pod.
func (s *site) own(n int, change func(*deploymentSpec)) deploymentSpec {
	spec := deploymentSpec{}
	spec.Model, spec.Image, spec.Replicas, spec.Drain = s.model(n), s.Registry+"/python-sklearn:12", 1, 10*time.Second
	spec.Command = []string{"python3", "-u", "-c", server}
	spec.Env = map[string]string{"VALUE": fmt.Sprintf("v%d", n)}
	spec.Readiness = &config.Readiness{Path: "/healthz", Timeout: time.Minute}
	if change != nil {
		change(&spec)
	}
	return spec
}

const server = `
import http.server, os, json
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        bad = os.environ.get("FAIL") == "1" and self.path != "/healthz"
        data = json.dumps({"value": os.environ["VALUE"], "model": open(os.environ["ML_MODEL_DIR"] + "/model.joblib").read(3)}).encode()
        self.send_response(500 if bad else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), H).serve_forever()
`

// call sends a request to the deployment's Service.
func (s *site) call(method, path, body string) (int, string, error) {
	rt, base, err := s.client.Proxy(s.Namespace, kube.Target{Service: true, Name: s.Addr.Name, Port: "80"})
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(s.T.Context(), method, strings.TrimSuffix(base.String(), "/")+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), errors.Join(err, resp.Body.Close())
}

func (s *site) predicts(want string) {
	s.T.Helper()
	status, got, err := s.call(http.MethodPost, "/v1/models/"+s.Addr.Name+":predict", `{"instances": [[1, 2], [3, 4]]}`)
	if err != nil || status != http.StatusOK || got != want {
		s.T.Errorf("it answers %d %s (%v), want %s", status, got, err, want)
	}
}

// TestAFormatIsServedByARuntime: the first version comes up and answers, the second takes over in place of it, nothing is left.
func TestAFormatIsServedByARuntime(t *testing.T) {
	s := newSite(t, "sklearn")
	res := s.Must(s.format(1, nil))
	s.predicts(`{"predictions": [3.0, 7.0]}`)
	if out := res.Outputs.(config.DeploymentOutputs); out.Version != 1 || !strings.HasPrefix(out.Endpoint, "http://sklearn.") {
		t.Errorf("outputs %+v", out)
	}
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 || o.Outputs != nil {
		t.Errorf("it reads %+v", o)
	}
	s.Must(s.format(2, nil))
	s.predicts(`{"predictions": [6.0, 14.0]}`)
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("it reads %+v", o)
	}
	_, err := s.Apply(t.Context(), s.format(3, func(d *deploymentSpec) { d.Format = "onnx" }), false)
	if err == nil || !strings.Contains(err.Error(), "continuo-sklearn (sklearn:1*)") {
		t.Errorf("a format that nobody serves: %v", err)
	}
	s.predicts(`{"predictions": [6.0, 14.0]}`)
	s.Captured(2, func() (string, error) {
		got, err := s.d.Captured(t.Context(), s.Addr, s.Record)
		if got.Version != 2 {
			t.Errorf("captured: %+v", got)
		}
		return got.Dir, err
	})
	var log bytes.Buffer
	if err := s.d.Logs(t.Context(), providers.LogRequest{Record: s.Record}, &log); err != nil {
		t.Errorf("logs: %v", err)
	}
	s.Remove()
	s.NothingLeft("inferenceservices.serving.kserve.io")
}

// TestAServerOfItsOwn: the container finds its model, and its variables.
func TestAServerOfItsOwn(t *testing.T) {
	s := newSite(t, "own")
	s.Must(s.own(1, nil))
	status, got, err := s.call(http.MethodGet, "/", "")
	if err != nil || status != http.StatusOK || got != `{"value": "v1", "model": "(dp"}` {
		t.Errorf("it answers %d %s (%v)", status, got, err)
	}
}

// TestARolloutMovesWeightsAndGoesBack: a canary is judged by its requests, a bad one is taken back with model and image, and a
// rollback acts at once.
func TestARolloutMovesWeightsAndGoesBack(t *testing.T) {
	s := newSite(t, "canary")
	rate := 0.2
	canary := func(d *deploymentSpec) {
		d.Rollout = &config.Rollout{Strategy: "canary", Steps: []int{50, 100}, Interval: 3 * time.Second, MaxWait: time.Minute,
			Abort: &config.Abort{ErrorRate: &rate, MinRequests: 10}}
	}
	s.Must(s.own(1, canary))
	before := s.served("canary-v1")
	stop := s.traffic()
	defer stop()
	res := s.Must(s.own(2, func(d *deploymentSpec) { canary(d); d.Env["FAIL"] = "1" }))
	if !res.Verdict.Bad() || len(res.Quarantined) != 1 || res.Outputs.(config.DeploymentOutputs).Version != 1 {
		t.Fatalf("a version that fails: %+v", res)
	}
	s.answersOnly("v1")
	s.versions(1)
	if after := s.served("canary-v1"); after != before {
		t.Errorf("the pods served %s, and after the abort %s", before, after)
	}
	if res = s.Must(s.own(3, canary)); res.Verdict.Bad() || res.Held || res.Outputs.(config.DeploymentOutputs).Version != 3 {
		t.Fatalf("a version that works: %+v", res)
	}
	s.answersOnly("v3")
	s.versions(3)
	start := time.Now()
	res, err := s.Apply(t.Context(), s.own(1, canary), true)
	if err != nil || res.Outputs.(config.DeploymentOutputs).Version != 1 {
		t.Fatalf("a rollback: %+v, %v", res, err)
	}
	if after := s.served("canary-v1"); after != before {
		t.Errorf("the pods served %s, and after the rollback %s", before, after)
	}
	t.Logf("the rollback took %s", time.Since(start).Round(time.Millisecond))
	s.answersOnly("v1")
}

// TestAnApplyThatWasCutOffGoesOn: the weights stay as they are, and the next call under the same id brings the rollout to its end.
func TestAnApplyThatWasCutOffGoesOn(t *testing.T) {
	s := newSite(t, "cut")
	canary := func(d *deploymentSpec) {
		d.Rollout = &config.Rollout{Strategy: "canary", Steps: []int{50, 100}, Interval: 3 * time.Second, MaxWait: time.Minute, Abort: &config.Abort{MinRequests: 5}}
	}
	s.Must(s.own(1, canary))
	ctx, cut := context.WithCancel(t.Context())
	req := s.Request("cut-off", false)
	emit := req.Emit
	req.Emit = func(e resource.Event) {
		emit(e)
		if strings.Contains(e.Message, "canary at 50 %:") { // the weights have moved
			cut()
		}
	}
	if _, err := s.d.Apply(ctx, s.own(2, canary), req); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want the context's", err)
	}
	seen := map[string]bool{}
	for range 40 {
		_, got, err := s.call(http.MethodGet, "/", "")
		if err != nil {
			t.Fatal(err)
		}
		seen[got[:14]] = true
	}
	if len(seen) != 2 {
		t.Errorf("at 50 %% the answers are of %v", seen)
	}
	stop := s.traffic()
	defer stop()
	req = s.Request("cut-off", false)
	req.Adopt = true
	res, err := s.d.Apply(t.Context(), s.own(2, canary), req)
	if err != nil || res.Outputs.(config.DeploymentOutputs).Version != 2 {
		t.Fatalf("it went on to %+v, %v", res, err)
	}
	s.answersOnly("v2")
	s.versions(2)
}

// traffic sends requests until it is stopped.
func (s *site) traffic() (stop func()) {
	ctx, cancel := context.WithCancel(s.T.Context())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, _, err := s.call(http.MethodGet, "/", ""); err != nil && ctx.Err() == nil {
					s.Note("traffic: " + err.Error())
				}
			}
		}
	})
	return func() { cancel(); group.Wait() }
}

// served is what the pods of an InferenceService run: image and model, both by digest.
func (s *site) served(service string) string {
	s.T.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ DeletionTimestamp string }
			Spec     struct {
				Containers []struct {
					Name, Image string
					Env         []struct{ Name, Value string }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(s.Kubectl("", "get", "pods", "-l", api.Label+"="+service, "-o", "json")), &list); err != nil {
		s.T.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range list.Items {
		if p.Metadata.DeletionTimestamp != "" {
			continue
		}
		for _, c := range p.Spec.Containers {
			for _, e := range c.Env {
				if e.Name == "VALUE" || strings.Contains(e.Value, "@sha256:") {
					seen[e.Value] = true
				}
			}
			seen[c.Image] = true
		}
	}
	text := strings.Join(slices.Sorted(maps.Keys(seen)), " ")
	if !strings.Contains(text, "@sha256:") {
		s.T.Fatalf("the pods of %s name no model by digest: %s", service, text)
	}
	return text
}

func (s *site) answersOnly(value string) {
	s.T.Helper()
	for range 20 {
		status, got, err := s.call(http.MethodGet, "/", "")
		if err != nil || status != http.StatusOK || !strings.Contains(got, value) {
			s.T.Fatalf("it answers %d %s (%v), want %s", status, got, err, value)
		}
	}
}

// versions looks at which InferenceServices there are.
func (s *site) versions(n int) {
	s.T.Helper()
	list, err := s.client.List(s.T.Context(), api.Kind, s.Namespace, kube.Selector{Labels: "continuo.dev/address=deployment." + s.Addr.Name})
	if err != nil {
		s.T.Fatal(err)
	}
	if len(list) != 1 || list[0].GetName() != fmt.Sprintf("%s-v%d", s.Addr.Name, n) {
		s.T.Errorf("there are %d InferenceServices, the first %s; want version %d alone", len(list), list[0].GetName(), n)
	}
}

// TestACrashLoopEndsWithItsCause: in one line, with the version before untouched.
func TestACrashLoopEndsWithItsCause(t *testing.T) {
	s := newSite(t, "crash")
	s.Must(s.own(1, nil))
	res := s.Must(s.own(2, func(d *deploymentSpec) {
		d.Command = []string{"python3", "-c", "import sys; sys.exit('no such feature: age')"}
	}))
	if !res.Verdict.Bad() || !strings.Contains(res.Message, "no such feature: age") || strings.Contains(res.Message, "\n") {
		t.Errorf("verdict %+v, message %q", res.Verdict, res.Message)
	}
	s.answersOnly("v1")
	s.versions(1)
	t.Log(res.Message)
}

// TestAChangeOfTheSameVersionGoesBackWhenItFails: new servers under the same number replace the old ones only when they are ready.
func TestAChangeOfTheSameVersionGoesBackWhenItFails(t *testing.T) {
	s := newSite(t, "same")
	s.Must(s.own(1, nil))
	s.Must(s.own(1, func(d *deploymentSpec) { d.Env["VALUE"] = "again" }))
	s.answersOnly("again")
	before := s.served("same-v1")
	// The old pods serve on, and with them the InferenceService calls itself ready: that is not believed.
	_, err := s.Apply(t.Context(), s.own(1, func(d *deploymentSpec) {
		d.Image = s.Registry + "/python-torch:12"
		d.Command = []string{"python3", "-c", "import sys; sys.exit('broken')"}
	}), false)
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("error %v", err)
	}
	if after := s.served("same-v1"); after != before {
		t.Errorf("the pods served %s, and after going back %s", before, after)
	}
	s.answersOnly("again")
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("it reads %+v", o)
	}
}

// TestWhatOthersChangeIsDrift: with field and manager; what is deleted is missing; the next apply mends it.
func TestWhatOthersChangeIsDrift(t *testing.T) {
	s := newSite(t, "drift")
	spec := s.own(1, nil)
	s.Must(spec)
	s.Kubectl("", "patch", "inferenceservice", "drift-v1", "--type=merge", "-p", `{"spec":{"predictor":{"minReplicas":2,"maxReplicas":2}}}`)
	o := s.Read()
	if len(o.Drift) == 0 || !strings.HasPrefix(o.Drift[0].Path, "InferenceService/drift-v1:spec.predictor.maxReplicas") || !strings.HasPrefix(o.Drift[0].By, "kubectl") {
		t.Errorf("drift %+v", o.Drift)
	}
	s.Must(spec)
	if o := s.Read(); len(o.Drift) != 0 || o.Phase != resource.PhaseReady {
		t.Errorf("after an apply it reads %+v", o)
	}
	s.Kubectl("", "delete", "inferenceservice", "drift-v1", "--wait=true")
	if o := s.Read(); o.Phase != resource.PhaseMissing {
		t.Errorf("without its InferenceService it reads %+v", o)
	}
	s.Must(spec)
	s.answersOnly("v1")
}

// TestAnInferenceServiceIsImported: nothing changes at first; then it is the block's, under its own name.
func TestAnInferenceServiceIsImported(t *testing.T) {
	s := newSite(t, "imported")
	u := s.foreign("legacy")
	before := u.GetGeneration()
	spec := s.own(1, nil)
	body, err := resource.Encode(spec)
	if err != nil {
		t.Fatal(err)
	}
	req := s.Request("import", false)
	req.Spec = body
	res, err := s.d.Import(t.Context(), s.Namespace+"/legacy", req)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := json.Marshal(res.Ref)
	if err != nil {
		t.Fatal(err)
	}
	s.Record = &state.Record{Address: s.Addr, Phase: resource.PhaseReady, Ref: ref}
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("it reads %+v", o)
	}
	if now, err := s.client.Get(t.Context(), kube.RefOf(u)); err != nil || now.GetGeneration() != before || len(now.GetLabels()) > 0 {
		t.Errorf("the import changed it: %v, %v", now, err)
	}
	if _, err := s.Apply(t.Context(), s.own(2, func(d *deploymentSpec) { d.Rollout = &config.Rollout{Strategy: "canary"} }), false); err == nil {
		t.Error("a canary without a router")
	}
	if res = s.Must(s.own(2, nil)); res.Outputs.(config.DeploymentOutputs).Version != 2 {
		t.Errorf("outputs %+v", res.Outputs)
	}
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("after a change it reads %+v", o)
	}
}

// foreign makes an InferenceService with a server of its own, by somebody else.
func (s *site) foreign(name string) *unstructured.Unstructured {
	s.T.Helper()
	image, err := s.d.artifacts.Client.Resolve(s.T.Context(), s.Registry+"/python-sklearn:12")
	if err != nil {
		s.T.Fatal(err)
	}
	manifest := fmt.Sprintf(`{"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": %q}, "spec": {"predictor": {"containers": [
		{"name": "kserve-container", "image": %q, "command": ["python3", "-m", "http.server", "8080"]}]}}}`, name, strings.TrimPrefix(image.Ref, oci.Scheme))
	s.Kubectl(manifest, "create", "-f", "-")
	s.T.Cleanup(func() { s.Kubectl("", "delete", "inferenceservice", name, "--ignore-not-found") })
	s.Kubectl("", "wait", "inferenceservice/"+name, "--for=condition=Ready", "--timeout=180s")
	u, err := s.client.Get(s.T.Context(), kube.Ref{Group: api.Kind.Group, Version: api.Kind.Version, Kind: api.Kind.Kind, Namespace: s.Namespace, Name: name})
	if err != nil {
		s.T.Fatal(err)
	}
	return u
}

// TestConformance: the driver keeps the contract of all drivers.
func TestConformance(t *testing.T) {
	s := newSite(t, "conformance")
	spec, err := resource.Encode(s.own(1, nil))
	if err != nil {
		t.Fatal(err)
	}
	providertest.Run(t, providertest.Case{Driver: providers.For[deploymentSpec](s.d), Kind: "deployment", Spec: spec})
}
