package planner_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
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

func TestAPartThatIsMadeAnewIsAReplacementOfThatPart(t *testing.T) {
	w := newWorld(t, nested("pods", "", "pods { scale = 1 }"))
	w.apply()
	part := func(hcl string) *planner.Plan {
		w.files(hcl)
		in := w.input(planner.Options{})
		in.Live.Immutable = map[resource.Address][]planner.Immutable{{Kind: "deployment", Name: "m"}: {{Path: "Job/j:spec.template", Message: "Job/j is made anew"}}}
		return w.plan(in)
	}
	if got := lines(part(nested("pods", "", "pods { scale = 1 }"))); len(got) > 0 {
		t.Errorf("nothing changes, and it plans %q", got)
	}
	p := part(nested("pods", "", "pods { scale = 2 }"))
	if diff := cmp.Diff([]string{"replace deployment.m config_changed,immutable"}, lines(p)); diff != "" {
		t.Error(diff)
	}
	if st := stepOf(t, p, "deployment.m"); st.Exec.DeleteFirst {
		t.Error("all of it is deleted first")
	}
	p = part(nested("pods", "", "pods { class = \"b\" }"))
	if st := stepOf(t, p, "deployment.m"); !st.Exec.DeleteFirst {
		t.Error("it has to be made anew as a whole, and is not deleted")
	}
	if got := lines(part(nested("pods", "", "pods { scale = 2 }\nlifecycle { prevent_destroy = true }"))); len(got) != 1 || got[0] != "error: deployment.m: This block must not be destroyed" {
		t.Errorf("%q", got)
	}
}
