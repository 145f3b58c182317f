package drift

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

const (
	// DefaultShare is Evidently's share of columns that must drift.
	DefaultShare = 0.5
	// AnyColumn is a share so small that one drifted column reaches it.
	AnyColumn = 1e-12
)

// Report is the verdict on a data set.
type Report struct {
	Drifted bool     `json:"drifted"`
	Share   float64  `json:"share"`   // of columns that drifted, 0 to 1
	Columns []Result `json:"columns"` // by column name
}

// Dataset calls a data set drifted when the share of drifted columns is at
// least share, which is [DefaultShare] if it is not a positive number. No
// columns never drift. Results stays as it is; call [Correct] first if the
// tests are to be corrected for their number.
func Dataset(results []Result, share float64) Report {
	if math.IsNaN(share) || share <= 0 {
		share = DefaultShare
	}
	report := Report{Columns: make([]Result, len(results))}
	copy(report.Columns, results)
	slices.SortStableFunc(report.Columns, func(a, b Result) int { return cmp.Compare(a.Column, b.Column) })
	drifted := 0
	for _, r := range results {
		if r.Drifted {
			drifted++
		}
	}
	if len(results) > 0 {
		report.Share = float64(drifted) / float64(len(results))
		report.Drifted = report.Share >= share
	}
	return report
}

// Correction says how p-values account for the number of tests made at once.
type Correction string

// The corrections. The empty string is NoCorrection.
const (
	NoCorrection Correction = "none"
	// Bonferroni bounds the chance of any false alarm among the tests.
	Bonferroni Correction = "bonferroni"
	// FDR bounds the expected share of false alarms among the alarms
	// (Benjamini and Hochberg 1995).
	FDR Correction = "fdr"
)

// ParseCorrection checks a name that a user wrote; the empty name is
// [NoCorrection].
func ParseCorrection(name string) (Correction, error) {
	switch c := Correction(name); c {
	case "":
		return NoCorrection, nil
	case NoCorrection, Bonferroni, FDR:
		return c, nil
	}
	return "", fmt.Errorf("unknown drift correction %q: use one of bonferroni, fdr, none", name)
}

// Correct returns the results, in their order, with p-values adjusted for the
// number of tests among them and judged again. Thresholds stay as given, so
// that each column's own level holds; distances are not touched. It errors on
// an unknown correction.
func Correct(results []Result, correction Correction) ([]Result, error) {
	correction, err := ParseCorrection(string(correction))
	if err != nil {
		return nil, err
	}
	out := slices.Clone(results)
	if correction == NoCorrection {
		return out, nil
	}
	var tests []int // the results with a p-value, least first
	for i, r := range out {
		if r.PValue != nil {
			tests = append(tests, i)
		}
	}
	slices.SortStableFunc(tests, func(a, b int) int { return cmp.Compare(*out[a].PValue, *out[b].PValue) })
	least := 1.0
	for rank := len(tests); rank > 0; rank-- {
		r := &out[tests[rank-1]]
		adjusted := math.Min(*r.PValue*float64(len(tests)), 1)
		if correction == FDR {
			least = math.Min(least, *r.PValue*float64(len(tests))/float64(rank))
			adjusted = least
		}
		r.Adjusted = &adjusted
		r.Drifted = r.exceeds()
	}
	return out, nil
}
