package drift

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// finite draws numbers of every shape that a column may have: small integers
// with ties, and floats up to a size whose squares still fit.
func finite() *rapid.Generator[float64] {
	return rapid.OneOf(
		rapid.Map(rapid.IntRange(-4, 4), func(i int) float64 { return float64(i) }),
		rapid.Float64Range(-1, 1),
		rapid.Float64Range(-1e100, 1e100),
	)
}

func numberSample() *rapid.Generator[Sample] {
	return rapid.Map(rapid.SliceOfN(finite(), 1, 80), func(v []float64) Sample { return numbers("x", v...) })
}

func textSample() *rapid.Generator[Sample] {
	return rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"}), 1, 80),
		func(v []string) Sample { return texts("x", v...) })
}

// comparison draws two samples of one type and a method that fits them.
func comparison(t *rapid.T) (ref, cur Sample, opts ColumnOptions) {
	samples, columnType := numberSample(), TypeNumber
	if rapid.Bool().Draw(t, "text") {
		samples, columnType = textSample(), TypeCategory
	}
	ref, cur = samples.Draw(t, "ref"), samples.Draw(t, "cur")
	methods := slices.DeleteFunc(Methods(), func(m Method) bool { return !m.Supports(columnType) })
	opts.Method = rapid.SampledFrom(methods).Draw(t, "method")
	opts.Profile = rapid.SampledFrom([]Profile{Evidently, Alibi}).Draw(t, "profile")
	return ref, cur, opts
}

func mustCompare(t *rapid.T, ref, cur Sample, opts ColumnOptions) Result {
	r, err := Compare(ref, cur, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestIdenticalSamplesNeverDrift(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref, _, opts := comparison(t)
		r := mustCompare(t, ref, ref, opts)
		if r.Drifted || r.Statistic > 1e-7 || (r.PValue != nil && *r.PValue != 1) {
			t.Fatalf("identical samples: %+v", r)
		}
	})
}

func TestStatisticsStayInTheirRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref, cur, opts := comparison(t)
		r := mustCompare(t, ref, cur, opts)
		if math.IsNaN(r.Statistic) || math.IsInf(r.Statistic, 0) || (r.Statistic < 0 && r.Method != Z) {
			t.Fatalf("statistic %v", r.Statistic)
		}
		if r.PValue != nil && !(*r.PValue >= 0 && *r.PValue <= 1) {
			t.Fatalf("p-value %v", *r.PValue)
		}
		switch r.Method {
		case KS, Hellinger, TotalVar, JensenShannon:
			if r.Statistic > 1+1e-12 {
				t.Fatalf("statistic %v", r.Statistic)
			}
		}
	})
}

func TestTheOrderOfRowsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref, cur, opts := comparison(t)
		want := mustCompare(t, ref, cur, opts)
		for _, s := range []*Sample{&ref, &cur} {
			if s.Numeric {
				s.Numbers = rapid.Permutation(s.Numbers).Draw(t, "numbers")
			} else {
				s.Values = rapid.Permutation(s.Values).Draw(t, "values")
			}
		}
		if diff := cmp.Diff(want, mustCompare(t, ref, cur, opts)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestSymmetricMethodsAreSymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref, cur, opts := comparison(t)
		a, errA := newColumn(ref, "x", "reference", false)
		b, errB := newColumn(cur, "x", "current", false)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		// The choice between bins and values looks at the reference alone.
		sameCells := moreDistinct(maxDiscrete, a) == moreDistinct(maxDiscrete, b)
		there, back := mustCompare(t, ref, cur, opts), Result{}
		switch there.Method {
		case KS, Z, Hellinger:
		case PSI, JensenShannon, TotalVar:
			if ref.Numeric && !sameCells {
				return
			}
		default:
			return // wasserstein, kl_div and chi_square judge by the reference
		}
		opts.Method = there.Method
		back = mustCompare(t, cur, ref, opts)
		near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Max(1, math.Abs(a)) }
		if !near(math.Abs(there.Statistic), math.Abs(back.Statistic)) {
			t.Fatalf("%s: %v there, %v back", there.Method, there.Statistic, back.Statistic)
		}
		if there.PValue != nil && !near(*there.PValue, *back.PValue) {
			t.Fatalf("%s: p-value %v there, %v back", there.Method, *there.PValue, *back.PValue)
		}
	})
}

func TestSamplesAreNeverModified(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ref, cur, opts := comparison(t)
		before := slices.Clone(ref.Numbers)
		mustCompare(t, ref, cur, opts)
		if diff := cmp.Diff(before, ref.Numbers); diff != "" && len(before) > 0 {
			t.Fatal(diff)
		}
	})
}

func TestSortedCopySortsAsTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seeds := rapid.SliceOfN(rapid.Float64(), 1, 50).Draw(t, "numbers")
		seeds = slices.DeleteFunc(seeds, math.IsNaN)
		var in []float64
		for i := 0; len(seeds) > 0 && len(in) < radixMinimum+100; i++ {
			in = append(in, seeds[i%len(seeds)]*float64(i%97-48))
		}
		in = slices.DeleteFunc(in, math.IsNaN) // infinity times zero
		want := slices.Clone(in)
		slices.Sort(want)
		if got := sortedCopy(in); !slices.Equal(got, want) {
			t.Fatalf("%d numbers are out of order", len(in))
		}
	})
}

func TestBinsAreThoseThatTheirEdgesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &column{numbers: rapid.SliceOfN(finite(), 1, 60).Draw(t, "a"), numeric: true}
		b := &column{numbers: rapid.SliceOfN(finite(), 1, 60).Draw(t, "b"), numeric: true}
		edges, err := sturgesEdges(a, b, len(a.numbers)+len(b.numbers))
		if err != nil {
			t.Fatal(err)
		}
		want := make([]int, len(edges)-1)
		in := slices.Concat(a.numbers, edges) // an edge belongs to the bin above it
		for _, v := range in {
			i := len(want) - 1
			for i > 0 && v < edges[i] {
				i--
			}
			want[i]++
		}
		if diff := cmp.Diff(want, countBins(in, edges)); diff != "" {
			t.Fatal(diff)
		}
	})
}
