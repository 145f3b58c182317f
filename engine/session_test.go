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
	if _, err := s.Monitor(context.Background(), resource.Address{Kind: "monitor", Name: "m"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if snap, err := b.store.Snapshot(context.Background()); err != nil || snap.Signals[resource.Address{Kind: "monitor", Name: "m"}][0].Epoch != 1 {
		t.Fatalf("its windows are recorded: %v, %v", snap.Signals, err)
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

// slowStore takes the lease only when the wait for it is over, as on a slow disk.
type slowStore struct{ state.Store }

func (s slowStore) Acquire(ctx context.Context, doing string) (int64, func() error, error) {
	<-ctx.Done()
	return s.Store.Acquire(context.WithoutCancel(ctx), doing)
}

func TestTheWaitForTheLeaseBoundsNothingElse(t *testing.T) {
	b := loopBench(t)
	b.store = slowStore{b.store}
	s, err := b.engine().Begin(context.Background(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
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

func TestRollbackWithoutAnyGateTakesAnEarlierVersion(t *testing.T) {
	b := newBench(t, `
dataset "d" { source = "d.csv" }
training "m" {
  command = ["train"]
  inputs  = { train = dataset.d }
}
deployment "m" {
  model   = training.m.model
  command = ["serve"]
}
`)
	for _, data := range []string{"one", "two!", "three"} {
		b.w.sources["d.csv"] = data
		b.apply()
	}
	for to, want := range map[int]int{0: 2, 1: 1} {
		s, err := b.engine().Begin(context.Background(), "rollback")
		if err != nil {
			t.Fatal(err)
		}
		addr := resource.Address{Kind: "deployment", Name: "m"}
		if _, v, err := s.Rollback(context.Background(), addr, RollbackOptions{To: to}); err != nil || v.Number != want {
			t.Errorf("to %d: version %v, %v", to, v, err)
		}
		if err := s.Unpin(context.Background(), addr); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		b.apply()
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
