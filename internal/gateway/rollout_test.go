package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// policy is a canary with the documented example's numbers.
func policy(change func(*Rollout)) Rollout {
	rate, p99 := 0.05, 500*time.Millisecond
	d := Desired{Rollout: Rollout{Strategy: Canary, Steps: []int{10, 50, 100}, Interval: 30 * time.Second,
		Abort: Abort{ErrorRate: &rate, P99: &p99, MinRequests: 20}}}
	if change != nil {
		change(&d.Rollout)
	}
	return d.withDefaults().Rollout
}

func TestEachSituationHasItsMove(t *testing.T) {
	at := func(step int, ago time.Duration) Progress { return Progress{Step: step, StepStarted: epoch.Add(-ago)} }
	for name, tc := range map[string]struct {
		policy   func(*Rollout)
		progress Progress
		o        Observation
		want     Move
		weight   int
	}{
		"a server that is not ready is waited for":         {o: Observation{}, want: MoveWait},
		"a server that cannot start fails the rollout":     {o: Observation{Failed: "died"}, want: MoveFail},
		"the first version skips the steps":                {o: Observation{First: true, Ready: true}, want: MovePromote, weight: 100},
		"rolling promotes when ready":                      {policy: func(r *Rollout) { r.Strategy = Rolling }, o: Observation{Ready: true}, want: MovePromote, weight: 100},
		"a ready canary gets its first step":               {o: Observation{Ready: true}, want: MoveShift, weight: 10},
		"a good step is not over before its interval":      {progress: at(0, 29*time.Second), o: Observation{Ready: true, Tally: Tally{100, 0, 0}}, want: MoveWait, weight: 10},
		"a good step leads to the next":                    {progress: at(0, 30*time.Second), o: Observation{Ready: true, Tally: Tally{20, 1, 0}}, want: MoveShift, weight: 50},
		"the last good step promotes":                      {progress: at(2, 30*time.Second), o: Observation{Ready: true, Tally: Tally{20, 0, 0}}, want: MovePromote, weight: 100},
		"nobody is promoted while its server is down":      {progress: at(2, 30*time.Second), o: Observation{Tally: Tally{20, 0, 0}}, want: MoveWait, weight: 100},
		"too many errors abort at the end of the step":     {progress: at(0, 30*time.Second), o: Observation{Ready: true, Tally: Tally{20, 2, 0}}, want: MoveAbort, weight: 10},
		"a rate at the limit is allowed":                   {progress: at(0, 30*time.Second), o: Observation{Ready: true, Tally: Tally{100, 5, 0}}, want: MoveShift, weight: 50},
		"a slow tail aborts":                               {progress: at(0, 30*time.Second), o: Observation{Ready: true, Tally: Tally{100, 0, 2}}, want: MoveAbort, weight: 10},
		"one in a hundred may be slow":                     {progress: at(0, 30*time.Second), o: Observation{Ready: true, Tally: Tally{100, 0, 1}}, want: MoveShift, weight: 50},
		"what is hopeless aborts before the step is over":  {progress: at(0, time.Second), o: Observation{Ready: true, Tally: Tally{20, 20, 0}}, want: MoveAbort, weight: 10},
		"chance is not called bad before the step is over": {progress: at(0, time.Second), o: Observation{Ready: true, Tally: Tally{20, 2, 0}}, want: MoveWait, weight: 10},
		"0 requests are no verdict":                        {progress: at(0, 299*time.Second), o: Observation{Ready: true}, want: MoveWait, weight: 10},
		"1 bad request is no verdict":                      {progress: at(0, 299*time.Second), o: Observation{Ready: true, Tally: Tally{1, 1, 0}}, want: MoveWait, weight: 10},
		"19 bad requests are no verdict":                   {progress: at(0, 299*time.Second), o: Observation{Ready: true, Tally: Tally{19, 19, 0}}, want: MoveWait, weight: 10},
		"after max_wait a step is held":                    {progress: at(0, 300*time.Second), o: Observation{Ready: true, Tally: Tally{19, 0, 0}}, want: MoveHold, weight: 10},
		"or promoted":                                      {policy: func(r *Rollout) { r.OnNoTraffic = Promote }, progress: at(0, 300*time.Second), o: Observation{Ready: true}, want: MovePromote, weight: 100},
		"or aborted":                                       {policy: func(r *Rollout) { r.OnNoTraffic = AbortIt }, progress: at(0, 300*time.Second), o: Observation{Ready: true}, want: MoveAbort, weight: 10},
		"a held step goes on when requests come":           {progress: Progress{StepStarted: epoch.Add(-time.Hour), Holding: true}, o: Observation{Ready: true, Tally: Tally{20, 0, 0}}, want: MoveShift, weight: 50},
		"a held step still aborts":                         {progress: Progress{StepStarted: epoch.Add(-time.Hour), Holding: true}, o: Observation{Ready: true, Tally: Tally{20, 20, 0}}, want: MoveAbort, weight: 10},
		"without limits steps go by time":                  {policy: func(r *Rollout) { r.Abort = Abort{} }, progress: at(0, 30*time.Second), o: Observation{Ready: true, Tally: Tally{5, 5, 0}}, want: MoveShift, weight: 50},
		"blue green takes all at once":                     {policy: func(r *Rollout) { r.Strategy = BlueGreen }, o: Observation{Ready: true}, want: MoveShift, weight: 100},
		"a shadow gets no traffic":                         {policy: func(r *Rollout) { r.Strategy = Shadow }, o: Observation{Ready: true}, want: MoveShift, weight: 0},
		"a complete comparison is held":                    {policy: func(r *Rollout) { r.Strategy = Shadow }, progress: at(0, time.Second), o: Observation{Ready: true, Compared: 100}, want: MoveHold},
		"a shadow is never promoted":                       {policy: func(r *Rollout) { r.Strategy = Shadow }, progress: Progress{StepStarted: epoch.Add(-time.Hour), Holding: true}, o: Observation{Ready: true, Compared: 1000}, want: MoveWait},
		"a step from another policy is brought in range":   {policy: func(r *Rollout) { r.Strategy = BlueGreen }, progress: at(2, time.Hour), o: Observation{Ready: true, Tally: Tally{20, 0, 0}}, want: MovePromote, weight: 100},
	} {
		tc.o.Now = epoch
		d := Decide(policy(tc.policy), tc.progress, tc.o)
		if d.Move != tc.want || d.Weight != tc.weight {
			t.Errorf("%s: move %d at %d %% (%s), want %d at %d %%", name, d.Move, d.Weight, d.Message, tc.want, tc.weight)
		}
		if (d.Move == MoveAbort || d.Move == MoveFail) && d.Message == "" {
			t.Errorf("%s: no evidence", name)
		}
	}
}

// A clock that jumps while a step is measured (X4) must not promote without
// requests.
func TestX4AJumpOfTheClockGivesNoVerdict(t *testing.T) {
	for _, jump := range []time.Duration{-10 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		d := Decide(policy(nil), Progress{StepStarted: epoch}, Observation{Now: epoch.Add(jump), Ready: true, Tally: Tally{3, 3, 0}})
		if d.Move != MoveWait && d.Move != MoveHold {
			t.Errorf("jump %v: move %d", jump, d.Move)
		}
	}
}

// Whatever happens, a candidate gets all the traffic for good only with a
// good verdict at every step, and no verdict is given on too few requests.
func TestAnAbortWithoutTrafficSaysWhatDidNotCome(t *testing.T) {
	r := policy(func(r *Rollout) { r.OnNoTraffic = AbortIt })
	d := Decide(r, Progress{StepStarted: epoch}, Observation{Now: epoch.Add(r.MaxWait), Ready: true})
	if want := "canary at 10 %: 0 of the 20 requests that a verdict needs came within 5m0s"; d.Message != want {
		t.Errorf("%q, want %q", d.Message, want)
	}
}

func TestNoHistoryPromotesABadCandidate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := policy(func(r *Rollout) {
			r.OnNoTraffic = rapid.SampledFrom([]string{Hold, AbortIt}).Draw(t, "on_no_traffic")
		})
		p, now, seen := Progress{}, epoch, Tally{}
		failEvery := rapid.Int64Range(1, 10).Draw(t, "fails") // at least 10 % of requests
		for range rapid.IntRange(1, 60).Draw(t, "ticks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "seconds")) * time.Second)
			n := rapid.Int64Range(0, 400).Draw(t, "requests")
			seen.Requests += n
			seen.Errors = (seen.Requests + failEvery - 1) / failEvery
			d := Decide(r, p, Observation{Now: now, Ready: rapid.Bool().Draw(t, "ready"), Tally: seen})
			if d.Move == MovePromote {
				t.Fatalf("promoted with %d of %d failing", seen.Errors, seen.Requests)
			}
			if d.Move == MoveAbort {
				if seen.Requests < int64(r.Abort.MinRequests) && r.OnNoTraffic != AbortIt {
					t.Fatalf("aborted on %d requests", seen.Requests)
				}
				return
			}
			if d.Move == MoveShift {
				if p.StepStarted.IsZero() {
					seen = Tally{}
				} else {
					t.Fatalf("step %d judged good with %d of %d failing", p.Step, seen.Errors, seen.Requests)
				}
			}
			p = d.Progress
		}
	})
}

// G2: looking at a good candidate after every request must not roll it back
// by chance much more often than looking once would.
func TestG2FalseRollbacksAreRare(t *testing.T) {
	r := policy(nil)
	aborted := 0
	const runs = 2000
	seed := uint64(1)
	next := func() float64 { // xorshift: the same canaries in every run
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		return float64(seed>>11) / (1 << 53)
	}
	for range runs {
		seen := Tally{}
		p := Progress{StepStarted: epoch}
		for i := range 300 {
			seen.Requests++
			if next() < 0.01 { // against a limit of 5 %
				seen.Errors++
			}
			over := i == 299
			now := epoch.Add(time.Second)
			if over {
				now = epoch.Add(30 * time.Second)
			}
			if Decide(r, p, Observation{Now: now, Ready: true, Tally: seen}).Move == MoveAbort {
				aborted++
				break
			}
		}
	}
	if share := float64(aborted) / runs; share > 0.02 {
		t.Errorf("%.1f %% of good canaries were rolled back", share*100)
	}
}

func TestTheShareIsExactForSmallCounts(t *testing.T) {
	for _, w := range []int{0, 1, 10, 33, 50, 99, 100} {
		rt := &route{candidate: &release{}, weight: w}
		got := 0
		for i := 1; i <= 1000; i++ {
			if rt.toCandidate() {
				got++
			}
			if want := i * w / 100; got != want {
				t.Fatalf("weight %d: %d of %d, want %d", w, got, i, want)
			}
		}
	}
}

func TestADesiredSaysWhatIsWrongWithIt(t *testing.T) {
	for want, change := range map[string]func(*Desired){
		"name: missing":             func(d *Desired) { d.Name = "" },
		"server.command: missing":   func(d *Desired) { d.Server.Command = nil },
		"rollout.steps":             func(d *Desired) { d.Rollout.Steps = []int{50, 10} },
		"rollout.strategy":          func(d *Desired) { d.Rollout.Strategy = "yolo" },
		"readiness.path":            func(d *Desired) { d.Readiness.Path = "health" },
		"sink: set one of":          func(d *Desired) { d.Sink = &Sink{} },
		"sink.url":                  func(d *Desired) { d.Sink = &Sink{URL: "file:///etc/passwd"} },
		"server.replicas":           func(d *Desired) { d.Server.Replicas = -1 },
		"port: 70000":               func(d *Desired) { d.Port = 70000 },
		"rollout.abort.error_rate":  func(d *Desired) { x := 1.5; d.Rollout.Abort.ErrorRate = &x },
		`server.env: "A=B"`:         func(d *Desired) { d.Server.Env["A=B"] = "" },
		"cannot be negative":        func(d *Desired) { d.Rollout.Interval = -1 },
		"rollout.on_no_traffic":     func(d *Desired) { d.Rollout.OnNoTraffic = "pray" },
		"transformer.command":       func(d *Desired) { d.Transformer = &Server{} },
		"rollout.abort.p99: 0s":     func(d *Desired) { x := time.Duration(0); d.Rollout.Abort.P99 = &x },
		"sink.file: \"answers\" is": func(d *Desired) { d.Sink = &Sink{File: "answers"} },
	} {
		d := desired(1)
		change(&d)
		if err := d.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if err := desired(1).validate(); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func TestAnswersAreComparedByMeaning(t *testing.T) {
	for _, tc := range []struct {
		a, b  string
		same  bool
		where string
	}{
		{`{"predictions":[1.0]}`, `{ "predictions": [1.0000000001] }`, true, ""},
		{`{"predictions":[1.0]}`, `{"predictions":[1.01]}`, false, "$.predictions[0]"},
		{`{"predictions":[0]}`, `{"predictions":[1e-12]}`, true, ""},
		{`{"predictions":[NaN, Infinity]}`, `{"predictions":[NaN, Infinity]}`, true, ""},
		{`{"predictions":[Infinity]}`, `{"predictions":[-Infinity]}`, false, "$.predictions[0]"},
		{`{"predictions":[1]}`, `{"predictions":[1,2]}`, false, "$.predictions"},
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, true, ""},
		{`{"a":1}`, `{"b":1}`, false, "$.a"},
		{`{"a":null}`, `{"a":false}`, false, "$.a"},
		{`{"id":"1","model_version":"1","outputs":[]}`, `{"id":"2","model_version":"2","outputs":[]}`, true, ""},
		{`{"id":"1"}`, `{"id":"2"}`, false, "$.id"},
		{`plain`, `plain`, true, ""},
		{`plain`, `other`, false, "answer"},
		{``, ``, true, ""},
	} {
		where, _, _, same := differ([]byte(tc.a), []byte(tc.b))
		if same != tc.same || !same && where != tc.where {
			t.Errorf("%s and %s: same %v at %s", tc.a, tc.b, same, where)
		}
	}
}

func TestAVersionOutlivesChangesThatNeedNoNewServer(t *testing.T) {
	key := func(change func(*Desired)) string {
		d := desired(1)
		change(&d)
		k, err := d.withDefaults().spec().key()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	same := key(func(*Desired) {})
	for i, change := range []func(*Desired){
		func(d *Desired) { d.Server.Replicas = 4 },
		func(d *Desired) { d.Readiness.Timeout = time.Hour },
		func(d *Desired) { d.Rollout.Strategy = Canary },
		func(d *Desired) { d.Capture.Enabled = false },
	} {
		if key(change) != same {
			t.Errorf("policy change %d needs a new server", i)
		}
	}
	for i, change := range []func(*Desired){
		func(d *Desired) { d.Model.Number = 2 },
		func(d *Desired) { d.Server.Env["A"] = "b" },
		func(d *Desired) { d.Server.Command = []string{"x"} },
		func(d *Desired) { d.Transformer = &Server{Command: []string{"x"}} },
	} {
		if key(change) == same {
			t.Errorf("change %d needs a new server", i)
		}
	}
}

// A shadow that cannot keep up loses copies; it never makes a client wait.
func TestASlowShadowIsNotWaitedFor(t *testing.T) {
	hang := make(chan struct{})
	slow := newBackend(t, func(_ http.ResponseWriter, _ *http.Request) { <-hang })
	fast := newBackend(t, nil)
	f := newFake(t, Limits{}, fast.URL)
	cand := f.release(2, slow.URL)
	m := newMirror(cand, 5*time.Second, Comparison{})
	f.router.route.Store(&route{current: f.router.route.Load().current, candidate: cand, mirror: m})
	const n = mirrorQueue + mirrorWorkers + 50
	for i := range n {
		if got := f.raw(t, 1, fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", i)); len(got) != 1 || got[0] != 200 {
			t.Fatalf("request %d: %v", i, got)
		}
	}
	idle(t, f)
	if got := m.comparison(); got.Dropped < 50 || got.Compared != 0 {
		t.Errorf("comparison %+v", got)
	}
	close(hang)
	m.close()
	if got := cand.tally(); got.Requests != 0 {
		t.Errorf("the shadow's tally %+v", got)
	}
}
