package runs

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/c-bata/goptuna"
	"github.com/c-bata/goptuna/tpe"

	"github.com/continuo-ml/continuo/config"
)

// tpeStartup is how many trials are drawn at random before the estimator has enough to go by.
const tpeStartup = 10

// tpeSearch chooses by the tree-structured Parzen estimator (Bergstra et al. 2011), as goptuna implements it. A study is made anew
// from the recorded trials for every candidate, so a search that was interrupted goes on from its records. The library draws in
// part from a source that cannot be seeded: two searches with one seed may differ after their first ten trials, and it is the
// record that keeps each of them whole.
type tpeSearch struct{ config.Tuning }

func (s tpeSearch) next(n int, past []trial) (_ map[string]any, _ bool, err error) {
	usable := slices.DeleteFunc(slices.Clone(past), func(t trial) bool {
		return t.Value == nil || t.State != trialDone && t.State != trialStopped
	})
	if len(usable) < tpeStartup {
		return randomSearch(s).next(n, past)
	}
	defer func() {
		// The library panics on what it cannot estimate; no search is worth the process.
		if p := recover(); p != nil {
			err = fmt.Errorf("tpe: %v", p)
		}
	}()
	dims := make([]dimension, len(s.Parameters))
	for i, p := range s.Parameters {
		if dims[i], err = dimensionOf(p); err != nil {
			return nil, false, err
		}
	}
	study, err := s.study(dims, usable)
	if err != nil {
		return nil, false, fmt.Errorf("tpe: %w", err)
	}
	sampler := tpe.NewSampler(tpe.SamplerOptionSeed(s.Seed + int64(n)))
	out := make(map[string]any, len(dims))
	for _, d := range dims {
		if d.single != nil {
			out[d.name] = d.single
			continue
		}
		x, err := sampler.Sample(study, goptuna.FrozenTrial{}, d.name, d.distribution)
		if err != nil {
			return nil, false, fmt.Errorf("tpe: parameter %q: %w", d.name, err)
		}
		out[d.name] = d.external(x)
	}
	return out, true, nil
}

// study is the past as goptuna holds it.
func (s tpeSearch) study(dims []dimension, past []trial) (*goptuna.Study, error) {
	direction := goptuna.StudyDirectionMaximize
	if s.Goal == "minimize" {
		direction = goptuna.StudyDirectionMinimize
	}
	study, err := goptuna.CreateStudy("tuning", goptuna.StudyOptionDirection(direction), goptuna.StudyOptionLogger(nil))
	if err != nil {
		return nil, err
	}
	// The storage asks for times, nothing looks at them.
	at := time.Unix(0, 0)
	for _, t := range past {
		f := goptuna.FrozenTrial{
			State: goptuna.TrialStateComplete, Value: *t.Value, DatetimeStart: at, DatetimeComplete: at,
			InternalParams: map[string]float64{}, Distributions: map[string]any{},
		}
		if t.State == trialStopped {
			f.State = goptuna.TrialStatePruned
			f.IntermediateValues = map[int]float64{max(int(t.Step), 1): *t.Value}
		}
		for _, d := range dims {
			if x, ok := d.internal(t.Params[d.name]); ok && d.single == nil {
				f.InternalParams[d.name], f.Distributions[d.name] = x, d.distribution
			}
		}
		if _, err := study.Storage.CloneTrial(study.ID, f); err != nil {
			return nil, err
		}
	}
	return study, nil
}

// dimension is a parameter as goptuna sees it: a number under a distribution.
type dimension struct {
	name         string
	single       any // the only value, which needs no estimate
	distribution any
	values       []any // of a categorical one
	span         span
}

func dimensionOf(p config.TuningParameter) (dimension, error) {
	d := dimension{name: p.Name}
	if p.Type == "categorical" {
		d.values = p.Values
		choices := make([]string, len(p.Values))
		for i := range choices {
			choices[i] = strconv.Itoa(i)
		}
		d.distribution = goptuna.CategoricalDistribution{Choices: choices}
		switch len(p.Values) {
		case 0:
			return d, fmt.Errorf("parameter %q has no values", p.Name)
		case 1:
			d.single = p.Values[0]
		}
		return d, nil
	}
	r, err := rangeOf(p)
	if err != nil {
		return d, err
	}
	d.span = r
	switch {
	case r.min == r.max:
		d.single = r.value(r.min)
	case r.log:
		d.distribution = goptuna.LogUniformDistribution{Low: r.min, High: r.max}
	case r.step > 0:
		d.distribution = goptuna.DiscreteUniformDistribution{Low: r.min, High: r.max, Q: r.step}
	default:
		d.distribution = goptuna.UniformDistribution{Low: r.min, High: r.max}
	}
	return d, nil
}

// internal is a recorded value as goptuna holds it.
func (d dimension) internal(v any) (float64, bool) {
	if d.values == nil {
		return number(v)
	}
	i := slices.IndexFunc(d.values, func(w any) bool { return sameValue(v, w) })
	return float64(i), i >= 0
}

// external is the reverse, rounded and kept inside its range.
func (d dimension) external(x float64) any {
	if d.values == nil {
		return d.span.value(x)
	}
	return d.values[min(max(int(math.Round(x)), 0), len(d.values)-1)]
}
