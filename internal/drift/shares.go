package drift

import (
	"errors"
	"math"
)

const (
	// maxDiscrete is how many different numbers a reference may hold and
	// still be compared value by value instead of in bins (Evidently).
	maxDiscrete = 20
	// emptyShare stands in for an empty bin where a logarithm needs one.
	emptyShare = 1e-4
)

// errRange reports numbers so large or so far apart that a distance or square
// is not a float64.
var errRange = errors.New("the numbers span more than a float64 can hold: clip them or treat the extremes as null")

// table counts the rows of both samples in the same cells, which stand in
// ascending order.
type table struct {
	ref, cur         []int
	refRows, curRows int
	edges            []float64 // of bins; nil where each value has its cell
}

// tabulate counts by value, or in bins if the reference is continuous: more
// than 20 different numbers. The number of bins follows Sturges over the rows
// of both samples.
func tabulate(ref, cur *column) (table, error) {
	if ref.numeric && moreDistinct(maxDiscrete, ref) {
		return tabulateBins(ref, cur, ref.rows+cur.rows)
	}
	return tabulateValues(ref, cur), nil
}

// tabulateValues makes one cell of every value that occurs in either sample.
func tabulateValues(ref, cur *column) table {
	t := table{refRows: ref.rows, curRows: cur.rows}
	if !ref.numeric {
		refCounts, curCounts := countValues(ref.values), countValues(cur.values)
		for _, k := range unionKeys(refCounts, curCounts) {
			t.ref = append(t.ref, refCounts[k])
			t.cur = append(t.cur, curCounts[k])
		}
		return t
	}
	a, b := ref.sorted(), cur.sorted()
	for i, j := 0, 0; i < len(a) || j < len(b); {
		v := nextValue(a, b, i, j)
		nextI, nextJ := skipEqual(a, i, v), skipEqual(b, j, v)
		t.ref = append(t.ref, nextI-i)
		t.cur = append(t.cur, nextJ-j)
		i, j = nextI, nextJ
	}
	return t
}

// tabulateBins makes equal bins over the range of both samples; n is the
// number of points that Sturges' rule counts.
func tabulateBins(ref, cur *column, n int) (table, error) {
	edges, err := sturgesEdges(ref, cur, n)
	if err != nil {
		return table{}, err
	}
	return table{
		ref: countBins(ref.numbers, edges), refRows: ref.rows,
		cur: countBins(cur.numbers, edges), curRows: cur.rows,
		edges: edges,
	}, nil
}

// sturgesEdges returns the edges of ⌈log2(n)+1⌉ equal bins, computed step by
// step as numpy.histogram_bin_edges and linspace do, so that a number close to
// an edge falls on the same side. A range of zero makes one bin of no width.
func sturgesEdges(ref, cur *column, n int) ([]float64, error) {
	low, high := ref.bounds()
	curLow, curHigh := cur.bounds()
	low, high = min(low, curLow), max(high, curHigh)
	span := high - low
	if math.IsInf(span, 0) {
		return nil, errRange
	}
	bins := 1
	// The span over the bin width is not always exactly log2(n)+1.
	if width := span / (math.Log2(float64(n)) + 1); width > 0 {
		bins = int(math.Ceil(span / width))
	}
	edges := make([]float64, bins+1)
	step := span / float64(bins)
	for i := range edges {
		// The conversion keeps compilers from fusing the two operations,
		// which would move edges by a bit on some machines.
		edges[i] = float64(float64(i)*step) + low
	}
	edges[bins] = high
	return edges, nil
}

// countBins counts numbers into half-open bins; the last one is closed. Every
// number lies between the outer edges.
func countBins(numbers, edges []float64) []int {
	counts := make([]int, len(edges)-1)
	last := len(counts) - 1
	low := edges[0]
	scale := float64(len(counts)) / (edges[len(edges)-1] - low)
	for _, v := range numbers {
		// Guess the bin, then let the edges themselves decide. The guess is
		// NaN, and so 0, if the bins have no width.
		i := 0
		if guess := (v - low) * scale; guess >= float64(last) {
			i = last
		} else if guess > 0 {
			i = int(guess)
		}
		for i > 0 && v < edges[i] {
			i--
		}
		for i < last && v >= edges[i+1] {
			i++
		}
		counts[i]++
	}
	return counts
}

// shares turns both rows of counts into shares that sum to 1.
func (t table) shares() (ref, cur []float64) {
	return divide(t.ref, t.refRows), divide(t.cur, t.curRows)
}

// filledShares is shares with empty cells filled, for methods that take a
// logarithm; the sums then exceed 1 a little.
func (t table) filledShares() (ref, cur []float64) {
	ref, cur = t.shares()
	fillEmpty(ref)
	fillEmpty(cur)
	return ref, cur
}

func divide(counts []int, rows int) []float64 {
	out := make([]float64, len(counts))
	for i, n := range counts {
		out[i] = float64(n) / float64(rows)
	}
	return out
}

// fillEmpty replaces zero shares with 1e-4, or with a millionth of the least
// share when that is not above 1e-4 itself (Evidently).
func fillEmpty(shares []float64) {
	least := math.Inf(1)
	for _, s := range shares {
		if s > 0 && s < least {
			least = s
		}
	}
	fill := emptyShare
	if least <= emptyShare {
		fill = least / 1e6
	}
	for i, s := range shares {
		if s == 0 {
			shares[i] = fill
		}
	}
}
