package drift

import (
	"fmt"
	"math"

	"github.com/continuo-ml/continuo/internal/tabular"
)

// FromColumn makes a sample of a table's column: its values without the missing
// ones, which are counted. Infinite and not-a-number values count as missing.
func FromColumn(c *tabular.Column) Sample {
	s := Sample{Name: c.Name, Numeric: c.Str == nil}
	n := len(c.Str)
	if s.Numeric {
		n = len(c.Num)
	}
	for i := range n {
		switch {
		case c.Nulls != nil && c.Nulls[i]:
			s.Nulls++
		case !s.Numeric:
			s.Values = append(s.Values, c.Str[i])
		case math.IsNaN(c.Num[i]) || math.IsInf(c.Num[i], 0):
			s.Nulls++
		default:
			s.Numbers = append(s.Numbers, c.Num[i])
		}
	}
	return s
}

// Tables compares every column of ref with the one of the same name in cur and
// judges the whole by the profile's share and correction. Where the method does
// not fit a column's type, that column is compared as auto would: a whole table
// rarely has one type only. It errors, naming it, on a column that cur lacks.
func Tables(ref, cur *tabular.Table, m Method, p Profile) (Report, error) {
	var results []Result
	for i := range ref.Columns {
		now := cur.Column(ref.Columns[i].Name)
		if now == nil {
			return Report{}, fmt.Errorf("the current data has no column %q, which the reference has", ref.Columns[i].Name)
		}
		r, err := Fitting(FromColumn(&ref.Columns[i]), FromColumn(now), ColumnOptions{Method: m, Profile: p})
		if err != nil {
			return Report{}, err
		}
		results = append(results, r)
	}
	results, err := Correct(results, p.Correction())
	if err != nil {
		return Report{}, err
	}
	return Dataset(results, p.Share()), nil
}

// Fitting is Compare, with auto in the place of a method that does not fit the
// reference's type.
func Fitting(ref, cur Sample, o ColumnOptions) (Result, error) {
	kind := TypeCategory
	if ref.Numeric {
		kind = TypeNumber
	}
	if o.Method != Auto && !o.Method.Supports(kind) {
		o.Method, o.Threshold = Auto, nil
	}
	return Compare(ref, cur, o)
}
