package runs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
)

// The states of a trial.
const (
	trialRunning = "running"
	trialDone    = "done"
	trialFailed  = "failed"  // it errored, or wrote no usable metric
	trialStopped = "stopped" // it fell behind the median of the others
)

// trial is one candidate and what came of it. It is stored before the trial starts, so that a search that was interrupted goes
// on with the very candidates that it had chosen.
type trial struct {
	Number int            `json:"number"`
	Params map[string]any `json:"params"`
	State  string         `json:"state"`
	Value  *float64       `json:"value,omitempty"` // of the tuning's metric; of a stopped trial the last that it reported
	Step   float64        `json:"step,omitempty"`  // at which it was stopped
	Reason string         `json:"reason,omitempty"`
}

// tuningDetail is kept with the run: every trial, and the number of the best.
type tuningDetail struct {
	Method string  `json:"method"`
	Metric string  `json:"metric"`
	Goal   string  `json:"goal"`
	Best   int     `json:"best"`
	Trials []trial `json:"trials"`
}

// params are those of the best trial.
func (d *tuningDetail) params() map[string]any { return d.Trials[d.Best-1].Params }

// tuner is one search under way.
type tuner struct {
	training *training
	spec     config.Training
	tuning   config.Tuning
	op       *op
	inputs   map[string]Input
	base     map[string]any
	search   searcher

	mu     sync.Mutex
	trials []trial         // by number - 1
	curves map[int][]point // of early_stopping's metric, by trial number
}

// tune searches for parameters. Trials are stages of the operation.
func (t *training) tune(ctx context.Context, spec config.Training, o *op, in map[string]Input, base map[string]any) (*tuningDetail, error) {
	if x, ok := t.exec.(Searcher); ok {
		elsewhere, err := x.Searches(o.req)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.req.Address, err)
		}
		if elsewhere {
			return t.search(ctx, x, spec, o, in, base)
		}
	}
	s, err := newSearcher(*spec.Tuning)
	if err != nil {
		return nil, fmt.Errorf("%s: tuning: %w", o.req.Address, err)
	}
	u := &tuner{training: t, spec: spec, tuning: *spec.Tuning, op: o, inputs: in, base: base, search: s, curves: map[int][]point{}}
	if err := u.all(ctx); err != nil {
		return nil, err
	}
	return u.detail()
}

// all runs the trials, so many at a time. A candidate is chosen when there is room for it, with what was found until then.
func (u *tuner) all(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	room := make(chan struct{}, max(u.tuning.Parallel, 1))
	for n := 1; n <= u.tuning.Trials; n++ {
		select {
		case room <- struct{}{}:
		case <-inner.Done():
		}
		if inner.Err() != nil {
			break
		}
		more, err := u.choose(n)
		if err != nil {
			group.Go(func() error { return err })
		}
		if err != nil || !more {
			break
		}
		group.Go(func() error {
			defer func() { <-room }()
			return u.one(inner, n)
		})
	}
	err := group.Wait()
	if err != nil && ctx.Err() == nil {
		// Detached trials would run on for a search that has failed.
		err = errors.Join(err, u.stopAll(ctx))
	}
	return cmp.Or(err, ctx.Err())
}

func (u *tuner) stopAll(ctx context.Context) error {
	var err error
	for n := range len(u.trials) {
		err = errors.Join(err, u.op.exec.Cancel(ctx, u.op.at(trialName(n+1)), 0))
	}
	return err
}

func trialName(n int) string { return fmt.Sprintf("trial-%03d", n) }

func (u *tuner) recordPath(n int) string {
	return u.op.at(filepath.Join("trials", trialName(n)+".json"))
}

// choose sets candidate n, as recorded or anew, and reports whether there is one.
func (u *tuner) choose(n int) (bool, error) {
	var t trial
	known, err := durable.ReadJSON(u.recordPath(n), &t)
	if err != nil {
		return false, err
	}
	if !known {
		u.mu.Lock()
		past := slices.Clone(u.trials)
		u.mu.Unlock()
		ps, ok, err := u.search.next(n-1, past)
		if err != nil {
			return false, fmt.Errorf("%s: tuning: choose trial %d: %w", u.op.req.Address, n, err)
		}
		if !ok {
			return false, nil
		}
		t = trial{Number: n, Params: ps, State: trialRunning}
		if err := durable.WriteJSON(u.recordPath(n), t); err != nil {
			return false, err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.trials = append(u.trials, t)
	return true, nil
}

func (u *tuner) get(n int) trial {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.trials[n-1]
}

// put records how a trial ended.
func (u *tuner) put(t trial) error {
	if err := durable.WriteJSON(u.recordPath(t.Number), t); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.trials[t.Number-1] = t
	return nil
}

// one brings a trial to its end. It errors only when the whole search is over: cancelled, or too many trials failed.
func (u *tuner) one(ctx context.Context, n int) error {
	t := u.get(n)
	if t.State == trialRunning || t.State == trialStopped {
		var err error
		if t, err = u.execute(ctx, t); err != nil {
			return err
		}
	} else if err := u.replay(n); err != nil {
		return err
	}
	if t.State != trialFailed {
		return nil
	}
	if failed := u.failures(); failed > u.tuning.MaxFailed {
		return &providers.RunError{
			Err: fmt.Errorf("%s: tuning failed: %d trials failed, max_failed is %d; the last: %s", u.op.req.Address, failed, u.tuning.MaxFailed, t.Reason),
			Ref: u.op.ref(),
		}
	}
	return nil
}

func (u *tuner) failures() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for _, t := range u.trials {
		if t.State == trialFailed {
			n++
		}
	}
	return n
}

func (u *tuner) execute(ctx context.Context, t trial) (trial, error) {
	name := trialName(t.Number)
	s := u.training.call(u.op, name, u.spec, merged(u.base, t.Params))
	s.Inputs = u.inputs
	if u.tuning.Timeout > 0 {
		s.Spec.Timeout = u.tuning.Timeout
	}
	w := &watch{tuner: u, ctx: ctx, number: t.Number, show: u.op.progress(fmt.Sprintf("trial %d", t.Number))}
	st, err := u.op.run(ctx, name, s, w.progress)
	if err = errors.Join(err, w.err); err != nil {
		return t, err
	}
	t = u.get(t.Number) // The watch may have stopped it.
	switch {
	case st.Phase == runner.Cancelled && t.State == trialStopped:
	case st.Phase == runner.Cancelled:
		return t, u.op.failure(name, st)
	case st.Phase != runner.Succeeded:
		t.State, t.Value, t.Reason = trialFailed, nil, st.Message
	default:
		t = u.measured(t)
	}
	if err := os.RemoveAll(filepath.Join(u.op.at(name), "model")); err != nil {
		return t, err
	}
	text := trialText(t, u.tuning.Metric)
	if n := len(st.LastLogLines); n > 0 && t.State == trialFailed {
		text += ": " + st.LastLogLines[n-1]
	}
	u.op.log("trial %d %s", t.Number, text)
	return t, u.put(t)
}

// measured reads the metric of a trial that ended well.
func (u *tuner) measured(t trial) trial {
	m, err := runner.ReadMetrics(u.op.at(trialName(t.Number)))
	v, ok := m.Values[u.tuning.Metric]
	t.State, t.Value, t.Step, t.Reason = trialFailed, nil, 0, ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.Reason = fmt.Sprintf("it wrote no metrics; write {%q: …} to ML_METRICS", u.tuning.Metric)
	case err != nil:
		t.Reason = err.Error()
	case !ok:
		t.Reason = fmt.Sprintf("the metric %q is not in ML_METRICS", u.tuning.Metric)
	default:
		t.State, t.Value = trialDone, &v
	}
	return t
}

func trialText(t trial, metric string) string {
	switch t.State {
	case trialDone:
		return fmt.Sprintf("done: %s %.4g", metric, *t.Value)
	case trialStopped:
		return fmt.Sprintf("stopped at step %g: %s", t.Step, t.Reason)
	}
	return "failed: " + t.Reason
}

// better reports whether a beats b.
func (u *tuner) better(a, b float64) bool {
	if u.tuning.Goal == "minimize" {
		return a < b
	}
	return a > b
}

// detail names the best trial: of equals the first.
func (u *tuner) detail() (*tuningDetail, error) {
	d := &tuningDetail{Method: u.tuning.Method, Metric: u.tuning.Metric, Goal: u.tuning.Goal, Trials: u.trials}
	for _, t := range u.trials {
		if t.State == trialDone && (d.Best == 0 || u.better(*t.Value, *u.trials[d.Best-1].Value)) {
			d.Best = t.Number
		}
	}
	if d.Best == 0 {
		why := "no trial was run"
		if len(u.trials) > 0 {
			why = u.trials[len(u.trials)-1].Reason
		}
		return nil, &providers.RunError{Err: fmt.Errorf("%s: tuning failed: no trial wrote the metric %q; the last: %s", u.op.req.Address, u.tuning.Metric, why), Ref: u.op.ref()}
	}
	u.op.log("tuning: trial %d of %d is best: %s %.4g", d.Best, len(d.Trials), d.Metric, *d.Trials[d.Best-1].Value)
	return d, nil
}
