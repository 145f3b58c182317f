package engine

import (
	"testing"

	"github.com/continuo-ml/continuo/planner"
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
