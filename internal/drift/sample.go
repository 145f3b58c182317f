package drift

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// ErrNoData reports that one side of a comparison holds no rows that are not
// null. To a monitor there was no data; it is not a failure of the data.
var ErrNoData = errors.New("no rows to compare")

// Sample is one column of one data set, nulls already removed.
type Sample struct {
	Name    string
	Numeric bool      // Numbers holds the rows; otherwise Values does
	Numbers []float64 // finite; any order
	Values  []string  // any order
	Nulls   int64     // rows left out because they were null
}

// Rows is the number of rows that are not null.
func (s Sample) Rows() int {
	if s.Numeric {
		return len(s.Numbers)
	}
	return len(s.Values)
}

// Column types, as they appear in a [Result].
const (
	TypeNumber   = "number"
	TypeCategory = "category"
)

// column is a sample made ready for comparison. The sorted copy is made on
// first use, because half of the methods never need one.
type column struct {
	numbers []float64
	values  []string
	numeric bool
	rows    int
	ordered []float64
}

// newColumn checks one side of a comparison. Side is "reference" or "current"
// and, like name, only serves the message.
func newColumn(s Sample, name, side string, asCategory bool) (*column, error) {
	if s.Rows() == 0 {
		return nil, fmt.Errorf("column %q: %s: %w (%d null rows)", name, side, ErrNoData, s.Nulls)
	}
	for i, v := range s.Numbers {
		if s.Numeric && (math.IsNaN(v) || math.IsInf(v, 0)) {
			return nil, fmt.Errorf("column %q: %s: row %d of the sample is %v: treat it as null or drop it before comparing", name, side, i+1, v)
		}
	}
	c := &column{numbers: s.Numbers, values: s.Values, numeric: s.Numeric, rows: s.Rows()}
	if s.Numeric && asCategory {
		c.numeric = false
		c.values = make([]string, len(s.Numbers))
		for i, v := range s.Numbers {
			c.values[i] = formatNumber(v)
		}
	}
	return c, nil
}

// formatNumber gives equal numbers equal text, -0 and 0 included.
func formatNumber(v float64) string {
	if v == 0 {
		return "0"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// sorted returns the numbers in ascending order. The result is shared.
func (c *column) sorted() []float64 {
	if c.ordered == nil {
		c.ordered = sortedCopy(c.numbers)
	}
	return c.ordered
}

// bounds returns the smallest and the largest number.
func (c *column) bounds() (low, high float64) {
	low, high = c.numbers[0], c.numbers[0]
	for _, v := range c.numbers {
		if v < low {
			low = v
		}
		if v > high {
			high = v
		}
	}
	return low, high
}

// moreDistinct reports whether the columns together hold more than limit
// different values. It stops as soon as it knows, so a continuous column costs
// a handful of rows.
func moreDistinct(limit int, columns ...*column) bool {
	numbers := make(map[float64]struct{}, limit+1)
	values := make(map[string]struct{}, limit+1)
	for _, c := range columns {
		if !c.numeric {
			for _, v := range c.values {
				values[v] = struct{}{}
				if len(values) > limit {
					return true
				}
			}
			continue
		}
		for i, v := range c.numbers {
			if i > 0 && v == c.numbers[i-1] {
				continue
			}
			numbers[v] = struct{}{}
			if len(numbers) > limit {
				return true
			}
		}
	}
	return false
}

// distinctUnion counts the different numbers of both columns together.
func distinctUnion(ref, cur *column) int {
	a, b := ref.sorted(), cur.sorted()
	n := 0
	for i, j := 0, 0; i < len(a) || j < len(b); n++ {
		v := nextValue(a, b, i, j)
		i, j = skipEqual(a, i, v), skipEqual(b, j, v)
	}
	return n
}

// nextValue is the smaller of a[i] and b[j], of which at least one exists.
func nextValue(a, b []float64, i, j int) float64 {
	if i == len(a) || (j < len(b) && b[j] < a[i]) {
		return b[j]
	}
	return a[i]
}

// skipEqual moves i past every element equal to v.
func skipEqual(a []float64, i int, v float64) int {
	for i < len(a) && a[i] == v {
		i++
	}
	return i
}

// countValues counts categories.
func countValues(values []string) map[string]int {
	counts := make(map[string]int)
	for _, v := range values {
		counts[v]++
	}
	return counts
}

// unionKeys returns the keys of both maps in ascending order.
func unionKeys(a, b map[string]int) []string {
	keys := make([]string, 0, len(a))
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}
