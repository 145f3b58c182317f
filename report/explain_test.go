package report

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func f(v float64) *float64 { return &v }

func badVerdict() *resource.Verdict {
	return &resource.Verdict{Message: "recall 0.912 is below 0.93", Time: planTime.Add(-26 * time.Hour), Findings: []resource.Finding{
		{Name: "recall", Path: "recall", Rule: "min", Value: f(0.9123456), Limit: f(0.93), Message: "0.912346 is below the min of 0.93"},
		{Name: "accuracy", Path: "accuracy", Value: f(0.951), Limit: f(0.9), Message: "0.951", OK: true},
	}}
}

func history() History {
	started := planTime.Add(-26 * time.Hour)
	return History{
		Now: planTime,
		Runs: []*state.Run{
			{ID: "01JN8A", Phase: resource.PhaseFailed, Started: started.Add(-time.Hour), Finished: started.Add(-time.Hour + 900*time.Millisecond), Reasons: []resource.Reason{because(resource.ReasonNew, "")}},
			{ID: "01JN9B", Phase: resource.PhaseReady, Started: started, Finished: started.Add(151 * time.Second), Metrics: map[string]float64{"recall": 0.953, "accuracy": 0.951},
				Reasons: []resource.Reason{because(resource.ReasonDataChanged, ""), because(resource.ReasonCodeChanged, "")}},
		},
		Records: map[resource.Address]*state.Record{addr("validation.tumors"): {Verdict: badVerdict()}},
	}
}

func failedBefore() *planner.Plan {
	st := step("training.tumors", resource.Noop)
	st.Reasons = []resource.Reason{because(resource.ReasonFailedBefore, "failed on these inputs (exit code 3); run it again with -replace training.tumors")}
	return newPlan(st)
}

func TestExplanations(t *testing.T) {
	uni := Style{Unicode: true, Width: 100}
	for _, tt := range []struct {
		name string
		p    *planner.Plan
		a    string
		h    History
	}{
		{"a deployment follows from new data through the gate", dataChanged(), "deployment.tumors", history()},
		{"a training follows from its own reasons", dataChanged(), "training.tumors", history()},
		{"a blocked deployment waits for a gate that judged badly", gateClosed(), "monitor.tumors", history()},
		{"a block without a step has nothing to do", newPlan(), "training.tumors", history()},
		{"a block without a step has a bad verdict", newPlan(), "validation.tumors", history()},
		{"a deployment stays behind a gate that judged badly", newPlan(), "deployment.tumors", History{Now: planTime, Records: map[resource.Address]*state.Record{
			addr("deployment.tumors"): {Deps: addrs("training.tumors", "validation.tumors")},
			addr("validation.tumors"): {Verdict: badVerdict()},
		}}},
		{"a run that failed waits for a request", failedBefore(), "training.tumors", History{Now: planTime, Runs: history().Runs[:1]}},
		{"a monitor has signals", newPlan(), "monitor.tumors", History{Now: planTime, Signals: []*state.Signal{
			{Name: "drift", State: resource.SignalBad, Message: "drift: 17 of 30 columns drifted", Evidence: []byte(`{}`), Time: planTime.Add(-time.Minute)},
			{Name: "latency", State: resource.SignalTooFew, Message: "12 of 30 instances"},
		}}},
		{"a signal is a cause of its own", everything(), "training.prices", History{}},
		{"a new block waits for what it needs", quickstart(), "deployment.tumors", History{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			golden(t, "explain_"+file(tt.name)+".txt", render(t, func(b *bytes.Buffer) error { return Explain(b, tt.p, addr(tt.a), tt.h, uni) }))
		})
	}
}

func file(name string) string {
	out := []byte(name)
	for i, c := range out {
		if c == ' ' {
			out[i] = '_'
		}
	}
	return string(out)
}

func TestSummaries(t *testing.T) {
	bad := &resource.Verdict{Message: "2 of 5 expectations failed", Findings: []resource.Finding{
		{Name: "range", Path: "radius_mean", Rule: "range", Count: 12, Samples: []string{"51.2", "60", "77.1"}, Message: "range 0 to 50"},
		{Name: "enough", Rule: "row_count", Value: f(420), Limit: f(500), Message: "420 rows, at least 500 wanted"},
		{Name: "fresh", Path: "taken_at", Rule: "freshness", Severity: "warn", OK: true, Message: "freshness: the newest row is 9 days old"},
		{Name: "no_nulls", Rule: "not_null", OK: true, Message: "no missing values"},
	}}
	for _, tt := range []struct {
		name string
		p    *planner.Plan
		r    Result
		s    Style
	}{
		{"all done", quickstart(), Result{Done: addrs("dataset.tumors", "check.unit", "training.tumors", "validation.tumors", "deployment.tumors", "monitor.tumors"), Elapsed: 12300 * time.Millisecond}, Style{Unicode: true, Width: 100}},
		{"bad verdicts", dataChanged(), Result{Done: addrs("dataset.tumors", "training.tumors", "validation.tumors"), Blocked: addrs("deployment.tumors"), Elapsed: 154 * time.Second,
			Bad: map[resource.Address]*resource.Verdict{addr("validation.tumors"): badVerdict(), addr("dataset.tumors"): bad}}, Style{Unicode: true, Width: 100}},
		{"a failure", quickstart(), Result{Done: addrs("dataset.tumors", "check.unit"), Failed: addrs("training.tumors"), Blocked: addrs("validation.tumors", "deployment.tumors", "monitor.tumors"), Elapsed: 4 * time.Second,
			Bad:    map[resource.Address]*resource.Verdict{addr("training.tumors"): {Message: "errored: told above"}},
			Errors: map[resource.Address]error{addr("training.tumors"): errors.New("training.tumors: the command ended with exit code 1\nValueError: could not convert string to float: '\x1b[31mM'\n")}}, Style{Width: 80}},
		{"nothing began", quickstart(), Result{Failed: addrs("training.tumors"), Blocked: addrs("validation.tumors", "deployment.tumors", "monitor.tumors"),
			Errors: map[resource.Address]error{addr("training.tumors"): &providers.NotStartedError{Err: errors.New("training.tumors: image a: not found")}}}, Style{Unicode: true, Width: 100}},
		{"interrupted", dataChanged(), Result{Done: addrs("dataset.tumors"), Running: addrs("training.tumors"), NotStarted: addrs("validation.tumors", "deployment.tumors"), Elapsed: 4 * time.Second}, Style{Unicode: true, Width: 100}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			golden(t, "summary_"+file(tt.name)+".txt", render(t, func(b *bytes.Buffer) error { return Summary(b, tt.p, tt.r, tt.s) }))
		})
	}
}

func TestWritersReportThatTheyCannotWrite(t *testing.T) {
	broken := brokenWriter{}
	table := NewTable("A")
	table.Text("1")
	for name, err := range map[string]error{
		"PlanText": PlanText(broken, quickstart(), Style{}), "PlanJSON": PlanJSON(broken, quickstart()),
		"Explain": Explain(broken, quickstart(), addr("check.unit"), History{}, Style{}), "Summary": Summary(broken, quickstart(), Result{}, Style{}),
		"Table": table.Write(broken, Style{}), "GraphDOT": GraphDOT(broken, nil, nil), "GraphMermaid": GraphMermaid(broken, nil, nil),
	} {
		if !errors.Is(err, errBroken) {
			t.Errorf("%s returned %v", name, err)
		}
	}
}

var errBroken = errors.New("the pipe is broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestACauseThatIsToldASecondTimeIsBrief(t *testing.T) {
	long := "training.t failed: image registry.example.com/team/runner@sha256:2951523…: the registry says something that takes more than a line"
	for text, want := range map[string]string{
		"training.t failed: exit code 3": "training.t failed: exit code 3",
		long:                             "training.t failed: image registry.example.com/team/runner@sha256:2951523…: the registry says…",
		strings.Repeat("é", 101):         strings.Repeat("é", 100) + "…",
	} {
		if got := brief(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
