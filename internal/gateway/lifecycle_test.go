package gateway

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/proc"
)

// G3: wherever in a rollout the gateway is killed, the next one brings it to
// its end, on the same port, and no server is left over.
func TestG3AKilledGatewayFinishesItsRollout(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	endpoint := r.live().Endpoint
	rng := rand.New(rand.NewPCG(1, 2))
	var orphans []ServerStatus
	for v := 2; v <= 7; v++ {
		d := desired(v)
		d.Rollout = Rollout{Strategy: Canary, Steps: []int{50, 100}, Interval: 50 * time.Millisecond}
		gen := r.begin(d)
		<-time.After(time.Duration(rng.Int64N(int64(250 * time.Millisecond)))) // any moment will do
		before := r.live()
		orphans = append(orphans, before.Servers...)
		if err := proc.Kill(before.Process, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if !awaitGone(t.Context(), before.Process, 5*time.Second) {
			t.Fatal("the gateway does not die")
		}
		r.start()
		live := r.wait(gen)
		if live.Phase != PhaseReady || live.Current.Number != v || live.Candidate != nil || live.Weight != 0 || live.Endpoint != endpoint {
			t.Fatalf("version %d, killed in %s (%s): %+v", v, before.Phase, before.Message, live)
		}
		if a := r.mustPost(predict, "{}"); a.status != 200 || a.version != strconv.Itoa(v) {
			t.Fatalf("version %d answers %+v", v, a)
		}
	}
	for _, s := range orphans {
		if s.Process.Alive() {
			t.Errorf("server %v is left over", s.Process)
		}
	}
}

// The kernel reports a killed process as dead before it has given its locks
// back; here somebody holds the lock for a moment without being a gateway.
func TestALockThatIsJustBeingGivenBackIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock := flock.New(folder(r.dir).lock())
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	free := time.AfterFunc(500*time.Millisecond, func() {
		if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
	})
	defer free.Stop()
	r.start()
}

func TestManyStartsAreOneGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := Start(t.Context(), []string{os.Args[0]}, r.dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	err := exec.Command(os.Args[0], "__gateway", r.dir).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitRunning {
		t.Errorf("a second gateway: %v", err)
	}
}

func TestATakenPortIsSaidAndNothingIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	live := r.apply(desired(1))
	if err := Stop(t.Context(), r.dir, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", strings.TrimPrefix(live.Endpoint, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	err = Start(t.Context(), []string{os.Args[0]}, r.dir)
	if err == nil || !strings.HasPrefix(err.Error(), "start gateway: listen for requests: port ") || !strings.Contains(err.Error(), "is taken by another program") {
		t.Errorf("error %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r.start()
	after := r.wait(live.Generation)
	if after.Phase != PhaseReady || after.Endpoint != live.Endpoint || after.Current.Number != 1 {
		t.Errorf("after = %+v", after)
	}
}

func TestADesiredPortIsUsedAndCanChange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	d := desired(1)
	var err error
	if d.Port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	r.begin(d) // before there is a gateway
	r.start()
	if live := r.wait(1); live.Endpoint != fmt.Sprintf("http://127.0.0.1:%d", d.Port) || live.Phase != PhaseReady {
		t.Fatalf("live = %+v", live)
	}
	if d.Port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	if live := r.apply(d); live.Endpoint != fmt.Sprintf("http://127.0.0.1:%d", d.Port) || live.Servers[0].Restarts != 0 {
		t.Fatalf("live = %+v", live)
	}
	if a := r.mustPost(predict, "{}"); a.status != 200 {
		t.Errorf("answer = %+v", a)
	}
}

func TestAGatewayThatHangsIsKilledWithItsServers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	live := r.apply(desired(1))
	if err := proc.Kill(live.Process, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := Stop(t.Context(), r.dir, 0); err != nil {
		t.Fatal(err)
	}
	for _, id := range []proc.Identity{live.Process, live.Servers[0].Process} {
		if !awaitGone(t.Context(), id, 2*time.Second) {
			t.Errorf("%v still runs", id)
		}
	}
}

func TestALostPortIsNoDeath(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	file := t.TempDir() + "/thieves"
	t.Cleanup(func() {
		pids, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		for pid := range strings.FieldsSeq(string(pids)) {
			n, err := strconv.Atoi(pid)
			if err != nil {
				t.Error(err)
				continue
			}
			if id, err := proc.Of(n); err == nil {
				if err := proc.Kill(id, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			}
		}
	})
	live := r.apply(desired(1, "LOSE_PORT="+file))
	if live.Phase != PhaseReady || live.Servers[0].Restarts != 3 {
		t.Errorf("live = %+v", live)
	}
}

func TestTheAdminListenerSpeaks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	live := r.apply(desired(1))
	r.load(3)
	get := func(path string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, live.Admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b strings.Builder
		if err := resp.Write(&b); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b.String()
	}
	for path, want := range map[string]string{
		"/metrics": `ml_gateway_requests_total{code_class="2xx",version="1"} 3`,
		"/healthz": `"serving": true`,
		"/status":  `"phase": "ready"`,
	} {
		if code, text := get(path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d\n%s", path, code, text)
		}
	}
	if code, _ := get("/"); code != 404 {
		t.Errorf("/: %d", code)
	}
	// On the model's port these paths belong to the model.
	a, err := r.do(http.MethodGet, "/metrics", "", nil)
	if err != nil || a.version != "1" || strings.Contains(a.body, "ml_gateway") {
		t.Errorf("/metrics of the model: %+v, %v", a, err)
	}
}

func TestACandidateIsReplacedByTheNext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	r.begin(canary(2))
	r.until("10 %", func(l Live) bool { return l.Weight == 10 })
	// A newer version while the canary runs, and then back to the old one.
	r.begin(canary(3))
	r.until("the next at 10 %", func(l Live) bool { return l.Weight == 10 && l.Candidate.Number == 3 })
	if live := r.apply(desired(1)); live.Phase != PhaseReady || live.Current.Number != 1 || live.Candidate != nil || live.Weight != 0 {
		t.Errorf("live = %+v", live)
	}
	if got := r.load(10); got["1/200"] != 10 {
		t.Errorf("answers: %v", got)
	}
}

func TestWhatAServerStartedGoesWithItsGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	file := t.TempDir() + "/child"
	live := r.apply(desired(1, "CHILD="+file))
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	child, err := proc.Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Kill(live.Process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !awaitGone(t.Context(), live.Process, 5*time.Second) {
		t.Fatal("the gateway does not die")
	}
	r.start()
	r.wait(live.Generation)
	if child.Alive() {
		t.Errorf("%v outlived its server", child)
	}
}

func TestAnAbortedRolloutStaysAbortedAfterARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	gen := r.begin(canary(2, "FAIL_EVERY=1"))
	r.until("10 %", func(l Live) bool { return l.Weight == 10 })
	r.load(100)
	before := r.wait(gen)
	if err := proc.Kill(before.Process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !awaitGone(t.Context(), before.Process, 5*time.Second) {
		t.Fatal("the gateway does not die")
	}
	r.start()
	live := r.wait(gen)
	if live.Phase != PhaseAborted || live.Message != before.Message || live.Current.Number != 1 || len(live.Quarantined) != 1 {
		t.Errorf("live = %+v", live)
	}
	if got := r.load(10); got["1/200"] != 10 {
		t.Errorf("answers: %v", got)
	}
}

func TestALongRequestOutlastsItsVersion(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	live := r.apply(desired(1))
	got := make(chan string, 1)
	file := t.TempDir() + "/go"
	go func() {
		a, err := r.do(http.MethodGet, "/until?file="+file, "", nil)
		got <- fmt.Sprint(a.version, a.body, err)
	}()
	r.until("request in flight", func(Live) bool { return strings.Contains(scrape(t, live.Admin), "ml_gateway_in_flight 1") })
	after := r.apply(desired(2))
	if len(after.Servers) != 2 {
		t.Errorf("the old server does not wait: %+v", after.Servers)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "1waited<nil>" {
		t.Errorf("the request got %s", s)
	}
	r.until("old server gone", func(l Live) bool { return len(l.Servers) == 1 && l.Servers[0].Version == 2 })
}

// scrape returns the metrics page, or "" while it cannot be had.
func scrape(t *testing.T, admin string) string {
	t.Helper()
	resp, err := http.Get(admin + "/metrics")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAGatewayEndsWhenItsFolderIsDeleted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	live := r.apply(desired(1))
	if err := os.RemoveAll(r.dir); err != nil {
		t.Fatal(err)
	}
	for _, id := range []proc.Identity{live.Process, live.Servers[0].Process} {
		if !awaitGone(t.Context(), id, 15*time.Second) {
			t.Errorf("%v still runs", id)
		}
	}
}
