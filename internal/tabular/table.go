package tabular

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Table is a whole table in memory, sampled when it has more rows than the cap.
type Table struct {
	Schema  Schema
	Columns []Column // parallel to Schema; numbers have lost their source's spelling
	Rows    int      // rows held
	Total   int64    // rows read; more than Rows when the table was sampled
}

// Column returns the column named name, or nil.
func (t *Table) Column(name string) *Column { return named(t.Columns, name) }

// Load reads paths as one table. Above Options.MaxRows it keeps the rows whose hashes are smallest, in file order. What is hashed is the
// row's number, not its values: values repeat, and all copies of a value share one hash, so that a sample by value would hold every copy of
// some values and none of the others. The sample is the same for the same files, and rows appended later displace only what they must.
//
// A value that is not of its declared type is an error here. A column that looked numeric and turns out to be text makes Load read
// the files a second time, so that early values keep their spelling.
func Load(ctx context.Context, paths []string, opts Options) (*Table, error) {
	t, final, err := load(ctx, paths, opts, nil)
	if err != nil || final == nil {
		return t, err
	}
	if t, _, err = load(ctx, paths, opts, final); err != nil {
		return nil, err
	}
	return t, nil
}

// load reads once. When a column held as numbers becomes text it reads on for the types alone and returns the names of all text columns,
// with which to call it again.
func load(ctx context.Context, paths []string, opts Options, text map[string]bool) (t *Table, final map[string]bool, err error) {
	r, err := Open(ctx, paths, opts)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	limit := opts.MaxRows
	if limit == 0 {
		limit = DefaultMaxRows
	}
	b := &tableBuilder{table: &Table{}, limit: limit, text: text}
	for {
		batch, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if err := b.add(batch); err != nil {
			return nil, nil, err
		}
	}
	if b.widened {
		final = map[string]bool{}
		for _, f := range r.Schema() {
			final[f.Name] = !f.Type.Numeric()
		}
		return nil, final, nil
	}
	b.finish(r.Schema())
	return b.table, nil, nil
}

// tableBuilder appends batches to columns and keeps a bottom-k sample of the rows.
type tableBuilder struct {
	table   *Table
	limit   int
	text    map[string]bool // columns known to end as text
	widened bool
	numbers []int64 // global row numbers held, once over the limit or not
	keep    []int   // rows of the batch to keep
	bound   uint64  // rows with a larger hash are out
	intern  []map[string]string
}

func (b *tableBuilder) add(batch *Batch) error {
	for i := range batch.Columns {
		if c := &batch.Columns[i]; len(c.Invalid) > 0 {
			row := c.Invalid[0]
			return &Error{File: batch.File, Row: batch.Row + int64(row), Column: c.Name, Err: fmt.Errorf("%s is not of the declared type %s; mend the value or declare another type", clip(c.Text(row)), c.Type)}
		}
	}
	b.choose(batch.Rows)
	for len(b.table.Columns) < len(batch.Columns) {
		b.newColumn(batch.Columns[len(b.table.Columns)].Name)
	}
	if b.widened {
		return nil
	}
	for i := range batch.Columns {
		if b.append(i, &batch.Columns[i]); b.widened {
			return nil
		}
	}
	b.table.Rows += len(b.keep)
	if b.limit > 0 && b.table.Rows >= 2*b.limit {
		b.shrink()
	}
	return nil
}

// choose sets keep to the rows of the batch that may still be in the sample.
func (b *tableBuilder) choose(rows int) {
	b.keep = b.keep[:0]
	for i := range rows {
		n := b.table.Total + int64(i)
		if b.limit > 0 && b.bound != 0 && mix64(uint64(n)) > b.bound {
			continue
		}
		b.keep = append(b.keep, i)
		if b.limit > 0 {
			b.numbers = append(b.numbers, n)
		}
	}
	b.table.Total += int64(rows)
}

// newColumn adds a column that is null in all rows so far.
func (b *tableBuilder) newColumn(name string) {
	c := Column{Name: name}
	if b.table.Rows > 0 {
		c.Nulls = make([]bool, b.table.Rows)
		for i := range c.Nulls {
			c.Nulls[i] = true
		}
	}
	b.table.Columns = append(b.table.Columns, c)
	b.intern = append(b.intern, map[string]string{})
}

func (b *tableBuilder) append(at int, src *Column) {
	dst := &b.table.Columns[at]
	held := b.table.Rows
	if src.Nulls != nil || dst.Nulls != nil {
		dst.Nulls = padded(dst.Nulls, held)
		for _, i := range b.keep {
			dst.Nulls = append(dst.Nulls, src.IsNull(i))
		}
	}
	if b.text[src.Name] || (src.Num == nil && dst.Num == nil) {
		dst.Str = padded(dst.Str, held)
		for _, i := range b.keep {
			s := ""
			if !src.IsNull(i) {
				s = b.shared(at, src.Text(i))
			}
			dst.Str = append(dst.Str, s)
		}
		return
	}
	if src.Num == nil && (src.Nulls == nil || slices.Contains(src.Nulls, false)) {
		b.widened = true
		return
	}
	dst.Str = nil // all null so far, or it would be text
	dst.Num = padded(dst.Num, held)
	for _, i := range b.keep {
		v := 0.0
		if src.Num != nil {
			v = src.Num[i]
		}
		dst.Num = append(dst.Num, v)
	}
}

// padded is s with zero values behind it up to n.
func padded[T any](s []T, n int) []T { return append(s, make([]T, n-len(s))...) }

// shared returns one copy of s per column for the first values, so that a category costs its text once; others are copied away from their
// batch, whose arena they would keep alive.
func (b *tableBuilder) shared(at int, s string) string {
	m := b.intern[at]
	if have, ok := m[s]; ok {
		return have
	}
	s = strings.Clone(s)
	if len(m) < 1000 {
		m[s] = s
	}
	return s
}

// mix64 is the finalizer of SplitMix64 (Steele, Lea, Flood 2014): a fixed permutation of the 64-bit numbers.
func mix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// shrink keeps the limit rows with the smallest hashes.
func (b *tableBuilder) shrink() {
	if b.limit <= 0 || b.table.Rows <= b.limit {
		return
	}
	hashes := make([]uint64, len(b.numbers))
	for i, n := range b.numbers {
		hashes[i] = mix64(uint64(n))
	}
	sorted := slices.Sorted(slices.Values(hashes))
	b.bound = sorted[b.limit-1]
	keep := make([]int, 0, b.limit)
	for i, h := range hashes {
		if h <= b.bound {
			keep = append(keep, i)
		}
	}
	for i := range b.table.Columns {
		c := &b.table.Columns[i]
		c.Nulls, c.Num, c.Str = pick(c.Nulls, keep), pick(c.Num, keep), pick(c.Str, keep)
	}
	b.numbers = pick(b.numbers, keep)
	b.table.Rows = len(keep)
}

func pick[T any](s []T, keep []int) []T {
	if s == nil {
		return nil
	}
	for to, from := range keep {
		s[to] = s[from]
	}
	return s[:len(keep)]
}

func (b *tableBuilder) finish(schema Schema) {
	b.shrink()
	b.table.Schema = schema
	for len(b.table.Columns) < len(schema) {
		b.newColumn(schema[len(b.table.Columns)].Name)
	}
	for i, f := range schema {
		c := &b.table.Columns[i]
		c.Type = f.Type
		if f.Type.Numeric() {
			c.Num, c.Str = padded(c.Num, b.table.Rows), nil
		} else {
			c.Str = padded(c.Str, b.table.Rows)
		}
	}
}
