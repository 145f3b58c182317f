package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/continuo-ml/continuo/internal/runner"
)

// point is one value that a trial reported.
type point struct{ step, value float64 }

// watch follows the progress of one trial and stops it when it falls behind.
type watch struct {
	tuner  *tuner
	ctx    context.Context // of the one call that waits for the trial; the runner's callback has no parameter for it
	number int
	show   func(runner.Progress)
	done   bool
	err    error
}

func (w *watch) progress(p runner.Progress) {
	w.show(p)
	u := w.tuner
	behind, median := u.note(w.number, p)
	if !behind || w.done {
		return
	}
	w.done = true
	t := u.get(w.number)
	v := u.lastValue(w.number)
	t.State, t.Step, t.Value = trialStopped, p.Step, &v
	t.Reason = fmt.Sprintf("%s %.4g is worse than the median %.4g of the others", u.stopMetric(), v, median)
	// Recorded first: whoever finds the trial cancelled must know that it was us.
	w.err = u.put(t)
	if w.err == nil {
		w.err = u.op.exec.Cancel(w.ctx, u.op.at(trialName(w.number)), 0)
	}
}

func (u *tuner) stopMetric() string {
	if e := u.tuning.EarlyStopping; e != nil && e.Metric != "" {
		return e.Metric
	}
	return u.tuning.Metric
}

// note adds a progress line to the trial's curve, and reports whether the trial is behind the median of the finished ones at
// that step (the median stopping rule; Golovin et al. 2017, section 3.2, with values as reported instead of running averages).
func (u *tuner) note(n int, p runner.Progress) (behind bool, median float64) {
	e := u.tuning.EarlyStopping
	v, ok := p.Values[u.stopMetric()]
	if e == nil || !ok {
		return false, 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.curves[n] = append(u.curves[n], point{p.Step, v})
	if p.Step < float64(e.MinStep) {
		return false, 0
	}
	var others []float64
	for _, t := range u.trials {
		if t.Number == n || t.State != trialDone {
			continue
		}
		if v, ok := valueAt(u.curves[t.Number], p.Step); ok {
			others = append(others, v)
		}
	}
	if len(others) < max(e.MinTrials, 1) {
		return false, 0
	}
	median = medianOf(others)
	return u.better(median, v), median
}

// valueAt is the last value that a trial had reported by a step.
func valueAt(curve []point, step float64) (v float64, ok bool) {
	for _, p := range curve {
		if p.step <= step {
			v, ok = p.value, true
		}
	}
	return v, ok
}

func medianOf(values []float64) float64 {
	slices.Sort(values)
	mid := len(values) / 2
	if len(values)%2 == 1 {
		return values[mid]
	}
	return (values[mid-1] + values[mid]) / 2
}

func (u *tuner) lastValue(n int) float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	curve := u.curves[n]
	return curve[len(curve)-1].value
}

// replay reads the curve of a trial that ended before this call.
func (u *tuner) replay(n int) error {
	if u.tuning.EarlyStopping == nil {
		return nil
	}
	r, err := runner.NewProgressReader(u.op.at(trialName(n)))
	if err != nil {
		return err
	}
	var points []point
	err = r.Next(func(p runner.Progress) {
		if v, ok := p.Values[u.stopMetric()]; ok {
			points = append(points, point{p.Step, v})
		}
	})
	if err != nil {
		return errors.Join(fmt.Errorf("read the progress of trial %d", n), err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.curves[n] = points
	return nil
}
