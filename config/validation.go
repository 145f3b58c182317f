package config

import (
	"fmt"
	"strconv"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Validation judges a model version against thresholds; it is the gate before
// whatever uses validation.x.model.
type Validation struct {
	Exec
	Model      *Model         `ml:"model,required,input=upstream" doc:"The version to judge, such as training.x.model."`
	Inputs     map[string]any `ml:"inputs,input=data" doc:"Datasets or splits that the command reads, by name."`
	Params     any            `ml:"params,input=params" doc:"Parameters for the command."`
	Seed       int64          `ml:"seed,input=params" doc:"Seed in ML_SEED."`
	Image      string         `ml:"image,input" doc:"Container image (cluster providers)."`
	Retries    int            `ml:"retries,policy,min=0,max=10" doc:"Further attempts after a run that errored."`
	Thresholds []Threshold    `ml:"threshold,block,judge" doc:"A bound on one metric. All must hold; a missing metric fails."`
	Slices     []Slice        `ml:"slice,block,judge" doc:"Bounds on a metric for every value of a column, when the command writes metrics by slice."`
	Resources  *Resources     `ml:"resources,block,policy" doc:"What the run may use."`
}

// Threshold bounds one metric.
type Threshold struct {
	Metric        string   `ml:"metric,label"`
	Min           *float64 `ml:"min" doc:"Least value."`
	Max           *float64 `ml:"max" doc:"Greatest value."`
	MaxRegression *float64 `ml:"max_regression,min=0" doc:"How much worse than the champion, on the same inputs, it may be."`
	LowerIsBetter bool     `ml:"lower_is_better" doc:"For max_regression: whether smaller values are better."`
}

// Slice bounds metrics for each value of a column: the command writes
// {"slices": {"region": {"north": {"recall": 0.9}}}}.
type Slice struct {
	Name       string      `ml:"name,label"`
	Column     string      `ml:"column" doc:"Column in the metrics; default the slice's name."`
	MinRows    int64       `ml:"min_rows,min=0" doc:"Slices with fewer rows (metric \"rows\") are reported, not judged."`
	Thresholds []Threshold `ml:"threshold,block" doc:"A bound on one metric in every slice."`
}

// ValidationOutputs is what other blocks may use of a validation.
type ValidationOutputs struct {
	Address string             `ml:"address" doc:"Address of the validation."`
	Model   *Model             `ml:"model,hold" doc:"The newest version that passed."`
	Passed  bool               `ml:"passed" doc:"Whether the version judged last passed."`
	Metrics map[string]float64 `ml:"metrics" doc:"Metrics of the version judged last."`
}

func validationKind() Kind {
	return Kind{
		Name: "validation", Class: resource.Run,
		Doc:  "Judges a model version against thresholds. Its model output is the version that passed last, so what serves it has nothing to do when a new version fails.",
		Spec: Validation{}, Outputs: ValidationOutputs{},
		Probes: []string{"code"}, ProbeCodes: codeProbe,
		Check: checkValidation, Retries: retries, Gate: gateConditions,
	}
}

func checkValidation(v cty.Value) []Problem {
	ps := execProblems(v)
	if len(blocks(v, "threshold")) == 0 && len(blocks(v, "slice")) == 0 {
		why := "Add threshold \"METRIC\" { min = … }: a gate without a bound would let everything through."
		if _, ok := known(v, "threshold"); !ok && set(v, "threshold") {
			why = "Its thresholds are known only after a run. Name them in the files, so that a plan shows what the gate asks for."
		}
		ps = append(ps, Problem{"", "A validation needs a threshold", why})
	}
	for _, t := range blocks(v, "threshold") {
		if !set(t, "min") && !set(t, "max") && !set(t, "max_regression") {
			ps = append(ps, Problem{"threshold", "This threshold bounds nothing", "Give it min, max or max_regression."})
		}
	}
	return ps
}

// gateConditions renders the thresholds as people read them.
func gateConditions(v cty.Value) []string {
	var out []string
	for _, b := range blocks(v, "threshold") {
		out = append(out, conditions(b, "")...)
	}
	for _, s := range blocks(v, "slice") {
		name, ok := known(s, "name")
		if !ok {
			continue
		}
		for _, b := range blocks(s, "threshold") {
			out = append(out, conditions(b, " in every "+name.AsString())...)
		}
	}
	return out
}

func conditions(v cty.Value, where string) []string {
	if !v.IsWhollyKnown() {
		return nil
	}
	var t Threshold
	if err := resource.Decode(v, &t); err != nil {
		return nil
	}
	num := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	var out []string
	if t.Min != nil {
		out = append(out, fmt.Sprintf("%s ≥ %s%s", t.Metric, num(*t.Min), where))
	}
	if t.Max != nil {
		out = append(out, fmt.Sprintf("%s ≤ %s%s", t.Metric, num(*t.Max), where))
	}
	if t.MaxRegression != nil {
		out = append(out, fmt.Sprintf("%s within %s of the champion%s", t.Metric, num(*t.MaxRegression), where))
	}
	return out
}
