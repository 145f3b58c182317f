package tabular

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// check is one rule at work: it sees every batch and is judged at the end. first is the 0-based table row of the batch's first row.
type check interface {
	batch(b *Batch) error
	findings(r *Result) ([]Finding, error)
}

// rule names where a finding belongs.
type rule struct {
	expectation, name, severity string
}

func (r rule) finding(column string, count int64, samples []SampleRow, format string, args ...any) Finding {
	severity := r.severity
	if severity == "" {
		severity = "error"
	}
	return Finding{Expectation: r.expectation, Rule: r.name, Column: column, Severity: severity, Count: count, Samples: samples, Message: fmt.Sprintf(format, args...)}
}

// missing is the finding of a rule about a column that is not there.
func (r rule) missing(column string) Finding {
	f := r.finding(column, 1, nil, "column %s is missing (rule %s)", clip(column), r.name)
	f.Rule = "missing_column"
	return f
}

// tally counts offending rows and keeps the first few.
type tally struct {
	count   int64
	samples []SampleRow
}

func (t *tally) add(b *Batch, i int, value string) {
	t.count++
	if len(t.samples) < maxSamples {
		t.samples = append(t.samples, SampleRow{Row: b.Row + int64(i), File: b.File, Value: cut(value)})
	}
}

// cut keeps a sample readable, and a report small.
func cut(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// cellCheck judges the cells of some columns one by one.
type cellCheck struct {
	rule
	column string // "*" for all
	what   string // "are null", "are not in the set": completes "3 of 100 values …"
	// bad returns whether a cell offends. It is asked for nulls only if nulls is set.
	bad     func(c *Column, i int) bool
	nulls   bool
	tallies map[string]*tally
}

func (k *cellCheck) batch(b *Batch) error {
	if k.tallies == nil {
		k.tallies = map[string]*tally{}
	}
	for c := range b.Columns {
		col := &b.Columns[c]
		if k.column != "*" && k.column != col.Name {
			continue
		}
		t := k.tallies[col.Name]
		if t == nil {
			t = &tally{}
			k.tallies[col.Name] = t
		}
		for i := range b.Rows {
			if col.IsNull(i) && !k.nulls {
				continue
			}
			if k.bad(col, i) {
				t.add(b, i, col.Text(i))
			}
		}
	}
	return nil
}

func (k *cellCheck) findings(r *Result) ([]Finding, error) {
	if _, ok := r.Schema.Field(k.column); !ok && k.column != "*" {
		return []Finding{k.missing(k.column)}, nil
	}
	var out []Finding
	for _, name := range slices.Sorted(maps.Keys(k.tallies)) {
		t := *k.tallies[name]
		if k.name == "not_null" || k.name == "nullable" {
			t = withAbsent(t, r, name)
		}
		if t.count > 0 {
			out = append(out, k.finding(name, t.count, t.samples, "column %s: %d of %d values %s", clip(name), t.count, r.Rows, k.what))
		}
	}
	return out, nil
}

// withAbsent counts the rows before a JSON Lines column was first mentioned, which are null and were never shown to the check.
func withAbsent(t tally, r *Result, column string) tally {
	if p := r.Profile.Column(column); p != nil && p.Nulls > t.count {
		t.count = p.Nulls
	}
	return t
}

func isNullCell(c *Column, i int) bool { return c.IsNull(i) && !c.invalid(i) }

// notInSet returns a test for values outside the set; numeric columns are compared by value, so that 1.0 is in {1}.
func notInSet(values []string) func(c *Column, i int) bool {
	texts := make(map[string]bool, len(values))
	numbers := map[float64]bool{}
	for _, v := range values {
		texts[v] = true
		if n, ok := parseNumber(v); ok {
			numbers[n.value] = true
		}
	}
	return func(c *Column, i int) bool {
		text := c.Text(i)
		if texts[text] {
			return false
		}
		if c.Type != Number && c.Type != Integer || !numbers[c.Num[i]] {
			return true
		}
		// Beyond 2^53 several integers share a float64, and only the text tells them apart.
		return math.Abs(c.Num[i]) >= exactInt && !strings.ContainsAny(text, ".eE")
	}
}

// outside returns a test for values that are not numbers within the bounds.
func outside(r [2]*float64) func(c *Column, i int) bool {
	low, high := math.Inf(-1), math.Inf(1)
	if r[0] != nil {
		low = *r[0]
	}
	if r[1] != nil {
		high = *r[1]
	}
	return func(c *Column, i int) bool {
		var v float64
		if c.Num != nil {
			v = c.Num[i]
		} else {
			n, ok := parseNumber(c.Text(i))
			if !ok {
				return true
			}
			v = n.value
		}
		return v < low || v > high
	}
}

func rangeText(r [2]*float64) string {
	low, high := "-∞", "∞"
	if r[0] != nil {
		low = strconv.FormatFloat(*r[0], 'g', -1, 64)
	}
	if r[1] != nil {
		high = strconv.FormatFloat(*r[1], 'g', -1, 64)
	}
	return "[" + low + ", " + high + "]"
}

// notOfType returns a test for cells that are no value of want, whatever type the column was read as.
func notOfType(want Type) func(c *Column, i int) bool {
	return func(c *Column, i int) bool {
		if c.IsNull(i) {
			return c.invalid(i)
		}
		if c.Type.satisfies(want) {
			return false
		}
		_, ok := parseAs(want, c.Text(i))
		return !ok
	}
}

// notMatching compiles an expression; RE2 runs in time linear in the text, so a hostile one can cost no more.
func notMatching(expr string) (func(c *Column, i int) bool, error) {
	if len(expr) > 10_000 {
		return nil, fmt.Errorf("the expression has %d bytes, more than 10000", len(expr))
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	return func(c *Column, i int) bool { return !re.MatchString(c.Text(i)) }, nil
}
