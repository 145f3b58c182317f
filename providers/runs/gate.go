package runs

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
)

// gate holds thresholds against what was measured. Whatever is missing closes it.
type gate struct {
	spec config.Validation
	validationDetail
}

// tolerance keeps the rounding of a subtraction, such as 0.92 - 0.02, from closing a gate. Plain bounds are compared as written.
const tolerance = 1e-9

func (g gate) verdict() *resource.Verdict {
	v := &resource.Verdict{Passed: true}
	add := func(fs ...resource.Finding) {
		for _, f := range fs {
			v.Passed = v.Passed && f.OK
			v.Findings = append(v.Findings, f)
		}
	}
	if g.Problem != "" {
		add(resource.Finding{Name: "metrics", Rule: "missing", Message: g.Problem})
	}
	for _, t := range g.spec.Thresholds {
		add(g.threshold(t, t.Metric, g.Metrics, g.championMetrics())...)
	}
	for _, s := range g.spec.Slices {
		add(g.slice(s)...)
	}
	if len(v.Findings) == 0 {
		add(resource.Finding{Name: "thresholds", Rule: "missing", Message: "there is no threshold to hold"})
	}
	v.Message = summary(v.Findings)
	return v
}

func summary(findings []resource.Finding) string {
	var bad []string
	for _, f := range findings {
		if !f.OK {
			bad = append(bad, f.Message)
		}
	}
	switch {
	case len(bad) > 0:
		return some(bad)
	case len(findings) == 1:
		return findings[0].Message
	}
	return fmt.Sprintf("all %d conditions hold", len(findings))
}

// championMetrics are nil without a champion.
func (g gate) championMetrics() map[string]float64 {
	if g.Champion == nil {
		return nil
	}
	return g.Champion.Metrics
}

// threshold judges one metric; name is how findings call it.
func (g gate) threshold(t config.Threshold, name string, metrics, champion map[string]float64) []resource.Finding {
	value, ok := metrics[t.Metric]
	if !ok {
		return []resource.Finding{{Name: name, Rule: "missing", Path: t.Metric, Message: fmt.Sprintf("%s is missing in the metrics", name)}}
	}
	var out []resource.Finding
	bound := func(rule string, limit float64, holds bool, yes, no string) {
		sign := no
		if holds {
			sign = yes
		}
		out = append(out, resource.Finding{
			Name: name, Rule: rule, Path: t.Metric, Value: &value, Limit: &limit, OK: holds,
			Message: fmt.Sprintf("%s %s %s %s", name, num(value), sign, num(limit)),
		})
	}
	if t.Min != nil {
		bound("min", *t.Min, value >= *t.Min, "≥", "<")
	}
	if t.Max != nil {
		bound("max", *t.Max, value <= *t.Max, "≤", ">")
	}
	if t.MaxRegression != nil {
		out = append(out, g.regression(t, name, value, champion))
	}
	return out
}

// regression judges a metric against the champion's on the same inputs.
func (g gate) regression(t config.Threshold, name string, value float64, champion map[string]float64) resource.Finding {
	f := resource.Finding{Name: name, Rule: "max_regression", Path: t.Metric, Value: &value}
	if g.Champion == nil {
		f.OK, f.Message = true, fmt.Sprintf("%s %s: no other version has passed, so there is no champion to compare with", name, num(value))
		return f
	}
	if g.Champion.Problem != "" {
		f.Message = fmt.Sprintf("%s cannot be compared: %s", name, g.Champion.Problem)
		return f
	}
	old, ok := champion[t.Metric]
	if !ok {
		f.Message = fmt.Sprintf("%s cannot be compared: the metrics of the champion, version %d, do not have it", name, g.Champion.Version)
		return f
	}
	limit := old - *t.MaxRegression
	f.OK = value >= limit-tolerance
	if t.LowerIsBetter {
		limit = old + *t.MaxRegression
		f.OK = value <= limit+tolerance
	}
	f.Limit = &limit
	within := "within"
	if !f.OK {
		within = "not within"
	}
	f.Message = fmt.Sprintf("%s %s is %s %s of the champion's %s (version %d)", name, num(value), within, num(*t.MaxRegression), num(old), g.Champion.Version)
	return f
}

// slice judges every value of one column by itself.
func (g gate) slice(s config.Slice) []resource.Finding {
	column := s.Column
	if column == "" {
		column = s.Name
	}
	values := g.Slices[column]
	if len(values) == 0 {
		return []resource.Finding{{Name: s.Name, Rule: "missing", Path: column, Message: fmt.Sprintf("slice %s: the metrics have no slices by %q", s.Name, column)}}
	}
	var out []resource.Finding
	for _, value := range slices.Sorted(maps.Keys(values)) {
		metrics := values[value]
		at := column + "=" + value
		if rows, ok := metrics["rows"]; ok && rows < float64(s.MinRows) {
			out = append(out, resource.Finding{Name: at, Rule: "min_rows", Path: at, Value: &rows, OK: true, Message: fmt.Sprintf("%s has %s rows, fewer than %d: reported, not judged", at, num(rows), s.MinRows)})
			continue
		}
		var champion map[string]float64
		if g.Champion != nil {
			champion = g.Champion.Slices[column][value]
		}
		for _, t := range s.Thresholds {
			if t.MaxRegression != nil && g.Champion != nil && g.Champion.Problem == "" && champion == nil {
				// A value that the champion was never measured on: there is nothing that it could be worse than.
				out = append(out, resource.Finding{Name: at, Rule: "max_regression", Path: t.Metric, OK: true, Message: fmt.Sprintf("%s of %s: the champion has no such slice", t.Metric, at)})
				t.MaxRegression = nil
			}
			for _, f := range g.threshold(t, t.Metric+" of "+at, metrics, champion) {
				f.Path = at
				out = append(out, f)
			}
		}
	}
	return out
}

// num shows a metric with six digits: enough to tell it from its bound, short enough to read.
func num(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }
