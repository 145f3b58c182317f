package drift

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCellsAreValuesUpToTwentyAndBinsBeyond(t *testing.T) {
	tests := []struct {
		name      string
		ref, cur  Sample
		wantCells int
	}{
		{"20 different numbers have a cell each", spread(100, 20), spread(100, 20), 20},
		{"numbers only in the current data get their own", spread(100, 20), spread(100, 40), 40},
		// log2(100+28)+1 is 8.
		{"21 fall into Sturges bins over the rows of both", spread(100, 21), spread(28, 21), 8},
		{"one row more makes one bin more", spread(100, 21), spread(29, 21), 9},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ref := &column{numbers: test.ref.Numbers, rows: test.ref.Rows(), numeric: true}
			cur := &column{numbers: test.cur.Numbers, rows: test.cur.Rows(), numeric: true}
			got, err := tabulate(ref, cur)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.ref) != test.wantCells || len(got.cur) != test.wantCells {
				t.Errorf("%d and %d cells, want %d", len(got.ref), len(got.cur), test.wantCells)
			}
			if total(got.ref) != ref.rows || total(got.cur) != cur.rows {
				t.Errorf("%d and %d rows counted of %d and %d", total(got.ref), total(got.cur), ref.rows, cur.rows)
			}
		})
	}
}

func TestEmptySharesAreFilledBelowTheLeast(t *testing.T) {
	tests := []struct {
		name     string
		in, want []float64
	}{
		{"nothing is empty", []float64{0.4, 0.6}, []float64{0.4, 0.6}},
		{"the usual fill", []float64{0, 0.4, 0.6, 0}, []float64{1e-4, 0.4, 0.6, 1e-4}},
		{"a least share at the fill", []float64{1e-4, 0, 0.9999}, []float64{1e-4, 1e-4 / 1e6, 0.9999}},
		{"a least share just above it", []float64{1.01e-4, 0, 0.9998}, []float64{1.01e-4, 1e-4, 0.9998}},
	}
	for _, test := range tests {
		fillEmpty(test.in)
		if diff := cmp.Diff(test.want, test.in); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}
