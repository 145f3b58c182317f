package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func TestAnInterruptedRunIsCollectedNotRepeated(t *testing.T) {
	b := loopBench(t)
	b.w.holds["training.m"] = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	e := b.engine()
	b.w.onApply = func(addr string) {
		if addr == "training.m" {
			cancel()
		}
	}
	out, err := applyWith(ctx, e, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := resource.Address{Kind: "training", Name: "m"}
	if !slices.Contains(out.Running, m) || len(out.NotStarted) == 0 || !out.Interrupted() {
		t.Fatalf("the run goes on and nothing new starts: %+v", out)
	}
	b.w.took()
	b.w.onApply = nil
	close(b.w.holds["training.m"])
	b.apply()
	for _, c := range b.w.took() {
		if c == "run training.m" {
			t.Fatal("the training was started a second time")
		}
	}
	if b.record("training.m").Version != 1 {
		t.Fatalf("the interrupted run's version must be recorded: %+v", b.record("training.m"))
	}
	b.wantPlan()
}

func TestAStepThatWasInterruptedBeforeItsIntentDidNotStart(t *testing.T) {
	b := loopBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	e := b.engine()
	e.Emit = func(ev resource.Event) {
		if ev.Type == resource.EventStepStart && ev.Address == "training.m" {
			cancel()
		}
	}
	out, err := applyWith(ctx, e, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Running) != 0 || !slices.Contains(out.NotStarted, resource.Address{Kind: "training", Name: "m"}) {
		t.Fatalf("nothing runs: %+v", out)
	}
	b.wantCalls("create dataset.d", "run check.unit")
}

func TestAVersionThatWasTakenBackIsQuarantinedUntilANewerOne(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.refuse["deployment.m"] = true
	b.w.sources["d.csv"] = "two!"
	out := b.apply()
	d := resource.Address{Kind: "deployment", Name: "m"}
	if out.Bad[d] == nil {
		t.Fatalf("the verdict is bad: %+v", out)
	}
	b.w.refuse["deployment.m"] = false
	b.w.took()
	// The monitor watches on, with the reference of the version that serves.
	b.wantPlan("noop deployment.m quarantined")
	if got := b.record("monitor.m").Parts["reference"]; got != `"`+string(resource.DigestOf([]byte("one")))+`"` {
		t.Fatalf("the reference is %s", got)
	}
	// What is new, or changed by somebody, waits.
	files := loop
	b.write(strings.Replace(files, "drift {}", "drift { confirm = 3 }", 1) + "\nmonitor \"n\" {\n deployment = deployment.m\n latency { p99 = \"1s\" }\n}\n")
	b.wantPlan("noop deployment.m quarantined", "blocked monitor.m gate_closed,config_changed", "blocked monitor.n gate_closed,new")
	b.write(files)
	if out := b.apply(); out.Bad[d] == nil {
		t.Fatalf("it stays bad while the newest version is quarantined: %+v", out)
	}
	b.wantCalls()
	if !strings.Contains(string(b.record("deployment.m").Spec), `"version":1`) {
		t.Fatalf("the record says what serves: %s", b.record("deployment.m").Spec)
	}
	b.w.sources["d.csv"] = "three"
	if out := b.apply(); len(out.Bad) != 0 {
		t.Fatalf("a newer version takes its place: %+v", out)
	}
	b.wantPlan()
}

func TestAMonitorWatchesOnWhileItsDeploymentIsQuarantined(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.refuse["deployment.m"] = true
	b.w.sources["d.csv"] = "two!"
	b.apply()
	b.w.signals["monitor.m"] = 1
	s, err := b.engine().Begin(context.Background(), "monitor")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Observe(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if snap, err := b.store.Snapshot(context.Background()); err != nil || snap.Signals[resource.Address{Kind: "monitor", Name: "m"}][0].Epoch != 1 {
		t.Fatalf("its windows are recorded: %v, %v", snap.Signals, err)
	}
}

func TestAnIntentWithoutATraceIsClosedAndPlannedAnew(t *testing.T) {
	b := loopBench(t)
	e := b.engine()
	s, err := e.Begin(context.Background(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	in := &state.Intent{OpID: "01LOST", Address: resource.Address{Kind: "check", Name: "unit"}, Provider: "local", Action: resource.RunIt, Spec: []byte(`{"command":["true"]}`), Epoch: s.epoch, Started: b.now}
	if err := s.commit(context.Background(), state.Op{PutIntent: in}); err != nil {
		t.Fatal(err)
	}
	settled, err := s.Settle(context.Background())
	if err != nil || len(settled) != 1 || len(s.now.intents()) != 0 {
		t.Fatalf("settled %v, %v; still open: %v", settled, err, s.now.intents())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.wantCalls()
	if got := b.plan()[0]; got != "run check.unit new" {
		t.Fatalf("plan: %s", got)
	}
}

func TestAnInterruptedDeleteIsFinished(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.took()
	s, err := b.engine().Begin(context.Background(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	in := &state.Intent{OpID: "01DEL", Address: resource.Address{Kind: "monitor", Name: "m"}, Provider: "local", Action: resource.Delete, Epoch: s.epoch, Started: b.now}
	if err := s.commit(context.Background(), state.Op{PutIntent: in}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.wantCalls("delete monitor.m")
	if b.record("monitor.m") != nil {
		t.Fatal("the record must be gone with the object")
	}
}

func TestOneSessionAtATime(t *testing.T) {
	b := loopBench(t)
	s, err := b.engine().Begin(context.Background(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.engine().Begin(ctx, "apply"); !errors.Is(err, state.ErrLocked) {
		t.Fatalf("a second session: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := b.engine().Begin(context.Background(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRetryableErrorsAreTriedAgainWithinBounds(t *testing.T) {
	policy := RetryPolicy{Attempts: 3, Base: time.Millisecond, Max: 2 * time.Millisecond}
	tries, told := 0, 0
	err := retry(context.Background(), policy, func(error, time.Duration) { told++ }, func() error {
		tries++
		if tries < 3 {
			return &providers.RetryableError{Err: errBoom}
		}
		return nil
	})
	if err != nil || tries != 3 || told != 2 {
		t.Fatalf("%d tries, told %d times, %v", tries, told, err)
	}
	tries = 0
	err = retry(context.Background(), policy, func(error, time.Duration) {}, func() error { tries++; return &providers.RetryableError{Err: errBoom} })
	if !errors.Is(err, errBoom) || tries != 3 {
		t.Fatalf("%d tries, %v", tries, err)
	}
	tries = 0
	if err := retry(context.Background(), policy, func(error, time.Duration) {}, func() error { tries++; return errBoom }); !errors.Is(err, errBoom) || tries != 1 {
		t.Fatalf("an error that is not retryable: %d tries, %v", tries, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = retry(ctx, RetryPolicy{Base: time.Hour}, func(error, time.Duration) {}, func() error { return &providers.RetryableError{Err: errBoom} })
	if !errors.Is(err, context.Canceled) || !errors.Is(err, errBoom) {
		t.Fatalf("a cancelled wait: %v", err)
	}
}

func TestARetriedApplyHappensOnce(t *testing.T) {
	b := loopBench(t)
	b.w.fail["training.m"] = &providers.RetryableError{Err: errBoom}
	if out := b.apply(); len(out.Failed) != 0 {
		t.Fatalf("applied: %+v", out)
	}
	runs := 0
	for _, c := range b.w.took() {
		if c == "run training.m" {
			runs++
		}
	}
	if runs != 1 {
		t.Fatalf("the training was started %d times", runs)
	}
}

func TestRollbackRefusesAVersionThatNeverPassed(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.sources["d.csv"] = "two!"
	b.w.bad["validation.m"] = "recall 0.4 < 0.5"
	b.apply()
	s, err := b.engine().Begin(context.Background(), "rollback")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Rollback(context.Background(), resource.Address{Kind: "deployment", Name: "m"}, RollbackOptions{To: 2})
	if err == nil || !strings.Contains(err.Error(), "never passed") {
		t.Fatalf("rollback to a failed version: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.plan(); len(got) != 0 {
		t.Fatalf("nothing may have changed: %v", got)
	}
}

func TestAPlanThatNoLongerMatchesStopsItsStep(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.sources["d.csv"] = "two!"
	e := b.engine()
	s, err := e.Begin(context.Background(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(context.Background(), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range p.Plan.Steps {
		if st.Address.Kind == "training" {
			st.Exec.Parts["params.epochs"] = "99" // as if something else had been approved
		}
	}
	out, err := s.Apply(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	m := resource.Address{Kind: "training", Name: "m"}
	if !errors.Is(out.Errors[m], planner.ErrMismatch) {
		t.Fatalf("errors: %v", out.Errors)
	}
	for _, c := range b.w.took() {
		if strings.HasPrefix(c, "run") && strings.HasSuffix(c, "training.m") && b.record("training.m").Version != 1 {
			t.Fatal("the step ran all the same")
		}
	}
}

func TestPruneKeepsWhatIsServedAndTheChampion(t *testing.T) {
	b := newBench(t, strings.Replace(loop, `["train"]`, "[\"train\"]\n  keep = 1", 1))
	b.w.sources["d.csv"] = "0"
	b.apply()
	for _, data := range []string{"one", "two", "three"} {
		b.w.sources["d.csv"] = data
		b.apply()
	}
	s, err := b.engine().Begin(context.Background(), "prune")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Prune(context.Background(), false)
	if err != nil || len(out.Versions) != 3 {
		t.Fatalf("pruned %v, %v", out, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.w.sources["d.csv"] = "four"
	b.apply()
	if v := b.record("training.m").Version; v != 5 {
		t.Fatalf("numbers are never reused: the next version is %d, want 5", v)
	}
}

// A result that cannot be recorded must not stop every apply to come.
func TestAResultThatCannotBeRecordedIsAFailureAndClosesItsIntent(t *testing.T) {
	check := resource.Address{Kind: "check", Name: "unit"}
	b := loopBench(t)
	b.w.unrecordable["check.unit"] = true
	out := b.apply()
	if err := out.Errors[check]; err == nil || !strings.Contains(err.Error(), "findings of check.unit") {
		t.Fatalf("the step fails and says why: %v", err)
	}
	s, err := b.engine().Begin(context.Background(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	if open := s.now.intents(); len(open) != 0 {
		t.Fatalf("still open: %v", open)
	}
	// The same when an earlier apply died before it could record it.
	b.w.ops["01ODD"] = true
	in := &state.Intent{OpID: "01ODD", Address: check, Provider: "local", Action: resource.RunIt, Spec: []byte(`{"command":["true"]}`), Epoch: s.epoch, Started: b.now}
	if err := s.commit(context.Background(), state.Op{PutIntent: in}); err != nil {
		t.Fatal(err)
	}
	if settled, err := s.Settle(context.Background()); err != nil || len(settled) != 1 {
		t.Fatalf("settled %v, %v", settled, err)
	}
	if rec := s.now.record(check); !strings.Contains(rec.Message, "findings of check.unit") {
		t.Fatalf("the record says why: %+v", rec)
	}
	planned, err := s.Plan(context.Background(), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Apply(context.Background(), planned); err != nil || out.Errors[check] == nil {
		t.Fatalf("the apply that settled it counts it as failed: %+v, %v", out, err)
	}
	if open := s.now.intents(); len(open) != 0 {
		t.Fatalf("still open after settling: %v", open)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.w.unrecordable["check.unit"] = false
	b.apply(planner.Options{Replace: []resource.Address{check}})
	b.wantPlan()
}

func TestAMeasureThatIsNoNumberIsAFailureAndClosesItsIntent(t *testing.T) {
	m := resource.Address{Kind: "training", Name: "m"}
	b := loopBench(t)
	b.w.nan["training.m"] = true
	out := b.apply()
	if err := out.Errors[m]; err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Fatalf("the step fails and says why: %v", err)
	}
	if rec := b.record("training.m"); rec == nil || rec.Phase != resource.PhaseFailed || rec.Version != 0 {
		t.Fatalf("recorded: %+v", rec)
	}
	b.w.nan["training.m"] = false
	b.w.took()
	b.apply(planner.Options{Replace: []resource.Address{m}})
	if v := b.record("training.m").Version; v != 1 {
		t.Fatalf("no number is used up by what was never stored: version %d", v)
	}
	b.wantPlan()
}

// What this build or these files cannot finish must not stop every command for ever.
func TestWhatCannotBeSettledCanBeGivenUp(t *testing.T) {
	check := resource.Address{Kind: "check", Name: "unit"}
	for name, in := range map[string]*state.Intent{
		"its provider is configured no more": {Address: check, Provider: "local.gone", Action: resource.RunIt, Spec: []byte(`{"command":["true"]}`)},
		"its kind is unknown":                {Address: resource.Address{Kind: "oddity", Name: "x"}, Provider: "local", Action: resource.RunIt, Spec: []byte(`{}`)},
		"its spec has another shape":         {Address: check, Provider: "local", Action: resource.RunIt, Spec: []byte(`{"command":{"a":{}}}`)},
		"a deletion":                         {Address: check, Provider: "local.gone", Action: resource.Delete},
	} {
		t.Run(name, func(t *testing.T) {
			b := loopBench(t)
			b.apply()
			s, err := b.engine().Begin(context.Background(), "apply")
			if err != nil {
				t.Fatal(err)
			}
			in.OpID, in.Epoch, in.Started = "01ODD", s.epoch, b.now
			if err := s.commit(context.Background(), state.Op{PutIntent: in}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Settle(context.Background()); err == nil || !strings.Contains(err.Error(), "ml state rm "+in.Address.String()) {
				t.Fatalf("settling says what can be done: %v", err)
			}
			if err := s.ForgetRecord(context.Background(), in.Address); err != nil {
				t.Fatal(err)
			}
			if open := s.now.intents(); len(open) != 0 || s.now.record(in.Address) != nil {
				t.Fatalf("open: %v, recorded: %v", open, s.now.record(in.Address))
			}
			runs, err := b.store.Runs(context.Background(), in.Address)
			if err != nil {
				t.Fatal(err)
			}
			kept := slices.ContainsFunc(runs, func(r *state.Run) bool {
				return r.ID == "01ODD" && r.Phase == resource.PhaseFailed && strings.HasPrefix(r.Message, "given up: ")
			})
			if kept != (in.Action == resource.RunIt) {
				t.Fatalf("the history must name the run, if there was one: %+v", runs)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			b.apply()
			b.wantPlan()
		})
	}
}

func TestForgettingFinishesWhatCanBeFinished(t *testing.T) {
	m := resource.Address{Kind: "training", Name: "m"}
	b := loopBench(t)
	b.w.holds["training.m"] = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	b.w.onApply = func(addr string) {
		if addr == "training.m" {
			cancel()
		}
	}
	if _, err := applyWith(ctx, b.engine(), PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	b.w.onApply = nil
	close(b.w.holds["training.m"])
	s, err := b.engine().Begin(context.Background(), "state rm")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ForgetRecord(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	if len(s.now.intents()) != 0 || s.now.record(m) != nil || s.now.version(state.VersionRef{Address: m, Number: 1}) == nil {
		t.Fatalf("the version that was being made is kept: open %v, versions %v", s.now.intents(), s.now.snapshot().Versions)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
