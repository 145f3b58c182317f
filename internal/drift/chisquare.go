package drift

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// chiSquareFit is Pearson's goodness of fit of the current counts to the
// shares of the reference, as Evidently uses it: the reference is taken as
// exact. A value that the reference never showed is impossible under it: then
// p is 0 and the statistic, truly infinite, is the largest float64, because
// results are written as JSON.
func chiSquareFit(t table) (statistic, p float64) {
	scale := float64(t.curRows) / float64(t.refRows)
	for i, n := range t.ref {
		expected := float64(n) * scale
		if expected == 0 {
			return math.MaxFloat64, 0
		}
		d := float64(t.cur[i]) - expected
		statistic += d * d / expected
	}
	return statistic, chiSquareTail(statistic, len(t.ref)-1)
}

// chiSquareHomogeneity is Pearson's test that both rows of the table come from
// one population, with Yates' correction for two cells, as Alibi Detect uses
// it: the reference counts as a sample too.
func chiSquareHomogeneity(t table) (statistic, p float64) {
	total := float64(t.refRows + t.curRows)
	for i := range t.ref {
		both := float64(t.ref[i] + t.cur[i])
		for _, row := range [...]struct{ count, rows int }{{t.ref[i], t.refRows}, {t.cur[i], t.curRows}} {
			expected := both * float64(row.rows) / total
			d := math.Abs(float64(row.count) - expected)
			if len(t.ref) == 2 {
				d -= math.Min(0.5, d)
			}
			statistic += d * d / expected
		}
	}
	return statistic, chiSquareTail(statistic, len(t.ref)-1)
}

// chiSquareTail is the chance of a statistic at least this large. With a
// single cell there is nothing that could differ.
func chiSquareTail(statistic float64, freedom int) float64 {
	if freedom == 0 {
		return 1
	}
	return distuv.ChiSquared{K: float64(freedom)}.Survival(statistic)
}

// proportionsZ is the two-proportion z-test with pooled variance, two-sided.
// The proportion is that of all values but the smallest, as Evidently takes
// it, so that a third value that turns up in production still counts.
func proportionsZ(t table) (statistic, p float64) {
	if len(t.ref) == 1 {
		return 0, 1
	}
	n, m := float64(t.refRows), float64(t.curRows)
	a, b := 1-float64(t.ref[0])/n, 1-float64(t.cur[0])/m
	pooled := (float64(t.refRows-t.ref[0]) + float64(t.curRows-t.cur[0])) / (n + m)
	statistic = (a - b) / math.Sqrt(pooled*(1-pooled)*(1/n+1/m))
	return statistic, math.Erfc(math.Abs(statistic) / math.Sqrt2)
}
