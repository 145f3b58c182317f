package engine

import (
	"errors"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// diagnosed plans and returns the diagnostics as "severity summary: detail".
func (b *bench) diagnosed(o PlanOptions) []string {
	b.t.Helper()
	p, err := b.engine().Plan(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, d := range p.Plan.Diagnostics {
		if d.Line == 0 || d.Address == "" {
			b.t.Errorf("a diagnostic without its place: %+v", d)
		}
		out = append(out, d.Severity+" "+d.Summary+": "+d.Detail)
	}
	return out
}

func TestWhatStandsInTheWayIsSaidInThePlan(t *testing.T) {
	b := loopBench(t)
	b.w.findings = map[string][]providers.Finding{"deployment.m": {{Summary: "a field is ignored", Detail: "kserve.timeout: remove it"}}}
	b.w.blind = map[string]error{"monitor.m": errors.New("connect: refused")}
	got := b.diagnosed(PlanOptions{})
	if len(got) != 2 || got[0] != "error a field is ignored: kserve.timeout: remove it" || !strings.HasPrefix(got[1], "warning What stands in the way is not known: monitor.m: connect: refused.") {
		t.Fatalf("diagnostics: %q", got)
	}
	if _, err := applyWith(t.Context(), b.engine(), PlanOptions{}); err == nil || !strings.Contains(err.Error(), "a field is ignored") {
		t.Errorf("it was applied all the same: %v", err)
	}
	b.wantCalls()
	if got := b.diagnosed(PlanOptions{NoRefresh: true}); len(got) > 0 {
		t.Errorf("a plan that does not look at the world says %q", got)
	}
}

func TestOnlyObjectsThatChangeAreAskedFor(t *testing.T) {
	b := loopBench(t)
	b.plan()
	asked := map[string]providers.PreflightRequest{}
	for _, r := range b.w.asked {
		asked[r.Address.String()] = r
	}
	d := asked["deployment.m"]
	if len(asked) != 3 || d.Action != resource.Create || d.Prior != nil || d.State == nil {
		t.Fatalf("asked for: %+v", asked)
	}
	if model := d.Spec.GetAttr("model"); model.IsKnown() || !resource.Known(d.Spec).GetAttr("model").IsNull() {
		t.Errorf("the model is not trained yet: %#v", model)
	}
	b.apply()
	b.w.asked = nil
	b.plan()
	if len(b.w.asked) > 0 {
		t.Errorf("nothing changes, and it was asked for %+v", b.w.asked)
	}
	b.w.sources["d.csv"] = "two!"
	b.plan()
	for _, r := range b.w.asked {
		if r.Prior == nil {
			t.Errorf("%s is there, and its record was not given", r.Address)
		}
	}
	b.plan(planner.Options{Destroy: true})
}

func TestAPartThatCannotBeChangedInPlaceIsInThePlanAndTheDriverIsTold(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.took()
	b.w.asked = nil
	b.w.sources["d.csv"] = "two!"
	b.w.findings = map[string][]providers.Finding{"monitor.m": {{Immutable: "Job/j:spec.template", Summary: "Job/j is made anew"}}}
	b.wantPlan("update dataset.d data_changed", "run training.m data_changed", "run validation.m upstream_changed",
		"update deployment.m upstream_changed", "replace monitor.m data_changed,immutable")
	for _, r := range b.w.asked {
		if r.Of != 1 || r.Look == nil || len(r.Needs) == 0 && r.Address.Kind != "dataset" {
			t.Errorf("%s was asked without what there is to know: %+v", r.Address, r)
		}
	}
	b.apply()
	b.wantCalls("update dataset.d", "run training.m", "run validation.m", "update deployment.m", "replace monitor.m") // and nothing is deleted before
	var told []string
	for _, r := range b.w.reasons["monitor.m"] {
		told = append(told, string(r.Code)+" "+r.Path)
	}
	if got := strings.Join(told, ", "); !strings.Contains(got, "immutable Job/j:spec.template") {
		t.Errorf("the driver was told %q", got)
	}
}
