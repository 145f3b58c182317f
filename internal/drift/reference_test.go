package drift

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// close9 allows a relative error of 1e-9; near zero, where rounding in the
// reference itself shows, an absolute one of 1e-14.
func close9(got, want float64) bool {
	return math.Abs(got-want) <= math.Max(1e-9*math.Abs(want), 1e-14)
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// fixtureSample reads one side of a case of drift.json.
func fixtureSample(t *testing.T, kind string, raw json.RawMessage) Sample {
	t.Helper()
	s := Sample{Name: "x", Numeric: kind == TypeNumber}
	into := any(&s.Values)
	if s.Numeric {
		into = &s.Numbers
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryFixtureValueIsReproduced(t *testing.T) {
	var fixture struct {
		Cases []struct {
			Name, Type         string
			Reference, Current json.RawMessage
			Expected           map[Method]json.RawMessage
		}
	}
	readJSON(t, "drift.json", &fixture)
	compared := 0
	for _, c := range fixture.Cases {
		t.Run(c.Name, func(t *testing.T) {
			ref, cur := fixtureSample(t, c.Type, c.Reference), fixtureSample(t, c.Type, c.Current)
			before := compared
			for method, raw := range c.Expected {
				var want struct {
					Statistic float64
					PValue    *float64 `json:"p_value"`
				}
				if err := json.Unmarshal(raw, &want.Statistic); err != nil {
					if err := json.Unmarshal(raw, &want); err != nil || want.PValue == nil {
						t.Fatalf("%s: %s is neither a number nor a statistic with its p_value (%v)", method, raw, err)
					}
				}
				got, err := Compare(ref, cur, ColumnOptions{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				compared++
				if !close9(got.Statistic, want.Statistic) {
					t.Errorf("%s: statistic %v, want %v", method, got.Statistic, want.Statistic)
				}
				if (got.PValue == nil) != (want.PValue == nil) {
					t.Fatalf("%s: p-value %v, want %v", method, got.PValue, want.PValue)
				}
				if got.PValue == nil {
					continue
				}
				compared++
				if !close9(*got.PValue, *want.PValue) && !(method == Z && *got.PValue < 1e-15) {
					t.Errorf("%s: p-value %v, want %v", method, *got.PValue, *want.PValue)
				}
			}
			if compared == before {
				t.Error("nothing was compared")
			}
		})
	}
	if want := 18*7 + 9*6 + 3*2; compared != want {
		t.Errorf("%d values compared, want %d", compared, want)
	}
}

func TestPValuesAgreeWithSciPyInEveryRegion(t *testing.T) {
	var want struct {
		Tails []struct {
			N    int
			D, P float64
		}
		Lattice []struct {
			N, M, Steps int
			P           float64
		}
		Large []struct {
			N, M, Shift  int
			Statistic, P float64
		}
		Tables []struct {
			Ref, Cur     []int
			Statistic, P float64
		}
	}
	readJSON(t, "scipy.json", &want)
	for _, c := range want.Tails {
		if got := kolmogorovTail(c.N, c.D); !close9(got, c.P) {
			t.Errorf("kolmogorovTail(%d, %v) = %v, want %v", c.N, c.D, got, c.P)
		}
	}
	for _, c := range want.Lattice {
		if got := exactUnequal(max(c.N, c.M), min(c.N, c.M), c.Steps); !close9(got, c.P) {
			t.Errorf("exactUnequal(%d, %d, %d) = %v, want %v", c.N, c.M, c.Steps, got, c.P)
		}
		if c.N != c.M {
			continue
		}
		if got := exactEqual(c.N, c.Steps); !close9(got, c.P) {
			t.Errorf("exactEqual(%d, %d) = %v, want %v", c.N, c.Steps, got, c.P)
		}
	}
	for _, c := range want.Large {
		got, err := Compare(residues(c.N, 7919, 0), residues(c.M, 104729, c.Shift), ColumnOptions{Method: KS})
		if err != nil {
			t.Fatal(err)
		}
		if !close9(got.Statistic, c.Statistic) || !close9(*got.PValue, c.P) {
			t.Errorf("ks of %d and %d rows = %v, %v, want %v, %v", c.N, c.M, got.Statistic, *got.PValue, c.Statistic, c.P)
		}
	}
	for _, c := range want.Tables {
		statistic, p := chiSquareHomogeneity(table{ref: c.Ref, cur: c.Cur, refRows: total(c.Ref), curRows: total(c.Cur)})
		if !close9(statistic, c.Statistic) || !close9(p, c.P) {
			t.Errorf("homogeneity of %v and %v = %v, %v, want %v, %v", c.Ref, c.Cur, statistic, p, c.Statistic, c.P)
		}
	}
	if len(want.Tails) < 200 || len(want.Lattice) < 50 || len(want.Large) < 7 || len(want.Tables) < 7 {
		t.Errorf("scipy.json holds only %d tails, %d lattices, %d large, %d tables", len(want.Tails), len(want.Lattice), len(want.Large), len(want.Tables))
	}
}

func TestStirlingsErrorIsThatOfTheLogGamma(t *testing.T) {
	for k := 1; k < 200; k++ {
		x := float64(k)
		lg, _ := math.Lgamma(x + 1)
		want := lg - (x+0.5)*math.Log(x) + x - 0.5*math.Log(2*math.Pi)
		if got := stirlingError(k); math.Abs(got-want) > 1e-12 {
			t.Errorf("stirlingError(%d) = %v, want %v", k, got, want)
		}
	}
}

// residues is a sample that reference.py builds alike.
func residues(rows, factor, shift int) Sample {
	s := Sample{Name: "x", Numeric: true}
	for i := range rows {
		s.Numbers = append(s.Numbers, float64(i*factor%100003+shift))
	}
	return s
}

func total(counts []int) int {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}
