package engine

import (
	"slices"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

func TestSourcesAreReadOnlyWhereSomethingIsComparedWithThem(t *testing.T) {
	b := loopBench(t)
	b.apply()
	for name, c := range map[string]struct {
		do    func() error
		reads bool
	}{
		"a plan":                   {func() error { _, err := b.engine().Plan(t.Context(), PlanOptions{}); return err }, true},
		"a plan without a refresh": {func() error { _, err := b.engine().Plan(t.Context(), PlanOptions{NoRefresh: true}); return err }, false},
		"a plan to destroy": {func() error {
			_, err := b.engine().Plan(t.Context(), PlanOptions{Options: planner.Options{Destroy: true}})
			return err
		}, false},
		"a look at what changed outside": {func() error {
			_, err := b.engine().Plan(t.Context(), PlanOptions{Options: planner.Options{RefreshOnly: true}})
			return err
		}, false},
		"a status": {func() error {
			snap, err := b.store.Snapshot(t.Context())
			if err == nil {
				_, err = b.engine().Status(t.Context(), snap)
			}
			return err
		}, false},
	} {
		b.w.probed = 0
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if (b.w.probed > 0) != c.reads {
			t.Errorf("%s reads sources %d times", name, b.w.probed)
		}
	}
	saved := b.savedPlan(planner.Options{Destroy: true})
	b.w.probed = 0
	if _, err := b.resume(saved, b.engine()); err != nil {
		t.Fatal(err)
	}
	if b.w.probed > 0 {
		t.Errorf("to destroy by a saved plan reads sources %d times", b.w.probed)
	}
}

// A plan of a stranger's files looks at what lies in the project folder, and at nothing else.
func TestAPurePlanAsksNobody(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.sources["d.csv"] += " moved"
	for _, elsewhere := range []bool{false, true} {
		b.w.elsewhere = elsewhere
		b.w.reads, b.w.probed, b.w.files, b.w.asked = 0, 0, 0, nil
		planned, err := b.engine().Plan(t.Context(), PlanOptions{Pure: true})
		if err != nil {
			t.Fatal(err)
		}
		if b.w.reads > 0 || len(b.w.asked) > 0 || b.w.probed == 0 || b.w.files != b.w.probed {
			t.Errorf("%d live objects, %d preflights, %d sources and %d of them in the folder only", b.w.reads, len(b.w.asked), b.w.probed, b.w.files)
		}
		if acts := planned.Plan.Summary.Acts(); acts == elsewhere {
			t.Errorf("data elsewhere: %v, and the plan does something: %v", elsewhere, acts)
		}
	}
	// What lies at another address is not what was recorded of the one before.
	b.write(strings.Replace(loop, "\"d.csv\"", "\"e.csv\"", 1))
	planned, err := b.engine().Plan(t.Context(), PlanOptions{Pure: true})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(planned.Plan.Steps, func(st *planner.Step) bool { return st.Address.String() == "training.m" && st.Action == resource.RunIt }) {
		t.Error("another source, and nothing is trained on it")
	}
}
