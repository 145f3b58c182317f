package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

const loop = `
dataset "d" { source = "d.csv" }
check "unit" { command = ["true"] }
training "m" {
  depends_on = [check.unit]
  command    = ["train"]
  inputs     = { train = dataset.d }
  params     = { epochs = 3 }
  retrain { on = [monitor.m.drift] }
}
validation "m" {
  model = training.m.model
  threshold "recall" { min = 0.5 }
}
deployment "m" {
  model   = validation.m.model
  command = ["serve"]
}
monitor "m" {
  deployment = deployment.m
  reference  = dataset.d
  drift {}
}
`

func loopBench(t *testing.T) *bench {
	b := newBench(t, loop)
	b.w.sources["d.csv"] = "one"
	return b
}

func TestTheFirstPlanMakesEverythingInOrder(t *testing.T) {
	b := loopBench(t)
	b.wantPlan("run check.unit new", "create dataset.d new", "run training.m new", "run validation.m new", "create deployment.m new", "create monitor.m new")
	out := b.apply()
	if len(out.Failed)+len(out.Blocked) > 0 || len(out.Done) != 6 {
		t.Fatalf("applied: %+v", out)
	}
	b.wantCalls("run check.unit", "create dataset.d", "run training.m", "run validation.m", "create deployment.m", "create monitor.m")
}

func TestPlanAfterApplyIsEmpty(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.wantPlan()
}

func TestNewDataRetrainsGatesAndServes(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.took()
	b.w.sources["d.csv"] = "two!"
	b.wantPlan("update dataset.d data_changed", "run training.m data_changed", "run validation.m upstream_changed",
		"update deployment.m upstream_changed", "update monitor.m data_changed")
	b.apply()
	b.wantCalls("update dataset.d", "run training.m", "run validation.m", "update deployment.m", "update monitor.m")
	if v := b.record("training.m").Version; v != 2 {
		t.Fatalf("training.m is at version %d, want 2", v)
	}
	b.wantPlan()
}

func TestABadVerdictKeepsWhatServes(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.took()
	b.w.sources["d.csv"] = "two!"
	b.w.bad["validation.m"] = "recall 0.4 < 0.5"
	out := b.apply()
	b.wantCalls("update dataset.d", "run training.m", "run validation.m")
	if len(out.Bad) != 1 {
		t.Fatalf("bad verdicts: %v", out.Bad)
	}
	if !strings.Contains(string(b.record("validation.m").Outputs), `"version":1`) {
		t.Fatalf("the gate must hold version 1: %s", b.record("validation.m").Outputs)
	}
	b.wantPlan()
	if out := b.apply(); len(out.Bad) != 1 || len(out.Done) != 0 {
		t.Fatalf("a failed verdict with unmoved inputs is not run again, and stays bad: %+v", out)
	}
}

func TestAGateThatNeverOpenedBlocksWithItsReason(t *testing.T) {
	b := loopBench(t)
	b.w.bad["validation.m"] = "recall 0.4 < 0.5"
	out := b.apply()
	if got := len(out.Blocked); got != 2 {
		t.Fatalf("deployment and monitor must be blocked: %+v", out)
	}
	b.wantPlan("blocked deployment.m gate_closed,new", "blocked monitor.m gate_closed,new")
}

func TestAFailedCheckKeepsTheTrainingFromRunning(t *testing.T) {
	b := loopBench(t)
	b.w.bad["check.unit"] = "2 tests failed"
	b.apply()
	b.wantCalls("run check.unit", "create dataset.d")
}

func TestASignalAsksForARunOnce(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.took()
	b.w.signals["monitor.m"] = 1
	b.wantPlan("run training.m signal", "run validation.m upstream_changed", "update deployment.m upstream_changed")
	b.apply()
	b.wantCalls("run training.m", "run validation.m", "update deployment.m")
	b.wantPlan()
}

// The reference of a run means something to the provider that ran it, and to no other.
func TestARunThatIsTakenOverStaysWithTheProviderThatRanIt(t *testing.T) {
	at := func(provider, epochs string) string {
		return "provider \"local\" { alias = \"b\" }\ntraining \"m\" {\n command = [\"train\"]\n provider = \"" + provider + "\"\n params = { epochs = " + epochs + " }\n}\n"
	}
	b := newBench(t, at("local", "1"))
	b.apply()
	b.write(at("local.b", "2"))
	b.apply()
	if rec := b.record("training.m"); rec.Provider != "local.b" {
		t.Fatalf("the second version ran on %s", rec.Provider)
	}
	b.write(at("local.b", "1"))
	b.wantPlan("update training.m params_changed,adopted")
	b.apply()
	if rec := b.record("training.m"); rec.Version != 1 || rec.Provider != "local" {
		t.Errorf("version %d is current, with a reference of %s", rec.Version, rec.Provider)
	}
	b.wantPlan()
}

func TestInputsThatRanBeforeAreTakenOver(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.write(strings.Replace(loop, "epochs = 3", "epochs = 4", 1))
	b.apply()
	b.w.took()
	b.write(loop)
	if got := b.plan()[0]; got != "update training.m params_changed,adopted" {
		t.Fatalf("plan: %s", got)
	}
	b.apply()
	for _, c := range b.w.took() {
		if strings.HasPrefix(c, "run") {
			t.Errorf("nothing runs again: %s", c)
		}
	}
	if v := b.record("training.m").Version; v != 1 {
		t.Fatalf("version 1 becomes current again, not %d", v)
	}
	b.wantPlan()
}

func TestAThresholdIsJudgedAgainWithoutRunning(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.took()
	b.write(strings.Replace(loop, "min = 0.5", "min = 0.6", 1))
	b.apply()
	b.wantCalls("judge validation.m")
	b.wantPlan()
}

func TestPolicyIsNotedAndNothingRuns(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.took()
	b.write(strings.Replace(loop, `["train"]`, "[\"train\"]\n  timeout = \"5m\"", 1))
	b.wantPlan("update training.m config_changed")
	b.apply()
	b.wantCalls()
	b.wantPlan()
}

func TestAnErroredRunWaitsForARequestOrItsRetries(t *testing.T) {
	b := loopBench(t)
	b.w.fail["training.m"] = errBoom
	out := b.apply()
	if len(out.Failed) != 1 || len(out.Blocked) != 3 {
		t.Fatalf("applied: %+v", out)
	}
	b.wantPlan("noop training.m failed_before", "blocked validation.m gate_closed,new", "blocked deployment.m gate_closed,new", "blocked monitor.m gate_closed,new")
	b.write(strings.Replace(loop, `["train"]`, "[\"train\"]\n  retries = 1", 1))
	if got := b.plan()[0]; got != "run training.m failed_before" {
		t.Fatalf("with retries: %s", got)
	}
	b.apply(planner.Options{Replace: []resource.Address{{Kind: "training", Name: "m"}}})
	b.wantPlan()
}

func TestRemovedBlocksGoInReverseOrder(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.took()
	b.write(`check "unit" { command = ["true"] }`)
	b.wantPlan("delete monitor.m removed", "delete deployment.m removed", "delete validation.m removed", "delete training.m removed", "delete dataset.d removed")
	b.apply()
	if b.record("deployment.m") != nil {
		t.Fatal("deployment.m is still recorded")
	}
	b.wantPlan()
}

func TestCooldownHoldsBackDataButNotCode(t *testing.T) {
	b := loopBench(t)
	b.write(strings.Replace(loop, "retrain { on = [monitor.m.drift] }", "retrain {\n    on = [monitor.m.drift]\n    cooldown = \"2h\"\n  }", 1))
	b.apply()
	b.w.sources["d.csv"] = "two!"
	if got := b.plan()[1]; got != "noop training.m deferred,data_changed" {
		t.Fatalf("plan: %v", b.plan())
	}
	b.w.sources["code of training.m"] = "new code"
	if got := b.plan()[1]; !strings.HasPrefix(got, "run training.m") {
		t.Fatalf("new code runs at once: %v", b.plan())
	}
	b.w.sources["code of training.m"] = ""
	b.now = b.now.Add(3 * time.Hour)
	if got := b.plan()[1]; got != "run training.m data_changed" {
		t.Fatalf("after the cooldown: %v", b.plan())
	}
}

func TestRollbackPinsUntilUnpinned(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.sources["d.csv"] = "two!"
	b.apply()
	addr := resource.Address{Kind: "deployment", Name: "m"}
	s, err := b.engine().Begin(context.Background(), "rollback")
	if err != nil {
		t.Fatal(err)
	}
	if _, v, err := s.Rollback(context.Background(), addr, RollbackOptions{Who: "ada"}); err != nil || v.Number != 1 {
		t.Fatalf("rollback: version %v, %v", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b.record("deployment.m").Outputs), `"version":1`) {
		t.Fatalf("version 1 must serve: %s", b.record("deployment.m").Outputs)
	}
	one := string(resource.DigestOf([]byte("one")))
	if got := b.record("monitor.m"); !strings.Contains(string(got.Spec), `"/data/`+one) || !strings.Contains(got.Parts["reference"], one) {
		t.Fatalf("its monitor must compare with what version 1 was trained on: %s", got.Spec)
	}
	if got := b.plan(); len(got) != 1 || got[0] != "noop deployment.m pinned" {
		t.Fatalf("plan: %v", got)
	}
	b.apply()
	if got := b.plan(); len(got) != 1 || got[0] != "noop deployment.m pinned" {
		t.Fatalf("plan: %v", got)
	}
	s, err = b.engine().Begin(context.Background(), "unpin")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unpin(context.Background(), addr); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.plan()[0]; got != "update deployment.m upstream_changed" {
		t.Fatalf("after unpin it moves to version 2: %v", b.plan())
	}
	b.apply()
	if got := b.record("monitor.m"); strings.Contains(string(got.Spec), one) {
		t.Fatalf("its monitor must follow: %s", got.Spec)
	}
	b.wantPlan()
}

func TestAFailedPostconditionClosesTheGate(t *testing.T) {
	b := newBench(t, `
dataset "d" {
  source = "d.csv"
  postcondition {
    condition     = self.rows > 5
    error_message = "only ${self.rows} rows"
  }
}
check "c" {
  command = ["true"]
  inputs  = { d = dataset.d }
}
`)
	b.w.sources["d.csv"] = "abc"
	out := b.apply()
	d := resource.Address{Kind: "dataset", Name: "d"}
	if out.Bad[d] == nil || !strings.Contains(out.Bad[d].Message, "only 3 rows") || len(out.Blocked) != 1 {
		t.Fatalf("applied: %+v", out)
	}
	b.w.sources["d.csv"] = "abcdefgh"
	if out := b.apply(); len(out.Bad) != 0 || len(out.Done) != 2 {
		t.Fatalf("applied: %+v", out)
	}
}

func TestAPlanWarnsAboutAVirtualEnvironmentThatIsNotPassed(t *testing.T) {
	b := newBench(t, `
check "blind" { command = ["pytest"] }
check "sees" {
  command  = ["pytest"]
  pass_env = ["VIRTUAL_*"]
}
`)
	e := b.engine()
	e.VirtualEnv = "/home/ada/.venv"
	p, err := e.Plan(context.Background(), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d := p.Plan.Diagnostics
	if len(d) != 1 || d[0].Severity != "warning" || !strings.Contains(d[0].Detail, "check.blind runs outside /home/ada/.venv") || strings.Contains(d[0].Detail, "check.sees") {
		t.Fatalf("diagnostics: %+v", d)
	}
}

func TestAVersionWithTheBytesOfAJudgedOneHasItsVerdict(t *testing.T) {
	b := loopBench(t)
	b.w.sameModel = true
	b.apply()
	b.w.took()
	b.w.sources["code of training.m"] = "other code, same bytes"
	b.apply()
	b.wantCalls("run training.m")
	s, err := b.engine().Begin(context.Background(), "look")
	if err != nil {
		t.Fatal(err)
	}
	v := s.now.version(state.VersionRef{Address: resource.Address{Kind: "training", Name: "m"}, Number: 2})
	if v == nil || !v.Passed() {
		t.Errorf("version 2 is version 1, which passed: %+v", v)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A run that could not even begin, because its place could not be reached, has used no attempt: the next apply tries it again.
func TestARunThatNeverBeganIsNoAttempt(t *testing.T) {
	b := newBench(t, "training \"m\" {\n command = [\"train\"]\n}\n")
	for range 2 {
		b.w.fail["training.m"] = &providers.NotStartedError{Err: errors.New("the registry cannot be reached")}
		b.apply()
		b.wantPlan("run training.m new")
	}
	b.w.fail["training.m"] = &providers.RunError{Err: errors.New("exit code 1")}
	b.apply()
	b.wantPlan("noop training.m failed_before")
}

// A run that goes on where nobody can look stays open: nothing is recorded of it, and the next apply takes it over.
func TestARunThatCannotBeFollowedStaysOpen(t *testing.T) {
	b := newBench(t, "training \"m\" {\n command = [\"train\"]\n}\n")
	b.w.fail["training.m"] = &providers.OpenError{Err: errors.New("the API server does not answer")}
	if out := b.apply(); len(out.Failed) != 1 {
		t.Errorf("failed: %v", out.Failed)
	}
	snap, err := b.store.Snapshot(t.Context())
	if err != nil || len(snap.Intents) != 1 {
		t.Fatalf("%d open intents, %v", len(snap.Intents), err)
	}
	b.apply()
	if rec := b.record("training.m"); rec == nil || rec.Version != 1 {
		t.Errorf("record %+v", rec)
	}
	b.wantPlan()
}
