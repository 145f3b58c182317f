package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/internal/proc"
)

const predict = "/v1/models/m:predict"

func TestAFirstVersionServesAndAnswersCarryIDAndVersion(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	live := r.apply(desired(1))
	if live.Phase != PhaseReady || live.Current.Number != 1 || !live.Alive {
		t.Fatalf("live = %+v", live)
	}
	a := r.mustPost(predict, `{"instances":[[1]]}`)
	if a.status != 200 || a.version != "1" || len(a.id) != 26 || a.body != `{"predictions": [1]}` {
		t.Errorf("answer = %+v", a)
	}
	a, err := r.do(http.MethodPost, predict, "{}", http.Header{"Ml-Prediction-Id": {"mine-7"}})
	if err != nil || a.id != "mine-7" {
		t.Errorf("own id: %+v, %v", a, err)
	}
	for _, bad := range []string{"two words", strings.Repeat("x", 129), "ä"} {
		a, err := r.do(http.MethodPost, predict, "{}", http.Header{"Ml-Prediction-Id": {bad}})
		if err != nil || a.id == bad || len(a.id) != 26 {
			t.Errorf("id %q was not replaced: %+v, %v", bad, a, err)
		}
	}
	// Apply without a change is the same generation; Start is idempotent.
	if gen := r.begin(desired(1)); gen != live.Generation {
		t.Errorf("generation %d, want %d", gen, live.Generation)
	}
	r.start()
	if now := r.live(); now.Process != live.Process {
		t.Errorf("a second gateway was started: %v, %v", now.Process, live.Process)
	}
}

func TestServersHaveACleanEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_CALLER", "hunter2")
	r := newRig(t)
	r.start()
	d := desired(1, "EXTRA=yes")
	d.Model.Dir = "/models/1"
	r.apply(d)
	a, err := r.do(http.MethodGet, "/env", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(a.body, "SECRET") || !strings.Contains(a.body, "EXTRA=yes") || !strings.Contains(a.body, "ML_MODEL_DIR=/models/1") {
		t.Errorf("environment: %s", a.body)
	}
}

func TestReplacingVersionsTwentyTimesFailsNoRequest(t *testing.T) {
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	endpoint := r.live().Endpoint
	stop := make(chan struct{})
	var sent, failed atomic.Int64
	var first atomic.Pointer[string]
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	var wg sync.WaitGroup
	for range 4 { // 4 × 50/s
		wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				sent.Add(1)
				resp, err := client.Post(endpoint+predict, "application/json", strings.NewReader(`{"instances":[[1]]}`))
				why := ""
				if err != nil {
					why = err.Error()
				} else {
					body, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err != nil || resp.StatusCode != 200 {
						why = fmt.Sprint(resp.StatusCode, err, string(body))
					}
				}
				if why != "" {
					failed.Add(1)
					first.CompareAndSwap(nil, &why)
				}
			}
		})
	}
	for v := 2; v <= 21; v++ {
		d := desired(v)
		if v%2 == 0 {
			d.Rollout.Strategy = BlueGreen
		}
		if live := r.apply(d); live.Phase != PhaseReady || live.Current.Number != v {
			t.Fatalf("version %d: %+v", v, live)
		}
	}
	close(stop)
	wg.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d of %d requests failed, the first: %s", n, sent.Load(), *first.Load())
	}
	if sent.Load() < 200 {
		t.Errorf("only %d requests were sent", sent.Load())
	}
	t.Logf("%d requests, %d failed", sent.Load(), failed.Load())
}

// load posts n predictions one after the other.
func (r *rig) load(n int) map[string]int {
	r.t.Helper()
	versions := map[string]int{}
	for range n {
		a := r.mustPost(predict, `{"instances":[[1]]}`)
		versions[fmt.Sprintf("%s/%d", a.version, a.status)]++
	}
	return versions
}

func canary(v int, env ...string) Desired {
	d := desired(v, env...)
	rate := 0.2
	d.Rollout = Rollout{Strategy: Canary, Steps: []int{10, 50, 100}, Interval: 100 * time.Millisecond,
		Abort: Abort{ErrorRate: &rate, MinRequests: 10}, MaxWait: 20 * time.Second}
	return d
}

func TestAGoodCanaryIsPromotedStepByStep(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	gen := r.begin(canary(2))
	r.until("10 %", func(l Live) bool { return l.Weight == 10 })
	if got := r.load(100); got["2/200"] != 10 || got["1/200"] != 90 {
		t.Errorf("at 10 %%: %v", got)
	}
	r.until("50 %", func(l Live) bool { return l.Weight == 50 })
	if got := r.load(20); got["2/200"] != 10 || got["1/200"] != 10 {
		t.Errorf("at 50 %%: %v %v", got, r.mustPost(predict, "{}"))
	}
	r.until("100 %", func(l Live) bool { return l.Weight == 100 })
	r.load(10)
	if live := r.wait(gen); live.Phase != PhaseReady || live.Current.Number != 2 || live.Candidate != nil {
		t.Errorf("live = %+v", live)
	}
}

func TestABadCanaryIsAbortedAndQuarantined(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	gen := r.begin(canary(2, "FAIL_EVERY=1"))
	r.until("10 %", func(l Live) bool { return l.Weight == 10 })
	r.load(100)
	live := r.wait(gen)
	if live.Phase != PhaseAborted || live.Current.Number != 1 || len(live.Quarantined) != 1 || live.Quarantined[0].Version.Number != 2 {
		t.Fatalf("live = %+v", live)
	}
	if !strings.Contains(live.Message, "10 of 10 requests failed") {
		t.Errorf("no evidence in %q", live.Message)
	}
	if got := r.load(20); got["1/200"] != 20 {
		t.Errorf("traffic after the abort: %v", got)
	}
	// Again, in other words: still quarantined. Forced: served.
	d := canary(2, "FAIL_EVERY=1")
	d.Drain = 2 * time.Second
	if live := r.apply(d); live.Phase != PhaseAborted || !strings.Contains(live.Message, "quarantined") {
		t.Errorf("second time: %+v", live)
	}
	d = desired(2)
	d.Force = true
	if live := r.apply(d); live.Phase != PhaseReady || live.Current.Number != 2 || len(live.Quarantined) != 0 {
		t.Errorf("forced: %+v", live)
	}
}

func TestACanaryWithoutTrafficIsHeldAndGoesOnWithIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	d := canary(2)
	d.Rollout.MaxWait = 200 * time.Millisecond
	live := r.apply(d)
	if live.Phase != PhaseHeld || live.Weight != 10 || !strings.Contains(live.Message, "canary at 10 %") {
		t.Fatalf("live = %+v", live)
	}
	r.load(100)
	r.until("50 %", func(l Live) bool { return l.Weight == 50 })
}

func TestAGatewayKilledInACanaryGoesOnAtItsPort(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	gen := r.begin(canary(2))
	r.until("10 %", func(l Live) bool { return l.Weight == 10 })
	r.load(100)
	before := r.until("50 %", func(l Live) bool { return l.Weight == 50 && len(l.Servers) == 2 })
	if err := proc.Kill(before.Process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !awaitGone(t.Context(), before.Process, 5*time.Second) {
		t.Fatal("the gateway does not die")
	}
	for _, s := range before.Servers {
		if !awaitGone(t.Context(), s.Process, 5*time.Second) {
			t.Errorf("server %v outlived its gateway", s.Process)
		}
	}
	if live := r.live(); live.Alive {
		t.Error("still called alive")
	}
	r.start()
	after := r.until("50 % again", func(l Live) bool { return l.Alive && l.Weight == 50 })
	if after.Endpoint != before.Endpoint || after.Current.Number != 1 || after.Candidate == nil || after.Candidate.Number != 2 {
		t.Errorf("after = %+v", after)
	}
	r.until("old version up", func(l Live) bool { return len(l.Servers) == 2 && l.Servers[0].Ready && l.Servers[1].Ready })
	if got := r.load(20); got["1/200"] != 10 || got["2/200"] != 10 {
		t.Errorf("at 50 %%: %v %v", got, r.mustPost(predict, "{}"))
	}
	r.until("100 %", func(l Live) bool { return l.Weight == 100 })
	r.load(10)
	if live := r.wait(gen); live.Phase != PhaseReady || live.Current.Number != 2 {
		t.Errorf("live = %+v", live)
	}
}

func TestADeadServerIsStartedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	first := r.apply(desired(1)).Servers[0].Process
	if err := proc.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.until("restart", func(l Live) bool {
		return len(l.Servers) == 1 && l.Servers[0].Ready && l.Servers[0].Process != first && l.Servers[0].Restarts == 1
	})
	if a := r.mustPost(predict, "{}"); a.status != 200 {
		t.Errorf("answer = %+v", a)
	}
}

func TestAServerThatDiesAtStartFailsTheRolloutWithItsLastLines(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	live := r.apply(desired(2, "DIE=no module named sklearn"))
	if live.Phase != PhaseFailed || live.Current.Number != 1 || !strings.Contains(live.Message, "no module named sklearn") {
		t.Fatalf("live = %+v", live)
	}
	if a := r.mustPost(predict, "{}"); a.version != "1" || a.status != 200 {
		t.Errorf("answer = %+v", a)
	}
	gen := live.Generation
	if live := r.apply(desired(2, "DIE=no module named sklearn")); live.Generation <= gen {
		t.Errorf("a failed rollout was not tried again: %+v", live)
	}
}

func TestRequestsInFlightFinishWhenTheGatewayStops(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	live := r.apply(desired(1))
	got := make(chan string, 1)
	file := t.TempDir() + "/go"
	go func() {
		a, err := r.do(http.MethodGet, "/until?file="+file, "", nil)
		got <- fmt.Sprint(a.status, a.body, err)
	}()
	r.until("request in flight", func(Live) bool { return strings.Contains(scrape(t, live.Admin), "ml_gateway_in_flight 1") })
	stopped := make(chan error, 1)
	go func() { stopped <- Stop(t.Context(), r.dir, 10*time.Second) }()
	r.until("no new connections", func(l Live) bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(l.Endpoint, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "200waited<nil>" {
		t.Errorf("the request got %s", s)
	}
	if l := r.live(); l.Alive || l.Phase != PhaseStopped {
		t.Errorf("live = %+v", l)
	}
	for _, s := range live.Servers {
		if s.Process.Alive() {
			t.Errorf("server %v still runs", s.Process)
		}
	}
	// It comes back as it was.
	r.start()
	after := r.until("ready", func(l Live) bool { return l.Alive && l.Phase == PhaseReady && len(l.Servers) > 0 && l.Servers[0].Ready })
	if after.Endpoint != live.Endpoint || after.Current.Number != 1 {
		t.Errorf("after = %+v", after)
	}
}

func TestAShadowIsComparedAndNeverAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	d := desired(2)
	d.Rollout = Rollout{Strategy: Shadow, ShadowRequests: 10}
	gen := r.begin(d)
	r.until("shadow", func(l Live) bool { return strings.Contains(l.Message, "comparing") })
	if got := r.load(20); got["1/200"] != 20 {
		t.Errorf("answers: %v", got)
	}
	live := r.wait(gen)
	if live.Phase != PhaseHeld || live.Shadow == nil || live.Shadow.Compared < 10 || live.Shadow.Differed != live.Shadow.Compared {
		t.Fatalf("live = %+v", live)
	}
	if ex := live.Shadow.Examples[0]; ex.Where != "$.predictions[0]" || ex.Current != "1" || ex.Candidate != "2" {
		t.Errorf("example = %+v", ex)
	}
	pid := live.Servers[1].Process
	d.Rollout = Rollout{Strategy: Rolling}
	if live := r.apply(d); live.Phase != PhaseReady || live.Current.Number != 2 || live.Servers[len(live.Servers)-1].Process != pid {
		t.Errorf("promoted: %+v", live)
	}
}

func TestATransformerStandsInFrontOfItsPredictor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	d := desired(3)
	d.Transformer = &Server{Command: []string{os.Args[0], "__model"}}
	if live := r.apply(d); live.Phase != PhaseReady || len(live.Servers) != 2 {
		t.Fatalf("live = %+v", live)
	}
	a := r.mustPost(predict, "{}")
	if a.status != 200 || a.header.Get("X-Transformed") != "yes" || a.body != `{"predictions": [3]}` {
		t.Errorf("answer = %+v", a)
	}
}

func TestReplicasChangeInPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	d := desired(1)
	d.Server.Replicas = 2
	r.begin(d)
	r.until("two ready", func(l Live) bool { return len(l.Servers) == 2 && l.Servers[0].Ready && l.Servers[1].Ready })
	r.begin(desired(1))
	r.until("one left", func(l Live) bool { return len(l.Servers) == 1 })
	if got := r.load(4); got["1/200"] != 4 {
		t.Errorf("answers: %v", got)
	}
}

func TestAPythonServerIsServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/hello.txt", []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.start()
	d := desired(1)
	d.Server = Server{Dir: dir, Command: []string{"python3", "-c",
		"import http.server, os; http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler).serve_forever()"}}
	d.Readiness.Path = "/hello.txt"
	if live := r.apply(d); live.Phase != PhaseReady {
		t.Fatalf("live = %+v", live)
	}
	for range 20 {
		a, err := r.do(http.MethodGet, "/hello.txt", "", nil)
		if err != nil || a.status != 200 || a.body != "hello" {
			t.Fatalf("answer = %+v, %v", a, err)
		}
	}
}

func TestAnswersAreCapturedAndSentToTheSink(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	d := desired(1)
	d.Sink = &Sink{File: t.TempDir() + "/answers.jsonl"}
	r.apply(d)
	r.load(5)
	var sunk []string
	r.until("five answers", func(Live) bool {
		data, err := os.ReadFile(d.Sink.File)
		if err != nil {
			return false
		}
		sunk = strings.Split(strings.TrimSpace(string(data)), "\n")
		return len(sunk) == 5
	})
	if err := Stop(t.Context(), r.dir, time.Second); err != nil {
		t.Fatal(err)
	}
	seq := uint64(0)
	for rec, err := range capture.Records(CaptureDir(r.dir), 1) {
		if err != nil {
			t.Fatal(err)
		}
		seq++
		rows, preds, err := capture.Instances(rec)
		if rec.Seq != seq || rec.Version != 1 || rec.Status != 200 || err != nil || len(rows) != 1 || len(preds) != 1 {
			t.Errorf("record %+v: %v %v %v", rec, rows, preds, err)
		}
	}
	if seq != 5 {
		t.Errorf("%d records", seq)
	}
}
