package drift

import "math"

// maxExact is the largest sample for which the exact distribution of the
// two-sample statistic is worked out (scipy.stats.ks_2samp, method "auto").
const maxExact = 10000

// negligible is an exponent x beyond which exp(−x) is zero as a float64.
const negligible = 760

// kolmogorovSmirnov is the two-sample, two-sided test. The statistic is
// D = sup|F−G| (0 to 1). P is exact up to 10,000 rows a side; beyond, it is
// that of the one-sample statistic at the effective size nm/(n+m), rounded to
// even, as scipy.stats.ks_2samp computes it.
func kolmogorovSmirnov(ref, cur *column) (statistic, p float64) {
	a, b := ref.sorted(), cur.sorted()
	n, m := len(a), len(b)
	common := gcd(n, m)
	steps := maxGap(a, b, n/common, m/common)
	statistic = float64(steps) / (float64(n/common) * float64(m))
	if steps == 0 {
		return 0, 1
	}
	switch {
	case max(n, m) > maxExact:
		size := float64(n) * (float64(m) / float64(n+m))
		p = kolmogorovTail(int(math.RoundToEven(size)), statistic)
	case n == m:
		p = exactEqual(n, steps)
	default:
		p = exactUnequal(max(n, m), min(n, m), steps)
	}
	return statistic, math.Min(math.Max(p, 0), 1)
}

// maxGap returns sup|F−G| in units of 1/lcm(n, m), which makes it an exact
// integer: nStep and mStep are n and m over their greatest common divisor.
func maxGap(a, b []float64, nStep, mStep int) int {
	most := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		v := nextValue(a, b, i, j)
		// The gap counts only after all rows of one value.
		i, j = skipEqual(a, i, v), skipEqual(b, j, v)
		gap := i*mStep - j*nStep
		most = max(most, gap, -gap)
	}
	return most
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// exactEqual returns P(D ≥ steps/n) for two samples of n rows: by reflection,
// 2·Σ (−1)^(k+1)·C(2n, n−k·steps)/C(2n, n) over k ≥ 1, nested so that nothing
// overflows and every partial sum lies in [0, 1]. Gnedenko and Korolyuk 1951.
func exactEqual(n, steps int) float64 {
	p := 0.0
	for k := n/steps - 1; k >= 0; k-- {
		// C(2n, n−(k+1)·steps) over C(2n, n−k·steps).
		ratio := 1.0
		for j := range steps {
			ratio *= float64(n-k*steps-j) / float64(n+k*steps+j+1)
		}
		p = ratio * (1 - p)
	}
	return 2 * p
}

// exactUnequal returns P(D ≥ steps/lcm(n, m)) for n ≥ m rows: the chance that
// a random lattice path from (0, 0) to (n, m) leaves the band
// |i·m − j·n|/gcd < steps (Hodges 1958). Each point holds the chance that a
// path to it has left; its last step came from the left with chance i/(i+j).
// All terms are positive, so small chances keep their digits.
func exactUnequal(n, m, steps int) float64 {
	common := gcd(n, m)
	nStep, mStep := n/common, m/common
	d := float64(steps) / (float64(nStep) * float64(m))
	if certainlyZero(n, m, d) {
		return 0
	}
	// Reciprocals off the critical path: this loop is all the time there is.
	inverse := make([]float64, n+m+1)
	for i := 1; i < len(inverse); i++ {
		inverse[i] = 1 / float64(i)
	}
	left := make([]float64, m+1)
	for j := range left {
		left[j] = 1
	}
	for j := 0; j <= m && j*nStep < steps; j++ {
		left[j] = 0
	}
	for i := 1; i <= n; i++ {
		low := max(floorDiv(mStep*i-steps, nStep)+1, 0)
		high := min(-floorDiv(-(mStep*i+steps), nStep), m+1)
		if low >= high {
			return 1
		}
		chance := 1.0 // below the band; at j = 0 it has no weight
		for j := low; j < high; j++ {
			step := inverse[i+j]
			chance = left[j]*(float64(i)*step) + chance*(float64(j)*step)
			left[j] = chance
		}
	}
	return left[m]
}

// certainlyZero reports that P(D ≥ d) is below every float64, by Serfling's
// inequality (1974) for sampling without replacement, applied at each of the
// n+m points. It spares the widest bands.
func certainlyZero(n, m int, d float64) bool {
	size := float64(n) * float64(m) / float64(n+m)
	exponent := 2 * size * d * d * float64(m) / float64(m+1)
	return exponent > negligible+math.Log(2*float64(n+m))
}

// floorDiv divides rounding down; b is positive.
func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
