package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/tabular"
	"github.com/continuo-ml/continuo/resource"
)

// performanceEvidence is what a performance signal rests on.
type performanceEvidence struct {
	Window      stretch            `json:"window"`
	Predictions int                `json:"predictions"`
	Joined      int                `json:"joined"`
	Coverage    float64            `json:"coverage"` // share of predictions that have a label
	Metrics     map[string]float64 `json:"metrics,omitempty"`
	Positive    string             `json:"positive,omitempty"`
	Notes       []string           `json:"notes,omitempty"`
}

// prediction is one prediction under the id that its label comes with: the request's id, or for a request of several instances
// that id, "#" and the instance's index from 0.
type prediction struct {
	id    string
	value any
}

// predictionWindow is a window whose labels may come later.
type predictionWindow struct {
	at   stretch
	rows []prediction
}

func (w *predictionWindow) add(q request) {
	for i, p := range q.predictions {
		id := q.id
		if len(q.instances) > 1 || len(q.predictions) > 1 {
			id += "#" + strconv.Itoa(i)
		}
		w.rows = append(w.rows, prediction{id, p})
	}
}

// truth are labels by prediction id.
type truth struct {
	byID map[string]string
	// classes are the different labels of the whole data, sorted, as long as there are few.
	classes []string
}

// defaultID is the labels' column with the prediction id.
const defaultID = "prediction_id"

// maxClasses bounds the classes that are told apart; of more a positive class must be named anyway.
const maxClasses = 100

// readTruth reads the labels of the given ids. The last row of an id counts, so that a label can be corrected; a row without
// a label says nothing.
func readTruth(ctx context.Context, paths []string, format string, p config.Performance, ids map[string]bool) (_ truth, err error) {
	r, err := tabular.Open(ctx, paths, tabular.Options{Format: format})
	if err != nil {
		return truth{}, fmt.Errorf("labels: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	id := cmpOr(p.ID, defaultID)
	if err := hasColumns(r.Schema(), id, p.Label); err != nil {
		return truth{}, err
	}
	out := truth{byID: map[string]string{}}
	classes := map[string]bool{}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return truth{}, fmt.Errorf("labels: %w", err)
		}
		key, label := b.Column(id), b.Column(p.Label)
		for i := range b.Rows {
			if label.IsNull(i) {
				continue
			}
			c := class(label.Text(i))
			if len(classes) <= maxClasses {
				classes[c] = true
			}
			if k := key.Text(i); ids[k] {
				out.byID[k] = c
			}
		}
	}
	out.classes = slices.Sorted(maps.Keys(classes))
	return out, nil
}

func cmpOr(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// class spells a label or a prediction so that equal ones are equal: 1, 1.0 and true; "M" stays what it is.
func class(s string) string {
	s = strings.TrimSpace(s)
	if f, ok := asNumber(s); ok {
		if f == 0 {
			return "0" // also −0
		}
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return s
}

// judgePerformance compares the predictions that have a label with it.
func judgePerformance(w *predictionWindow, t truth, p config.Performance, least int) (opinion, error) {
	ev := performanceEvidence{Window: w.at, Predictions: len(w.rows)}
	var said, labels []string
	unreadable := 0
	for _, r := range w.rows {
		label, ok := t.byID[r.id]
		if !ok {
			continue
		}
		a, err := answer(r.value, p.Label)
		c, readable := asText(a)
		if err != nil || !readable {
			unreadable++
			continue
		}
		said, labels = append(said, class(c)), append(labels, label)
	}
	if unreadable > 0 && len(said) == 0 {
		return opinion{}, fmt.Errorf("performance: %w", errNoScalar)
	}
	if ev.Joined = len(said); ev.Predictions > 0 {
		ev.Coverage = float64(ev.Joined) / float64(ev.Predictions)
	}
	if ev.Joined < least {
		return opinion{resource.SignalTooFew, fewLabels(ev.Joined, ev.Predictions, least), ev}, nil
	}
	var err error
	if ev.Positive, err = positiveClass(p, t.classes, said); err != nil {
		return opinion{}, err
	}
	if ev.Metrics, err = measure(p.Metrics, said, labels, ev.Positive); err != nil {
		return opinion{}, err
	}
	return boundMetrics(p.Metrics, ev), nil
}

func fewLabels(joined, predictions, least int) string {
	return fmt.Sprintf("performance: %d of %d predictions have a label, %d are needed (min_samples)", joined, predictions, least)
}

// boundMetrics compares metrics with their bounds. One that is not defined for the window cannot be judged; when that is so for
// all of them, the window says nothing.
func boundMetrics(bounds []config.Bound, ev performanceEvidence) opinion {
	var over, fine []string
	for _, b := range bounds {
		v, ok := ev.Metrics[b.Name]
		switch {
		case !ok:
			ev.Notes = append(ev.Notes, b.Name+" is not defined for this window")
		case b.Min != nil && v < *b.Min:
			over = append(over, fmt.Sprintf("%s %.4g, at least %.4g", b.Name, v, *b.Min))
		case b.Max != nil && v > *b.Max:
			over = append(over, fmt.Sprintf("%s %.4g, at most %.4g", b.Name, v, *b.Max))
		default:
			fine = append(fine, fmt.Sprintf("%s %.4g", b.Name, v))
		}
	}
	of := fmt.Sprintf(" (%d of %d predictions have a label)", ev.Joined, ev.Predictions)
	switch {
	case len(over) > 0:
		return opinion{resource.SignalBad, "performance: " + strings.Join(over, "; ") + of, ev}
	case len(fine) > 0:
		return opinion{resource.SignalGood, "performance: " + strings.Join(fine, ", ") + of, ev}
	}
	return opinion{resource.SignalTooFew, "performance: " + strings.Join(ev.Notes, ", ") + of, ev}
}

// classMetrics need a positive class, numberMetrics numbers.
var (
	classMetrics  = []string{"precision", "recall", "f1"}
	numberMetrics = []string{"mae", "rmse", "r2"}
)

// checkMetrics errors on a name that is no metric.
func checkMetrics(bounds []config.Bound) error {
	known := append(append([]string{"accuracy"}, classMetrics...), numberMetrics...)
	for _, b := range bounds {
		if !slices.Contains(known, b.Name) {
			return fmt.Errorf("performance: %q is no metric that can be measured from labels; use one of %s", b.Name, strings.Join(known, ", "))
		}
	}
	return nil
}

func asks(bounds []config.Bound, names []string) bool {
	return slices.ContainsFunc(bounds, func(b config.Bound) bool { return slices.Contains(names, b.Name) })
}

// positiveClass is the named class or, of two, the one that sorts last. It is "" when no metric needs one.
func positiveClass(p config.Performance, labels, said []string) (string, error) {
	if !asks(p.Metrics, classMetrics) {
		return "", nil
	}
	if p.Positive != "" {
		return class(p.Positive), nil
	}
	all := map[string]bool{}
	for _, c := range slices.Concat(labels, said) {
		all[c] = true
	}
	if len(all) > 2 {
		return "", fmt.Errorf("performance: there are %d classes; name the one that precision, recall and f1 are about with positive = \"…\"", len(all))
	}
	classes := slices.Sorted(maps.Keys(all))
	return classes[len(classes)-1], nil
}

// measure computes the metrics that have a bound. One that is not defined (recall without a positive label, r2 without variance)
// is left out.
func measure(bounds []config.Bound, said, labels []string, positive string) (map[string]float64, error) {
	out := map[string]float64{}
	if asks(bounds, numberMetrics) {
		if err := regression(out, said, labels); err != nil {
			return nil, err
		}
	}
	classification(out, said, labels, positive)
	for name := range out {
		if !asks(bounds, []string{name}) {
			delete(out, name)
		}
	}
	return out, nil
}

// classification adds accuracy and, about the positive class, precision, recall and f1.
func classification(out map[string]float64, said, labels []string, positive string) {
	var right, tp, fp, fn float64
	for i, s := range said {
		l := labels[i]
		if s == l {
			right++
		}
		switch {
		case s == positive && l == positive:
			tp++
		case s == positive:
			fp++
		case l == positive:
			fn++
		}
	}
	out["accuracy"] = right / float64(len(said))
	switch {
	case tp+fp > 0:
		out["precision"] = tp / (tp + fp)
	case fn > 0:
		out["precision"] = 0 // there were positives, and none was said
	}
	if tp+fn > 0 {
		out["recall"] = tp / (tp + fn)
	}
	if tp+fp+fn > 0 {
		out["f1"] = 2 * tp / (2*tp + fp + fn)
	}
}

// regression adds the mean absolute error, the root of the mean squared error, and the coefficient of determination.
func regression(out map[string]float64, said, labels []string) error {
	n := float64(len(said))
	mean, errs := 0.0, make([]float64, len(said))
	truths := make([]float64, len(said))
	for i, s := range said {
		a, ok := asNumber(s)
		b, ok2 := asNumber(labels[i])
		if !ok || !ok2 {
			return fmt.Errorf("performance: mae, rmse and r2 need numbers, not prediction %q and label %q", s, labels[i])
		}
		errs[i], truths[i] = a-b, b
		mean += b / n
	}
	var absolute, squared, variance float64
	for i, e := range errs {
		absolute += math.Abs(e)
		squared += e * e
		variance += (truths[i] - mean) * (truths[i] - mean)
	}
	out["mae"], out["rmse"] = absolute/n, math.Sqrt(squared/n)
	if variance > 0 {
		out["r2"] = 1 - squared/variance
	}
	return nil
}
