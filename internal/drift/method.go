package drift

import (
	"fmt"
	"slices"
	"strings"
)

// Method names a statistic.
type Method string

// The methods. Auto, and the empty string, choose by type, number of different
// values and rows; see [Compare].
const (
	Auto          Method = "auto"
	KS            Method = "ks"             // two-sample Kolmogorov–Smirnov test; numbers
	ChiSquare     Method = "chi_square"     // Pearson's test; categories
	Z             Method = "z"              // two-proportion z-test; categories
	PSI           Method = "psi"            // population stability index
	Wasserstein   Method = "wasserstein"    // earth mover's distance in reference deviations; numbers
	JensenShannon Method = "jensen_shannon" // distance, natural logarithm
	KLDivergence  Method = "kl_div"         // of the current data as seen from the reference
	Hellinger     Method = "hellinger"      // distance
	TotalVar      Method = "tvd"            // total variation distance
)

const (
	defaultLevel    = 0.05 // of tests
	defaultDistance = 0.1
)

// Methods returns every method name in ascending order.
func Methods() []Method {
	return []Method{Auto, ChiSquare, Hellinger, JensenShannon, KLDivergence, KS, PSI, TotalVar, Wasserstein, Z}
}

// ParseMethod checks a name that a user wrote; the empty name is [Auto].
func ParseMethod(name string) (Method, error) {
	if name == "" {
		return Auto, nil
	}
	if m := Method(name); slices.Contains(Methods(), m) {
		return m, nil
	}
	return "", fmt.Errorf("unknown drift method %q: use one of %s", name, join(Methods()))
}

// Test reports whether the method yields a p-value, which drifts below its
// threshold. All others are distances, which drift from their threshold up.
func (m Method) Test() bool {
	return m == KS || m == ChiSquare || m == Z
}

// Supports reports whether the method can compare columns of a type
// ([TypeNumber] or [TypeCategory]). The tests of categories also take numbers
// of at most 20 different values; Compare finds out.
func (m Method) Supports(columnType string) bool {
	switch m {
	case KS, Wasserstein:
		return columnType == TypeNumber
	case ChiSquare, Z:
		return columnType == TypeCategory
	default:
		return true
	}
}

// DefaultThreshold is 0.05 for tests and 0.1 for distances (Evidently).
func (m Method) DefaultThreshold() float64 {
	if m.Test() {
		return defaultLevel
	}
	return defaultDistance
}

// Profile names a published set of defaults.
type Profile string

// The profiles. The empty string is Evidently.
const (
	// Evidently 0.7: the method goes by type, different values and rows.
	Evidently Profile = "evidently"
	// Alibi Detect's TabularDrift: ks for numbers, chi_square (here a test
	// of homogeneity) for categories, Bonferroni, one column is enough.
	Alibi Profile = "alibi"
)

// ParseProfile checks a name that a user wrote; the empty name is [Evidently].
func ParseProfile(name string) (Profile, error) {
	switch p := Profile(name); p {
	case "":
		return Evidently, nil
	case Evidently, Alibi:
		return p, nil
	}
	return "", fmt.Errorf("unknown drift profile %q: use one of alibi, evidently", name)
}

// Share is the share of drifted columns from which [Dataset] calls the data
// set drifted under this profile.
func (p Profile) Share() float64 {
	if p == Alibi {
		return AnyColumn
	}
	return DefaultShare
}

// Correction is the profile's correction for many tests.
func (p Profile) Correction() Correction {
	if p == Alibi {
		return Bonferroni
	}
	return NoCorrection
}

// choose resolves Auto. Evidently's rule, with different values counted over
// both samples: up to 1,000 reference rows it tests (ks, or chi_square and z
// for few values), beyond it measures a distance, because with enough rows a
// test finds every difference significant.
func choose(profile Profile, ref, cur *column) Method {
	const fewRows, fewValues = 1000, 5
	if profile == Alibi {
		if ref.numeric {
			return KS
		}
		return ChiSquare
	}
	continuous := ref.numeric && moreDistinct(fewValues, ref, cur)
	switch {
	case ref.rows > fewRows && continuous:
		return Wasserstein
	case ref.rows > fewRows:
		return JensenShannon
	case continuous:
		return KS
	case moreDistinct(2, ref, cur):
		return ChiSquare
	}
	return Z
}

// join lists names for a message.
func join[S ~string](names []S) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}
