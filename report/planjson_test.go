package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

func TestThePlanDocumentHasTheDocumentedForm(t *testing.T) {
	p := dataChanged()
	p.Steps[0].Exec.Parts = map[string]string{"code": "internal"}
	got := render(t, func(b *bytes.Buffer) error { return PlanJSON(b, p) })
	if n := bytes.Count(got, []byte("\n")); n != 1 {
		t.Errorf("the document has %d lines, want one", n)
	}
	if bytes.Contains(got, []byte("exec")) || bytes.Contains(got, []byte("internal")) {
		t.Error("what only apply needs came out")
	}
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan_data_changed.json", b.Bytes())
}

func TestArraysOfThePlanDocumentAreNeverNull(t *testing.T) {
	p := newPlan(&planner.Step{Address: addr("check.unit"), Kind: "check", Action: resource.RunIt})
	p.Drift = []planner.DriftEntry{{Address: addr("check.unit")}}
	var doc map[string]any
	if err := json.Unmarshal(render(t, func(b *bytes.Buffer) error { return PlanJSON(b, p) }), &doc); err != nil {
		t.Fatal(err)
	}
	lists := map[string]any{"steps": doc["steps"], "drift": doc["drift"], "diagnostics": doc["diagnostics"]}
	st := doc["steps"].([]any)[0].(map[string]any)
	for _, k := range []string{"reasons", "after_unknown", "changes", "needs", "gated_by"} {
		lists["steps."+k] = st[k]
	}
	lists["drift.changes"] = doc["drift"].([]any)[0].(map[string]any)["changes"]
	for k, v := range lists {
		if _, ok := v.([]any); !ok {
			t.Errorf("%s is %v, want an array", k, v)
		}
	}
	for _, k := range []string{"before", "after"} {
		if v, there := st[k]; !there || v != nil {
			t.Errorf("%s is %v, want null", k, v)
		}
	}
}

func TestANoOpWithoutReasonIsLeftOut(t *testing.T) {
	p := newPlan(step("check.unit", resource.Noop), step("check.other", resource.Noop, because(resource.ReasonDeferred, "later")))
	got := string(render(t, func(b *bytes.Buffer) error { return PlanJSON(b, p) }))
	if strings.Contains(got, "check.unit") || !strings.Contains(got, "check.other") {
		t.Errorf("got %s", got)
	}
}

func TestNoSecretComesOut(t *testing.T) {
	for name, f := range map[string]func(b *bytes.Buffer) error{
		"text":    func(b *bytes.Buffer) error { return PlanText(b, secrets(), Style{Verbose: true}) },
		"json":    func(b *bytes.Buffer) error { return PlanJSON(b, secrets()) },
		"explain": func(b *bytes.Buffer) error { return Explain(b, secrets(), addr("notifier.team"), History{}, Style{}) },
	} {
		if got := render(t, f); bytes.Contains(got, []byte("hunter")) {
			t.Errorf("%s shows a sensitive value:\n%s", name, got)
		}
	}
}
