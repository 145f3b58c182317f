package pod

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func candidate(t *testing.T, env map[string]string, file string) (Task, error) {
	t.Helper()
	text, err := json.Marshal(Task{
		V: TaskVersion, ID: "01M8.tuning", Command: []string{"true"}, Results: "registry/runs", Params: map[string]any{"epochs": 3, "rate": 1},
		Trial: &Trial{NameEnv: "NAME", Metric: "loss", File: file, Params: []TrialParam{
			{Name: "rate", Env: "P0", Type: "double"}, {Name: "layers", Env: "P1", Type: "int"}, {Name: "kind", Env: "P2", Type: "categorical", Values: []any{"relu", 3, true}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	env[TaskVar] = string(text)
	return ParseTask(func(name string) string { return env[name] }, os.ReadFile)
}

func TestACandidateHasWhatTheSearchChose(t *testing.T) {
	task, err := candidate(t, map[string]string{"NAME": "x-abc", "P0": "+.001", "P1": "5.0", "P2": "true"}, "/m/metrics.log")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(task.Params)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"epochs":3,"kind":true,"layers":5,"rate":0.001}`; string(got) != want || task.ID != "01M8.tuning.x-abc" {
		t.Errorf("%s %s, want %s", task.ID, got, want)
	}
}

func TestACandidateRefusesWhatIsNoChoice(t *testing.T) {
	good := map[string]string{"NAME": "x", "P0": "1", "P1": "2", "P2": "relu"}
	for name, c := range map[string]struct{ variable, value, says string }{
		"no name":            {"NAME", "", "NAME is not set"},
		"a name not a tag":   {"NAME", "a/b", "cannot be the tag"},
		"not put in":         {"P0", "${trialParameters.p0}", "which is no number"},
		"not a number":       {"P0", "NaN", "which is no number"},
		"no whole number":    {"P1", "2.5", "which is no whole number"},
		"none of the values": {"P2", "tanh", "which is none of its values"},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{}
			for k, v := range good {
				env[k] = v
			}
			env[c.variable] = c.value
			if _, err := candidate(t, env, "/m/metrics.log"); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want it to say %q", err, c.says)
			}
		})
	}
}

func TestTheSearchGetsItsMetricOrTheCandidateHasFailed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new", "metrics.log")
	trial := Trial{Metric: "loss", File: file}
	for _, c := range []struct{ metrics, says string }{{"", "wrote no metrics"}, {`{"accuracy": 1}`, `"loss" is not in ML_METRICS`}, {`{"loss": "x"}`, "ML_METRICS"}} {
		var b []byte
		if c.metrics != "" {
			b = []byte(c.metrics)
		}
		if err := trial.answer(b); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want it to say %q", c.metrics, err, c.says)
		}
		if _, err := os.Stat(file); err == nil {
			t.Error("the file is there although there is no metric")
		}
	}
	if err := trial.answer([]byte(`{"loss": 1e-7, "accuracy": 1}`)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "loss=1e-07\n" {
		t.Errorf("%q, %v", b, err)
	}
}
