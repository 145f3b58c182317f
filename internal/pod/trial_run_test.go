//go:build linux || darwin

package pod

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/continuo-ml/continuo/internal/runner"
)

// A candidate of a search is a run of its own, with the parameters that its container was given, and its metric is where the search looks.
func TestACandidateRunsAndAnswersTheSearch(t *testing.T) {
	k := newCluster(t)
	file := filepath.Join(t.TempDir(), "m", "metrics.log")
	trial := func(script string) Task {
		task := k.task(t, script)
		task.Params = map[string]any{"base": 2}
		task.Trial = &Trial{NameEnv: "NAME", Metric: "loss", File: file, Params: []TrialParam{{Name: "rate", Env: "P0", Type: "double"}}}
		return task
	}
	good := trial(`echo $ML_RUN_ID; printf '{"loss": %s}' "$ML_PARAM_RATE" > $ML_METRICS`)
	term := start(t, good, t.TempDir(), "NAME=t1", "P0=0.25").mustEnd(ExitDone, runner.Succeeded, "")
	if got := read(t, file); got != "loss=0.25\n" {
		t.Errorf("the search reads %q", got)
	}
	// A pod that comes after one that was killed has the same answer, and runs nothing.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	again := start(t, good, t.TempDir(), "NAME=t1", "P0=0.25").mustEnd(ExitDone, runner.Succeeded, "")
	if read(t, file) != "loss=0.25\n" || again.Result != term.Result {
		t.Errorf("%s, and then %s", term.Result, again.Result)
	}
	// Another candidate of the same task is another run.
	other := start(t, good, t.TempDir(), "NAME=t2", "P0=0.5").mustEnd(ExitDone, runner.Succeeded, "")
	if read(t, file) != "loss=0.5\n" || other.Result == term.Result {
		t.Errorf("both are %s", other.Result)
	}
	start(t, trial(`printf '{"accuracy": 1}' > $ML_METRICS`), t.TempDir(), "NAME=t3", "P0=1").mustEnd(ExitFailed, runner.Failed, `the metric "loss" is not in ML_METRICS`)
}
