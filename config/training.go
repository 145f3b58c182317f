package config

import (
	"fmt"
	"time"

	"github.com/netresearch/go-cron"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Training runs a command that writes a model; each success is a new version.
type Training struct {
	Exec
	Inputs           map[string]any `ml:"inputs,input=data" doc:"Datasets, splits or models that the command reads, by name; each path is in ML_INPUT_NAME."`
	Params           any            `ml:"params,input=params" doc:"Parameters, given as the JSON file ML_PARAMS and one by one as ML_PARAM_NAME."`
	Seed             int64          `ml:"seed,input=params" doc:"Seed in ML_SEED."`
	Nodes            int            `ml:"nodes,input,default=1,min=1,max=10000" doc:"Number of machines (cluster providers)."`
	ProcessesPerNode int            `ml:"processes_per_node,input,default=1,min=1,max=1024" doc:"Processes on one machine, with torchrun's variables."`
	Image            string         `ml:"image,input" doc:"Container image (cluster providers)."`
	Keep             int            `ml:"keep,policy,min=1" doc:"How many versions prune keeps, besides those served, pinned or champion. The data that a passed version was trained on stays with it."`
	Retries          int            `ml:"retries,policy,min=0,max=10" doc:"Further attempts after a run that errored."`
	Smoke            *Smoke         `ml:"smoke,block,policy" doc:"A short run before the full one, judged by exit code and a model file."`
	Retrain          *Retrain       `ml:"retrain,block,policy" doc:"What asks for a fresh version although nothing else moved, and what holds it back."`
	Tuning           *Tuning        `ml:"tuning,block,input=params" doc:"Search for parameters before the final model is trained with the best."`
	Resources        *Resources     `ml:"resources,block,policy" doc:"What the run may use."`
}

// Smoke is a short run on a few rows.
type Smoke struct {
	Rows    int64         `ml:"rows,default=50,min=1" doc:"Rows of each input."`
	Params  any           `ml:"params" doc:"Parameters that replace the full run's."`
	Timeout time.Duration `ml:"timeout,default=1m" doc:"How long it may take."`
}

// Retrain is what may ask for a fresh run.
type Retrain struct {
	On         any           `ml:"on,feedback" doc:"Signals such as monitor.x.drift: each time one turns bad, a run is asked for. Read from the record; never orders the graph."`
	Schedule   string        `ml:"schedule" doc:"Cron expression with five fields."`
	TimeZone   string        `ml:"time_zone" doc:"IANA time zone of the schedule. Default UTC."`
	MaxAge     time.Duration `ml:"max_age" doc:"Oldest that the current version may become."`
	MinNewRows int64         `ml:"min_new_rows,min=0" doc:"New rows needed before moved data alone asks for a run."`
	Cooldown   time.Duration `ml:"cooldown" doc:"Least time after a run before data, a signal, the schedule or age may ask for another."`
	Budget     *Budget       `ml:"budget,block" doc:"Greatest number of runs that data, signals, schedule and age may ask for in a period."`
}

// Budget bounds triggered runs.
type Budget struct {
	Runs int           `ml:"runs,required,min=0" doc:"Number of runs."`
	Per  time.Duration `ml:"per,required" doc:"Period."`
}

// Tuning searches for parameters.
type Tuning struct {
	Method        string            `ml:"method,default=random" enum:"random|grid|tpe" doc:"How candidates are chosen."`
	Trials        int               `ml:"trials,default=10,min=1,max=10000" doc:"Number of trials; a grid ends earlier when it is exhausted."`
	Parallel      int               `ml:"parallel,policy,default=1,min=1,max=256" doc:"Trials at the same time."`
	Metric        string            `ml:"metric,required" doc:"Metric in ML_METRICS that is compared."`
	Goal          string            `ml:"goal,default=maximize" enum:"maximize|minimize" doc:"Which way is better."`
	Seed          int64             `ml:"seed" doc:"Seed of the search."`
	MaxFailed     int               `ml:"max_failed,default=3,min=0" doc:"Failed trials before the tuning fails."`
	Timeout       time.Duration     `ml:"timeout,policy" doc:"How long one trial may take."`
	Parameters    []TuningParameter `ml:"parameter,block,required" doc:"A parameter and where to look for it."`
	EarlyStopping *EarlyStopping    `ml:"early_stopping,block" doc:"Stops trials that fall behind."`
}

// TuningParameter is one dimension of the search.
type TuningParameter struct {
	Name   string   `ml:"name,label"`
	Type   string   `ml:"type,default=double" enum:"double|int|categorical" doc:"Type of the values."`
	Min    *float64 `ml:"min" doc:"Least value."`
	Max    *float64 `ml:"max" doc:"Greatest value."`
	Step   *float64 `ml:"step" doc:"Distance between values; needed for a grid of doubles."`
	Log    bool     `ml:"log" doc:"Whether to search on a logarithmic scale."`
	Values []any    `ml:"values" doc:"The values of a categorical parameter."`
}

// EarlyStopping is the median rule: a trial whose metric at a step is worse than
// the median of the others at that step ends.
type EarlyStopping struct {
	Metric    string `ml:"metric" doc:"Name in ML_PROGRESS lines; default the tuning's metric."`
	MinTrials int    `ml:"min_trials,default=3,min=1" doc:"Finished trials before the rule applies."`
	MinStep   int64  `ml:"min_step,default=1,min=0" doc:"Steps that each trial may take."`
}

// TrainingOutputs is what other blocks may use of a training.
type TrainingOutputs struct {
	Address string             `ml:"address" doc:"Address of the training."`
	Model   *Model             `ml:"model" doc:"The current version."`
	Metrics map[string]float64 `ml:"metrics" doc:"Metrics of the current version."`
	Version int                `ml:"version" doc:"Number of the current version."`
}

func trainingKind() Kind {
	return Kind{
		Name: "training", Class: resource.Run, Versioned: true,
		Doc:  "Runs a command that writes a model into ML_MODEL_DIR. Each success is an immutable version. It runs when its command, code, data or parameters moved, or when retrain asks for it.",
		Spec: Training{}, Outputs: TrainingOutputs{},
		Probes: []string{"code"}, ProbeCodes: codeProbe,
		Check: checkTraining, Retries: retries, Triggers: triggers,
	}
}

func checkTraining(v cty.Value) []Problem {
	ps := append(needsCommand(v), checkRetrain(v)...)
	t, ok := known(v, "tuning")
	if !ok {
		return ps
	}
	grid := false
	if m, ok := known(t, "method"); ok {
		grid = m.AsString() == "grid"
	}
	for _, p := range blocks(t, "parameter") {
		ps = append(ps, checkParameter(p, grid)...)
	}
	return ps
}

func checkParameter(v cty.Value, grid bool) []Problem {
	if !v.IsWhollyKnown() {
		return nil
	}
	var p TuningParameter
	if err := resource.Decode(v, &p); err != nil {
		return []Problem{{"tuning.parameter", "This parameter cannot be searched", err.Error() + ". A double or int has min and max; a categorical has values."}}
	}
	problem := func(what string) []Problem {
		return []Problem{{"tuning.parameter", "This parameter cannot be searched", fmt.Sprintf("Parameter %q %s. A double or int has min and max; a categorical has values; a grid of doubles has step.", p.Name, what)}}
	}
	switch {
	case p.Type == "categorical" && len(p.Values) == 0:
		return problem("has no values")
	case p.Type == "categorical":
		return nil
	case p.Min == nil || p.Max == nil:
		return problem("needs min and max")
	case *p.Min > *p.Max:
		return problem("has its min above its max")
	case p.Log && *p.Min <= 0:
		return problem("is logarithmic, so its min must be above 0")
	case grid && p.Type == "double" && p.Step == nil:
		return problem("needs a step in a grid")
	case p.Step != nil && *p.Step <= 0:
		return problem("needs a step above 0")
	}
	return nil
}

// triggers reads the retrain block; its `on` list is read by the loader, which
// knows what may stand there.
// Slots reads the schedule of a retrain block, five fields of cron in a time zone
// (UTC when empty), and gives the function that finds the first slot after a time;
// its result is zero when there is none.
func Slots(schedule, zone string) (func(time.Time) time.Time, error) {
	loc, err := time.LoadLocation(zone) // "" is UTC
	if err != nil {
		return nil, fmt.Errorf("there is no time zone %q; write one such as \"Europe/Berlin\"", zone)
	}
	sched, err := cron.ParseStandard(schedule)
	if err != nil {
		return nil, fmt.Errorf("%q is no schedule: %w; write five fields, such as \"0 3 * * 1\" for Mondays at three", schedule, err)
	}
	return func(after time.Time) time.Time { return sched.Next(after.In(loc)) }, nil
}

// checkRetrain finds what would never ask for a run, or hold none back.
func checkRetrain(v cty.Value) []Problem {
	r, ok := known(v, "retrain")
	if !ok {
		return nil
	}
	var ps []Problem
	text := func(name string) string {
		if a, ok := known(r, name); ok {
			return a.AsString()
		}
		return ""
	}
	if schedule := text("schedule"); schedule != "" {
		next, err := Slots(schedule, text("time_zone"))
		switch {
		case err != nil:
			ps = append(ps, Problem{"retrain.schedule", "This schedule cannot be read", sentence(err) + "."})
		case next(time.Unix(0, 0)).IsZero():
			ps = append(ps, Problem{"retrain.schedule", "This schedule never comes", fmt.Sprintf("No day fits %q. Write five fields, such as \"0 3 * * 1\" for Mondays at three.", schedule)})
		}
	}
	if b, ok := known(r, "budget"); ok {
		if per, ok := known(b, "per"); ok {
			if d, err := resource.ParseDuration(per.AsString()); err == nil && d == 0 {
				ps = append(ps, Problem{"retrain.budget", "This budget holds nothing back", "per is a period of no length. Write one such as \"7d\"."})
			}
		}
	}
	return ps
}

func triggers(v cty.Value) (resource.Triggers, error) {
	r, ok := known(v, "retrain")
	if !ok {
		return resource.Triggers{}, nil
	}
	var rt Retrain
	if err := resource.Decode(r, &rt); err != nil {
		return resource.Triggers{}, err
	}
	t := resource.Triggers{
		Schedule: rt.Schedule, TimeZone: rt.TimeZone, MaxAge: rt.MaxAge,
		MinNewRows: rt.MinNewRows, Cooldown: rt.Cooldown,
	}
	if rt.Budget != nil {
		t.BudgetRuns, t.BudgetPer = rt.Budget.Runs, rt.Budget.Per
	}
	return t, nil
}
