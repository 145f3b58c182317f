package watch

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/drift"
	"github.com/continuo-ml/continuo/resource"
)

const (
	// maxInstances bounds the instances of one window that are compared; of more, every second, fourth … stays.
	maxInstances = 50_000
	// shownColumns is how many drifted columns a message names.
	shownColumns = 3
	// missingMethod stands for a column that the window lacks altogether.
	missingMethod drift.Method = "missing"
	// predictionColumn is what predictions are called in a report.
	predictionColumn = "prediction"
)

// driftEvidence is what a drift signal rests on.
type driftEvidence struct {
	Window    driftSpan      `json:"window"`
	Share     float64        `json:"share"`
	Columns   []drift.Result `json:"columns,omitempty"`
	Nulls     map[string]int `json:"nulls,omitempty"` // missing or unreadable values by feature
	Predicted *drift.Result  `json:"predictions,omitempty"`
	Notes     []string       `json:"notes,omitempty"`
}

type driftSpan struct {
	stretch
	Instances int `json:"instances"`
	Compared  int `json:"compared"`
}

// driftWindow gathers the instances of one window, thinned evenly when there are many.
type driftWindow struct {
	features    []string
	rows        [][]any
	predictions []any
	instances   int
	unequal     int // instances whose list is not as long as the features
	stride      int
}

func (w *driftWindow) add(q request) {
	for i, inst := range q.instances {
		w.instances++
		if inst.Named == nil && len(inst.Values) != len(w.features) {
			w.unequal++
		}
		w.stride = max(w.stride, 1)
		if (w.instances-1)%w.stride != 0 {
			continue
		}
		row := make([]any, len(w.features))
		for f, name := range w.features {
			if inst.Named != nil {
				row[f] = inst.Named[name]
			} else if f < len(inst.Values) {
				row[f] = inst.Values[f]
			}
		}
		var p any
		if i < len(q.predictions) {
			p = q.predictions[i]
		}
		w.rows, w.predictions = append(w.rows, row), append(w.predictions, p)
		if len(w.rows) >= maxInstances {
			w.thin()
		}
	}
}

// thin keeps every second row, and from now on every second of those that would have been kept.
func (w *driftWindow) thin() {
	n := 0
	for i := 0; i < len(w.rows); i += 2 {
		w.rows[n], w.predictions[n] = w.rows[i], w.predictions[i]
		n++
	}
	clear(w.rows[n:])
	clear(w.predictions[n:])
	w.rows, w.predictions = w.rows[:n], w.predictions[:n]
	w.stride *= 2
}

// sample makes one feature comparable with the reference's column. What cannot be read as that counts as null.
func sample(name string, numeric bool, values func(yield func(any) bool)) drift.Sample {
	s := drift.Sample{Name: name, Numeric: numeric}
	for v := range values {
		if numeric {
			if f, ok := asNumber(v); ok {
				s.Numbers = append(s.Numbers, f)
				continue
			}
		} else if c, ok := asText(v); ok {
			s.Values = append(s.Values, c)
			continue
		}
		s.Nulls++
	}
	return s
}

func (w *driftWindow) column(i int) func(yield func(any) bool) {
	return func(yield func(any) bool) {
		for _, r := range w.rows {
			if !yield(r[i]) {
				return
			}
		}
	}
}

// judgeDrift compares a window with the reference.
func judgeDrift(at stretch, w *driftWindow, ref *reference, d config.Drift, least int) (opinion, error) {
	ev := driftEvidence{Window: driftSpan{stretch: at, Instances: w.instances, Compared: len(w.rows)}}
	if w.instances == 0 {
		return opinion{resource.SignalNoData, "drift: no instances in this window", ev}, nil
	}
	if w.instances < least {
		return opinion{resource.SignalTooFew, fmt.Sprintf("drift: %d instances, %d are needed (min_samples)", w.instances, least), ev}, nil
	}
	results, err := compareFeatures(w, ref, d, &ev)
	if err != nil {
		return opinion{}, err
	}
	features := len(results)
	p, err := comparePredictions(w, ref, d, &ev)
	if err != nil {
		return opinion{}, err
	}
	if p != nil {
		results = append(results, *p)
	}
	if results, err = drift.Correct(results, drift.Correction(d.Correction)); err != nil {
		return opinion{}, err
	}
	report := drift.Dataset(results, d.Share)
	ev.Share, ev.Columns = report.Share, results[:features]
	if p != nil {
		ev.Predicted = &results[features]
	}
	slices.SortFunc(ev.Columns, func(a, b drift.Result) int { return strings.Compare(a.Column, b.Column) })
	return driftOpinion(report, ev), nil
}

// compareFeatures compares column by column. A feature that no request of the window had has drifted as far as it can.
func compareFeatures(w *driftWindow, ref *reference, d config.Drift, ev *driftEvidence) ([]drift.Result, error) {
	overrides := map[string]config.DriftColumn{}
	for _, o := range d.Overrides {
		overrides[o.Name] = o
	}
	if w.unequal > 0 {
		ev.Notes = append(ev.Notes, fmt.Sprintf("%d of %d instances do not have %d values; what they lack counts as missing", w.unequal, w.instances, len(w.features)))
	}
	var out []drift.Result
	for i, name := range w.features {
		base, ok := ref.samples[name]
		if !ok || base.Rows() == 0 || len(d.Columns) > 0 && !slices.Contains(d.Columns, name) {
			continue
		}
		cur := sample(name, base.Numeric, w.column(i))
		if cur.Nulls > 0 {
			if ev.Nulls == nil {
				ev.Nulls = map[string]int{}
			}
			ev.Nulls[name] = int(cur.Nulls)
		}
		r, err := compareColumn(base, cur, d, overrides[name])
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil, errors.New("drift: no feature of the traffic is a column of the reference; name them in features")
	}
	return out, nil
}

func compareColumn(base, cur drift.Sample, d config.Drift, o config.DriftColumn) (drift.Result, error) {
	if cur.Rows() == 0 {
		kind := drift.TypeCategory
		if base.Numeric {
			kind = drift.TypeNumber
		}
		return drift.Result{Column: base.Name, Type: kind, Method: missingMethod, Statistic: 1, Threshold: 1, Drifted: true, Reference: base.Rows()}, nil
	}
	if o.Name != "" && (o.Method != "" || o.Threshold != nil) {
		m := o.Method
		if m == "" {
			m = d.Method
		}
		return drift.Compare(base, cur, drift.ColumnOptions{Method: drift.Method(m), Threshold: o.Threshold})
	}
	return drift.Fitting(base, cur, drift.ColumnOptions{Method: methodOr(d.Method), Threshold: d.Threshold})
}

func methodOr(m string) drift.Method {
	if m == "" {
		return drift.Auto
	}
	return drift.Method(m)
}

// comparePredictions compares what the model said with the reference's target. Unless it is asked for, it does so only where
// both are of one kind: the classes of a target say nothing about probabilities.
func comparePredictions(w *driftWindow, ref *reference, d config.Drift, ev *driftEvidence) (*drift.Result, error) {
	asked := d.Predictions != nil && *d.Predictions
	if d.Predictions != nil && !asked || ref.target == "" {
		return nil, nil
	}
	skip := func(why string) (*drift.Result, error) {
		if asked {
			return nil, fmt.Errorf("drift: %s", why)
		}
		ev.Notes = append(ev.Notes, why)
		return nil, nil
	}
	base := ref.samples[ref.target]
	base.Name = predictionColumn
	cur := sample(predictionColumn, base.Numeric, func(yield func(any) bool) {
		for _, p := range w.predictions {
			a, err := answer(p, ref.target)
			if err != nil {
				a = nil
			}
			if !yield(a) {
				return
			}
		}
	})
	switch {
	case base.Rows() == 0:
		return skip("the reference's target has no values")
	case cur.Rows() == 0 || int(cur.Nulls) > cur.Rows():
		return skip("predictions are not of the type of the reference's target and were not compared")
	case !asked && base.Numeric && ref.classes != nil && !mostly(ref.classes, cur.Numbers):
		return skip("predictions are no values of the reference's target and were not compared")
	}
	r, err := drift.Fitting(base, cur, drift.ColumnOptions{Method: methodOr(d.Method), Threshold: d.Threshold})
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// mostly reports whether most numbers are classes of the target.
func mostly(classes map[float64]bool, numbers []float64) bool {
	known := 0
	for _, f := range numbers {
		if classes[f] {
			known++
		}
	}
	return 2*known > len(numbers)
}

// driftOpinion words the verdict: how many columns, by which methods, and the worst of them.
func driftOpinion(r drift.Report, ev driftEvidence) opinion {
	var drifted []drift.Result
	var methods []string
	for _, c := range r.Columns {
		if c.Drifted {
			drifted = append(drifted, c)
		}
		if !slices.Contains(methods, string(c.Method)) {
			methods = append(methods, string(c.Method))
		}
	}
	slices.Sort(methods)
	head := fmt.Sprintf("%d of %d columns (%s)", len(drifted), len(r.Columns), strings.Join(methods, ", "))
	if !r.Drifted {
		return opinion{resource.SignalGood, "no drift: " + head, ev}
	}
	slices.SortStableFunc(drifted, worse)
	var worst []string
	for _, c := range drifted[:min(len(drifted), shownColumns)] {
		worst = append(worst, shown(c))
	}
	if len(drifted) > shownColumns {
		worst = append(worst, "…")
	}
	return opinion{resource.SignalBad, "drift: " + head + ": " + strings.Join(worst, ", "), ev}
}

// worse orders tests by their p-value before distances by how far they pass their threshold, then by name.
func worse(a, b drift.Result) int {
	switch {
	case a.PValue != nil && b.PValue != nil && *a.PValue != *b.PValue:
		if *a.PValue < *b.PValue {
			return -1
		}
		return 1
	case (a.PValue != nil) != (b.PValue != nil):
		if a.PValue != nil {
			return -1
		}
		return 1
	case a.PValue == nil && a.Statistic/a.Threshold != b.Statistic/b.Threshold:
		if a.Statistic/a.Threshold > b.Statistic/b.Threshold {
			return -1
		}
		return 1
	}
	return strings.Compare(a.Column, b.Column)
}

func shown(c drift.Result) string {
	switch {
	case c.Method == missingMethod:
		return c.Column + " is missing"
	case c.PValue != nil:
		return fmt.Sprintf("%s p=%.2g", c.Column, *c.PValue)
	}
	return fmt.Sprintf("%s %s=%.2g", c.Column, c.Method, c.Statistic)
}
