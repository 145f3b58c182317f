package drift

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func tested(column string, p, threshold float64) Result {
	r := Result{Column: column, Method: ChiSquare, PValue: &p, Threshold: threshold}
	r.Drifted = r.exceeds()
	return r
}

func TestADataSetDriftsAtItsShareOfColumns(t *testing.T) {
	yes, no := Result{Column: "b", Drifted: true}, Result{Column: "a"}
	tests := []struct {
		name        string
		in          []Result
		share       float64
		wantDrifted bool
		wantShare   float64
	}{
		{"half of two at the default", []Result{yes, no}, 0, true, 0.5},
		{"one of three at the default", []Result{yes, no, no}, 0, false, 1.0 / 3},
		{"one of three at a third", []Result{yes, no, no}, 1.0 / 3, true, 1.0 / 3},
		{"one of three where any is enough", []Result{yes, no, no}, AnyColumn, true, 1.0 / 3},
		{"none where any is enough", []Result{no, no}, AnyColumn, false, 0},
		{"no columns at all", nil, AnyColumn, false, 0},
		{"all of one at 1", []Result{yes}, 1, true, 1},
		{"a share that is no number is the default", []Result{yes, no, no}, math.NaN(), false, 1.0 / 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Dataset(test.in, test.share)
			if got.Drifted != test.wantDrifted || got.Share != test.wantShare {
				t.Errorf("got drifted %v, share %v", got.Drifted, got.Share)
			}
		})
	}
}

func TestAReportListsColumnsByNameAndIsNeverNull(t *testing.T) {
	in := []Result{{Column: "b"}, {Column: "a"}}
	report := Dataset(in, 0)
	if report.Columns[0].Column != "a" || in[0].Column != "b" {
		t.Errorf("report %v, argument %v", report.Columns, in)
	}
	got, err := json.Marshal(Dataset(nil, 0))
	if want := `{"drifted":false,"share":0,"columns":[]}`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

func TestCorrectionsAdjustTestsAndLeaveDistances(t *testing.T) {
	in := []Result{
		tested("a", 0.01, 0.05), tested("b", 0.04, 0.05), tested("c", 0.039, 0.05), tested("d", 0.005, 0.05),
		{Column: "e", Method: PSI, Statistic: 0.3, Threshold: 0.1, Drifted: true},
	}
	tests := []struct {
		name         string
		correction   Correction
		wantAdjusted []float64 // of a to d
		wantDrifted  []bool
	}{
		{"none", NoCorrection, nil, []bool{true, true, true, true, true}},
		{"bonferroni multiplies by the number of tests", Bonferroni, []float64{0.04, 0.16, 0.156, 0.02}, []bool{true, false, false, true, true}},
		{"fdr divides by the rank, and a larger p-value bounds a smaller", FDR, []float64{0.02, 0.04, 0.04, 0.02}, []bool{true, true, true, true, true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Correct(in, test.correction)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range got {
				if r.Drifted != test.wantDrifted[i] {
					t.Errorf("column %s drifted %v", r.Column, r.Drifted)
				}
				if i < len(test.wantAdjusted) && (r.Adjusted == nil || !close9(*r.Adjusted, test.wantAdjusted[i])) {
					t.Errorf("column %s adjusted %v, want %v", r.Column, r.Adjusted, test.wantAdjusted[i])
				}
			}
			if got[4].Adjusted != nil || in[0].Adjusted != nil {
				t.Error("a distance or the argument was adjusted")
			}
		})
	}
	if got, err := Correct([]Result{tested("a", 0.9, 0.05), tested("b", 0.8, 0.05)}, Bonferroni); err != nil || *got[0].Adjusted != 1 {
		t.Errorf("adjusted %v, %v, want 1", got, err)
	}
	if _, err := Correct(in, "holm"); err == nil {
		t.Error("an unknown correction was taken")
	}
}

func TestFDRFindsMoreThanBonferroniAndLessThanNoCorrection(t *testing.T) {
	// The example of Benjamini and Hochberg 1995: of fifteen tests their
	// procedure rejects four at 0.05 and Bonferroni three.
	var in []Result
	for _, p := range []float64{0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1} {
		in = append(in, tested("x", p, 0.05))
	}
	want := map[Correction]int{NoCorrection: 9, FDR: 4, Bonferroni: 3}
	got := map[Correction]int{}
	for correction := range want {
		results, err := Correct(in, correction)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Drifted {
				got[correction]++
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestProfilesCarryTheirDefaults(t *testing.T) {
	if Evidently.Share() != DefaultShare || Evidently.Correction() != NoCorrection || Profile("").Share() != DefaultShare {
		t.Error("evidently asks for half of the columns, uncorrected")
	}
	if Alibi.Share() != AnyColumn || Alibi.Correction() != Bonferroni {
		t.Error("alibi asks for one column, after Bonferroni")
	}
	for _, name := range []string{"", "evidently", "alibi"} {
		if _, err := ParseProfile(name); err != nil {
			t.Error(err)
		}
	}
	if m, err := ParseMethod(""); err != nil || m != Auto {
		t.Errorf("the empty method is %q, %v", m, err)
	}
}

func TestAlibiTestsCategoriesForHomogeneity(t *testing.T) {
	ref, cur := texts("x", "a", "a", "a", "b"), texts("x", "a", "a", "b", "b")
	fit, err := Compare(ref, cur, ColumnOptions{Method: ChiSquare})
	if err != nil {
		t.Fatal(err)
	}
	alibi, err := Compare(ref, cur, ColumnOptions{Profile: Alibi})
	if err != nil {
		t.Fatal(err)
	}
	// Goodness of fit expects 3 and 1: 1/3 + 1/1. Homogeneity, with Yates'
	// half, expects 2.5 and 1.5 and finds no gap larger than the half.
	if !close9(fit.Statistic, 4.0/3) || alibi.Statistic != 0 || *alibi.PValue != 1 {
		t.Errorf("fit %v, homogeneity %v", fit.Statistic, alibi.Statistic)
	}
}
