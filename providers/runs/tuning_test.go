package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
)

const tuneScript = `
echo "$ML_RUN_ID $ML_PARAM_X" >> runs.log
echo m > $ML_MODEL_DIR/m
printf '{"score": %s}' "$ML_PARAM_X" > $ML_METRICS
`

func gridOf(values ...any) *config.Tuning {
	return &config.Tuning{
		Method: "grid", Trials: 10, Metric: "score", Goal: "maximize", MaxFailed: 1,
		Parameters: []config.TuningParameter{{Name: "x", Type: "categorical", Values: values}},
	}
}

func TestTuningTrainsTheFinalModelWithTheBestParameters(t *testing.T) {
	for goal, want := range map[string]float64{"maximize": 9, "minimize": 2} {
		t.Run(goal, func(t *testing.T) {
			p := newProject(t, map[string]string{"t.sh": tuneScript})
			spec := config.Training{Exec: config.Exec{Command: []string{"sh", "t.sh"}}, Params: map[string]any{"x": 1, "y": 5}, Tuning: gridOf(4, 9, 2)}
			spec.Tuning.Goal, spec.Tuning.Parallel = goal, 2
			r := p.MustApply("training", "op1", spec)
			if d := cmp.Diff(map[string]any{"x": want, "y": 5.0}, throughJSON(t, r.Version.Params)); d != "" {
				t.Error(d)
			}
			if r.Metrics["score"] != want {
				t.Errorf("the model has the score %v", r.Metrics)
			}
			if n := lineCount(p.Read("runs.log")); n != 4 {
				t.Errorf("%d runs, want 3 trials and the final one", n)
			}
			d := r.Detail.(trainingDetail).Tuning
			if len(d.Trials) != 3 || *d.Trials[d.Best-1].Value != want || d.Trials[0].State != trialDone {
				t.Errorf("detail %+v", d)
			}
		})
	}
}

func throughJSON(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestATrialWithoutTheMetricFailedAndTooManyEndTheTuning(t *testing.T) {
	p := newProject(t, nil)
	x := sh(`echo m > $ML_MODEL_DIR/m; [ "$ML_PARAM_X" = 1 ] && printf '{"score": 1}' > $ML_METRICS; [ "$ML_PARAM_X" != 3 ]`)
	spec := config.Training{Exec: x, Tuning: gridOf(1, 2)}
	x.Command[2] = strings.Replace(x.Command[2], "; [ \"$ML_PARAM_X\" != 3 ]", "; true", 1)
	r := p.MustApply("training", "op1", spec)
	if d := r.Detail.(trainingDetail).Tuning; d.Best != 1 || d.Trials[1].State != trialFailed || !strings.Contains(d.Trials[1].Reason, "wrote no metrics") {
		t.Errorf("trials %+v", d.Trials)
	}
	spec.Tuning = gridOf(1, 2, 3, 4, 5, 6)
	_, err := p.Apply("training", "op2", spec)
	providertest.WantRunError(t, err, "2 trials failed, max_failed is 1")
	if ok, err := exists(p.Path(".ml/runs/op2/trial-005")); ok || err != nil {
		t.Errorf("trials went on after the tuning had failed: %v, %v", ok, err)
	}
	spec.Tuning = gridOf(2)
	_, err = p.Apply("training", "op3", spec)
	providertest.WantRunError(t, err, `no trial wrote the metric "score"`)
}

func TestTuningGoesOnWithTheTrialsThatItHad(t *testing.T) {
	p := newProject(t, map[string]string{"t.sh": tuneScript + "[ -e go ] || [ $(wc -l < runs.log) -lt 3 ] || while [ ! -e go ]; do sleep 0.02; done\n"})
	spec := config.Training{Exec: config.Exec{Command: []string{"sh", "t.sh"}}, Tuning: &config.Tuning{
		Method: "random", Trials: 5, Metric: "score", Goal: "maximize", Seed: 3,
		Parameters: []config.TuningParameter{{Name: "x", Type: "double", Min: new(0.001), Max: new(1.0), Log: true}},
	}}
	ctx, cancel := context.WithCancel(providertest.Within(t))
	done := make(chan error, 1)
	req := p.Request("training", "op1", spec)
	go func() {
		_, err := p.Drivers["training"].Apply(ctx, req)
		done <- err
	}()
	eventually(t, "the third trial runs", func() bool { return lineCount(p.Read("runs.log")) == 3 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	p.Write("go", "")
	p.connect()
	req.Adopt = true
	r, err := p.Drivers["training"].Apply(providertest.Within(t), req)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(p.Read("runs.log")), "\n")
	if len(lines) != 6 {
		t.Fatalf("runs:\n%s\nwant 5 trials, each once, and the final run", strings.Join(lines, "\n"))
	}
	for i, l := range lines[:5] {
		ps, _, err := randomSearch{*spec.Tuning}.next(i, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("op1.trial-%03d %v", i+1, ps["x"]); l != want {
			t.Errorf("run %q, want %q", l, want)
		}
	}
	best := slices.MaxFunc(r.Detail.(trainingDetail).Tuning.Trials, func(a, b trial) int { return cmpFloat(*a.Value, *b.Value) })
	if r.Version.Params["x"] != best.Params["x"] {
		t.Errorf("trained with %v, best is %v", r.Version.Params, best)
	}
}

func TestACandidateIsTheRecordedOne(t *testing.T) {
	p := newProject(t, map[string]string{"t.sh": tuneScript, ".ml/runs/op1/trials/trial-001.json": `{"number": 1, "params": {"x": 0.125}, "state": "running"}`})
	spec := config.Training{Exec: config.Exec{Command: []string{"sh", "t.sh"}}, Tuning: &config.Tuning{
		Method: "random", Trials: 1, Metric: "score", Goal: "maximize",
		Parameters: []config.TuningParameter{{Name: "x", Type: "double", Min: new(0.0), Max: new(1.0)}},
	}}
	if r := p.MustApply("training", "op1", spec); r.Version.Params["x"] != 0.125 {
		t.Errorf("it was drawn anew: %v", r.Version.Params)
	}
}

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func TestATrialBehindTheMedianIsStopped(t *testing.T) {
	p := newProject(t, map[string]string{"t.sh": `
echo m > $ML_MODEL_DIR/m
printf '{"step": 1, "score": %s}\n' "$ML_PARAM_X" >> $ML_PROGRESS
if [ "$ML_PARAM_X" = 1 ]; then sleep 60; fi
printf '{"score": %s}' "$ML_PARAM_X" > $ML_METRICS
`})
	spec := config.Training{Exec: config.Exec{Command: []string{"sh", "t.sh"}, Grace: time.Second}, Tuning: gridOf(7, 8, 1, 9)}
	spec.Tuning.EarlyStopping = &config.EarlyStopping{MinTrials: 2}
	r := p.MustApply("training", "op1", spec)
	d := r.Detail.(trainingDetail).Tuning
	if d.Best != 4 || d.Trials[2].State != trialStopped || d.Trials[2].Reason != "score 1 is worse than the median 7.5 of the others" {
		t.Errorf("trials %+v", d.Trials)
	}
	if st, err := runner.Read(p.Path(".ml/runs/op1/trial-003")); err != nil || st.Phase != runner.Cancelled {
		t.Errorf("the stopped trial: %+v, %v", st, err)
	}
}

func TestACancelledTuningStartsNothingMore(t *testing.T) {
	p := newProject(t, map[string]string{"t.sh": "echo run >> runs.log; sleep 60\n"})
	spec := config.Training{Exec: config.Exec{Command: []string{"sh", "t.sh"}, Grace: time.Second}, Tuning: gridOf(1, 2, 3)}
	done := make(chan error, 1)
	req := p.Request("training", "op1", spec)
	go func() {
		_, err := p.Drivers["training"].Apply(providertest.Within(t), req)
		done <- err
	}()
	eventually(t, "a trial runs", func() bool { return p.Read("runs.log") != "" })
	c, ok := providers.As[providers.Canceller](p.Drivers["training"])
	if !ok {
		t.Fatal("a training cannot be cancelled")
	}
	for range 2 {
		if err := c.Cancel(providertest.Within(t), providertest.AddressOf("training"), "op1"); err != nil {
			t.Fatal(err)
		}
	}
	err := <-done
	providertest.WantRunError(t, err, "cancelled")
	if !errors.Is(err, providers.ErrCancelled) {
		t.Errorf("%v does not match ErrCancelled", err)
	}
	if n := lineCount(p.Read("runs.log")); n != 1 {
		t.Errorf("%d trials ran", n)
	}
}

func TestAnOperationThatWasCancelledBeforeItBeganNeverBegins(t *testing.T) {
	p := newProject(t, nil)
	c, _ := providers.As[providers.Canceller](p.Drivers["training"])
	if err := c.Cancel(providertest.Within(t), providertest.AddressOf("training"), "op1"); err != nil {
		t.Fatal(err)
	}
	spec := config.Training{Exec: sh("echo run >> runs.log; echo m > $ML_MODEL_DIR/m"), Smoke: &config.Smoke{Rows: 1}}
	_, err := p.Apply("training", "op1", spec)
	if !errors.Is(err, providers.ErrCancelled) {
		t.Errorf("error %v, want ErrCancelled", err)
	}
	if ok, err := exists(p.Path(".ml/runs/op1/smoke")); ok || err != nil || p.Read("runs.log") != "" {
		t.Errorf("a stage was started: %v, %v", ok, err)
	}
}

// parameters draws a search space.
func parameters(t *rapid.T) []config.TuningParameter {
	var out []config.TuningParameter
	for i := range rapid.IntRange(1, 3).Draw(t, "dimensions") {
		p := config.TuningParameter{Name: fmt.Sprintf("p%d", i), Type: rapid.SampledFrom([]string{"double", "int", "categorical"}).Draw(t, "type")}
		if p.Type == "categorical" {
			for j := range rapid.IntRange(1, 4).Draw(t, "values") {
				p.Values = append(p.Values, fmt.Sprint(j))
			}
			out = append(out, p)
			continue
		}
		lo := float64(rapid.IntRange(1, 50).Draw(t, "min"))
		hi := lo + float64(rapid.IntRange(0, 50).Draw(t, "width"))
		p.Min, p.Max, p.Log = &lo, &hi, rapid.Bool().Draw(t, "log")
		if rapid.Bool().Draw(t, "stepped") {
			p.Step = new(float64(rapid.IntRange(1, 20).Draw(t, "step")))
		}
		out = append(out, p)
	}
	return out
}

func TestEveryCandidateLiesInItsRangeAndOnItsSteps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tuning := config.Tuning{Seed: rapid.Int64().Draw(rt, "seed"), Goal: "minimize", Parameters: parameters(rt)}
		var past []trial
		for _, s := range []searcher{randomSearch{tuning}, tpeSearch{tuning}} {
			for n := range 14 {
				ps, ok, err := s.next(n, past)
				if err != nil || !ok {
					rt.Fatalf("candidate %d: %v, %v", n, ok, err)
				}
				sum := 0.0
				for _, p := range tuning.Parameters {
					sum += checkCandidate(rt, p, ps[p.Name])
				}
				past = append(past, trial{Number: n + 1, Params: ps, State: trialDone, Value: &sum})
			}
			past = nil
		}
	})
}

func checkCandidate(t *rapid.T, p config.TuningParameter, v any) float64 {
	if p.Type == "categorical" {
		if !slices.Contains(p.Values, v) {
			t.Fatalf("%s = %v is none of %v", p.Name, v, p.Values)
		}
		return 0
	}
	x, ok := number(v)
	if _, whole := v.(int64); !ok || whole != (p.Type == "int") {
		t.Fatalf("%s %s = %T", p.Type, p.Name, v)
	}
	steps := 0.0
	if p.Step != nil {
		steps = (x - *p.Min) / *p.Step
	}
	if x < *p.Min || x > *p.Max || math.Abs(steps-math.Round(steps)) > 1e-9 {
		t.Fatalf("%s = %v is outside %v to %v in steps of %v", p.Name, x, *p.Min, *p.Max, p.Step)
	}
	return x
}

func TestAGridGoesThroughAllCombinations(t *testing.T) {
	g, err := newGrid(config.Tuning{Parameters: []config.TuningParameter{
		{Name: "a", Type: "int", Min: new(1.0), Max: new(2.0)},
		{Name: "b", Type: "double", Min: new(0.0), Max: new(0.3), Step: new(0.1)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for n := 0; ; n++ {
		ps, ok, err := g.next(n, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got = append(got, fmt.Sprintf("%v/%.1f", ps["a"], ps["b"]))
	}
	if d := cmp.Diff([]string{"1/0.0", "1/0.1", "1/0.2", "1/0.3", "2/0.0", "2/0.1", "2/0.2", "2/0.3"}, got); d != "" {
		t.Error(d)
	}
}

func TestTPEComesCloserThanChance(t *testing.T) {
	tuning := config.Tuning{Method: "tpe", Goal: "minimize", Seed: 1, Parameters: []config.TuningParameter{
		{Name: "x", Type: "double", Min: new(-10.0), Max: new(10.0)},
		{Name: "y", Type: "double", Min: new(0.0001), Max: new(1.0), Log: true},
	}}
	mean := func(s searcher) float64 {
		var past []trial
		sum := 0.0
		for n := range 80 {
			ps, _, err := s.next(n, past)
			if err != nil {
				t.Fatal(err)
			}
			x, _ := number(ps["x"])
			y, _ := number(ps["y"])
			v := (x-3)*(x-3) + math.Pow(math.Log10(y)+2, 2)
			past = append(past, trial{Number: n + 1, Params: ps, State: trialDone, Value: &v})
			if n >= 40 {
				sum += v / 40
			}
		}
		return sum
	}
	byChance, byTPE := mean(randomSearch{tuning}), mean(tpeSearch{tuning})
	if byTPE > byChance/2 {
		t.Errorf("mean loss %g by tpe, %g by chance", byTPE, byChance)
	}
}
