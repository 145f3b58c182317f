package tabular

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apache/datasketches-go/hll"
	"github.com/apache/datasketches-go/tdigest"
)

// Profile describes a table without its rows: JSON-serialisable, of bounded size, and mergeable, so that profiles of parts make the profile
// of the whole. Equal rows in equal order give equal bytes.
type Profile struct {
	Rows    int64           `json:"rows"`
	Columns []ColumnProfile `json:"columns"`
}

// Column returns the profile of the column named name, or nil.
func (p *Profile) Column(name string) *ColumnProfile {
	for i := range p.Columns {
		if p.Columns[i].Name == name {
			return &p.Columns[i]
		}
	}
	return nil
}

// ColumnProfile describes one column. Min to Quantiles are of the finite values of a numeric type (bools as 0 and 1, timestamps as Unix
// seconds), and nil for text and for columns without a value.
type ColumnProfile struct {
	Name     string `json:"name"`
	Type     Type   `json:"type"`
	Count    int64  `json:"count"` // non-null values
	Nulls    int64  `json:"nulls"`
	Invalid  int64  `json:"invalid,omitempty"` // values that are not of the declared type; in neither Count nor Nulls
	Infinite int64  `json:"infinite,omitempty"`
	// Distinct counts the spellings of values: exact up to 1,000, then HyperLogLog with 1.6 % standard error.
	Distinct  int64      `json:"distinct"`
	Min       *float64   `json:"min,omitempty"`
	Max       *float64   `json:"max,omitempty"`
	Mean      *float64   `json:"mean,omitempty"`
	Std       *float64   `json:"std,omitempty"` // of a sample (n−1); nil below two values
	Quantiles []Quantile `json:"quantiles,omitempty"`
	// Top is the most frequent values, at most 100, by falling count and then by value. A count may be too low by TopError, and a value that
	// is not listed occurs at most TopError times. Numeric columns of more than 1,000 spellings have none.
	Top      []ValueCount `json:"top,omitempty"`
	TopError int64        `json:"top_error,omitempty"`
	// HLL and TDigest are the sketches in Apache DataSketches' format, from which Merge goes on.
	HLL     []byte `json:"hll,omitempty"`
	TDigest []byte `json:"tdigest,omitempty"`
}

// Quantile is the value at rank Q of 0 to 1, right within one percent of rank.
type Quantile struct {
	Q     float64 `json:"q"`
	Value float64 `json:"value"`
}

// ValueCount is how often a value occurs.
type ValueCount struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// profileRanks are the quantiles that a profile lists; the sketch answers any other.
var profileRanks = [...]float64{0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99}

const (
	topKept = 100
	hllLogK = 12
	digestK = 500 // a rank is right within 1 %, measured up to a million values; about 10 KB a column
	// pendingCap is the buffer of a digest of digestK.
	pendingCap = 4 * (2*digestK + 10)
	topCap     = 1000
	topLength  = 256 // bytes of a value that are kept to name it
)

// QuantileAt returns the value at rank q of 0 to 1 from the sketch (t-digest, Dunning and Ertl 2019). It errors on a column without one.
func (c *ColumnProfile) QuantileAt(q float64) (float64, error) {
	if len(c.TDigest) == 0 {
		return 0, fmt.Errorf("column %s has no numeric values", clip(c.Name))
	}
	d, err := tdigest.DecodeDouble(c.TDigest)
	if err != nil {
		return 0, fmt.Errorf("decode quantile sketch of column %s: %w", clip(c.Name), err)
	}
	v, err := d.Quantile(q)
	if err != nil {
		return 0, fmt.Errorf("quantile %g of column %s: %w", q, clip(c.Name), err)
	}
	return v, nil
}

// Merge returns the profile of the rows of both. Columns are matched by name; a column that one side lacks counts as null there.
func Merge(a, b Profile) (Profile, error) {
	out := Profile{Rows: a.Rows + b.Rows}
	for _, c := range a.Columns {
		other := b.Column(c.Name)
		if other == nil {
			c.Nulls += b.Rows
			out.Columns = append(out.Columns, c)
			continue
		}
		m, err := mergeColumns(c, *other)
		if err != nil {
			return Profile{}, fmt.Errorf("merge profiles of column %s: %w", clip(c.Name), err)
		}
		out.Columns = append(out.Columns, m)
	}
	for _, c := range b.Columns {
		if a.Column(c.Name) == nil {
			c.Nulls += a.Rows
			out.Columns = append(out.Columns, c)
		}
	}
	return out, nil
}

func mergeColumns(a, b ColumnProfile) (ColumnProfile, error) {
	left, err := restoreStats(a)
	if err != nil {
		return ColumnProfile{}, err
	}
	right, err := restoreStats(b)
	if err != nil {
		return ColumnProfile{}, err
	}
	if err := left.merge(right); err != nil {
		return ColumnProfile{}, err
	}
	return left.profile(mergedType(a, b))
}

// mergedType is the narrowest type that holds the values of both.
func mergedType(a, b ColumnProfile) Type {
	switch {
	case a.Type == b.Type || b.Count == 0:
		return a.Type
	case a.Count == 0:
		return b.Type
	case a.Type.satisfies(Number) && b.Type.satisfies(Number):
		return Number
	}
	return String
}

// columnStats accumulates one column.
type columnStats struct {
	name                   string
	count, nulls, infinite int64
	invalid                int64
	n                      int64 // finite numeric values in the moments
	mean, m2, min, max     float64
	digest                 *tdigest.Double
	pending                []float64 // values not yet in digest
	distinct               hll.HllSketch
	top                    *topCounter
}

func newStats(name string) (*columnStats, error) {
	s := &columnStats{name: name, top: newTopCounter(), min: math.Inf(1), max: math.Inf(-1)}
	var err error
	if s.digest, err = tdigest.NewDouble(digestK); err != nil {
		return nil, err
	}
	if s.distinct, err = hll.NewHllSketch(hllLogK, hll.TgtHllTypeHll8); err != nil {
		return nil, err
	}
	return s, nil
}

// add takes the rows of a batch's column.
func (s *columnStats) add(c *Column, rows int) error {
	s.invalid += int64(len(c.Invalid))
	s.nulls -= int64(len(c.Invalid)) // they are masked as null, and counted as such below
	for i := range rows {
		if c.IsNull(i) {
			s.nulls++
			continue
		}
		s.count++
		text := c.Text(i)
		if err := s.distinct.UpdateString(text); err != nil {
			return err
		}
		s.top.add(text, 1, c.Num != nil)
		if c.Num == nil {
			continue
		}
		v := c.Num[i]
		if math.IsInf(v, 0) {
			s.infinite++
			continue
		}
		// Welford 1962: one pass, without the cancellation of sums of squares.
		s.n++
		delta := v - s.mean
		s.mean += delta / float64(s.n)
		s.m2 += delta * (v - s.mean)
		s.min, s.max = min(s.min, v), max(s.max, v)
		if s.pending = append(s.pending, v); len(s.pending) == pendingCap {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush gives the digest its values in order: it sorts them anyway, with a stable sort that takes several times longer on disorder.
func (s *columnStats) flush() error {
	slices.Sort(s.pending)
	for _, v := range s.pending {
		if err := s.digest.Update(v); err != nil {
			return err
		}
	}
	s.pending = s.pending[:0]
	return nil
}

// merge adds the values of o, with Chan, Golub and LeVeque's pairwise update of the moments (1979).
func (s *columnStats) merge(o *columnStats) error {
	if err := errors.Join(s.flush(), o.flush()); err != nil {
		return err
	}
	s.count, s.nulls, s.infinite = s.count+o.count, s.nulls+o.nulls, s.infinite+o.infinite
	s.invalid += o.invalid
	if n := s.n + o.n; n > 0 {
		delta := o.mean - s.mean
		s.mean += delta * float64(o.n) / float64(n)
		s.m2 += o.m2 + delta*delta*float64(s.n)*float64(o.n)/float64(n)
		s.n = n
	}
	s.min, s.max = min(s.min, o.min), max(s.max, o.max)
	if !o.digest.IsEmpty() {
		if err := s.digest.Merge(o.digest); err != nil {
			return err
		}
	}
	union, err := hll.NewUnion(hllLogK)
	if err != nil {
		return err
	}
	for _, sketch := range []hll.HllSketch{s.distinct, o.distinct} {
		if err := union.UpdateSketch(sketch); err != nil {
			return err
		}
	}
	if s.distinct, err = union.GetResult(hll.TgtHllTypeHll8); err != nil {
		return err
	}
	s.top.merge(o.top)
	return nil
}

// profile renders the statistics under the column's final type: one that ended as text has no moments, whatever its first rows were.
func (s *columnStats) profile(t Type) (ColumnProfile, error) {
	p := ColumnProfile{Name: s.name, Type: t, Count: s.count, Nulls: s.nulls, Invalid: s.invalid}
	p.Top, p.TopError = s.top.list(topKept)
	p.Distinct = int64(len(s.top.counts))
	if s.count > 0 {
		var err error
		if p.HLL, err = s.distinct.ToCompactSlice(); err != nil {
			return p, err
		}
		if !s.top.exact() {
			estimate, err := s.distinct.GetEstimate()
			if err != nil {
				return p, err
			}
			p.Distinct = int64(math.Round(estimate))
		}
	}
	if !t.Numeric() {
		return p, nil
	}
	p.Infinite = s.infinite
	if s.n == 0 {
		return p, nil
	}
	p.Min, p.Max, p.Mean = &s.min, &s.max, &s.mean
	if s.n > 1 {
		std := math.Sqrt(s.m2 / float64(s.n-1))
		p.Std = &std
	}
	if err := s.flush(); err != nil {
		return p, err
	}
	for _, q := range profileRanks {
		v, err := s.digest.Quantile(q)
		if err != nil {
			return p, err
		}
		p.Quantiles = append(p.Quantiles, Quantile{q, v})
	}
	var err error
	p.TDigest, err = tdigest.EncodeDouble(s.digest, true)
	return p, err
}

// restoreStats is the inverse of profile, as far as a profile tells.
func restoreStats(p ColumnProfile) (*columnStats, error) {
	s, err := newStats(p.Name)
	if err != nil {
		return nil, err
	}
	s.count, s.nulls, s.infinite, s.invalid = p.Count, p.Nulls, p.Infinite, p.Invalid
	if p.Mean != nil && p.Min != nil && p.Max != nil {
		s.n, s.mean, s.min, s.max = p.Count-p.Infinite, *p.Mean, *p.Min, *p.Max
		if p.Std != nil {
			s.m2 = *p.Std * *p.Std * float64(s.n-1)
		}
	}
	if len(p.TDigest) > 0 {
		if s.digest, err = tdigest.DecodeDouble(p.TDigest); err != nil {
			return nil, err
		}
	}
	if len(p.HLL) > 0 {
		if s.distinct, err = hll.NewHllSketchFromSlice(p.HLL, true); err != nil {
			return nil, err
		}
	}
	s.top.restore(p)
	return s, nil
}

// topCounter counts values: exactly up to topCap distinct ones, then as a Misra–Gries summary (1982) whose counts are too low by at most
// err. Numeric columns past topCap are not summarised: their values are seldom worth listing.
type topCounter struct {
	counts map[string]int64
	err    int64
	off    bool // no counts any more
}

func newTopCounter() *topCounter { return &topCounter{counts: map[string]int64{}} }

func (t *topCounter) exact() bool { return !t.off && t.err == 0 }

func (t *topCounter) add(value string, n int64, numeric bool) {
	if t.off {
		return
	}
	if len(value) > topLength {
		value = value[:topLength] + "…" // two long values with one beginning count as one
	}
	if have, ok := t.counts[value]; ok {
		t.counts[value] = have + n
		return
	}
	if numeric && len(t.counts) >= topCap {
		t.counts, t.off = nil, true
		return
	}
	t.counts[strings.Clone(value)] = n
	if len(t.counts) > 2*topCap {
		t.evict(topCap)
	}
}

// evict subtracts the count of the value ranked keep+1 from all, which leaves at most keep values.
func (t *topCounter) evict(keep int) {
	ranked := make([]int64, 0, len(t.counts))
	for _, n := range t.counts {
		ranked = append(ranked, n)
	}
	slices.Sort(ranked)
	cut := ranked[len(ranked)-keep-1]
	t.err += cut
	for v, n := range t.counts {
		if n <= cut {
			delete(t.counts, v)
		} else {
			t.counts[v] = n - cut
		}
	}
}

func (t *topCounter) merge(o *topCounter) {
	if t.off || o.off {
		t.counts, t.off = nil, true
		return
	}
	t.err += o.err
	for v, n := range o.counts {
		t.counts[v] += n
	}
	if len(t.counts) > 2*topCap {
		t.evict(topCap)
	}
}

// list returns the most frequent values and the most that a count is too low by, or an absent value is worth.
func (t *topCounter) list(most int) ([]ValueCount, int64) {
	out := make([]ValueCount, 0, len(t.counts))
	for v, n := range t.counts {
		out = append(out, ValueCount{v, n})
	}
	slices.SortFunc(out, func(a, b ValueCount) int {
		if a.Count != b.Count {
			return int(min(max(b.Count-a.Count, -1), 1))
		}
		return strings.Compare(a.Value, b.Value)
	})
	bound := t.err
	if len(out) > most {
		bound += out[most].Count
		out = out[:most]
	}
	if len(out) == 0 {
		return nil, 0
	}
	return out, bound
}

func (t *topCounter) restore(p ColumnProfile) {
	if p.Count > 0 && p.Top == nil {
		t.counts, t.off = nil, true
		return
	}
	for _, v := range p.Top {
		t.counts[v.Value] = v.Count
	}
	t.err = p.TopError
}
