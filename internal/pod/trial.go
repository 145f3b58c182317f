package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/continuo-ml/continuo/internal/runner"
)

// Trial makes a task one candidate of a search that a service of the cluster conducts: the service chooses the parameters, one text in
// the container's environment each, and reads the metric out of a file in the container.
type Trial struct {
	NameEnv string       `json:"name_env"` // variable with the candidate's name: its run is the task's id, a dot, and this
	Params  []TrialParam `json:"params"`
	Metric  string       `json:"metric"`
	File    string       `json:"file"` // gets the line METRIC=VALUE once the command has ended well; its folder is made
}

// TrialParam is a parameter that the service chooses.
type TrialParam struct {
	Name string `json:"name"`
	Env  string `json:"env"`  // variable with the chosen value
	Type string `json:"type"` // double, int or categorical
	// Values are those of a categorical parameter; the variable has one of them as Text writes it.
	Values []any `json:"values,omitempty"`
}

// Text is how a value of a categorical parameter is written: text as it is, all else as JSON.
func Text(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("write %v as text: %w", v, err)
	}
	return string(b), nil
}

// Value reads the parameter out of a text: a json.Number, or one of Values.
func (p TrialParam) Value(text string) (any, error) {
	if p.Type == "categorical" {
		for _, v := range p.Values {
			if s, err := Text(v); err == nil && s == text {
				return v, nil
			}
		}
		return nil, fmt.Errorf("parameter %q: the search gave %q, which is none of its values", p.Name, text)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, fmt.Errorf("parameter %q: the search gave %q, which is no number", p.Name, text)
	}
	if p.Type == "int" {
		if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return nil, fmt.Errorf("parameter %q: the search gave %q, which is no whole number", p.Name, text)
		}
		text = strconv.FormatInt(int64(f), 10)
	}
	if !json.Valid([]byte(text)) { // such as "+1" or ".5"
		text = strconv.FormatFloat(f, 'g', -1, 64)
	}
	return json.Number(text), nil
}

// candidate puts what the service chose into the task.
func (t *Task) candidate(getenv func(string) string) error {
	if t.Trial == nil {
		return nil
	}
	name := getenv(t.Trial.NameEnv)
	if name == "" {
		return fmt.Errorf("the search did not say which candidate this is: %s is not set", t.Trial.NameEnv)
	}
	if t.ID += "." + name; !isTag(t.ID) {
		return fmt.Errorf("the search called this candidate %q, and %q cannot be the tag of its result", name, t.ID)
	}
	params := maps.Clone(t.Params)
	if params == nil {
		params = map[string]any{}
	}
	for _, p := range t.Trial.Params {
		v, err := p.Value(getenv(p.Env))
		if err != nil {
			return err
		}
		params[p.Name] = v
	}
	t.Params = params
	return nil
}

func (t *Trial) check() error {
	if t.NameEnv == "" || t.Metric == "" || !filepath.IsAbs(t.File) {
		return errors.New("trial: name the variable with its name, a metric and an absolute file for it")
	}
	if slices.ContainsFunc(t.Params, func(p TrialParam) bool { return p.Name == "" || p.Env == "" }) {
		return errors.New("trial: each parameter has a name and a variable")
	}
	return nil
}

// answer gives the service its metric. A candidate without one has failed: nobody could compare it.
func (t *Trial) answer(metrics []byte) error {
	if metrics == nil {
		return fmt.Errorf("it wrote no metrics; write {%q: …} to ML_METRICS", t.Metric)
	}
	m, err := runner.ParseMetrics(metrics)
	if err != nil {
		return fmt.Errorf("ML_METRICS: %w", err)
	}
	v, ok := m.Values[t.Metric]
	if !ok {
		return fmt.Errorf("the metric %q is not in ML_METRICS", t.Metric)
	}
	err = os.MkdirAll(filepath.Dir(t.File), 0o755)
	if err == nil {
		err = os.WriteFile(t.File, []byte(t.Metric+"="+strconv.FormatFloat(v, 'g', -1, 64)+"\n"), 0o644)
	}
	if err != nil {
		return fmt.Errorf("give the search its metric: %w", err)
	}
	return nil
}

// answerSearch is what a trial does besides when its command has ended well.
func (r *run) answerSearch(a attempt, st *runner.Status) {
	if r.Task.Trial == nil || st.Phase != runner.Succeeded || !r.node.first() {
		return
	}
	metrics, err := os.ReadFile(filepath.Join(a.run(), metricsFile)) // the runner has looked at it
	if errors.Is(err, fs.ErrNotExist) {
		metrics, err = nil, nil
	}
	if err == nil {
		err = r.Task.Trial.answer(metrics)
	}
	if err != nil {
		st.Phase, st.Message = runner.Failed, err.Error()
	}
}
