package runs

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// model stores a version of training.x whose file says what the validation shall measure.
func (p *project) model(number int, metrics string) *config.Model {
	p.T.Helper()
	dir := fmt.Sprintf("made/%d", number)
	p.Write(dir+"/metrics", metrics)
	store, err := files.OpenStore(p.Path(".ml/artifacts"))
	if err != nil {
		p.T.Fatal(err)
	}
	hex, _, err := store.PutDir(p.Path(dir))
	if err != nil {
		p.T.Fatal(err)
	}
	return &config.Model{Name: "x", Version: number, Digest: string(resource.DigestOfHex(hex)), Address: "training.x"}
}

// champion records that a version passed validation.x.
func (p *project) champion(m *config.Model) {
	a := resource.Address{Kind: "training", Name: "x"}
	if p.Snapshot.Versions == nil {
		p.Snapshot.Versions = map[resource.Address][]*state.Version{}
	}
	p.Snapshot.Versions[a] = append(p.Snapshot.Versions[a], &state.Version{
		Address: a, Number: m.Version, Digest: resource.Digest(m.Digest), Metrics: m.Metrics,
		Verdicts: map[string]*resource.Verdict{"validation.x": {Passed: true}},
	})
}

// kept records a result as the engine does.
func (p *project) kept(id string, r providers.Result) *state.Run {
	p.T.Helper()
	raw, err := json.Marshal(r.Detail)
	if err != nil {
		p.T.Fatal(err)
	}
	run := &state.Run{ID: id, Address: providertest.AddressOf("validation"), Phase: resource.PhaseReady, Metrics: r.Metrics, Detail: raw}
	p.Runs = append(p.Runs, run)
	return run
}

// validate copies the numbers out of the model, and notes which model it was run for.
var validate = sh(`cp $ML_MODEL_DIR/metrics $ML_METRICS; cat $ML_MODEL_DIR/metrics >> runs.log`)

func TestAGateHoldsThresholdsAgainstTheMetrics(t *testing.T) {
	cases := []struct {
		name, metrics string
		thresholds    []config.Threshold
		slices        []config.Slice
		passed        bool
		message       string
	}{
		{"a metric at its bound passes", `{"recall": 0.93}`, []config.Threshold{{Metric: "recall", Min: new(0.93)}}, nil, true, "recall 0.93 ≥ 0.93"},
		{"a metric under its bound fails", `{"recall": 0.912}`, []config.Threshold{{Metric: "recall", Min: new(0.93)}}, nil, false, "recall 0.912 < 0.93"},
		{"a metric over its bound fails", `{"mae": 3.5}`, []config.Threshold{{Metric: "mae", Max: new(3.0)}}, nil, false, "mae 3.5 > 3"},
		{"one of two fails", `{"a": 1, "b": 0}`, []config.Threshold{{Metric: "a", Min: new(1.0)}, {Metric: "b", Min: new(1.0)}}, nil, false, "b 0 < 1"},
		{"a missing metric fails", `{"recall": 1}`, []config.Threshold{{Metric: "accuracy", Min: new(0.0)}}, nil, false, "accuracy is missing"},
		{"a metric that is no number fails", `{"recall": NaN}`, []config.Threshold{{Metric: "recall", Min: new(0.0)}}, nil, false, `"recall" is NaN`},
		{"broken JSON fails", `{"recall": 1`, []config.Threshold{{Metric: "recall", Min: new(0.0)}}, nil, false, "not valid JSON"},
		{"without a champion a regression holds", `{"recall": 0.1}`, []config.Threshold{{Metric: "recall", MaxRegression: new(0.0)}}, nil, true, "no champion"},
		{
			"a slice under its bound fails, small ones are not judged", `{"slices": {"region": {"north": {"recall": 0.9, "rows": 120}, "south": {"recall": 0.5, "rows": 100}, "west": {"recall": 0, "rows": 99}}}}`,
			nil, []config.Slice{{Name: "region", MinRows: 100, Thresholds: []config.Threshold{{Metric: "recall", Min: new(0.8)}}}}, false, "recall of region=south 0.5 < 0.8",
		},
		{
			"missing slices fail", `{"recall": 1}`, nil,
			[]config.Slice{{Name: "r", Column: "region", Thresholds: []config.Threshold{{Metric: "recall", Min: new(0.8)}}}}, false, `no slices by "region"`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newProject(t, nil)
			m := p.model(1, c.metrics)
			r := p.MustApply("validation", "op1", config.Validation{Exec: validate, Model: m, Thresholds: c.thresholds, Slices: c.slices})
			if r.Verdict.Passed != c.passed || !strings.Contains(r.Verdict.Message, c.message) {
				t.Errorf("verdict %+v, want %v with %q", r.Verdict, c.passed, c.message)
			}
			out := r.Outputs.(config.ValidationOutputs)
			if out.Passed != c.passed || string(r.Verdict.Subject) != m.Digest {
				t.Errorf("outputs %+v, subject %s", out, r.Verdict.Subject)
			}
			if d := cmp.Diff(&state.VersionRef{Address: resource.Address{Kind: "training", Name: "x"}, Number: 1}, r.Judged); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestMetricsThatAreNotWrittenCloseTheGate(t *testing.T) {
	p := newProject(t, nil)
	spec := config.Validation{Exec: sh("true"), Model: p.model(1, "{}"), Thresholds: []config.Threshold{{Metric: "recall", Max: new(1.0)}}}
	if v := p.MustApply("validation", "op1", spec).Verdict; v.Passed || !strings.Contains(v.Message, "wrote no metrics") {
		t.Errorf("verdict %+v", v)
	}
	spec.Exec = config.Exec{}
	if v := p.MustApply("validation", "op2", spec).Verdict; v.Passed || !strings.Contains(v.Message, "its training wrote no metrics") {
		t.Errorf("verdict without a command %+v", v)
	}
	spec.Model.Metrics = map[string]float64{"recall": 0.5}
	if v := p.MustApply("validation", "op3", spec).Verdict; !v.Passed {
		t.Errorf("the training's metrics are not judged: %+v", v)
	}
	spec.Exec = sh("exit 1")
	_, err := p.Apply("validation", "op4", spec)
	providertest.WantRunError(t, err, "exit code 1")
}

func TestARegressionIsMeasuredOnTheSameInputs(t *testing.T) {
	p := newProject(t, nil)
	old, young := p.model(1, `{"recall": 0.95}`), p.model(2, `{"recall": 0.92}`)
	p.champion(old)
	spec := config.Validation{
		Exec: validate, Model: young, Params: map[string]any{"k": 1},
		Thresholds: []config.Threshold{{Metric: "recall", Min: new(0.9), MaxRegression: new(0.02)}},
	}
	r := p.MustApply("validation", "op1", spec)
	if v := r.Verdict; v.Passed || v.Message != "recall 0.92 is not within 0.02 of the champion's 0.95 (version 1)" {
		t.Errorf("verdict %+v", r.Verdict)
	}
	if got := p.Read("runs.log"); lineCount(strings.ReplaceAll(got, "}", "}\n")) != 2 {
		t.Errorf("runs: %q, want one for each version", got)
	}
	p.kept("op1", r)

	better := p.model(3, `{"recall": 0.93}`)
	spec.Model = better
	r = p.MustApply("validation", "op2", spec)
	if !r.Verdict.Passed {
		t.Errorf("0.93 is within 0.02 of 0.95: %+v", r.Verdict)
	}
	if n := strings.Count(p.Read("runs.log"), `"recall": 0.95`); n != 1 {
		t.Errorf("the champion was run %d times although its numbers on these inputs are recorded", n)
	}

	spec.Params = map[string]any{"k": 2}
	p.MustApply("validation", "op3", spec)
	if n := strings.Count(p.Read("runs.log"), `"recall": 0.95`); n != 2 {
		t.Errorf("on other inputs the champion was measured %d times in all, want 2", n)
	}
}

func TestMovedThresholdsJudgeRecordedNumbersWithoutRunning(t *testing.T) {
	p := newProject(t, nil)
	young := p.model(2, `{"recall": 0.92, "slices": {"r": {"n": {"recall": 0.7}}}}`)
	spec := config.Validation{Exec: validate, Model: young, Thresholds: []config.Threshold{{Metric: "recall", Min: new(0.95)}}}
	first := p.MustApply("validation", "op1", spec)
	if first.Verdict.Passed {
		t.Fatal("0.92 passes 0.95")
	}
	run := p.kept("op1", first)
	judge := func(spec config.Validation) providers.Result {
		t.Helper()
		j, ok := providers.As[providers.Judge](p.Drivers["validation"])
		if !ok {
			t.Fatal("validation is no Judge")
		}
		r, err := j.Judge(providertest.Within(t), p.Request("validation", "op2", spec), run)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := p.Read("runs.log")
	spec.Thresholds[0].Min = new(0.9)
	if r := judge(spec); !r.Verdict.Passed || r.Metrics["recall"] != 0.92 {
		t.Errorf("verdict %+v", r.Verdict)
	}
	spec.Slices = []config.Slice{{Name: "r", Thresholds: []config.Threshold{{Metric: "recall", Min: new(0.8)}}}}
	if r := judge(spec); r.Verdict.Passed {
		t.Errorf("recorded slices are not judged: %+v", r.Verdict)
	}
	spec.Slices = nil
	p.champion(p.model(1, `{"recall": 0.95}`))
	spec.Thresholds[0].MaxRegression = new(0.5)
	if r := judge(spec); r.Verdict.Passed || !strings.Contains(r.Verdict.Message, "-replace validation.x") {
		t.Errorf("a champion without numbers opened the gate: %+v", r.Verdict)
	}
	if p.Read("runs.log") != before {
		t.Error("judging again ran the command")
	}
}

func TestAModelThatAValidationChangesFailsTheRun(t *testing.T) {
	p := newProject(t, nil)
	x := sh(`chmod -R u+w $ML_MODEL_DIR; echo more >> $ML_MODEL_DIR/metrics; cp $ML_MODEL_DIR/metrics $ML_METRICS`)
	spec := config.Validation{Exec: x, Model: p.model(1, `{"recall": 1}`), Thresholds: []config.Threshold{{Metric: "recall", Min: new(0.5)}}}
	_, err := p.Apply("validation", "op1", spec)
	providertest.WantRunError(t, err, "the command changed the model")
	// The copy is a cache: the next run gets the model as it was made, without anyone mending anything.
	spec.Exec = validate
	if r := p.MustApply("validation", "op2", spec); !r.Verdict.Passed || r.Metrics["recall"] != 1 {
		t.Errorf("after the change: %+v", r)
	}
}
