package tabular

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// tableCheck judges the finished result; it sees no rows.
type tableCheck struct {
	rule
	column string // must exist unless empty
	judge  func(k *tableCheck, r *Result) (string, error)
}

func (k *tableCheck) batch(*Batch) error { return nil }

func (k *tableCheck) findings(r *Result) ([]Finding, error) {
	if k.column != "" {
		if _, ok := r.Schema.Field(k.column); !ok {
			return []Finding{k.missing(k.column)}, nil
		}
	}
	message, err := k.judge(k, r)
	if err != nil || message == "" {
		return nil, err
	}
	return []Finding{k.finding(k.column, 1, nil, "%s", message)}, nil
}

// outOf says how v breaks the bounds, or nothing.
func outOf(b MinMax, v float64) string {
	switch {
	case b.Min != nil && v < *b.Min:
		return fmt.Sprintf("%g is less than %g", v, *b.Min)
	case b.Max != nil && v > *b.Max:
		return fmt.Sprintf("%g is more than %g", v, *b.Max)
	case v != v:
		return "is not a number"
	}
	return ""
}

func judgeRowCount(b MinMax) func(*tableCheck, *Result) (string, error) {
	return func(_ *tableCheck, r *Result) (string, error) {
		if bad := outOf(b, float64(r.Rows)); bad != "" {
			return "row count " + bad, nil
		}
		return "", nil
	}
}

func judgeMean(b MinMax) func(*tableCheck, *Result) (string, error) {
	return func(k *tableCheck, r *Result) (string, error) {
		p := r.Profile.Column(k.column)
		if p.Mean == nil {
			return fmt.Sprintf("column %s has no numeric values to take the mean of", clip(k.column)), nil
		}
		if bad := outOf(b, *p.Mean); bad != "" {
			return fmt.Sprintf("column %s: mean %s", clip(k.column), bad), nil
		}
		return "", nil
	}
}

func judgeNullShare(most float64) func(*tableCheck, *Result) (string, error) {
	return func(k *tableCheck, r *Result) (string, error) {
		p := r.Profile.Column(k.column)
		if share := float64(p.Nulls) / float64(max(r.Rows, 1)); share > most {
			return fmt.Sprintf("column %s: %d of %d values are null, a share of %.4g over %g", clip(k.column), p.Nulls, r.Rows, share, most), nil
		}
		return "", nil
	}
}

func judgeDistinct(b MinMax) func(*tableCheck, *Result) (string, error) {
	return func(k *tableCheck, r *Result) (string, error) {
		if bad := outOf(b, float64(r.Profile.Column(k.column).Distinct)); bad != "" {
			return fmt.Sprintf("column %s: distinct count %s", clip(k.column), bad), nil
		}
		return "", nil
	}
}

func judgeColumns(want []string) func(*tableCheck, *Result) (string, error) {
	return func(_ *tableCheck, r *Result) (string, error) {
		have := r.Schema.Names()
		var missing, extra []string
		for _, n := range want {
			if !slices.Contains(have, n) {
				missing = append(missing, clip(n))
			}
		}
		for _, n := range have {
			if !slices.Contains(want, n) {
				extra = append(extra, clip(n))
			}
		}
		slices.Sort(missing)
		slices.Sort(extra)
		var parts []string
		if len(missing) > 0 {
			parts = append(parts, "missing: "+strings.Join(missing, ", "))
		}
		if len(extra) > 0 {
			parts = append(parts, "not expected: "+strings.Join(extra, ", "))
		}
		if len(parts) == 0 {
			return "", nil
		}
		return "the columns differ; " + strings.Join(parts, "; "), nil
	}
}

func judgeFreshness(f Freshness, now time.Time) func(*tableCheck, *Result) (string, error) {
	return func(k *tableCheck, r *Result) (string, error) {
		p := r.Profile.Column(k.column)
		if p.Type != Timestamp || p.Max == nil {
			return fmt.Sprintf("column %s holds no timestamps (it is %s); write them as 2006-01-02T15:04:05Z", clip(k.column), p.Type), nil
		}
		age := now.Sub(time.UnixMicro(int64(*p.Max * 1e6)))
		if age > f.Max {
			return fmt.Sprintf("column %s: the newest value %s is %s old, more than %s", clip(k.column), formatValue(Timestamp, *p.Max), age.Round(time.Second), f.Max), nil
		}
		return "", nil
	}
}

// keyCheck finds rows with equal keys: unique, max_duplicates and no_overlap.
type keyCheck struct {
	rule
	columns []string // nil for the whole row
	most    int64    // repeats that are fine
	sides   bool     // only rows on different splits offend
	enc     rowEncoder
	set     keySet
	missed  string
	row     int64
	files   *fileIndex
	side    func(i int) uint8 // the split of row i of the batch
}

func (k *keyCheck) batch(b *Batch) error {
	k.enc.columns = k.columns
	if k.missed = k.enc.prepare(b); k.missed != "" {
		k.row += int64(b.Rows)
		return nil
	}
	for i := range b.Rows {
		k.row++
		form, nulls := k.enc.encode(b, i)
		if k.columns != nil && nulls > 0 {
			continue
		}
		side := uint8(noSide)
		if k.sides {
			if side = k.side(i); side == noSide {
				continue
			}
		}
		if err := k.set.add(keyEntry{key: keyOf(form), row: k.row - 1, side: side}); err != nil {
			return err
		}
	}
	return nil
}

func (k *keyCheck) label() string {
	if k.columns == nil {
		return "*"
	}
	return strings.Join(k.columns, ", ")
}

func (k *keyCheck) findings(r *Result) ([]Finding, error) {
	for _, c := range k.columns {
		if _, ok := r.Schema.Field(c); !ok {
			return []Finding{k.missing(c)}, nil
		}
	}
	var count int64
	var rows []keyPair
	err := k.set.duplicates(func(first, again keyEntry) {
		if k.sides && first.side == again.side {
			return
		}
		count++
		rows = keepFirst(rows, keyPair{first, again})
	})
	if err = errors.Join(err, k.set.close()); err != nil {
		return nil, err
	}
	if count <= k.most {
		return nil, nil
	}
	var samples []SampleRow
	for _, p := range rows {
		file, row := k.files.locate(p.again.row)
		firstFile, firstRow := k.files.locate(p.first.row)
		value := fmt.Sprintf("same as row %d", firstRow)
		if firstFile != file {
			value += " of " + firstFile
		}
		if k.sides {
			value = fmt.Sprintf("in split %s, and in split %s: %s", r.splitNames[p.again.side], r.splitNames[p.first.side], value)
		}
		samples = append(samples, SampleRow{Row: row, File: file, Value: value})
	}
	what := "rows repeat the key of an earlier row"
	switch {
	case k.sides:
		what = "rows have a key that is also on another split"
	case k.columns == nil:
		what = "rows repeat an earlier row"
	}
	return []Finding{k.finding(k.label(), count, samples, "key %s: %d of %d %s", clip(k.label()), count, r.Rows, what)}, nil
}

type keyPair struct{ first, again keyEntry }

// keepFirst keeps the maxSamples pairs whose later rows come first in the table.
func keepFirst(rows []keyPair, p keyPair) []keyPair {
	at, _ := slices.BinarySearchFunc(rows, p, func(a, b keyPair) int { return cmp.Compare(a.again.row, b.again.row) })
	if at >= maxSamples {
		return rows
	}
	rows = slices.Insert(rows, at, p)
	return rows[:min(len(rows), maxSamples)]
}

// fileIndex turns a row of the table into a file and a row in it.
type fileIndex struct {
	files  []string
	starts []int64 // 0-based table row of each file's first row
}

func (x *fileIndex) note(b *Batch, tableRow int64) {
	if len(x.files) == 0 || x.files[len(x.files)-1] != b.File {
		x.files = append(x.files, b.File)
		x.starts = append(x.starts, tableRow)
	}
}

func (x *fileIndex) locate(tableRow int64) (string, int64) {
	i, found := slices.BinarySearch(x.starts, tableRow)
	if !found {
		i--
	}
	return x.files[i], tableRow - x.starts[i] + 1
}
