package runs

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"

	"github.com/continuo-ml/continuo/config"
)

// searcher chooses candidates.
type searcher interface {
	// next returns the parameters of candidate n, counted from 0, or false when the search is exhausted. It may look at what
	// the trials before found.
	next(n int, past []trial) (map[string]any, bool, error)
}

func newSearcher(t config.Tuning) (searcher, error) {
	switch t.Method {
	case "random", "":
		return randomSearch{t}, nil
	case "grid":
		return newGrid(t)
	case "tpe":
		return tpeSearch{t}, nil
	}
	return nil, fmt.Errorf("method %q is unknown; use random, grid or tpe", t.Method)
}

// randomSearch draws every candidate by itself: number n is the same however many ran before it, and in whatever order.
type randomSearch struct{ config.Tuning }

func (s randomSearch) next(n int, _ []trial) (map[string]any, bool, error) {
	rng := rand.New(rand.NewPCG(uint64(s.Seed), uint64(n)))
	out := make(map[string]any, len(s.Parameters))
	for _, p := range s.Parameters {
		v, err := draw(rng, p)
		if err != nil {
			return nil, false, err
		}
		out[p.Name] = v
	}
	return out, true, nil
}

func draw(rng *rand.Rand, p config.TuningParameter) (any, error) {
	if p.Type == "categorical" {
		if len(p.Values) == 0 {
			return nil, fmt.Errorf("parameter %q has no values", p.Name)
		}
		return p.Values[rng.IntN(len(p.Values))], nil
	}
	r, err := rangeOf(p)
	if err != nil {
		return nil, err
	}
	u := rng.Float64()
	if r.log {
		return r.value(math.Exp(math.Log(r.from) + u*(math.Log(r.to)-math.Log(r.from)))), nil
	}
	return r.value(r.from + u*(r.to-r.from)), nil
}

// span is the range of a double or int parameter.
type span struct {
	min, max, step float64
	from, to       float64 // where to draw: half a step wider on both sides when values are rounded to steps
	log, whole     bool
}

func rangeOf(p config.TuningParameter) (span, error) {
	if p.Min == nil || p.Max == nil || *p.Min > *p.Max {
		return span{}, fmt.Errorf("parameter %q needs a min and a max that is not below it", p.Name)
	}
	r := span{min: *p.Min, max: *p.Max, log: p.Log, whole: p.Type == "int"}
	if p.Step != nil {
		r.step = *p.Step
	}
	if r.whole && r.step == 0 {
		r.step = 1
	}
	if r.log && r.min <= 0 {
		return r, fmt.Errorf("parameter %q is logarithmic, so its min must be above 0", p.Name)
	}
	r.from, r.to = r.min, r.max
	if r.step > 0 {
		// The last step may lie below max.
		last := r.min + math.Floor((r.max-r.min)/r.step+1e-9)*r.step
		r.from, r.to = r.min-r.step/2, last+r.step/2
		if r.log {
			r.from = max(r.from, r.min/2)
		}
	}
	return r, nil
}

// value rounds x to the range's steps and keeps it inside.
func (r span) value(x float64) any {
	if r.step > 0 {
		x = r.min + math.Round((x-r.min)/r.step)*r.step
		if x > r.max+r.step*1e-9 {
			x -= r.step
		}
	}
	x = min(max(x, r.min), r.max)
	if r.whole {
		return int64(math.Round(x))
	}
	return x
}

// grid goes through all combinations, the last parameter fastest.
type grid struct {
	names  []string
	values [][]any
}

// maxGrid bounds the values of one dimension: more is a typing mistake in step.
const maxGrid = 100_000

func newGrid(t config.Tuning) (*grid, error) {
	g := &grid{}
	for _, p := range t.Parameters {
		vs, err := gridValues(p)
		if err != nil {
			return nil, err
		}
		g.names, g.values = append(g.names, p.Name), append(g.values, vs)
	}
	return g, nil
}

func gridValues(p config.TuningParameter) ([]any, error) {
	if p.Type == "categorical" {
		if len(p.Values) == 0 {
			return nil, fmt.Errorf("parameter %q has no values", p.Name)
		}
		return p.Values, nil
	}
	r, err := rangeOf(p)
	if err != nil {
		return nil, err
	}
	if r.step <= 0 {
		return nil, fmt.Errorf("parameter %q needs a step in a grid", p.Name)
	}
	n := math.Floor((r.max-r.min)/r.step+1e-9) + 1
	if n > maxGrid {
		return nil, fmt.Errorf("parameter %q has %.0f steps, more than %d; choose a larger step", p.Name, n, maxGrid)
	}
	var out []any
	for i := range int(n) {
		out = append(out, r.value(r.min+float64(i)*r.step))
	}
	return out, nil
}

func (g *grid) next(n int, _ []trial) (map[string]any, bool, error) {
	out := make(map[string]any, len(g.names))
	for i := len(g.names) - 1; i >= 0; i-- {
		k := len(g.values[i])
		out[g.names[i]] = g.values[i][n%k]
		n /= k
	}
	return out, n == 0, nil
}

// number is a recorded value as float64; records that went through JSON hold float64 for int64.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	}
	return 0, false
}

// sameValue compares two values of a categorical parameter, whether or not they went through JSON.
func sameValue(a, b any) bool {
	x, ok := number(a)
	y, also := number(b)
	if ok && also {
		return x == y
	}
	return reflect.DeepEqual(a, b)
}
