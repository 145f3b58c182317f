package drift

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkCompareMillion compares one column of a million rows a side.
func BenchmarkCompareMillion(b *testing.B) {
	const rows = 1_000_000
	random := rand.New(rand.NewPCG(1, 2))
	ref := Sample{Name: "x", Numeric: true, Numbers: make([]float64, rows)}
	cur := Sample{Name: "x", Numeric: true, Numbers: make([]float64, rows)}
	refText, curText := Sample{Name: "c", Values: make([]string, rows)}, Sample{Name: "c", Values: make([]string, rows)}
	for i := range rows {
		ref.Numbers[i] = random.NormFloat64()
		cur.Numbers[i] = random.NormFloat64() + 0.003
		refText.Values[i] = fmt.Sprintf("city-%d", random.IntN(500))
		curText.Values[i] = fmt.Sprintf("city-%d", random.IntN(500))
	}
	for _, m := range []Method{Auto, KS, Wasserstein, PSI, JensenShannon, KLDivergence, Hellinger, TotalVar} {
		b.Run("numbers/"+string(m), func(b *testing.B) { benchmark(b, ref, cur, m) })
	}
	for _, m := range []Method{ChiSquare, PSI} {
		b.Run("texts/"+string(m), func(b *testing.B) { benchmark(b, refText, curText, m) })
	}
	few := spread(rows, 7)
	b.Run("few/psi", func(b *testing.B) { benchmark(b, few, few, PSI) })
}

// BenchmarkExactKS is the slowest exact p-value: unequal samples just within
// its reach, a wide band.
func BenchmarkExactKS(b *testing.B) {
	for _, d := range []float64{0.02, 0.1, 0.27} {
		b.Run(fmt.Sprint(d), func(b *testing.B) {
			for b.Loop() {
				exactUnequal(10000, 9999, int(d*10000*9999))
			}
		})
	}
}

func benchmark(b *testing.B, ref, cur Sample, m Method) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compare(ref, cur, ColumnOptions{Method: m}); err != nil {
			b.Fatal(err)
		}
	}
}
