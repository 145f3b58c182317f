package drift

import (
	"fmt"
	"math"
)

// ColumnOptions says how to compare one column. The zero value is Evidently's
// default.
type ColumnOptions struct {
	Method    Method   // empty is Auto
	Threshold *float64 // nil is the method's default
	Profile   Profile  // empty is Evidently; decides what Auto means
	// Type overrides how the sample is read: TypeCategory compares numbers
	// by value, as codes. Empty keeps the sample's own type.
	Type string
}

// Result is the verdict on one column.
type Result struct {
	Column    string  `json:"column"`
	Type      string  `json:"type"` // TypeNumber or TypeCategory
	Method    Method  `json:"method"`
	Statistic float64 `json:"statistic"` // always finite
	// PValue is nil for distances.
	PValue *float64 `json:"p_value,omitempty"`
	// Adjusted is the p-value after [Correct]; then it decides.
	Adjusted  *float64 `json:"p_adjusted,omitempty"`
	Threshold float64  `json:"threshold"`
	Drifted   bool     `json:"drifted"`
	Reference int      `json:"reference_rows"` // rows that are not null
	Current   int      `json:"current_rows"`
}

// Compare judges the current sample of a column against the reference.
//
// Auto under the Evidently profile takes, for at most 1,000 reference rows, ks
// for numbers of more than 5 different values, else chi_square, or z for at
// most 2; for more rows wasserstein, else jensen_shannon.
//
// It errors, naming the column, if a side is empty ([ErrNoData]), if one side
// holds numbers and the other text, if a number is not finite, or if the
// method does not fit the column or the threshold not the method.
func Compare(ref, cur Sample, opts ColumnOptions) (Result, error) {
	name := ref.Name
	if cur.Name != "" && cur.Name != name {
		return Result{}, fmt.Errorf("column %q of the reference cannot be compared with column %q: compare columns of one name", name, cur.Name)
	}
	opts, err := opts.resolved(name)
	if err != nil {
		return Result{}, err
	}
	a, b, err := columns(ref, cur, opts)
	if err != nil {
		return Result{}, err
	}
	method := opts.Method
	if method == Auto {
		method = choose(opts.Profile, a, b)
	}
	result := Result{Column: name, Type: TypeCategory, Method: method, Reference: a.rows, Current: b.rows}
	if a.numeric {
		result.Type = TypeNumber
	}
	if result.Threshold, err = threshold(method, opts.Threshold); err != nil {
		return Result{}, fmt.Errorf("column %q: %w", name, err)
	}
	if err := fits(method, a); err != nil {
		return Result{}, fmt.Errorf("column %q: %w", name, err)
	}
	result.Statistic, result.PValue, err = measure(method, opts.Profile, a, b)
	if err != nil {
		return Result{}, fmt.Errorf("column %q: %s: %w", name, method, err)
	}
	result.Drifted = result.exceeds()
	return result, nil
}

// resolved checks the names and fills in the defaults.
func (o ColumnOptions) resolved(name string) (ColumnOptions, error) {
	var err error
	if o.Method, err = ParseMethod(string(o.Method)); err != nil {
		return o, fmt.Errorf("column %q: %w", name, err)
	}
	if o.Profile, err = ParseProfile(string(o.Profile)); err != nil {
		return o, fmt.Errorf("column %q: %w", name, err)
	}
	switch o.Type {
	case "", TypeNumber, TypeCategory:
		return o, nil
	}
	return o, fmt.Errorf("column %q: unknown type %q: use %s or %s", name, o.Type, TypeNumber, TypeCategory)
}

// columns checks both samples and brings them to one type.
func columns(ref, cur Sample, opts ColumnOptions) (a, b *column, err error) {
	asCategory := opts.Type == TypeCategory
	if a, err = newColumn(ref, ref.Name, "reference", asCategory); err != nil {
		return nil, nil, err
	}
	if b, err = newColumn(cur, ref.Name, "current", asCategory); err != nil {
		return nil, nil, err
	}
	if a.numeric != b.numeric {
		text, where := cur, "the reference holds numbers and the current data text"
		if cur.Numeric {
			text, where = ref, "the reference holds text and the current data numbers"
		}
		return nil, nil, fmt.Errorf("column %q: %s, for example %q: mend the column or compare it as type %q", ref.Name, where, least(text.Values), TypeCategory)
	}
	if opts.Type == TypeNumber && !a.numeric {
		return nil, nil, fmt.Errorf("column %q holds text, for example %q, and cannot be compared as type %q", ref.Name, least(ref.Values), TypeNumber)
	}
	return a, b, nil
}

// least picks the example of a message, the same for every order of the rows.
func least(values []string) string {
	out := values[0]
	for _, v := range values {
		out = min(out, v)
	}
	return out
}

// threshold checks the caller's threshold or returns the method's default.
func threshold(m Method, given *float64) (float64, error) {
	if given == nil {
		return m.DefaultThreshold(), nil
	}
	t := *given
	if math.IsNaN(t) || math.IsInf(t, 0) || t <= 0 {
		return 0, fmt.Errorf("threshold %v of %s is not a positive number", t, m)
	}
	if m.Test() && t >= 1 {
		return 0, fmt.Errorf("threshold %v of %s is a significance level and must lie below 1; 0.05 is usual", t, m)
	}
	return t, nil
}

// fits refuses methods that would answer nonsense for the column.
func fits(m Method, ref *column) error {
	if !ref.numeric {
		if !m.Supports(TypeCategory) {
			return fmt.Errorf("method %s needs numbers and the column holds text: use chi_square, psi or jensen_shannon", m)
		}
		return nil
	}
	if !m.Supports(TypeNumber) && moreDistinct(maxDiscrete, ref) {
		return fmt.Errorf("method %s compares value by value and the reference holds more than %d different numbers: use ks, wasserstein or psi, or type %q", m, maxDiscrete, TypeCategory)
	}
	return nil
}

// measure computes the statistic and, for tests, the p-value.
func measure(m Method, profile Profile, ref, cur *column) (float64, *float64, error) {
	switch m {
	case KS:
		statistic, p := kolmogorovSmirnov(ref, cur)
		return statistic, &p, nil
	case Wasserstein:
		distance, err := wasserstein(ref, cur)
		return distance, nil, err
	case ChiSquare, Z:
		statistic, p := categoryTest(m, profile, tabulateValues(ref, cur))
		return statistic, &p, nil
	case Hellinger:
		t, err := hellingerTable(ref, cur)
		if err != nil {
			return 0, nil, err
		}
		return hellinger(t), nil, nil
	}
	t, err := tabulate(ref, cur)
	if err != nil {
		return 0, nil, err
	}
	switch m {
	case PSI:
		return psi(t.filledShares()), nil, nil
	case KLDivergence:
		return klDivergence(t.filledShares()), nil, nil
	case JensenShannon:
		return jensenShannon(t.shares()), nil, nil
	case TotalVar:
		return totalVariation(t.shares()), nil, nil
	}
	return 0, nil, fmt.Errorf("unknown drift method %q: use one of %s", m, join(Methods()))
}

// categoryTest is one of the two tests of categories.
func categoryTest(m Method, profile Profile, t table) (statistic, p float64) {
	switch {
	case m == Z:
		return proportionsZ(t)
	case profile == Alibi:
		return chiSquareHomogeneity(t)
	}
	return chiSquareFit(t)
}

// exceeds compares with the threshold as Evidently does: distances drift at
// it, tests below it, and ks at it too.
func (r Result) exceeds() bool {
	p := r.PValue
	if r.Adjusted != nil {
		p = r.Adjusted
	}
	switch {
	case p == nil:
		return r.Statistic >= r.Threshold
	case r.Method == KS:
		return *p <= r.Threshold
	}
	return *p < r.Threshold
}
