package report

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

func TestPlansLookAsTheyShould(t *testing.T) {
	uni := Style{Unicode: true, Width: 100}
	for _, tt := range []struct {
		name string
		plan *planner.Plan
		s    Style
	}{
		{"quickstart", quickstart(), uni},
		{"quickstart_verbose", quickstart(), Style{Unicode: true, Width: 100, Verbose: true}},
		{"data_changed", dataChanged(), uni},
		{"data_changed_color", dataChanged(), Style{Unicode: true, Width: 100, Color: true}},
		{"data_changed_ascii", dataChanged(), Style{Width: 80}},
		{"data_changed_narrow", dataChanged(), Style{Unicode: true, Width: 50}},
		{"gate_closed", gateClosed(), uni},
		{"replace", replaceImmutable(), uni},
		{"anew_in_part", anewInPart(), uni},
		{"ten_thousand", tenThousand(), uni},
		{"secrets", secrets(), uni},
		{"hostile", hostile(), uni},
		{"hostile_ascii", hostile(), Style{Width: 100}},
		{"everything", everything(), uni},
		{"everything_ascii", everything(), Style{Width: 100}},
		{"none", newPlan(), uni},
	} {
		t.Run(tt.name, func(t *testing.T) {
			golden(t, "plan_"+tt.name+".txt", render(t, func(b *bytes.Buffer) error { return PlanText(b, tt.plan, tt.s) }))
		})
	}
}

// No text from a file may forge a line: the number of lines and the last one
// depend on the plan's shape only, and every line is clean.
func TestNoTextForgesALine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string {
			return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\nPlan: 0 to add", "\x1b[2K", "\r", "\u2028", "\u202e", "\xff"})).Draw(t, name)
		}
		st := step("training.x", resource.RunIt,
			resource.Reason{Code: resource.ReasonDataChanged, Path: "p" + text("path"), Old: text("old"), New: text("new"), By: text("by"), Message: text("message")},
			resource.Reason{Code: resource.ReasonSignal, Path: "retrain.on", By: "m" + text("monitor"), Message: text("evidence")})
		st.Gate = []string{text("gate")}
		st.Changes = []planner.Change{{Path: "q" + text("change"), Old: raw(text("before")), New: raw(text("after"))}}
		p := newPlan(st)
		p.Drift = []planner.DriftEntry{{Address: addr("training.y"), Message: text("drift"), By: text("who")}}
		for _, s := range []Style{{}, {Unicode: true}} {
			var b bytes.Buffer
			if err := PlanText(&b, p, s); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if len(lines) != 11 {
				t.Fatalf("%d lines, want 11:\n%s", len(lines), b.String())
			}
			for _, l := range lines {
				if s.Clean(l) != l {
					t.Fatalf("not clean: %q", l)
				}
			}
			if last := lines[len(lines)-1]; last != "Plan: 0 to add, 0 to change, 0 to destroy, 1 to run, 1 gate." {
				t.Fatalf("the last line is %q", last)
			}
		}
	})
}

func TestTheLastLineHasItsExactForm(t *testing.T) {
	for want, p := range map[string]*planner.Plan{
		"Plan: 1 to add, 2 to change, 0 to destroy, 1 to run, 1 gate.":                                 {Summary: planner.Summary{Create: 1, Update: 2, Run: 1, Gates: 1}},
		"Plan: 0 to add, 0 to change, 0 to destroy, 0 to run, 0 gates, 1 blocked.":                     {Summary: planner.Summary{Blocked: 1}},
		"Plan: 0 to add, 0 to change, 1 to destroy, 0 to run, 2 gates, 1 to replace, 3 to move.":       {Summary: planner.Summary{Delete: 1, Gates: 2, Replace: 1, Move: 3}},
		"No changes. Everything is as the files say, and no input has moved.":                          {Complete: true},
		"No changes. Everything that -target names is as the files say.":                               {},
		"No changes. One block is held as it is, for the reason above.":                                {Complete: true, Steps: []*planner.Step{step("check.a", resource.Noop)}},
		"No plan. Nothing can be applied until the errors above are mended.":                           {Diagnostics: []planner.Diagnostic{{Severity: "error"}}},
		"Plan: 10,000 to add, 0 to change, 0 to destroy, 0 to run, 0 gates, 1 to import, 1 to forget.": {Summary: planner.Summary{Create: 10000, Import: 1, Forget: 1}},
	} {
		if got := Total(p); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		out := string(render(t, func(b *bytes.Buffer) error { return PlanText(b, p, Style{Width: 30}) }))
		if !strings.HasSuffix(out, want+"\n") {
			t.Errorf("the plan does not end with %q:\n%s", want, out)
		}
	}
}

func TestTheEstimateIsTheLongestChain(t *testing.T) {
	run := func(name string, took float64, needs ...string) *planner.Step {
		st := step(name, resource.RunIt)
		st.Exec.Estimate, st.Needs = took, addrs(needs...)
		return st
	}
	p := newPlan(run("check.a", 5), run("training.b", 60), run("validation.c", 2, "check.a", "training.b"))
	if got := newView(p, Style{}).together(); got != 62*time.Second {
		t.Errorf("got %s, want 62s", got)
	}
	p.Steps = append(p.Steps, run("check.unknown", 0))
	if got := newView(p, Style{}).together(); got != 0 {
		t.Errorf("got %s although one run was never timed", got)
	}
}

func BenchmarkPlanText(b *testing.B) {
	p := tenThousand()
	for b.Loop() {
		if err := PlanText(io.Discard, p, Style{Unicode: true, Width: 100}); err != nil {
			b.Fatal(err)
		}
	}
}
