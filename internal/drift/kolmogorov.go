package drift

import "math"

// kolmogorovTail returns P(D_n ≥ d) for the two-sided one-sample
// Kolmogorov–Smirnov statistic of n rows. The regions follow Simard and
// L'Ecuyer 2011, "Computing the two-sided Kolmogorov-Smirnov distribution",
// J. Stat. Softw. 39(11), as scipy.stats.kstwo does, so that values agree.
func kolmogorovTail(n int, d float64) float64 {
	t := float64(n) * d // the statistic in steps of one row
	square := t * d
	switch {
	case n < 1 || t <= 0.5:
		return 1
	case d >= 1 || square >= 370:
		return 0
	case d >= 0.5 || t >= float64(n-1):
		return 2 * smirnovTail(n, d)
	case n <= 140:
		if square > 4 {
			return 2 * smirnovTail(n, d)
		}
		return 1 - durbin(n, d)
	case square >= 2.2:
		return 2 * smirnovTail(n, d)
	case square < 0.04:
		return 1 // the distribution function is below 1e-12 here
	case n <= 100000 && t*math.Sqrt(d) <= 1.4:
		return 1 - durbin(n, d)
	}
	return 1 - pelzGood(n, d)
}

// smirnovTail returns P(D⁺_n ≥ d) of the one-sided statistic, exactly:
// d·Σ C(n,j)·(d+j/n)^(j−1)·(1−d−j/n)^(n−j) (Birnbaum and Tingey 1951). Each
// term is a binomial probability in Loader's form, which keeps its digits
// where a difference of log-gammas would lose half of them.
func smirnovTail(n int, d float64) float64 {
	t := float64(n) * d
	total := float64(n)
	sum := math.Exp(total * math.Log1p(-d)) // j = 0
	head := stirlingError(n) + 0.5*math.Log(total/(2*math.Pi))
	for j := 1; total-float64(j) > t; j++ {
		a, b := float64(j), float64(n-j)
		exponent := head - stirlingError(j) - stirlingError(n-j) +
			a*math.Log1p(t/a) + b*math.Log1p(-t/b)
		if exponent < -negligible {
			continue
		}
		sum += math.Exp(exponent) / math.Sqrt(a*b) * (t / (t + a))
	}
	return math.Min(sum, 1)
}

// stirlingError is ln k! minus Stirling's formula (Loader 2000, "Fast and
// accurate computation of binomial probabilities").
func stirlingError(k int) float64 {
	x := float64(k)
	if k < 16 {
		lg, _ := math.Lgamma(x + 1)
		return lg - (x+0.5)*math.Log(x) + x - 0.5*math.Log(2*math.Pi)
	}
	s := x * x
	return (1.0/12 - (1.0/360-(1.0/1260-(1.0/1680-1.0/1188/s)/s)/s)/s) / x
}

// durbin returns P(D_n < d) by Durbin's matrix (Marsaglia, Tsang and Wang
// 2003): the middle element of the n-th power of an m×m matrix, m ≈ 2nd, times
// n!/nⁿ. Exponents are kept apart because the powers overflow.
func durbin(n int, d float64) float64 {
	t := float64(n) * d
	k := int(math.Ceil(t))
	base := scaled{values: durbinMatrix(k, float64(k)-t), size: 2*k - 1}
	power := scaled{values: identity(base.size), size: base.size}
	for left := n; left > 0; left /= 2 {
		if left%2 == 1 {
			power = power.times(base)
		}
		if left > 1 {
			base = base.times(base)
		}
	}
	p := power.values[(k-1)*base.size+k-1]
	exponent := power.exponent
	for i := 1; i <= n; i++ {
		p *= float64(i) / float64(n)
		if p < 1e-140 {
			fraction, shift := math.Frexp(p)
			p, exponent = fraction, exponent+shift
		}
	}
	return math.Min(math.Ldexp(p, exponent), 1)
}

// durbinMatrix is the matrix H of Marsaglia, Tsang and Wang; h is the distance
// from n·d up to k.
func durbinMatrix(k int, h float64) []float64 {
	m := 2*k - 1
	inverseFactorial := make([]float64, m+1)
	inverseFactorial[0] = 1
	for i := 1; i <= m; i++ {
		inverseFactorial[i] = inverseFactorial[i-1] / float64(i)
	}
	out := make([]float64, m*m)
	for i := range m {
		for j := range m {
			if i-j+1 >= 0 {
				out[i*m+j] = inverseFactorial[i-j+1]
			}
		}
	}
	power := 1.0
	for i := range m {
		power *= h
		edge := (1 - power) * inverseFactorial[i+1]
		out[i*m] = edge
		out[(m-1)*m+m-1-i] = edge
	}
	corner := 1 - 2*power
	if h > 0.5 {
		corner += math.Pow(2*h-1, float64(m))
	}
	out[(m-1)*m] = corner * inverseFactorial[m]
	return out
}

// scaled is a square matrix times 2^exponent.
type scaled struct {
	values   []float64
	size     int
	exponent int
}

func identity(size int) []float64 {
	out := make([]float64, size*size)
	for i := range size {
		out[i*size+i] = 1
	}
	return out
}

// times multiplies two matrices and rescales when the centre grows large.
func (a scaled) times(b scaled) scaled {
	n := a.size
	out := scaled{values: make([]float64, n*n), size: n, exponent: a.exponent + b.exponent}
	for i := range n {
		row := out.values[i*n : (i+1)*n]
		for k := range n {
			factor := a.values[i*n+k]
			if factor == 0 {
				continue
			}
			for j, v := range b.values[k*n : (k+1)*n] {
				row[j] += factor * v
			}
		}
	}
	if centre := out.values[n/2*n+n/2]; centre > 1e100 {
		_, shift := math.Frexp(centre)
		for i := range out.values {
			out.values[i] = math.Ldexp(out.values[i], -shift)
		}
		out.exponent += shift
	}
	return out
}

// pelzGood returns P(D_n < d) to order n^(−3/2): K0 + K1/√n + K2/n + K3/n^1.5
// in z = d·√n (Pelz and Good 1976; the formulas as in Simard and L'Ecuyer).
func pelzGood(n int, d float64) float64 {
	root := math.Sqrt(float64(n))
	z := d * root
	z2 := z * z
	z4, z6 := z2*z2, z2*z2*z2
	const pi2 = math.Pi * math.Pi
	var k0, k1, k2, k3, k2Extra, k3Extra float64
	for i := range 64 {
		half := float64(i) + 0.5
		u := pi2 * half * half
		weight := math.Exp(-u / (2 * z2))
		k0 += weight
		k1 += (u - z2) * weight
		k2 += (6*z6 + 2*z4 + (2*z4-5*z2)*u + (1-2*z2)*u*u) * weight
		k3 += ((5-30*z2)*u*u*u + (-60*z2+212*z4)*u*u + (135*z4-96*z6)*u - 30*z6 - 90*z4*z4) * weight
		whole := pi2 * float64(i*i)
		weight = math.Exp(-whole / (2 * z2))
		k2Extra += whole * weight
		k3Extra += (3*z2 - whole) * whole * weight
		if i > 0 && weight == 0 {
			break
		}
	}
	// The sums run over all integers, of which the loop took half.
	c := 2 * math.Sqrt(math.Pi/2)
	k0 *= c / z
	k1 *= c / (6 * z4)
	k2 = c * (k2/(72*z6*z) - k2Extra/(36*z2*z))
	k3 = c * (k3/(6480*z4*z6) + k3Extra/(216*z6))
	return math.Min(math.Max(k0+k1/root+k2/(root*root)+k3/(root*root*root), 0), 1)
}
