package tabular

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// BatchRows is the most rows of a batch. A batch is also cut when its text passes batchBytes, so that long rows stay few.
const (
	BatchRows  = 1000
	batchBytes = 16 << 20
)

// source reads one file of one format.
type source interface {
	// names returns the columns known so far; JSON Lines may learn more with every batch.
	names() []string
	// fill reads the next rows into f and returns io.EOF, with no rows, at the end.
	fill(f *frame) error
	close() error
}

// frame is what a source fills: cells by column, parallel to source.names.
type frame struct {
	rows  int
	cells []cells
	lines []string
	raw   []parquet.Row
}

func (f *frame) reset(columns int) {
	f.rows = 0
	for len(f.cells) < columns {
		f.cells = append(f.cells, cells{})
	}
	f.cells = f.cells[:columns]
	for i := range f.cells {
		c := &f.cells[i]
		*c = cells{text: c.text[:0], kinds: c.kinds[:0]}
	}
	f.lines = f.lines[:0]
	f.raw = nil
}

// Reader streams the rows of several files as one table. It keeps the context of Open, because Next has no parameter for it: the context
// bounds the whole read. A Reader is not safe for concurrent use.
type Reader struct {
	ctx        context.Context
	paths      []string
	format     string
	opts       Options
	limits     Limits
	next       int // index in paths of the file to open next
	in         *input
	src        source
	fileRow    int64 // rows read of the open file
	rows       int64 // rows read of all files
	first      []string
	schema     *parquet.Schema // of the first Parquet file
	schemaText string
	infer      []*inference
	at         map[string]int // index in infer of each column
	frame      frame
	batch      Batch
	ready      bool // batch was read by Open and not handed out yet
	err        error
}

// Open opens paths, sorted and each once, as one table and reads its first batch, from which Schema is known. Every file must have the same columns.
// Cancelling ctx ends the read with the context's error.
func Open(ctx context.Context, paths []string, opts Options) (*Reader, error) {
	if len(paths) == 0 {
		return nil, errors.New("open data: no file named")
	}
	for _, f := range opts.Declared {
		if !f.Type.Valid() {
			return nil, fmt.Errorf("open data: column %s has the unknown type %q; use number, integer, string, category, bool or timestamp", clip(f.Name), f.Type)
		}
	}
	r := &Reader{ctx: ctx, paths: slices.Compact(slices.Sorted(slices.Values(paths))), opts: opts, limits: opts.Limits.withDefaults(), at: map[string]int{}}
	var err error
	if r.format, err = commonFormat(r.paths, opts.Format); err != nil {
		return nil, err
	}
	switch err := r.read(); {
	case errors.Is(err, io.EOF):
		r.err = io.EOF
	case err != nil:
		return nil, errors.Join(err, r.Close())
	default:
		r.ready = true
	}
	return r, nil
}

// commonFormat returns the one format of all paths.
func commonFormat(paths []string, format string) (string, error) {
	switch format {
	case formatCSV, formatJSONL, formatParquet:
		return format, nil
	case "":
	default:
		return "", fmt.Errorf("open data: unknown format %q; use csv, jsonl or parquet", format)
	}
	for i, p := range paths {
		f, _ := FormatOf(p)
		if f == "" {
			return "", &Error{File: p, Err: fmt.Errorf("the extension %q is not a supported format; use .csv, .jsonl or .parquet, plain or with .gz or .zst, or name the format (archives such as zip and tar are to be unpacked first)", filepath.Ext(p))}
		}
		if i > 0 && f != format {
			return "", &Error{File: p, Err: fmt.Errorf("is %s but %s is %s; the files of one table have one format", f, paths[0], format)}
		}
		format = f
	}
	return format, nil
}

// Schema returns the columns with the types of what has been read so far; they are final once Next has returned io.EOF.
func (r *Reader) Schema() Schema {
	s := make(Schema, len(r.infer))
	for i, inf := range r.infer {
		s[i] = Field{Name: inf.name, Type: inf.batchType()}
	}
	return s
}

// Next returns the next batch, or io.EOF after the last one.
func (r *Reader) Next() (*Batch, error) {
	if r.ready {
		r.ready = false
		return &r.batch, nil
	}
	if r.err != nil {
		return nil, r.err
	}
	if r.err = r.read(); r.err != nil {
		return nil, r.err
	}
	return &r.batch, nil
}

// Close releases the open file. It may be called at any time, and more than once.
func (r *Reader) Close() error {
	var err error
	if r.src != nil {
		err = r.src.close()
		r.src = nil
	}
	if r.in != nil {
		err = errors.Join(err, r.in.close())
		r.in = nil
	}
	if r.err == nil {
		r.err = errors.New("read data: reader is closed")
	}
	r.ready = false
	return err
}

// read fills r.batch with the next rows, moving on to the next file where one ends.
func (r *Reader) read() error {
	for {
		if err := r.ctx.Err(); err != nil {
			return r.atFile(err)
		}
		if r.src == nil {
			if r.next == len(r.paths) {
				return io.EOF
			}
			if err := r.openNext(); err != nil {
				return err
			}
		}
		r.frame.reset(len(r.src.names()))
		err := r.src.fill(&r.frame)
		if err == nil {
			return r.finish()
		}
		// A file that changed explains any error that it causes, so this is said first.
		if cerr := r.in.changed(); cerr != nil {
			return cerr
		}
		if !errors.Is(err, io.EOF) {
			return r.atFile(err)
		}
		if err := r.sameColumns(); err != nil {
			return err
		}
		if err := r.closeFile(); err != nil {
			return err
		}
	}
}

// atFile gives err the file's name unless it has one.
func (r *Reader) atFile(err error) error {
	var placed *Error
	if errors.As(err, &placed) {
		return err
	}
	e := &Error{Err: err, File: strings.Join(r.paths, ", ")}
	if r.in != nil {
		e.File = r.in.path
	}
	return e
}

func (r *Reader) openNext() error {
	path := r.paths[r.next]
	r.next++
	_, compression := FormatOf(path)
	in, err := openInput(r.ctx, path, compression, r.limits)
	if err != nil {
		return err
	}
	r.in, r.fileRow = in, 0
	src, err := r.open(compression)
	if err != nil {
		if cerr := in.changed(); cerr != nil {
			return cerr
		}
		return r.atFile(err)
	}
	r.src = src
	r.align() // a table without rows has columns all the same
	if p, ok := src.(*parquetSource); ok {
		if r.schema == nil {
			r.schema, r.schemaText = p.meta.schema, p.meta.text
		}
		return r.sameSchema(p)
	}
	return r.sameColumns()
}

// open starts to read the open file.
func (r *Reader) open(compression string) (source, error) {
	switch r.format {
	case formatCSV:
		return openCSV(r.in, r.limits)
	case formatJSONL:
		return openJSONL(r.in, r.limits)
	}
	return openParquet(r.in, compression, r.limits, r.opts.TempDir, r.opts.keepRows)
}

// sameColumns compares the open file's columns with the first file's. JSON Lines is let through: there an absent key is a null.
func (r *Reader) sameColumns() error {
	names := r.src.names()
	if r.first == nil {
		r.first = slices.Clone(names)
	} else if r.format != formatJSONL && !slices.Equal(r.first, names) {
		return &Error{File: r.in.path, Err: fmt.Errorf("its columns differ from those of %s: %s; give every file of the table the same columns in the same order", r.paths[0], columnDiff(r.first, names))}
	}
	return nil
}

// sameSchema holds a later Parquet file to the first one's exact schema, as split files have only one.
func (r *Reader) sameSchema(p *parquetSource) error {
	if err := r.sameColumns(); err != nil {
		return err
	}
	if p.meta.text != r.schemaText {
		return &Error{File: r.in.path, Err: fmt.Errorf("its Parquet schema differs from that of %s (a type, or what may be null); write both with one schema", r.paths[0])}
	}
	return nil
}

// columnDiff says in a few words how got differs from want.
func columnDiff(want, got []string) string {
	if len(want) == len(got) {
		for i := range want {
			if want[i] != got[i] {
				return fmt.Sprintf("column %d is %s instead of %s", i+1, clip(got[i]), clip(want[i]))
			}
		}
	}
	differs := fmt.Sprintf("%d columns instead of %d", len(got), len(want))
	if i := slices.IndexFunc(want, func(n string) bool { return !slices.Contains(got, n) }); i >= 0 {
		return differs + ", " + clip(want[i]) + " is missing"
	}
	i := slices.IndexFunc(got, func(n string) bool { return !slices.Contains(want, n) })
	return differs + ", " + clip(got[max(i, 0)]) + " is new"
}

func (r *Reader) closeFile() error {
	err := r.src.close()
	r.src = nil
	err = errors.Join(err, r.in.close())
	r.in = nil
	return err
}

// finish types the frame's cells and makes it the current batch.
func (r *Reader) finish() error {
	f := &r.frame
	r.rows += int64(f.rows)
	if r.rows > r.limits.Rows {
		return &Error{File: r.in.path, Row: r.fileRow + int64(f.rows) - (r.rows - r.limits.Rows) + 1, Err: limitf("rows", "the table has more than %d rows", r.limits.Rows)}
	}
	r.align()
	known := make([]*cells, len(r.infer))
	for i, n := range r.src.names() {
		known[r.at[n]] = &f.cells[i]
	}
	columns := r.batch.Columns[:0]
	for i, inf := range r.infer {
		if known[i] == nil {
			known[i] = absentCells(f.rows)
		}
		columns = append(columns, inf.column(known[i], f.rows))
	}
	r.batch = Batch{Rows: f.rows, Columns: columns, File: r.in.path, Row: r.fileRow + 1, lines: f.lines, rows: f.raw, schema: r.schema}
	r.fileRow += int64(f.rows)
	return nil
}

// align gives every column that the source knows by now an inference; JSON Lines may have found new ones, null in all earlier rows.
func (r *Reader) align() {
	for _, n := range r.src.names() {
		if _, ok := r.at[n]; !ok {
			r.at[n] = len(r.infer)
			r.infer = append(r.infer, newInference(n, r.opts.Declared))
		}
	}
}

// absentCells is a column that the open JSON Lines file has not mentioned: all null.
func absentCells(rows int) *cells {
	c := &cells{text: make([]string, rows), kinds: make([]kind, rows)}
	for i := range c.kinds {
		c.kinds[i] = kindNull
	}
	return c
}

// emptyBatch has the columns of the table and no rows.
func (r *Reader) emptyBatch() *Batch {
	b := &Batch{schema: r.schema}
	for _, f := range r.Schema() {
		b.Columns = append(b.Columns, Column{Name: f.Name, Type: f.Type})
	}
	return b
}
