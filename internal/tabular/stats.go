package tabular

import (
	"math"
	"slices"

	"github.com/apache/datasketches-go/hll"
	"github.com/apache/datasketches-go/tdigest"
)

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
		s.top.add(text, c.Num != nil)
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
