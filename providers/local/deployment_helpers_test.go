package local

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/proc"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// serveScript answers what its model's answer.txt says: a value, "first" (whether the first
// feature is positive), "500", or "die". GET /env tells its environment.
const serveScript = `
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

answer = open(os.path.join(os.environ["ML_MODEL_DIR"], "answer.txt")).read().strip()
if answer == "die":
    print("no weights in this model", file=sys.stderr)
    sys.exit(3)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def say(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.say(200, dict(os.environ))
    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if answer == "500":
            return self.say(500, {"error": "broken"})
        if answer == "first":
            return self.say(200, {"predictions": [int(x[0] > 0) for x in sent["instances"]]})
        self.say(200, {"predictions": [float(answer) for _ in sent["instances"]]})
    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

print("serving", answer)
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
`

// site is a project that deploys.
type site struct {
	*providertest.Project
	addr   resource.Address
	record *state.Record
	ops    int
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{Project: providertest.NewProject(t, map[string]string{"serve.py": serveScript}), addr: resource.Address{Kind: "deployment", Name: "tumors"}}
	s.reconnect()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		dirs, err := filepath.Glob(filepath.Join(s.Root, ".ml", "deployments", "*"))
		if err != nil {
			t.Error(err)
		}
		for _, dir := range dirs {
			if err := gateway.Stop(ctx, dir, time.Second); err != nil {
				t.Error(err)
			}
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

// reconnect makes the provider anew, as another `ml` would.
func (s *site) reconnect() {
	s.T.Helper()
	env := providertest.Env(s.Root)
	env.Exe = []string{os.Args[0]}
	env.Now = time.Now
	pr, err := New().Connect(s.T.Context(), env, cty.NilVal)
	if err != nil {
		s.T.Fatal(err)
	}
	s.Drivers = pr.Drivers
}

// model stores a version whose answer is given.
func (s *site) model(number int, answer string) *config.Model {
	s.T.Helper()
	dir := s.T.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "answer.txt"), []byte(answer), 0o600); err != nil {
		s.T.Fatal(err)
	}
	store, err := files.OpenStore(filepath.Join(s.Root, ".ml", "artifacts"))
	if err != nil {
		s.T.Fatal(err)
	}
	hex, _, err := store.PutDir(dir)
	if err != nil {
		s.T.Fatal(err)
	}
	return &config.Model{Name: "tumors", Version: number, Digest: string(resource.DigestOfHex(hex)), Address: "training.tumors"}
}

// spec serves a model; python's own start takes most of a second on a busy machine.
func (s *site) spec(m *config.Model) config.Deployment {
	return config.Deployment{
		Exec:  config.Exec{Command: []string{"python3", "serve.py"}},
		Model: m, Replicas: 1, Drain: 2 * time.Second,
		Readiness: &config.Readiness{Timeout: 30 * time.Second},
	}
}

func (s *site) canary(m *config.Model) config.Deployment {
	spec := s.spec(m)
	limit := 0.05
	spec.Rollout = &config.Rollout{
		Strategy: "canary", Steps: []int{50, 100}, Interval: 200 * time.Millisecond, MaxWait: 20 * time.Second,
		OnNoTraffic: "hold", Abort: &config.Abort{ErrorRate: &limit, MinRequests: 10},
	}
	return spec
}

func (s *site) request(spec config.Deployment) providers.ApplyRequest {
	s.T.Helper()
	s.ops++
	req := s.Project.Request("deployment", fmt.Sprintf("op-%d", s.ops), spec)
	req.Address, req.Action, req.Prior = s.addr, resource.Create, s.record
	return req
}

// deploy applies as the engine would, and keeps the record as it would.
func (s *site) deploy(spec config.Deployment) (providers.Result, error) {
	s.T.Helper()
	return s.deployAs(s.request(spec))
}

func (s *site) deployAs(req providers.ApplyRequest) (providers.Result, error) {
	s.T.Helper()
	res, err := s.Drivers["deployment"].Apply(providertest.Within(s.T), req)
	if err == nil {
		s.keep(req.Spec, res)
	}
	return res, err
}

func (s *site) mustDeploy(spec config.Deployment) (providers.Result, config.DeploymentOutputs) {
	s.T.Helper()
	res, err := s.deploy(spec)
	if err != nil {
		s.T.Fatal(err)
	}
	return res, outputsOf(s.T, res.Outputs)
}

func outputsOf(t *testing.T, v any) config.DeploymentOutputs {
	t.Helper()
	out, ok := v.(config.DeploymentOutputs)
	if !ok {
		t.Fatalf("outputs are %T", v)
	}
	return out
}

func (s *site) keep(spec cty.Value, res providers.Result) {
	s.T.Helper()
	s.record = recordOf(s.T, s.addr, spec, res)
}

func recordOf(t *testing.T, addr resource.Address, spec cty.Value, res providers.Result) *state.Record {
	t.Helper()
	raw, err := state.EncodeValue(spec)
	if err != nil {
		t.Fatal(err)
	}
	out, err := state.EncodeValue(providertest.Encoded(t, res.Outputs))
	if err != nil {
		t.Fatal(err)
	}
	ref, err := json.Marshal(res.Ref)
	if err != nil {
		t.Fatal(err)
	}
	return &state.Record{Address: addr, Spec: raw, Outputs: out, Ref: ref, Updated: time.Now().UTC()}
}

func (s *site) look() providers.Object {
	s.T.Helper()
	o, err := s.Drivers["deployment"].Read(providertest.Within(s.T), providers.ReadRequest{Address: s.addr, Record: s.record})
	if err != nil {
		s.T.Fatal(err)
	}
	return o
}

// until looks until ok, or fails.
func (s *site) until(what string, ok func(providers.Object) bool) providers.Object {
	s.T.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		o := s.look()
		if ok(o) {
			return o
		}
		select {
		case <-tick.C:
		case <-deadline:
			s.T.Fatalf("%s did not come: %+v", what, o)
		}
	}
}

func (s *site) dir() string { return filepath.Join(s.Root, ".ml", "deployments", "deployment.tumors") }

func (s *site) live() gateway.Live {
	s.T.Helper()
	live, err := gateway.Read(s.dir())
	if err != nil {
		s.T.Fatal(err)
	}
	return live
}

// processes are those of the deployment that ran when it was asked.
func (s *site) processes() []proc.Identity {
	live := s.live()
	out := []proc.Identity{live.Process}
	for _, srv := range live.Servers {
		out = append(out, srv.Process)
	}
	return out
}

// ask posts instances and returns the status and the body.
func ask(endpoint, body string) (int, string, error) {
	resp, err := http.Post(endpoint+"/v1/models/tumors:predict", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// load asks all the time, from two clients, from before it returns until stop is called, which returns the answers by text. stop
// first waits for the answers that it names, for a slow machine may take a while to give them.
func load(t *testing.T, endpoint string) (stop func(until ...string) map[string]int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	answered := sync.NewCond(&mu)
	seen := map[string]int{}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				status, body, err := ask(endpoint, `{"instances": [[1, 2]]}`)
				key := fmt.Sprintf("%d %s", status, body)
				if err != nil {
					key = err.Error()
				}
				mu.Lock()
				seen[key]++
				answered.Broadcast()
				mu.Unlock()
			}
		})
	}
	wait := func(enough func() bool) {
		late := time.AfterFunc(time.Minute, func() {
			mu.Lock()
			defer mu.Unlock()
			cancel()
			answered.Broadcast()
		})
		defer late.Stop()
		mu.Lock()
		defer mu.Unlock()
		for !enough() && ctx.Err() == nil {
			answered.Wait()
		}
	}
	wait(func() bool { return len(seen) > 0 })
	stop = func(until ...string) map[string]int {
		for _, key := range until {
			wait(func() bool { return seen[key] > 0 })
		}
		cancel()
		wg.Wait()
		return seen
	}
	t.Cleanup(func() { stop() })
	return stop
}
