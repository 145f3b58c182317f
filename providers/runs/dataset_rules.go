package runs

import (
	"fmt"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/tabular"
	"github.com/continuo-ml/continuo/resource"
)

// scanOptions turns a dataset's rules into those of the reader.
func scanOptions(spec config.Dataset) (tabular.ScanOptions, error) {
	o := tabular.ScanOptions{Options: tabular.Options{Format: spec.Format}}
	for _, c := range spec.Columns {
		r := tabular.ColumnRule{Name: c.Name, Type: tabular.Type(c.Type), Values: c.Values, Nullable: c.Nullable, Unique: c.Unique}
		if c.Range != nil {
			ends, err := interval(c.Range)
			if err != nil {
				return o, fmt.Errorf("column %q: range: %w", c.Name, err)
			}
			r.Range = ends
		}
		o.Columns = append(o.Columns, r)
	}
	for _, e := range spec.Expect {
		x, err := expectation(e)
		if err != nil {
			return o, fmt.Errorf("expect %q: %w", e.Name, err)
		}
		o.Expect = append(o.Expect, x)
	}
	for _, s := range spec.Splits {
		o.Splits = append(o.Splits, tabular.Split{Name: s.Name, Fraction: s.Fraction, GroupBy: s.GroupBy, Seed: s.Seed})
	}
	return o, nil
}

func expectation(e config.Expectation) (tabular.Expectation, error) {
	x := tabular.Expectation{
		Name: e.Name, Severity: e.Severity,
		NotNull: e.NotNull, Unique: e.Unique, InSet: e.InSet, Matches: e.Matches, Columns: e.Columns,
		NullShare: e.NullShare, MaxDuplicates: e.MaxDuplicates, NoOverlap: e.NoOverlap,
		Mean: bounds(e.Mean), DistinctCount: bounds(e.DistinctCount),
	}
	for col, r := range e.Range {
		ends, err := interval(r)
		if err != nil {
			return x, fmt.Errorf("range of %q: %w", col, err)
		}
		if x.Range == nil {
			x.Range = map[string][2]*float64{}
		}
		x.Range[col] = ends
	}
	for col, t := range e.Type {
		if x.Type == nil {
			x.Type = map[string]tabular.Type{}
		}
		x.Type[col] = tabular.Type(t)
	}
	if e.RowCount != nil {
		x.RowCount = &tabular.MinMax{Min: e.RowCount.Min, Max: e.RowCount.Max}
	}
	if e.Freshness != nil {
		x.Freshness = &tabular.Freshness{Column: e.Freshness.Column, Max: e.Freshness.Max}
	}
	return x, nil
}

func bounds(in map[string]config.Range) map[string]tabular.MinMax {
	var out map[string]tabular.MinMax
	for col, r := range in {
		if out == nil {
			out = map[string]tabular.MinMax{}
		}
		out[col] = tabular.MinMax{Min: r.Min, Max: r.Max}
	}
	return out
}

func interval(r []float64) ([2]*float64, error) {
	if len(r) != 2 {
		return [2]*float64{}, fmt.Errorf("has %d values; write [least, greatest]", len(r))
	}
	return [2]*float64{&r[0], &r[1]}, nil
}

// dataVerdict is the judgement on a version of data. Findings of severity warn are reported and close nothing.
func dataVerdict(found []tabular.Finding, digest resource.Digest) *resource.Verdict {
	v := &resource.Verdict{Passed: true, Subject: digest}
	var bad, warned []string
	for _, f := range found {
		x := resource.Finding{
			Name: f.Expectation, Rule: f.Rule, Path: f.Column, Severity: f.Severity,
			Count: f.Count, Message: f.Message, OK: f.Severity == "warn",
		}
		if x.Count == 1 && len(f.Samples) == 0 {
			x.Count = 0 // About the table as a whole: there is nothing to count.
		}
		for _, s := range f.Samples {
			x.Samples = append(x.Samples, strings.TrimSuffix(fmt.Sprintf("row %d: %s", s.Row, s.Value), ": "))
		}
		v.Findings = append(v.Findings, x)
		if x.OK {
			warned = append(warned, f.Message)
		} else {
			bad = append(bad, f.Message)
		}
	}
	switch {
	case len(bad) > 0:
		v.Passed, v.Message = false, some(bad)
	case len(warned) > 0:
		v.Message = "with a warning: " + some(warned)
	default:
		v.Message = "all expectations hold"
	}
	return v
}

// some is the first of several messages, and how many there are besides.
func some(messages []string) string {
	if len(messages) == 1 {
		return messages[0]
	}
	return fmt.Sprintf("%s (and %d more)", strings.TrimSuffix(messages[0], "."), len(messages)-1)
}
