package tabular

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tableCheck judges the finished result; it sees no rows.
type tableCheck struct {
	rule
	column string // must exist unless empty
	// judge says what is wrong, or nothing; p is the column's profile.
	judge func(r *Result, p *ColumnProfile) string
}

func (k *tableCheck) batch(*Batch) error { return nil }

func (k *tableCheck) findings(r *Result) ([]Finding, error) {
	p := r.Profile.Column(k.column)
	if k.column != "" && p == nil {
		return []Finding{k.missing(k.column)}, nil
	}
	message := k.judge(r, p)
	switch {
	case message == "":
		return nil, nil
	case k.column != "":
		message = "column " + clip(k.column) + message
	}
	return []Finding{k.finding(k.column, 1, nil, "%s", message)}, nil
}

// outOf says that what has the value v breaks the bounds, or nothing.
func outOf(what string, b MinMax, v float64) string {
	switch {
	case b.Min != nil && v < *b.Min:
		return fmt.Sprintf("%s %g is less than %g", what, v, *b.Min)
	case b.Max != nil && v > *b.Max:
		return fmt.Sprintf("%s %g is more than %g", what, v, *b.Max)
	case v != v:
		return what + " is not a number"
	}
	return ""
}

// table compiles the rules that look at the table as a whole.
func (c *compiler) table(e Expectation) {
	judge := func(name, column string, judge func(r *Result, p *ColumnProfile) string) {
		c.out = append(c.out, &tableCheck{rule: rule{e.Name, name, e.Severity}, column: column, judge: judge})
	}
	if e.Columns != nil {
		judge("columns", "", func(r *Result, _ *ColumnProfile) string { return columnsDiffer(e.Columns, r.Schema.Names()) })
	}
	if e.RowCount != nil {
		judge("row_count", "", func(r *Result, _ *ColumnProfile) string { return outOf("row count", *e.RowCount, float64(r.Rows)) })
	}
	for _, col := range slices.Sorted(maps.Keys(e.Mean)) {
		judge("mean", col, func(_ *Result, p *ColumnProfile) string {
			if p.Mean == nil {
				return " has no numeric values to take the mean of"
			}
			return outOf(": mean", e.Mean[col], *p.Mean)
		})
	}
	for _, col := range slices.Sorted(maps.Keys(e.NullShare)) {
		judge("null_share", col, func(r *Result, p *ColumnProfile) string {
			if share := float64(p.Nulls) / float64(max(r.Rows, 1)); share > e.NullShare[col] {
				return fmt.Sprintf(": %d of %d values are null, a share of %.4g over %g", p.Nulls, r.Rows, share, e.NullShare[col])
			}
			return ""
		})
	}
	for _, col := range slices.Sorted(maps.Keys(e.DistinctCount)) {
		judge("distinct_count", col, func(_ *Result, p *ColumnProfile) string {
			return outOf(": distinct count", e.DistinctCount[col], float64(p.Distinct))
		})
	}
	if e.Freshness != nil {
		now := c.scan.opts.Now
		if now.IsZero() {
			c.fail(rule{e.Name, "freshness", ""}, "no time given to measure against")
		}
		judge("freshness", e.Freshness.Column, func(_ *Result, p *ColumnProfile) string { return tooOld(p, e.Freshness.Max, now) })
	}
}

func columnsDiffer(want, have []string) string {
	without := func(from, out []string) string {
		var names []string
		for _, n := range slices.Sorted(slices.Values(from)) {
			if !slices.Contains(out, n) {
				names = append(names, clip(n))
			}
		}
		return strings.Join(names, ", ")
	}
	message := ""
	if missing := without(want, have); missing != "" {
		message = "; missing: " + missing
	}
	if extra := without(have, want); extra != "" {
		message += "; not expected: " + extra
	}
	if message == "" {
		return ""
	}
	return "the columns differ" + message
}

func tooOld(p *ColumnProfile, most time.Duration, now time.Time) string {
	if p.Type != Timestamp || p.Max == nil {
		return fmt.Sprintf(" holds no timestamps (it is %s); write them as 2006-01-02T15:04:05Z", p.Type)
	}
	age := now.Sub(time.UnixMicro(int64(*p.Max * 1e6)))
	if age <= most {
		return ""
	}
	return fmt.Sprintf(": the newest value %s is %s old, more than %s", formatValue(Timestamp, *p.Max), age.Round(time.Second), most)
}
