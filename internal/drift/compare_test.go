package drift

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func numbers(name string, v ...float64) Sample {
	return Sample{Name: name, Numeric: true, Numbers: v}
}

func texts(name string, v ...string) Sample { return Sample{Name: name, Values: v} }

// spread makes rows numbers of the given count of different values.
func spread(rows, different int) Sample {
	s := Sample{Name: "x", Numeric: true}
	for i := range rows {
		s.Numbers = append(s.Numbers, float64(i%different))
	}
	return s
}

// labels makes rows texts of the given count of different values.
func labels(rows, different int) Sample {
	s := Sample{Name: "x"}
	for i := range rows {
		s.Values = append(s.Values, string(rune('a'+i%different)))
	}
	return s
}

func TestAutoChoosesTheMethodByTypeDistinctValuesAndRows(t *testing.T) {
	tests := []struct {
		name          string
		ref, cur      Sample
		opts          ColumnOptions
		want          Method
		wantThreshold float64
	}{
		{"1000 rows of 6 numbers are tested by ks", spread(1000, 6), spread(50, 6), ColumnOptions{}, KS, 0.05},
		{"1001 rows of 6 numbers are measured by wasserstein", spread(1001, 6), spread(50, 6), ColumnOptions{}, Wasserstein, 0.1},
		{"5 numbers are categories to chi_square", spread(1000, 5), spread(50, 5), ColumnOptions{}, ChiSquare, 0.05},
		{"a sixth number in the current data alone makes it ks", spread(1000, 5), spread(50, 6), ColumnOptions{}, KS, 0.05},
		{"5 numbers of many rows are measured by jensen_shannon", spread(1001, 5), spread(50, 5), ColumnOptions{}, JensenShannon, 0.1},
		{"2 numbers are compared by z", spread(100, 2), spread(50, 2), ColumnOptions{}, Z, 0.05},
		{"3 categories are tested by chi_square", labels(1000, 3), labels(50, 2), ColumnOptions{}, ChiSquare, 0.05},
		{"a third category in the current data alone makes it chi_square", labels(1000, 2), labels(50, 3), ColumnOptions{}, ChiSquare, 0.05},
		{"2 categories are compared by z", labels(1000, 2), labels(50, 2), ColumnOptions{}, Z, 0.05},
		{"1 category is compared by z", labels(10, 1), labels(50, 1), ColumnOptions{}, Z, 0.05},
		{"many rows of categories are measured by jensen_shannon", labels(1001, 2), labels(50, 2), ColumnOptions{Method: Auto}, JensenShannon, 0.1},
		{"many current rows alone change nothing", spread(1000, 6), spread(5000, 6), ColumnOptions{}, KS, 0.05},
		{"alibi tests numbers by ks whatever the rows", spread(5000, 3), spread(50, 3), ColumnOptions{Profile: Alibi}, KS, 0.05},
		{"alibi tests categories by chi_square whatever the rows", labels(5000, 2), labels(50, 2), ColumnOptions{Profile: Alibi}, ChiSquare, 0.05},
		{"numbers as categories are texts", spread(100, 9), spread(50, 9), ColumnOptions{Type: TypeCategory}, ChiSquare, 0.05},
		{"psi has a distance's threshold", spread(100, 9), spread(50, 9), ColumnOptions{Method: PSI}, PSI, 0.1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Compare(test.ref, test.cur, test.opts)
			if err != nil {
				t.Fatal(err)
			}
			if got.Method != test.want || got.Threshold != test.wantThreshold {
				t.Errorf("method %s at %v, want %s at %v", got.Method, got.Threshold, test.want, test.wantThreshold)
			}
			if (got.PValue != nil) != test.want.Test() {
				t.Errorf("p-value %v of %s", got.PValue, got.Method)
			}
		})
	}
}

func TestThresholdsAreComparedAsEvidentlyDoes(t *testing.T) {
	p := func(v float64) *float64 { return &v }
	tests := []struct {
		name string
		in   Result
		want bool
	}{
		{"a distance at its threshold drifts", Result{Method: PSI, Statistic: 0.1, Threshold: 0.1}, true},
		{"a distance below does not", Result{Method: PSI, Statistic: 0.0999, Threshold: 0.1}, false},
		{"chi_square at its level does not drift", Result{Method: ChiSquare, PValue: p(0.05), Threshold: 0.05}, false},
		{"chi_square below drifts", Result{Method: ChiSquare, PValue: p(0.0499), Threshold: 0.05}, true},
		{"z at its level does not drift", Result{Method: Z, PValue: p(0.05), Threshold: 0.05}, false},
		{"ks at its level drifts", Result{Method: KS, PValue: p(0.05), Threshold: 0.05}, true},
		{"ks above does not", Result{Method: KS, PValue: p(0.0501), Threshold: 0.05}, false},
		{"an adjusted p-value decides over the raw one", Result{Method: KS, PValue: p(0.01), Adjusted: p(0.2), Threshold: 0.05}, false},
	}
	for _, test := range tests {
		if got := test.in.exceeds(); got != test.want {
			t.Errorf("%s: drifted %v", test.name, got)
		}
	}
}

func TestDegenerateColumnsGetAVerdict(t *testing.T) {
	tests := []struct {
		name          string
		ref, cur      Sample
		method        Method
		wantStatistic float64
		wantDrifted   bool
	}{
		{"one equal row by ks", numbers("x", 3), numbers("x", 3), KS, 0, false},
		{"one different row cannot be significant", numbers("x", 3), numbers("x", 4), KS, 1, false},
		{"one row each by wasserstein, in thousandths", numbers("x", 3), numbers("x", 4), Wasserstein, 1000, true},
		{"equal constants by psi", numbers("x", 5, 5, 5), numbers("x", 5, 5), PSI, 0, false},
		{"equal constants by hellinger", numbers("x", 5, 5, 5), numbers("x", 5, 5), Hellinger, 0, false},
		{"different constants by tvd", numbers("x", 5, 5, 5), numbers("x", 6, 6), TotalVar, 1, true},
		{"different constants by jensen_shannon", numbers("x", 5, 5, 5), numbers("x", 6, 6), JensenShannon, math.Sqrt(math.Ln2), true},
		{"zero and minus zero are one value", numbers("x", 0, 0), numbers("x", math.Copysign(0, -1)), TotalVar, 0, false},
		{"one category on both sides by z", texts("x", "a", "a"), texts("x", "a"), Z, 0, false},
		{"one category on both sides by chi_square", texts("x", "a", "a"), texts("x", "a"), ChiSquare, 0, false},
		{"all categories new by chi_square", texts("x", "a", "b"), texts("x", "c", "d"), ChiSquare, math.MaxFloat64, true},
		{"all categories new by jensen_shannon", texts("x", "a", "b"), texts("x", "c", "d"), JensenShannon, math.Sqrt(math.Ln2), true},
		{"all categories new by tvd", texts("x", "a", "b"), texts("x", "c", "d"), TotalVar, 1, true},
		{"a category that is the empty text", texts("x", ""), texts("x", ""), PSI, 0, false},
		{"numbers a step apart at the end of float64", numbers("x", math.MaxFloat64), numbers("x", math.MaxFloat64), PSI, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Compare(test.ref, test.cur, ColumnOptions{Method: test.method})
			if err != nil {
				t.Fatal(err)
			}
			if !close9(got.Statistic, test.wantStatistic) || got.Drifted != test.wantDrifted {
				t.Errorf("statistic %v drifted %v, want %v %v", got.Statistic, got.Drifted, test.wantStatistic, test.wantDrifted)
			}
			if _, err := json.Marshal(got); err != nil {
				t.Errorf("not JSON: %v", err)
			}
		})
	}
}

func TestBadInputIsNamedInTheError(t *testing.T) {
	level := func(v float64) *float64 { return &v }
	wide := spread(100, 30)
	tests := []struct {
		name     string
		ref, cur Sample
		opts     ColumnOptions
		want     string
	}{
		{"NaN", numbers("age", 1, 2), numbers("age", 1, math.NaN()), ColumnOptions{}, `column "age": current: row 2 of the sample is NaN`},
		{"infinity", numbers("age", math.Inf(-1)), numbers("age", 1), ColumnOptions{}, `column "age": reference: row 1 of the sample is -Inf`},
		{"numbers read as text", numbers("age", 1, 2), texts("age", "n/a", "3"), ColumnOptions{}, `column "age": the reference holds numbers and the current data text, for example "3"`},
		{"text read as numbers", texts("age", "n/a", "3"), numbers("age", 1, 2), ColumnOptions{}, `the reference holds text and the current data numbers, for example "3"`},
		{"text as numbers", texts("age", "b"), texts("age", "a"), ColumnOptions{Type: TypeNumber}, `column "age" holds text, for example "b"`},
		{"two names", numbers("age", 1), numbers("income", 1), ColumnOptions{}, `column "age" of the reference cannot be compared with column "income"`},
		{"unknown method", numbers("age", 1), numbers("age", 1), ColumnOptions{Method: "kolmogorov"}, `column "age": unknown drift method "kolmogorov": use one of auto, chi_square, hellinger, jensen_shannon, kl_div, ks, psi, tvd, wasserstein, z`},
		{"unknown profile", numbers("age", 1), numbers("age", 1), ColumnOptions{Profile: "mine"}, `column "age": unknown drift profile "mine": use one of alibi, evidently`},
		{"unknown type", numbers("age", 1), numbers("age", 1), ColumnOptions{Type: "int"}, `column "age": unknown type "int"`},
		{"ks of text", texts("age", "a"), texts("age", "a"), ColumnOptions{Method: KS}, `column "age": method ks needs numbers`},
		{"chi_square of a continuous column", wide, wide, ColumnOptions{Method: ChiSquare}, `column "x": method chi_square compares value by value and the reference holds more than 20 different numbers`},
		{"a level of 1", numbers("age", 1), numbers("age", 1), ColumnOptions{Method: KS, Threshold: level(1)}, `column "age": threshold 1 of ks is a significance level`},
		{"a threshold of 0", numbers("age", 1), numbers("age", 1), ColumnOptions{Method: PSI, Threshold: level(0)}, `column "age": threshold 0 of psi is not a positive number`},
		{"a threshold that is no number", numbers("age", 1), numbers("age", 1), ColumnOptions{Method: PSI, Threshold: level(math.NaN())}, `threshold NaN of psi`},
		{"numbers too far apart for bins", append2(wide, -math.MaxFloat64), append2(wide, math.MaxFloat64), ColumnOptions{Method: PSI}, `column "x": psi: the numbers span more than a float64 can hold`},
		{"numbers too large to square", numbers("x", 1e200, -1e200), numbers("x", 0), ColumnOptions{Method: Wasserstein}, `column "x": wasserstein: the numbers span more than`},
		{"numbers too far apart for wasserstein", numbers("x", -math.MaxFloat64, 1), numbers("x", math.MaxFloat64), ColumnOptions{Method: Wasserstein}, `column "x": wasserstein: the numbers span more than`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Compare(test.ref, test.cur, test.opts)
			if err == nil {
				t.Fatalf("no error, but %+v", got)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not say %q", err, test.want)
			}
			if errors.Is(err, ErrNoData) {
				t.Errorf("error %q passes for a lack of data", err)
			}
		})
	}
}

func append2(s Sample, v float64) Sample {
	s.Numbers = append(slices.Clone(s.Numbers), v)
	return s
}

func TestAnEmptySideIsErrNoData(t *testing.T) {
	for _, method := range Methods() {
		full, empty := numbers("age", 1, 2), Sample{Name: "age", Numeric: true, Nulls: 7}
		if _, err := Compare(full, empty, ColumnOptions{Method: method}); !errors.Is(err, ErrNoData) || !strings.Contains(err.Error(), `column "age": current: no rows to compare (7 null rows)`) {
			t.Errorf("%s: empty current data: %v", method, err)
		}
		if _, err := Compare(empty, full, ColumnOptions{Method: method}); !errors.Is(err, ErrNoData) || !strings.Contains(err.Error(), "reference") {
			t.Errorf("%s: empty reference: %v", method, err)
		}
		if _, err := Compare(texts("c"), texts("c", "a"), ColumnOptions{Method: method}); !errors.Is(err, ErrNoData) {
			t.Errorf("%s: no texts: %v", method, err)
		}
	}
}

func TestNumbersAsCategoriesAreComparedByValue(t *testing.T) {
	ref, cur := numbers("code", 1, 1, 2, math.Copysign(0, -1)), numbers("code", 1, 2, 2, 0)
	got, err := Compare(ref, cur, ColumnOptions{Method: TotalVar, Type: TypeCategory})
	if err != nil {
		t.Fatal(err)
	}
	want := Result{Column: "code", Type: TypeCategory, Method: TotalVar, Statistic: 0.25, Threshold: 0.1, Drifted: true, Reference: 4, Current: 4}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	mixed := texts("code", "0", "1", "1", "2")
	if got, err = Compare(ref, mixed, ColumnOptions{Method: TotalVar, Type: TypeCategory}); err != nil || got.Statistic != 0 {
		t.Errorf("numbers against the same numbers as text: %v, %v", got.Statistic, err)
	}
}

func TestAResultIsWrittenUnderTheDocumentedNames(t *testing.T) {
	p := 0.02
	for _, test := range []struct {
		in   Result
		want string
	}{
		{Result{Column: "age", Type: TypeNumber, Method: KS, Statistic: 0.1, PValue: &p, Threshold: 0.05, Drifted: true, Reference: 9, Current: 8},
			`{"column":"age","type":"number","method":"ks","statistic":0.1,"p_value":0.02,"threshold":0.05,"drifted":true,"reference_rows":9,"current_rows":8}`},
		{Result{Column: "city", Type: TypeCategory, Method: PSI, Threshold: 0.1},
			`{"column":"city","type":"category","method":"psi","statistic":0,"threshold":0.1,"drifted":false,"reference_rows":0,"current_rows":0}`},
	} {
		got, err := json.Marshal(test.in)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, string(got)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestKSWithoutDriftAlarmsNoMoreOftenThanItsLevel(t *testing.T) {
	const pairs, level = 2000, 0.05
	random := rand.New(rand.NewPCG(7, 11))
	draw := func(rows int, shift float64) Sample {
		s := Sample{Name: "x", Numeric: true, Numbers: make([]float64, rows)}
		for i := range s.Numbers {
			s.Numbers[i] = random.NormFloat64() + shift
		}
		return s
	}
	alarms := func(shift float64) int {
		n := 0
		for range pairs {
			r, err := Compare(draw(150, 0), draw(100, shift), ColumnOptions{Method: KS})
			if err != nil {
				t.Fatal(err)
			}
			if r.Drifted {
				n++
			}
		}
		return n
	}
	limit := int(pairs*level + 3*math.Sqrt(pairs*level*(1-level)))
	if n := alarms(0); n > limit || n < pairs/50 {
		t.Errorf("%d false alarms in %d pairs, want at most %d, and a test that is awake", n, pairs, limit)
	}
	if n := alarms(0.6); n < pairs*9/10 {
		t.Errorf("only %d of %d shifts by 0.6 deviations were found", n, pairs)
	}
}
