package drift

import "math"

// minDeviation keeps the normed Wasserstein distance of a column that hardly
// varies from exploding (Evidently).
const minDeviation = 0.001

// psi is the population stability index Σ (p−q)·ln(p/q) (≥ 0, symmetric).
// Siddiqi 2006, Credit Risk Scorecards. Empty cells must be filled.
func psi(p, q []float64) float64 {
	sum := 0.0
	for i := range p {
		sum += (p[i] - q[i]) * math.Log(p[i]/q[i])
	}
	return math.Max(sum, 0)
}

// klDivergence is Σ p·ln(p/q) in nats (≥ 0) of p and q scaled to sum to 1.
// Kullback and Leibler 1951. Empty cells must be filled.
func klDivergence(p, q []float64) float64 {
	total := func(x []float64) float64 {
		sum := 0.0
		for _, v := range x {
			sum += v
		}
		return sum
	}
	sumP, sumQ := total(p), total(q)
	sum := 0.0
	for i := range p {
		a, b := p[i]/sumP, q[i]/sumQ
		sum += a * math.Log(a/b)
	}
	return math.Max(sum, 0)
}

// jensenShannon is the Jensen–Shannon distance, the square root of the
// divergence in nats (0 to √ln 2). Endres and Schindelin 2003.
func jensenShannon(p, q []float64) float64 {
	relative := func(a, m float64) float64 {
		if a == 0 {
			return 0
		}
		return a * math.Log(a/m)
	}
	sum := 0.0
	for i := range p {
		m := (p[i] + q[i]) / 2
		sum += relative(p[i], m) + relative(q[i], m)
	}
	return math.Sqrt(math.Max(sum, 0) / 2)
}

// hellinger is √(1 − Σ√(p·q)) (0 to 1). In bins it integrates √ of the
// densities, as Evidently does: on numbers with a large offset the edges are
// rounded and bins differ a little in width, which this makes visible.
func hellinger(t table) float64 {
	p, q := t.shares()
	bins := float64(len(p))
	overlap := 0.0
	for i := range p {
		common := math.Sqrt(p[i] * q[i])
		if t.edges != nil {
			width := (t.edges[len(p)] - t.edges[0]) / bins
			if own := t.edges[i+1] - t.edges[i]; own > 0 {
				common *= width / own
			}
		}
		overlap += common
	}
	return math.Sqrt(1 - math.Min(overlap, 1))
}

// hellingerTable bins numbers always, and lets Sturges count the different
// values instead of the rows; both as Evidently does, which for this one
// method departs from its own rule for the others.
func hellingerTable(ref, cur *column) (table, error) {
	if ref.numeric {
		return tabulateBins(ref, cur, distinctUnion(ref, cur))
	}
	return tabulateValues(ref, cur), nil
}

// totalVariation is ½·Σ|p−q| (0 to 1). Evidently judges it by a random
// permutation test; we judge the distance itself, which is deterministic.
func totalVariation(p, q []float64) float64 {
	sum := 0.0
	for i := range p {
		sum += math.Abs(p[i] - q[i])
	}
	return sum / 2
}

// wasserstein is the first Wasserstein distance ∫|F−G| in units of the
// reference's population standard deviation (at least 0.001). It errors if
// the numbers are too large for their squares or distances.
func wasserstein(ref, cur *column) (float64, error) {
	a, b := ref.sorted(), cur.sorted()
	n, m := int64(len(a)), int64(len(b))
	area := 0.0
	previous := min(a[0], b[0])
	for i, j := 0, 0; i < len(a) || j < len(b); {
		v := nextValue(a, b, i, j)
		// F−G over the common denominator, so that it is exact.
		if gap := int64(i)*m - int64(j)*n; gap != 0 {
			area += math.Abs(float64(gap)) * (v - previous)
		}
		previous = v
		if i < len(a) && a[i] == v {
			i++
		} else {
			j++
		}
	}
	unit := math.Max(deviation(a), minDeviation)
	distance := area / float64(n) / float64(m) / unit
	// An infinite unit would make every distance zero: check it, too.
	for _, v := range [...]float64{unit, distance} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, errRange
		}
	}
	return distance, nil
}

// deviation is the population standard deviation, in two passes because large
// offsets would drown a one-pass variance.
func deviation(x []float64) float64 {
	mean := 0.0
	for _, v := range x {
		mean += v
	}
	mean /= float64(len(x))
	sum := 0.0
	for _, v := range x {
		sum += (v - mean) * (v - mean)
	}
	return math.Sqrt(sum / float64(len(x)))
}
