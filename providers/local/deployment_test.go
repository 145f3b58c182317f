package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/proc"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

const (
	one = `200 {"predictions": [1.0]}`
	two = `200 {"predictions": [2.0]}`
)

func TestAVersionIsReplacedUnderLoadWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, first := s.mustDeploy(s.spec(s.model(1, "1")))
	stop := load(t, first.Endpoint)
	res, second := s.mustDeploy(s.spec(s.model(2, "2")))
	if _, body, err := ask(second.Endpoint, `{"instances": [[1, 2]]}`); err != nil || "200 "+body != two {
		t.Errorf("after the apply: %s, %v", body, err)
	}
	seen := stop(two)
	if seen[one] == 0 || seen[two] == 0 || len(seen) != 2 {
		t.Errorf("answers under load: %v", seen)
	}
	if first.Endpoint != second.Endpoint || second.Version != 2 || res.Verdict != nil || res.Held {
		t.Errorf("first %+v, second %+v, result %+v", first, second, res)
	}
	if o := s.look(); o.Phase != resource.PhaseReady || o.Outputs != nil || o.Message != "" || o.Quarantined != nil {
		t.Errorf("a deployment as recorded reads as %+v", o)
	}
}

func TestACanaryThatAnswersIsPromoted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, out := s.mustDeploy(s.canary(s.model(1, "1")))
	stop := load(t, out.Endpoint)
	res, out := s.mustDeploy(s.canary(s.model(2, "2")))
	stop()
	if out.Version != 2 || res.Held || len(res.Quarantined) > 0 {
		t.Errorf("outputs %+v, result %+v", out, res)
	}
	if !s.Logged("version 2: canary at 50 %") {
		t.Errorf("no event tells of the step")
	}
}

func TestACanaryThatFailsIsTakenBackAndQuarantined(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	good, bad := s.model(1, "1"), s.model(2, "500")
	_, out := s.mustDeploy(s.canary(good))
	stop := load(t, out.Endpoint)
	res, out := s.mustDeploy(s.canary(bad))
	stop()
	if out.Version != 1 || out.Digest != good.Digest {
		t.Errorf("version 1 must serve on: %+v", out)
	}
	if !res.Verdict.Bad() || !strings.Contains(res.Verdict.Message, "requests failed") || string(res.Verdict.Subject) != bad.Digest {
		t.Errorf("verdict %+v", res.Verdict)
	}
	if len(res.Quarantined) != 1 || res.Quarantined[0].Version != 2 || string(res.Quarantined[0].Digest) != bad.Digest || res.Quarantined[0].Address != s.addr {
		t.Errorf("quarantined %+v", res.Quarantined)
	}
	if _, body, err := ask(out.Endpoint, `{"instances": [[1, 2]]}`); err != nil || "200 "+body != one {
		t.Errorf("after the abort: %s, %v", body, err)
	}
	// Asked again, it stays out; forced, it acts at once.
	if res, out := s.mustDeploy(s.canary(bad)); out.Version != 1 || len(res.Quarantined) != 1 {
		t.Errorf("asked again: %+v, %+v", out, res)
	}
	req := s.request(s.canary(bad))
	req.Force = true
	res, err := s.deployAs(req)
	if err != nil || outputsOf(t, res.Outputs).Version != 2 || len(res.Quarantined) != 0 {
		t.Errorf("forced: %+v, %v", res, err)
	}
}

func TestACanaryWithoutTrafficIsHeldAndGoesOnByItself(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDeploy(s.canary(s.model(1, "1")))
	spec := s.canary(s.model(2, "2"))
	spec.Rollout.MaxWait = 200 * time.Millisecond
	res, out := s.mustDeploy(spec)
	if !res.Held || out.Version != 1 || res.Message != "version 2: canary at 50 %: 0 of the 10 requests that a verdict needs; waits for traffic" {
		t.Fatalf("held %v, %+v, message %q", res.Held, out, res.Message)
	}
	if o := s.look(); o.Phase != resource.PhaseRunning || o.Message != res.Message {
		t.Errorf("a held rollout reads as %+v", o)
	}
	stop := load(t, out.Endpoint)
	o := s.until("promotion", func(o providers.Object) bool { return o.Phase == resource.PhaseReady })
	stop()
	if out, ok := o.Outputs.(config.DeploymentOutputs); !ok || out.Version != 2 {
		t.Errorf("after the promotion it reads as %+v", o)
	}
}

func TestAHeldCanaryThatFailsLaterIsReadAsQuarantined(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDeploy(s.canary(s.model(1, "1")))
	bad := s.model(2, "500")
	spec := s.canary(bad)
	spec.Rollout.MaxWait = 200 * time.Millisecond
	res, out := s.mustDeploy(spec)
	if !res.Held {
		t.Fatalf("%+v", res)
	}
	stop := load(t, out.Endpoint)
	o := s.until("abort", func(o providers.Object) bool { return o.Phase == resource.PhaseReady })
	stop()
	if len(o.Quarantined) != 1 || string(o.Quarantined[0].Digest) != bad.Digest || o.Outputs != nil {
		t.Errorf("%+v", o)
	}
	s.record.Updated = time.Now().Add(time.Second)
	if o := s.look(); len(o.Quarantined) != 0 {
		t.Errorf("what is recorded already is told again: %+v", o)
	}
}

func TestAKilledGatewayIsMissingAndComesBackOnItsPort(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	spec := s.spec(s.model(1, "1"))
	_, before := s.mustDeploy(spec)
	if resp, err := http.Get(before.Metrics); err != nil || resp.StatusCode != 200 || resp.Body.Close() != nil || !strings.HasSuffix(before.Metrics, "/metrics") {
		t.Errorf("metrics at %q: %+v, %v", before.Metrics, resp, err)
	}
	all := s.processes()
	if err := proc.Kill(s.live().Process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	o := s.until("death", func(o providers.Object) bool { return o.Phase == resource.PhaseMissing })
	if o.Message != "the gateway died" {
		t.Errorf("message %q", o.Message)
	}
	s.reconnect()
	_, after := s.mustDeploy(spec)
	if before != after {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if _, body, err := ask(after.Endpoint, `{"instances": [[1]]}`); err != nil || "200 "+body != one {
		t.Errorf("%s, %v", body, err)
	}
	for _, id := range all {
		if id.Alive() {
			t.Errorf("process %d of the killed gateway still runs", id.PID)
		}
	}
}

func TestAGatewayKilledInARolloutIsToldInOneLineAndGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDeploy(s.spec(s.model(1, "1")))
	spec := s.canary(s.model(2, "2"))
	spec.Rollout.MaxWait = time.Minute
	failed := make(chan error, 1)
	go func() {
		_, err := s.deploy(spec)
		failed <- err
	}()
	s.until("a canary", func(o providers.Object) bool { return strings.Contains(o.Message, "requests that a verdict needs") })
	if err := proc.Kill(s.live().Process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := <-failed
	var re *providers.RunError
	if !errors.As(err, &re) || len(re.Log) == 0 || re.Ref == nil || strings.Contains(err.Error(), "\n") ||
		!strings.Contains(err.Error(), "the gateway ended in the middle (version 2: canary at 50 %") || !strings.Contains(err.Error(), "apply again") {
		t.Errorf("error %v, %+v", err, re)
	}
	spec.Rollout = nil
	if _, out := s.mustDeploy(spec); out.Version != 2 {
		t.Errorf("outputs %+v", out)
	}
}

func TestAVersionThatNeverGetsReady(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dead := s.model(1, "die")
	_, err := s.deploy(s.spec(dead))
	log, ref := providertest.WantRunError(t, err, "did not stay up")
	if len(log) == 0 || log[len(log)-1] != "no weights in this model" {
		t.Errorf("log %q", log)
	}
	if ref == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("ref %v, error %q", ref, err)
	}
	good := s.model(2, "2")
	s.mustDeploy(s.spec(good))
	worse := s.model(3, "die")
	res, out := s.mustDeploy(s.spec(worse))
	if out.Version != 2 || len(res.Quarantined) != 1 || res.Quarantined[0].Version != 3 || !res.Verdict.Bad() {
		t.Errorf("outputs %+v, result %+v", out, res)
	}
	// A broken command is not the fault of the version that serves.
	spec := s.spec(good)
	spec.Command = []string{"python3", "absent.py"}
	_, err = s.deploy(spec)
	providertest.WantRunError(t, err, "what served before serves on")
	if _, body, err := ask(out.Endpoint, `{"instances": [[1]]}`); err != nil || "200 "+body != two {
		t.Errorf("%s, %v", body, err)
	}
}

func TestAnOperationThatNeverReachedTheGatewayIsAbsent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	spec := s.spec(s.model(1, "1"))
	req := s.request(spec)
	req.Adopt = true
	if _, err := s.deployAs(req); !errors.Is(err, providers.ErrAbsent) {
		t.Fatalf("error %v", err)
	}
	if _, err := os.Stat(s.dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("adopting left %s: %v", s.dir(), err)
	}
	s.mustDeploy(spec)
	generation := s.live().Generation
	// Killed just before it told the gateway.
	op := rolloutOp{Op: "killed", Address: s.addr, Version: 1, Base: generation}
	if err := durable.WriteJSON(filepath.Join(s.dir(), opFile), op); err != nil {
		t.Fatal(err)
	}
	req.OpID = "killed"
	if _, err := s.deployAs(req); !errors.Is(err, providers.ErrAbsent) {
		t.Errorf("error %v", err)
	}
	// Killed just after.
	op.Base--
	if err := durable.WriteJSON(filepath.Join(s.dir(), opFile), op); err != nil {
		t.Fatal(err)
	}
	if res, err := s.deployAs(req); err != nil || outputsOf(t, res.Outputs).Version != 1 || s.live().Generation != generation {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestACancelledApplyReturnsAndTheRolloutGoesOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDeploy(s.canary(s.model(1, "1")))
	req := s.request(s.canary(s.model(2, "2")))
	ctx, cancel := context.WithCancel(t.Context())
	req.Emit = func(e resource.Event) {
		if strings.Contains(e.Message, "canary at 50 %") {
			cancel()
		}
	}
	if _, err := s.Drivers["deployment"].Apply(ctx, req); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	stop := load(t, s.live().Endpoint)
	req.Adopt, req.Emit = true, func(resource.Event) {}
	res, err := s.deployAs(req)
	stop()
	if err != nil || outputsOf(t, res.Outputs).Version != 2 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestDeleteLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	spec := s.spec(s.model(1, "1"))
	spec.Replicas = 2
	_, out := s.mustDeploy(spec)
	all := s.processes()
	if len(all) != 3 {
		t.Fatalf("%d processes, want a gateway and two servers", len(all))
	}
	req := providers.DeleteRequest{OpID: "d", Address: s.addr, Record: s.record, Emit: func(resource.Event) {}}
	for range 2 { // deleting what is gone is no error
		if err := s.Drivers["deployment"].Delete(providertest.Within(t), req); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range all {
		if id.Alive() {
			t.Errorf("process %d still runs", id.PID)
		}
	}
	if _, err := os.Stat(s.dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", s.dir(), err)
	}
	if _, _, err := ask(out.Endpoint, "{}"); err == nil {
		t.Error("something still answers")
	}
	if o := s.look(); o.Phase != resource.PhaseMissing {
		t.Errorf("what was deleted reads as %+v", o)
	}
}

func TestADeploymentThatNeverStartedHasFailedAndIsNotGone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.record = &state.Record{Address: s.addr, Phase: resource.PhaseFailed, Message: "port 80 is taken"}
	if o := s.look(); o.Phase != resource.PhaseFailed || o.Message != "port 80 is taken" {
		t.Errorf("read as %+v", o)
	}
}

func TestDeleteKeepsWhatTheSinkNeverTook(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	spec := s.spec(s.model(1, "1"))
	spec.Sink = &config.Sink{URL: "http://127.0.0.1:1/nobody"}
	spec.Drain = time.Second
	_, out := s.mustDeploy(spec)
	for range 3 {
		if _, _, err := ask(out.Endpoint, `{"instances":[[1]]}`); err != nil {
			t.Fatal(err)
		}
	}
	s.until("a word of the sink", func(o providers.Object) bool {
		return o.Phase == resource.PhaseReady && strings.HasPrefix(o.Message, "3 answers wait for the sink (send record 1: ")
	})
	var said []string
	req := providers.DeleteRequest{OpID: "d", Address: s.addr, Record: s.record, Emit: func(e resource.Event) { said = append(said, e.Message) }}
	file := filepath.Join(s.Root, ".ml", "unsent", "deployment.tumors-d.jsonl")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("of a delete that was killed\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := s.Drivers["deployment"].Delete(providertest.Within(t), req); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || bytes.Count(raw, []byte("\n")) != 3 || bytes.Count(raw, []byte(`"predictions"`)) != 3 {
		t.Errorf("kept: %s, %v", raw, err)
	}
	if len(said) == 0 || !strings.Contains(said[len(said)-1], "did not take 3 answers; they are in .ml/unsent/deployment.tumors-d.jsonl") {
		t.Errorf("said: %q", said)
	}
}

func TestAServerGetsTheContractAndWhatIsPassed(t *testing.T) {
	s := newSite(t)
	t.Setenv("SECRET_TOKEN", "hush")
	t.Setenv("UNNAMED", "must not arrive")
	m := s.model(1, "1")
	spec := s.spec(m)
	spec.Env, spec.PassEnv = map[string]string{"MODE": "fast"}, []string{"SECRET_*"}
	spec.Sink = &config.Sink{File: "out/answers.jsonl"}
	_, out := s.mustDeploy(spec)
	env := environOf(t, out.Endpoint)
	dir := filepath.Join(s.Root, ".ml", "models", resource.Digest(m.Digest).Hex())
	for name, want := range map[string]string{
		"ML_MODEL_DIR": dir, "MODE": "fast", "SECRET_TOKEN": "hush", "UNNAMED": "", "ML_RUN_ID": "deployment.tumors.v1",
	} {
		if env[name] != want {
			t.Errorf("%s = %q, want %q", name, env[name], want)
		}
	}
	for _, name := range []string{"desired.json", "state.json"} {
		raw, err := os.ReadFile(filepath.Join(s.Root, ".ml", "deployments", "deployment.tumors", name))
		if err != nil || len(raw) == 0 || strings.Contains(string(raw), "hush") {
			t.Errorf("%s holds the value of a passed variable, or cannot be read: %v", name, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "answer.txt")); err != nil || info.Mode().Perm()&0o222 != 0 {
		t.Errorf("the model must be read-only: %v, %v", info.Mode(), err)
	}
	if _, _, err := ask(out.Endpoint, `{"instances": [[7]]}`); err != nil {
		t.Fatal(err)
	}
	poll(t, "the sink's line", func() bool { return strings.Contains(s.Read("out/answers.jsonl"), "[[7]]") })
	// New code is rolled out like a new version; the same code restarts nothing.
	pid := env["ML_CODE_DIGEST"]
	before := s.processes()
	s.mustDeploy(spec)
	if after := s.processes(); before[1] != after[1] {
		t.Error("an apply of the same restarted the server")
	}
	s.Write("serve.py", serveScript+"\n# changed\n")
	s.reconnect()
	_, out = s.mustDeploy(spec)
	if now := environOf(t, out.Endpoint)["ML_CODE_DIGEST"]; now == pid || now == "" {
		t.Errorf("code digest %q before and %q after the change", pid, now)
	}
}

func environOf(t *testing.T, endpoint string) map[string]string {
	t.Helper()
	resp, err := http.Get(endpoint + "/env")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var env map[string]string
	if err := json.NewDecoder(resp.Body).Decode(&env); err != nil {
		t.Fatal(err)
	}
	return env
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not come", what)
		}
	}
}

func TestSpecsThatCannotBeServedHere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := os.Symlink(t.TempDir(), s.Path("outside")); err != nil {
		t.Fatal(err)
	}
	s.Write(".mlignore", "outside\n")
	m := s.model(1, "1")
	for name, c := range map[string]struct {
		change func(*config.Deployment)
		want   string
	}{
		"an image without a command": {func(d *config.Deployment) { d.Command, d.Image = nil, "x:1" }, "cluster provider"},
		"no replica":                 {func(d *config.Deployment) { d.Replicas = 0 }, "runs 1 to 64 servers, not 0"},
		"too many replicas":          {func(d *config.Deployment) { d.Replicas = 65 }, "runs 1 to 64 servers, not 65"},
		"no version":                 {func(d *config.Deployment) { d.Model = nil }, "no model version"},
		"a version that was pruned": {func(d *config.Deployment) {
			d.Model = &config.Model{Version: 9, Digest: "sha256:" + strings.Repeat("0", 64)}
		}, "not in the artifact store"},
		"a variable of the contract in env": {func(d *config.Deployment) { d.Env = map[string]string{"PORT": "80"} }, "PORT is set by the runner contract"},
		"a broken glob":                     {func(d *config.Deployment) { d.PassEnv = []string{"[a"} }, "not a glob"},
		"a sink above the project":          {func(d *config.Deployment) { d.Sink = &config.Sink{File: "../x"} }, "inside the project"},
		"a sink in .ml":                     {func(d *config.Deployment) { d.Sink = &config.Sink{File: ".ml/state.db"} }, "outside of .ml"},
		"a sink behind a link":              {func(d *config.Deployment) { d.Sink = &config.Sink{File: "outside/x"} }, "sink.file"},
		"a sink that is a folder":           {func(d *config.Deployment) { d.Sink = &config.Sink{File: "outside"} }, "sink.file"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := s.spec(m)
			c.change(&spec)
			_, err := s.deploy(spec)
			providertest.WantError(t, err, c.want)
			providertest.WantError(t, err, "deployment.tumors")
			if s.live().Alive {
				t.Error("a gateway was started for it")
			}
		})
	}
}

func TestLogsShowWhatTheServersWrote(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDeploy(s.spec(s.model(1, "1")))
	l, ok := providers.As[providers.Logger](s.Drivers["deployment"])
	if !ok {
		t.Fatal("a deployment has no Logs")
	}
	var b bytes.Buffer
	if err := l.Logs(t.Context(), providers.LogRequest{Record: s.record, Lines: 1}, &b); err != nil || b.String() != "serving 1\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Logs(ctx, providers.LogRequest{Record: s.record, Follow: true}, w) }()
	s.mustDeploy(s.spec(s.model(2, "2")))
	text := make([]byte, 0, 200)
	for !bytes.Contains(text, []byte("v2-0: serving 2\n")) {
		part := make([]byte, 100)
		n, err := r.Read(part)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part[:n]...)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := errors.Join(w.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestABlockUnderAnOldNameTakesAnotherFolder(t *testing.T) {
	s := newSite(t)
	d := &deployment{Workspace: &runs.Workspace{Env: providertest.Env(s.Root)}}
	ref, err := json.Marshal(deploymentRef{Dir: ".ml/deployments/deployment.tumors"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.recordedDir(resource.Address{Kind: "deployment", Name: "renamed"}, ref); err != nil {
		t.Fatal(err)
	}
	dir, err := d.home(providers.ApplyRequest{Address: s.addr})
	if err != nil || dir != s.dir()+"~2" {
		t.Errorf("%s, %v", dir, err)
	}
}

func TestWhatALiveGatewaySaysOfItself(t *testing.T) {
	t.Parallel()
	v1, v2 := gateway.Version{Number: 1, Digest: "sha256:1"}, gateway.Version{Number: 2, Digest: "sha256:2"}
	op := rolloutOp{Version: 2, Digest: "sha256:2"}
	for name, c := range map[string]struct {
		op   rolloutOp
		live gateway.Live
		want bool
	}{
		"a version that never got ready beside one that serves": {op, gateway.Live{Phase: gateway.PhaseFailed, Current: v1}, true},
		"one that was aborted":                            {op, gateway.Live{Phase: gateway.PhaseAborted, Current: v1}, true},
		"one that never got ready and is the first":       {op, gateway.Live{Phase: gateway.PhaseFailed}, false},
		"one that serves and whose new command is broken": {op, gateway.Live{Phase: gateway.PhaseFailed, Current: v2}, false},
		"a port that another program has":                 {rolloutOp{Version: 2, Digest: "sha256:2", Port: 80}, gateway.Live{Phase: gateway.PhaseFailed, Current: v1, Endpoint: "http://127.0.0.1:20000"}, false},
		"one that is held":                                {op, gateway.Live{Phase: gateway.PhaseHeld, Current: v1}, false},
	} {
		if got := serving.Refused(c.op.asked(c.live), c.live) != nil; got != c.want {
			t.Errorf("%s: refused %v", name, got)
		}
	}
	down := gateway.ServerStatus{Version: 1, Restarts: 3, LastError: "ended (exit status 1); its last lines:\nboom"}
	if why := crashing(gateway.Live{Current: v1, Servers: []gateway.ServerStatus{down}}); why != "ended (exit status 1): boom" {
		t.Errorf("a server that ends again and again: %q", why)
	}
	if why := crashing(gateway.Live{Current: v1, Servers: []gateway.ServerStatus{down, {Version: 1, Ready: true}}}); why != "" {
		t.Errorf("one of two: %q", why)
	}
}

func TestTheEndOfALog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"a\nb\nc\n", 1, "c\n"}, {"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc\n", 3, "a\nb\nc\n"}, {"a\nb\nc\n", 9, "a\nb\nc\n"},
		{"a\nb", 1, "b"}, {"", 3, ""}, {"\n\n", 1, "\n"},
	} {
		if got := c.text[startOfLast([]byte(c.text), c.n):]; got != c.want {
			t.Errorf("the last %d lines of %q are %q, want %q", c.n, c.text, got, c.want)
		}
	}
}
