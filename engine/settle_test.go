package engine

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

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
