package kubeflow

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// installation speaks as much of v2beta1 of Kubeflow Pipelines as its documentation says and this provider asks. It stands in for a real
// one, which no module brings.
type installation struct {
	*httptest.Server
	mu          sync.Mutex
	runs        []map[string]any
	experiments []map[string]any
	held        bool // runs do not end
	fail        string
	requests    []*http.Request
	// fault answers instead, when it returns true.
	fault func(w http.ResponseWriter, r *http.Request) bool
}

func newInstallation(t *testing.T, tls bool) *installation {
	t.Helper()
	s := &installation{}
	if s.Server = httptest.NewUnstartedServer(s); tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func (s *installation) made() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.runs)
}

func (s *installation) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *installation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	if s.fault != nil && s.fault(w, r) {
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/pipeline/apis/v2beta1/")
	if !ok {
		http.Error(w, "no such page", http.StatusNotFound)
		return
	}
	if err := json.NewEncoder(w).Encode(s.answer(w, r, path)); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (s *installation) answer(w http.ResponseWriter, r *http.Request, path string) any {
	var in map[string]any
	if r.Method == http.MethodPost && r.ContentLength > 0 {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			return s.no(w, http.StatusBadRequest, err.Error())
		}
	}
	switch kind := r.Method + " " + path; {
	case kind == "GET runs":
		return map[string]any{"runs": called(r, s.runs)}
	case kind == "GET experiments":
		return map[string]any{"experiments": called(r, s.experiments)}
	case kind == "POST experiments":
		in["experiment_id"] = fmt.Sprintf("e%d", len(s.experiments)+1)
		s.experiments = append(s.experiments, in)
		return in
	case kind == "POST runs":
		return s.begin(in)
	}
	id, verb, _ := strings.Cut(strings.TrimPrefix(path, "runs/"), ":")
	for _, run := range s.runs {
		if run["run_id"] != id {
			continue
		}
		if verb == "terminate" {
			run["state"] = "CANCELED"
			return map[string]any{}
		}
		return s.look(run)
	}
	return s.no(w, http.StatusNotFound, "run "+id+" not found")
}

func (s *installation) no(w http.ResponseWriter, status int, text string) any {
	w.WriteHeader(status)
	return map[string]any{"error": text, "code": 5, "message": text}
}

func (s *installation) begin(in map[string]any) map[string]any {
	in["run_id"], in["state"], in["created_at"] = fmt.Sprintf("r%d", len(s.runs)+1), "PENDING", time.Now().UTC()
	s.runs = append(s.runs, in)
	return in
}

// look is a run that goes on at every look at it.
func (s *installation) look(run map[string]any) map[string]any {
	task := func(name, state, text string) map[string]any {
		t := map[string]any{"display_name": name, "state": state}
		if text != "" {
			t["error"] = map[string]any{"code": 9, "message": text}
		}
		return t
	}
	switch {
	case run["state"] == "PENDING":
		run["state"], run["run_details"] = "RUNNING", map[string]any{"task_details": []any{task("load", "RUNNING", "")}}
	case run["state"] != "RUNNING" || s.held:
	case s.fail != "":
		run["state"], run["run_details"] = "FAILED", map[string]any{"task_details": []any{task("load", "SUCCEEDED", ""), task("fit", "FAILED", s.fail)}}
	default:
		run["state"], run["run_details"] = "SUCCEEDED", map[string]any{"task_details": []any{task("load", "SUCCEEDED", ""), task("fit", "SUCCEEDED", "")}}
	}
	return run
}

// called filters a list as the request says.
func called(r *http.Request, all []map[string]any) []map[string]any {
	var filter struct {
		Predicates []struct {
			Key, Operation string
			Value          string `json:"string_value"`
		}
	}
	if err := json.Unmarshal([]byte(r.URL.Query().Get("filter")), &filter); err != nil || len(filter.Predicates) != 1 || filter.Predicates[0].Key != "display_name" {
		return nil
	}
	var out []map[string]any
	for _, o := range all {
		if o["display_name"] == filter.Predicates[0].Value {
			out = append(out, o)
		}
	}
	return out
}

// users is a project that runs pipelines there.
type users struct {
	*providertest.Project
	there  *installation
	driver *pipelineDriver
	vars   map[string]string
}

func newUsers(t *testing.T, there *installation, p pipelines) *users {
	t.Helper()
	text, err := os.ReadFile("testdata/pipeline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	u := &users{Project: providertest.NewProject(t, map[string]string{"train.yaml": string(text)}), there: there, vars: map[string]string{}}
	env := providertest.Env(u.Root)
	env.Now = time.Now
	env.LookupEnv = func(name string) (string, bool) { v, ok := u.vars[name]; return v, ok }
	e, err := pods.Configured(t.Context(), env, pods.Settings{Kubeconfig: "none"}, trainJobs{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Work.Close(); err != nil {
			t.Error(err)
		}
	})
	if p.Endpoint == "" {
		p.Endpoint = there.URL + "/pipeline"
	}
	if p.TokenEnv == "" {
		p.TokenEnv = "KF_PIPELINES_TOKEN"
	}
	if u.driver, err = newPipelineDriver(e, env, providertest.Encoded(t, struct {
		Pipelines pipelines `ml:"pipelines,block"`
	}{p})); err != nil {
		t.Fatal(err)
	}
	u.driver.every = 5 * time.Millisecond
	return u
}

func pipelineSpec() config.Pipeline {
	return config.Pipeline{Package: "train.yaml", Params: map[string]any{"rows": int64(300)}, Experiment: "nightly", Cache: true}
}

func (u *users) request(id string, spec config.Pipeline) providers.ApplyRequest {
	return providers.ApplyRequest{OpID: id, Address: resource.Address{Kind: "pipeline", Name: "x"}, Action: resource.RunIt,
		Spec: providertest.Encoded(u.T, spec), State: u.Snapshot, Emit: func(resource.Event) {}}
}

func (u *users) apply(ctx context.Context, req providers.ApplyRequest) (providers.Result, error) {
	return providers.For(u.driver).Apply(ctx, req)
}

func TestThePipelineDriverKeepsTheContract(t *testing.T) {
	there := newInstallation(t, false)
	u := newUsers(t, there, pipelines{})
	fast, slow := pipelineSpec(), pipelineSpec()
	slow.Params = map[string]any{"rows": int64(1)}
	held, released := providertest.Encoded(t, slow), false
	providertest.Run(t, providertest.Case{
		Driver: providers.For(u.driver), Kind: "pipeline", Spec: providertest.Encoded(t, fast), AfterDelete: resource.PhaseReady, Slow: held,
		Count: there.made, Release: func() { there.with(func() { there.held, released = false, true }) },
		Prepare: func(req *providers.ApplyRequest) {
			there.with(func() { there.held = !released && req.Spec.RawEquals(held) })
		},
	})
}

func TestWhatARunOfAPipelineGets(t *testing.T) {
	there := newInstallation(t, false)
	u := newUsers(t, there, pipelines{Namespace: "team"})
	u.vars["KF_PIPELINES_TOKEN"] = "secret\n"
	spec := pipelineSpec()
	spec.Root, spec.Cache = "s3://bucket/x", false
	req := u.request("OP1", spec)
	req.Spec = providertest.Encoded(t, struct {
		config.Pipeline
		Kubeflow pipelineBlock `ml:"kubeflow,block"`
	}{spec, pipelineBlock{ServiceAccount: "runner"}})
	var events []string
	req.Emit = func(e resource.Event) { events = append(events, e.Message) }
	r, err := u.apply(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if out := r.Outputs.(config.PipelineOutputs); out.Run != "r1" || out.Tasks != 2 {
		t.Errorf("%+v", out)
	}
	if got := strings.Join(events, ", "); got != "task load: running, task load: succeeded, task fit: succeeded" {
		t.Errorf("told %s", got)
	}
	run := there.runs[0]
	b, err := json.Marshal(map[string]any{"name": run["display_name"], "experiment": run["experiment_id"], "account": run["service_account"], "config": run["runtime_config"]})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(b), `{"account":"runner","config":{"parameters":{"rows":300},"pipeline_root":"s3://bucket/x"},"experiment":"e1","name":"pipeline.x-op1"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	source := run["pipeline_spec"].(map[string]any)
	if text := fmt.Sprint(source["pipeline_spec"]); strings.Contains(text, "enableCache") || strings.Count(text, "cachingOptions:map[]") != 3 {
		t.Errorf("the cache is not off everywhere: %s", text)
	}
	if source["platform_spec"].(map[string]any)["platforms"] == nil {
		t.Error("what only Kubernetes understands is lost")
	}
	if there.experiments[0]["namespace"] != "team" {
		t.Errorf("%v", there.experiments)
	}
	for _, q := range there.requests {
		if q.Header.Get("Authorization") != "Bearer secret" || strings.Contains(q.URL.Path, "runs/r1") == (q.URL.Query().Get("namespace") == "team") && q.Method == http.MethodGet {
			t.Errorf("%s %s: %v", q.Method, q.URL, q.Header)
		}
	}
	// Another run is filed under the same experiment.
	if _, err := u.apply(t.Context(), u.request("OP2", pipelineSpec())); err != nil || len(there.experiments) != 1 {
		t.Errorf("%d experiments, %v", len(there.experiments), err)
	}
}

func TestAPipelineThatCannotRunIsToldBeforeAnythingIsMade(t *testing.T) {
	there := newInstallation(t, false)
	u := newUsers(t, there, pipelines{})
	for name, c := range map[string]struct {
		text   string // of the package; "" leaves it
		params any
		says   string
	}{
		"unknown parameter":   {"", map[string]any{"rows": int64(1), "row": int64(1)}, "params.row: the pipeline has no such parameter; it has flags, names, note, quick, rate, rows"},
		"missing parameter":   {"", nil, "params: the pipeline needs rows, too"},
		"text for a number":   {"", map[string]any{"rows": "1"}, "params.rows: 1 is string; the pipeline wants NUMBER_INTEGER"},
		"half an integer":     {"", map[string]any{"rows": 1.5}, "params.rows: 1.5 is float64"},
		"list for an object":  {"", map[string]any{"rows": 1.0, "flags": []any{}}, "params.flags"},
		"no object":           {"", []any{}, "params: is []interface {}"},
		"version 1":           {"apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n", nil, "compile it with version 2 or later"},
		"something else":      {"a: 1\n", nil, "it is no compiled pipeline"},
		"no YAML":             {"a: [", nil, "read its YAML"},
		"nothing":             {"# nothing\n", nil, "it has 0 YAML documents"},
		"another second part": {"{schemaVersion: 1, pipelineInfo: {}, root: {}}\n---\na: 1\n", nil, "its second document has no platforms"},
	} {
		t.Run(name, func(t *testing.T) {
			before := u.Read("train.yaml")
			if c.text != "" {
				u.Write("train.yaml", c.text)
				defer u.Write("train.yaml", before)
			}
			spec := pipelineSpec()
			spec.Params = c.params
			_, err := u.apply(t.Context(), u.request("bad-"+strings.ReplaceAll(name, " ", "-"), spec))
			var failed *providers.RunError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want it to say %q", err, c.says)
			}
		})
	}
	if len(there.requests) > 0 {
		t.Errorf("%d requests were sent", len(there.requests))
	}
}

func TestARunWhoseAnswerIsLostIsMadeOnce(t *testing.T) {
	there := newInstallation(t, false)
	u := newUsers(t, there, pipelines{})
	there.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/runs") {
			var in map[string]any
			if json.NewDecoder(r.Body).Decode(&in) == nil {
				there.begin(in)
			}
			panic(http.ErrAbortHandler)
		}
		return false
	}
	req := u.request("OP1", pipelineSpec())
	_, err := u.apply(t.Context(), req)
	var open *providers.OpenError
	if !errors.As(err, &open) || !strings.Contains(err.Error(), "apply again to look for it") {
		t.Fatalf("%v", err)
	}
	there.with(func() { there.fault = nil })
	req.Adopt = true
	r, err := u.apply(t.Context(), req)
	if err != nil || there.made() != 1 || r.Outputs.(config.PipelineOutputs).Run != "r1" {
		t.Errorf("%d runs, %+v, %v", there.made(), r, err)
	}
	// One that was never made is told as such.
	there.with(func() { there.runs = nil })
	other := u.request("OP2", pipelineSpec())
	u.Write(".ml/runs/OP2/pipeline.json", `{"name": "pipeline.x-op2"}`)
	other.Adopt = true
	if _, err := u.apply(t.Context(), other); !errors.Is(err, providers.ErrAbsent) {
		t.Errorf("%v", err)
	}
}

func TestAnInstallationThatIsAwayForAMomentIsWaitedFor(t *testing.T) {
	there := newInstallation(t, false)
	u := newUsers(t, there, pipelines{})
	n := 0
	there.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if n++; n%2 == 0 || r.Method == http.MethodPost {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if _, err := u.apply(t.Context(), u.request("OP1", pipelineSpec())); err != nil || there.made() != 1 {
		t.Errorf("%d runs, %v", there.made(), err)
	}
}

func TestHowAPipelineEndsBadly(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	t.Run("a task fails", func(t *testing.T) {
		there := newInstallation(t, false)
		there.fail = "exit code 3: no such column"
		u := newUsers(t, there, pipelines{})
		_, err := u.apply(ctx, u.request("OP1", pipelineSpec()))
		var failed *providers.RunError
		if !errors.As(err, &failed) || err.Error() != "pipeline.x: run r1 failed: task fit: exit code 3: no such column" {
			t.Errorf("%v", err)
		}
	})
	t.Run("it takes too long", func(t *testing.T) {
		there := newInstallation(t, false)
		there.held = true
		u := newUsers(t, there, pipelines{})
		spec := pipelineSpec()
		spec.Timeout = 20 * time.Millisecond
		if _, err := u.apply(ctx, u.request("OP1", spec)); err == nil || !strings.Contains(err.Error(), "took longer than 20ms") || there.runs[0]["state"] != "CANCELED" {
			t.Errorf("%v, %v", err, there.runs)
		}
	})
	t.Run("somebody deletes it", func(t *testing.T) {
		there := newInstallation(t, false)
		there.held = true
		u := newUsers(t, there, pipelines{})
		there.fault = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/runs/r1") {
				there.runs = nil
			}
			return false
		}
		if _, err := u.apply(ctx, u.request("OP1", pipelineSpec())); err == nil || !strings.Contains(err.Error(), "run r1 is gone: somebody deleted it") {
			t.Errorf("%v", err)
		}
	})
	t.Run("it is cancelled", func(t *testing.T) {
		there := newInstallation(t, false)
		there.held = true
		u := newUsers(t, there, pipelines{})
		req := u.request("OP1", pipelineSpec())
		ended := make(chan error, 1)
		begun := make(chan struct{})
		tell := sync.OnceFunc(func() { close(begun) })
		req.Emit = func(resource.Event) { tell() }
		go func() {
			_, err := u.apply(ctx, req)
			ended <- err
		}()
		<-begun
		if err := u.driver.Cancel(ctx, req.Address, "OP1"); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, providers.ErrCancelled) {
			t.Errorf("%v", err)
		}
		// One that has not begun never will.
		if err := u.driver.Cancel(ctx, req.Address, "OP2"); err != nil {
			t.Fatal(err)
		}
		if _, err := u.apply(ctx, u.request("OP2", pipelineSpec())); !errors.Is(err, providers.ErrCancelled) || there.made() != 1 {
			t.Errorf("%d runs, %v", there.made(), err)
		}
		var log strings.Builder
		if err := u.driver.Logs(ctx, providers.LogRequest{OpID: "OP1"}, &log); err != nil || !strings.Contains(log.String(), "run pipeline.x-op1 (r1): canceled\ntask load: running\n") {
			t.Errorf("%q, %v", log.String(), err)
		}
	})
}

// Without an endpoint the way leads through the cluster's API server, with its credentials and none of the token's.
func TestAServiceOfTheClusterIsReachedThroughItsAPIServer(t *testing.T) {
	there := newInstallation(t, false)
	var header http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/kubeflow/services/ml-pipeline:8888/proxy")
		if !ok {
			http.Error(w, "no such path", http.StatusNotFound)
			return
		}
		header = r.Header
		r.URL.Path = "/pipeline" + path
		there.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	text, err := os.ReadFile("testdata/pipeline.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := providertest.NewProject(t, map[string]string{"train.yaml": string(text), "kubeconfig": fmt.Sprintf(
		"{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c, namespace: team, user: u}}], users: [{name: u, user: {token: of-the-cluster}}]}", server.URL)})
	connected := func(namespaces ...string) (*users, error) {
		env := providertest.Env(p.Root)
		env.Now, env.LookupEnv = time.Now, func(name string) (string, bool) { return "secret", name == "KF_PIPELINES_TOKEN" }
		e, err := pods.Configured(t.Context(), env, pods.Settings{Namespaces: namespaces}, trainJobs{})
		if err != nil {
			return nil, err
		}
		d, err := newPipelineDriver(e, env, cty.NilVal)
		if err != nil {
			return nil, err
		}
		d.every = 5 * time.Millisecond
		return &users{Project: p, there: there, driver: d}, nil
	}
	t.Setenv("KUBECONFIG", p.Path("kubeconfig"))
	u, err := connected("team", "kubeflow")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.apply(t.Context(), u.request("OP1", pipelineSpec())); err != nil || there.made() != 1 {
		t.Fatalf("%d runs, %v", there.made(), err)
	}
	if got := header.Get("Authorization"); strings.Contains(got, "secret") {
		t.Errorf("the API server got %q", got)
	}
	// Its namespace must be one that may be touched.
	if u, err = connected("team"); err != nil {
		t.Fatal(err)
	}
	if _, err := u.apply(t.Context(), u.request("OP2", pipelineSpec())); err == nil || !strings.Contains(err.Error(), "reach the service ml-pipeline in namespace kubeflow (or set pipelines.endpoint)") {
		t.Errorf("%v", err)
	}
}

func TestTheTokenGoesOnlyWhereItBelongs(t *testing.T) {
	read := func(u *users) error {
		_, err := u.apply(t.Context(), u.request("OP1", pipelineSpec()))
		return err
	}
	t.Run("not without TLS", func(t *testing.T) {
		u := newUsers(t, nil, pipelines{Endpoint: "http://kubeflow.example.com/pipeline"})
		u.vars["KF_PIPELINES_TOKEN"] = "secret"
		if err := read(u); err == nil || !strings.Contains(err.Error(), "would get the token without TLS") {
			t.Errorf("%v", err)
		}
	})
	t.Run("not to whom nobody vouches for", func(t *testing.T) {
		there := newInstallation(t, true)
		u := newUsers(t, there, pipelines{})
		if err := read(u); err == nil || !strings.Contains(err.Error(), "give its certificates in pipelines.ca_file") || len(there.requests) > 0 {
			t.Errorf("%v", err)
		}
	})
	t.Run("to whom the file vouches for, from a file", func(t *testing.T) {
		there := newInstallation(t, true)
		u := newUsers(t, there, pipelines{CAFile: "ca.pem"})
		u.Write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: there.Certificate().Raw})))
		u.Write("token", "from a file\n")
		u.vars["KF_PIPELINES_SA_TOKEN_PATH"] = u.Path("token")
		if err := read(u); err != nil || there.requests[0].Header.Get("Authorization") != "Bearer from a file" {
			t.Errorf("%v", err)
		}
	})
	t.Run("not to a page to log in on", func(t *testing.T) {
		there := newInstallation(t, false)
		there.fault = func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/dex/auth", http.StatusFound)
			return true
		}
		u := newUsers(t, there, pipelines{})
		if err := read(u); err == nil || !strings.Contains(err.Error(), "it sends on to /dex/auth, to log in; give a token") || len(there.requests) != 1 {
			t.Errorf("after %d requests: %v", len(there.requests), err)
		}
	})
	t.Run("the endpoint is an address", func(t *testing.T) {
		for _, bad := range []string{"kubeflow", "ftp://x", "https://user:word@x", "https://x?a=b"} {
			if _, err := newPipelinesAPI(pipelines{}, bad, "", os.LookupEnv); err == nil {
				t.Errorf("%s is taken", bad)
			}
		}
	})
}
