package planner_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/planner"
)

func TestReplaceMeansAllInstancesAndIsNeverLeftOutInSilence(t *testing.T) {
	w := newWorld(t, "check \"c\" {\n for_each = toset([\"a\", \"b\"])\n command = [\"true\", each.key]\n}\ncheck \"d\" { command = [\"true\"] }\n")
	w.apply()
	for name, c := range map[string]struct {
		with planner.Options
		want []string
	}{
		"all instances":       {planner.Options{Replace: as("check.c")}, []string{`run check.c["a"] requested`, `run check.c["b"] requested`}},
		"one instance":        {planner.Options{Replace: as(`check.c["b"]`)}, []string{`run check.c["b"] requested`}},
		"beside the target":   {planner.Options{Replace: as("check.d"), Targets: as("check.c")}, []string{"error: check.d: Replaced, but left out"}},
		"one of the targeted": {planner.Options{Replace: as(`check.c["a"]`), Targets: as("check.c")}, []string{`run check.c["a"] requested`}},
	} {
		if diff := cmp.Diff(c.want, lines(w.build(c.with))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
