package tabular

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

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
	scan    *scan // knows the files, and the split of each row of the batch
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
			if side = k.scan.split.sides[i]; side == noSide {
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
		file, row := k.scan.files.locate(p.again.row)
		firstFile, firstRow := k.scan.files.locate(p.first.row)
		value := fmt.Sprintf("same as row %d", firstRow)
		if firstFile != file {
			value += " of " + firstFile
		}
		if k.sides {
			value = fmt.Sprintf("in split %s, and in split %s: %s", k.scan.opts.Splits[p.again.side].Name, k.scan.opts.Splits[p.first.side].Name, value)
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
