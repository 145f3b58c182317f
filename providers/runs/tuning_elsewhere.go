package runs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
)

// Searcher is an Executor of a place that may have a service which searches for parameters by itself.
type Searcher interface {
	// Searches says whether the step leaves its search to that service. It asks nobody.
	Searches(req providers.ApplyRequest) (bool, error)
	// Search brings a search to its end, whoever began it. For its folder the rules of Start and Wait hold: it is begun once, a search
	// that cannot be followed any more is a *providers.OpenError, and Cancel ends it with all of its candidates.
	Search(ctx context.Context, dir string, s Search) (Found, error)
}

// Search is a search for parameters by a service.
type Search struct {
	// Trial is one candidate, without the parameters that are searched for.
	Trial  Stage
	Tuning config.Tuning
	// On, which may be nil, is told of each candidate that has ended.
	On func(Candidate)
}

// Candidate is one choice of parameters and what came of it.
type Candidate struct {
	Name   string         `json:"name"`
	Params map[string]any `json:"params"`
	Value  *float64       `json:"value,omitempty"`  // of the metric; nil when it has none
	Reason string         `json:"reason,omitempty"` // why it has none
}

// short is what tells a candidate from the others of its search: a service names them after the search.
func (c Candidate) short() string { return c.Name[strings.LastIndexByte(c.Name, '-')+1:] }

// Found is the outcome of a search.
type Found struct {
	Status runner.Status `json:"status"` // its phase is Succeeded exactly if there is a best candidate
	Method string        `json:"method"` // as the service calls it
	All    []Candidate   `json:"all,omitempty"`
	Best   int           `json:"best"` // index in All
}

// searchStage is the stage of a search by a service.
const searchStage = "tuning"

// search leaves the search to a service of the executor's place.
func (t *training) search(ctx context.Context, x Searcher, spec config.Training, o *op, in map[string]Input, base map[string]any) (*tuningDetail, error) {
	s := Search{Trial: t.call(o, searchStage, spec, base), Tuning: *spec.Tuning}
	s.Trial.Inputs = in
	if spec.Tuning.Timeout > 0 {
		s.Trial.Spec.Timeout = spec.Tuning.Timeout
	}
	s.On = func(c Candidate) {
		if c.Value == nil {
			o.log("trial %s failed: %s", c.short(), c.Reason)
			return
		}
		o.log("trial %s done: %s %.4g", c.short(), spec.Tuning.Metric, *c.Value)
	}
	dir := o.at(searchStage)
	st, err := o.exec.Read(ctx, dir)
	if err != nil {
		return nil, err
	}
	if st.Phase == runner.Absent || st.Phase == runner.Starting {
		if err := o.mayBegin(ctx, s.Trial); err != nil {
			return nil, err
		}
	}
	found, err := x.Search(ctx, dir, s)
	var open *providers.OpenError
	if err != nil && ctx.Err() == nil && !errors.As(err, &open) {
		if st, rerr := o.exec.Read(ctx, dir); rerr == nil && (st.Phase == runner.Absent || st.NotBegun) {
			return nil, &providers.NotStartedError{Err: fmt.Errorf("%s: tuning: %w", o.req.Address, err)}
		}
		return nil, &providers.RunError{Err: fmt.Errorf("%s: tuning: %w", o.req.Address, err), Ref: o.ref()}
	}
	if err != nil {
		return nil, err
	}
	if err := o.failure("tuning", found.Status); err != nil {
		return nil, err
	}
	return o.detail(found, *spec.Tuning), nil
}

// detail is what is kept of a search by a service.
func (o *op) detail(found Found, t config.Tuning) *tuningDetail {
	d := &tuningDetail{Method: found.Method, Metric: t.Metric, Goal: t.Goal, Best: found.Best + 1}
	for i, c := range found.All {
		tr := trial{Number: i + 1, Params: c.Params, State: trialDone, Value: c.Value, Reason: c.Reason}
		if c.Value == nil {
			tr.State = trialFailed
		}
		d.Trials = append(d.Trials, tr)
	}
	best := found.All[found.Best]
	o.log("tuning: trial %s of %d is best: %s %.4g", best.short(), len(found.All), t.Metric, *best.Value)
	return d
}
