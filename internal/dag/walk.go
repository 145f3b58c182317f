package dag

import (
	"container/heap"
	"context"
	"fmt"
	"strings"
)

// WalkError is what a walk returns when not every key went well.
type WalkError[K comparable] struct {
	// Failed holds the error of each key whose call returned one.
	Failed map[K]error
	// Skipped names, for each key that was not called because of a failure, the
	// direct need that failed or was itself skipped.
	Skipped map[K]K
	// NotStarted are the keys that the end of the context kept from being
	// called, in the order in which they were added.
	NotStarted []K
	// Cause is the context's error when NotStarted is not empty, else nil.
	Cause error

	order []K // of Failed, for messages that do not depend on timing
}

// Error is one line per failed key, then how many were skipped or not started.
func (e *WalkError[K]) Error() string {
	var lines []string
	for _, k := range e.order {
		lines = append(lines, fmt.Sprintf("%v: %v", k, e.Failed[k]))
	}
	if n := len(e.Skipped); n > 0 {
		lines = append(lines, fmt.Sprintf("%d skipped because something they need failed", n))
	}
	if n := len(e.NotStarted); n > 0 {
		lines = append(lines, fmt.Sprintf("%d not started: %v", n, e.Cause))
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the errors of all calls and the context's, for errors.Is and errors.As.
func (e *WalkError[K]) Unwrap() []error {
	var errs []error
	for _, k := range e.order {
		errs = append(errs, e.Failed[k])
	}
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	return errs
}

// WhyBlocked is the way from a skipped key to the failure behind it: k first,
// each needing the next, the key that failed last. It is nil when k was not skipped.
func (e *WalkError[K]) WhyBlocked(k K) []K {
	need, ok := e.Skipped[k]
	if !ok {
		return nil
	}
	path := []K{k}
	for ; ok; need, ok = e.Skipped[need] {
		path = append(path, need)
	}
	return path
}

// Walk calls fn once for each key when fn has returned nil for all that it
// needs, at most limit at a time (under 1 counts as 1); of the keys that could
// start, the one added first does. When fn fails, what needs that key is
// skipped, and everything else goes on. When ctx ends nothing new starts, and
// Walk waits for the calls that are running: they get the same ctx.
//
// It returns nil when every call returned nil, a [*CycleError] before any call
// when there is no order, and otherwise a [*WalkError].
func (g *Graph[K]) Walk(ctx context.Context, limit int, fn func(context.Context, K) error) error {
	byAge := func(a, b K) int { return g.index[a] - g.index[b] }
	if _, err := g.Order(byAge); err != nil {
		return err
	}
	w := &walk[K]{
		g: g, waiting: g.needCounts(), started: make([]bool, len(g.keys)),
		ready: &queue{before: func(i, j int) bool { return i < j }},
		err:   &WalkError[K]{Failed: map[K]error{}, Skipped: map[K]K{}},
	}
	for i, n := range w.waiting {
		if n == 0 {
			heap.Push(w.ready, i)
		}
	}
	w.run(ctx, max(limit, 1), fn)
	return w.result(ctx)
}

// walk is the bookkeeping of one Walk; only the goroutine that called Walk touches it.
type walk[K comparable] struct {
	g       *Graph[K]
	waiting []int // needs that have not gone well yet
	started []bool
	ready   *queue
	err     *WalkError[K]
}

type ended struct {
	i   int
	err error
}

func (w *walk[K]) run(ctx context.Context, limit int, fn func(context.Context, K) error) {
	done := make(chan ended)
	running := 0
	for {
		for running < limit && w.ready.Len() > 0 && ctx.Err() == nil {
			i := heap.Pop(w.ready).(int)
			w.started[i] = true
			running++
			go func() { done <- ended{i, fn(ctx, w.g.keys[i])} }()
		}
		if running == 0 {
			return
		}
		e := <-done
		running--
		if e.err != nil {
			w.err.Failed[w.g.keys[e.i]] = e.err
			w.skip(e.i)
			continue
		}
		for _, j := range w.g.neededBy[e.i] {
			if w.waiting[j]--; w.waiting[j] == 0 {
				heap.Push(w.ready, j)
			}
		}
	}
}

// skip marks all that needs i, near or far. A key that waits for a failed one
// never gets ready, so marking is all there is to do.
func (w *walk[K]) skip(i int) {
	for todo := []int{i}; len(todo) > 0; todo = todo[1:] {
		for _, j := range w.g.neededBy[todo[0]] {
			if _, seen := w.err.Skipped[w.g.keys[j]]; !seen {
				w.err.Skipped[w.g.keys[j]] = w.g.keys[todo[0]]
				todo = append(todo, j)
			}
		}
	}
}

func (w *walk[K]) result(ctx context.Context) error {
	for i, k := range w.g.keys {
		if _, failed := w.err.Failed[k]; failed {
			w.err.order = append(w.err.order, k)
		}
		if _, skipped := w.err.Skipped[k]; !skipped && !w.started[i] {
			w.err.NotStarted = append(w.err.NotStarted, k)
		}
	}
	if len(w.err.NotStarted) > 0 {
		w.err.Cause = ctx.Err()
	}
	if len(w.err.order) == 0 && w.err.Cause == nil {
		return nil
	}
	return w.err
}
