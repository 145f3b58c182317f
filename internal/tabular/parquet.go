package tabular

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parquet-go/parquet-go"
)

// parquetSource reads a Parquet file column by column, one page of each held at a time. A struct's leaves become columns with dotted
// names; a repeated leaf becomes a string column of JSON arrays. NaN is null, as in CSV.
type parquetSource struct {
	ctx     context.Context
	in      *input
	src     io.ReaderAt
	spool   *os.File // the decompressed copy of a .gz or .zst file
	limits  Limits
	meta    *parquetMeta
	ratio   ratioGuard
	header  []string
	group   int   // next row group
	left    int64 // rows left of the open one
	cursors []*columnCursor
	row     int64
	keep    bool // hand out whole rows too, for split files
}

func openParquet(in *input, compression string, limits Limits, tempDir string, keep bool) (*parquetSource, error) {
	s := &parquetSource{keep: keep, ctx: in.ctx, in: in, src: in.file, limits: limits, ratio: ratioGuard{limit: int64(limits.Ratio)}}
	size := in.before.Size()
	var err error
	if compression != "" {
		if size, err = s.unpack(tempDir); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	if s.meta, err = readParquetMeta(s.src, size, limits); err != nil {
		return nil, errors.Join(s.placed(err, ""), s.close())
	}
	for _, l := range s.meta.leaves {
		s.header = append(s.header, l.name)
	}
	return s, nil
}

// unpack writes the decompressed file to a temporary one, as Parquet is read from its end.
func (s *parquetSource) unpack(dir string) (int64, error) {
	f, err := os.CreateTemp(dir, "parquet-*")
	if err != nil {
		return 0, fmt.Errorf("unpack %s: %w", s.in.path, err)
	}
	s.spool, s.src = f, f
	n, err := io.Copy(f, io.LimitReader(s.in, s.limits.SpoolBytes+1))
	if err != nil {
		return 0, fmt.Errorf("unpack %s: %w", s.in.path, err)
	}
	if n > s.limits.SpoolBytes {
		return 0, &Error{File: s.in.path, Err: limitf("spool bytes", "it unpacks to more than %d bytes", s.limits.SpoolBytes)}
	}
	return n, nil
}

// placed gives err the file and the column.
func (s *parquetSource) placed(err error, column string) error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Err: err, Column: column}
	}
	if e.File == "" {
		e.File = s.in.path
	}
	return e
}

func (s *parquetSource) names() []string { return s.header }

func (s *parquetSource) close() error {
	if s.spool == nil {
		return nil
	}
	err := errors.Join(s.spool.Close(), os.Remove(s.spool.Name()))
	s.spool = nil
	if err != nil {
		return fmt.Errorf("remove unpacked copy: %w", err)
	}
	return nil
}

// nextGroup opens cursors on the next row group that has rows, or returns io.EOF.
func (s *parquetSource) nextGroup() error {
	for s.left == 0 {
		if s.group == len(s.meta.rows) {
			return io.EOF
		}
		s.cursors = s.cursors[:0]
		chunks := s.meta.file.RowGroups()[s.group].ColumnChunks()
		for i := range s.meta.leaves {
			chunk, ok := chunks[i].(*parquet.FileColumnChunk)
			if !ok {
				return fmt.Errorf("open column: the library gave a %T", chunks[i])
			}
			at := s.meta.chunks[s.group][i]
			stream := &pageStream{ctx: s.ctx, src: s.src, chunk: at, leaf: &s.meta.leaves[i], limits: s.limits, ratio: &s.ratio, pos: at.start, next: virtualStart}
			s.cursors = append(s.cursors, &columnCursor{stream: stream, pages: chunk.PagesFrom(stream), leaf: &s.meta.leaves[i], limits: s.limits, texts: map[*byte]string{}})
		}
		s.left = s.meta.rows[s.group]
		s.group++
	}
	return nil
}

func (s *parquetSource) fill(f *frame) error {
	if err := guard(s.nextGroup); err != nil {
		return err
	}
	rows := int(min(s.left, BatchRows))
	var held int64
	columns := make([][][]parquet.Value, len(s.cursors))
	for i, c := range s.cursors {
		if err := guard(func() error { return c.read(rows) }); err != nil {
			return &Error{File: s.in.path, Row: s.row + int64(c.got) + 1, Column: c.leaf.name, Err: err}
		}
		if held += c.stream.held; held > s.limits.OpenBytes {
			return &Error{File: s.in.path, Row: s.row + 1, Column: c.leaf.name, Err: limitf("open bytes", "the pages of all columns take more than %d bytes at once; write smaller pages", s.limits.OpenBytes)}
		}
		columns[i] = c.rows
		bad, err := 0, error(nil)
		gerr := guard(func() error {
			f.cells[i], bad, err = decodeColumn(c.leaf, c.rows, c.decoder())
			return nil
		})
		if err = errors.Join(err, gerr); err != nil {
			return &Error{File: s.in.path, Row: s.row + int64(bad) + 1, Column: c.leaf.name, Err: err}
		}
	}
	f.rows = rows
	if s.keep {
		f.raw = wholeRows(columns, rows)
	}
	s.row += int64(rows)
	s.left -= int64(rows)
	return nil
}

// wholeRows puts the values of columns together by row.
func wholeRows(columns [][][]parquet.Value, rows int) []parquet.Row {
	out := make([]parquet.Row, rows)
	for r := range out {
		for c := range columns {
			out[r] = append(out[r], columns[c][r]...)
		}
	}
	return out
}

// columnCursor reads one column chunk value by value.
type columnCursor struct {
	stream *pageStream
	pages  *parquet.FilePages
	leaf   *parquetLeaf
	limits Limits
	values parquet.ValueReader
	buf    []parquet.Value // read and not used
	rows   [][]parquet.Value
	got    int              // rows of the current read
	texts  map[*byte]string // text of the dictionary's values
	shared int              // values of the dictionary
}

// read sets rows to the values of the next n rows.
func (c *columnCursor) read(n int) error {
	c.rows = make([][]parquet.Value, n)
	flat := make([]parquet.Value, 0, n)
	for c.got = 0; c.got < n; c.got++ {
		from := len(flat)
		for {
			v, ok, err := c.peek()
			if err != nil {
				return err
			}
			if !ok || (len(flat) > from && v.RepetitionLevel() == 0) {
				break
			}
			flat = append(flat, v)
			c.buf = c.buf[1:]
			if c.leaf.maxRep == 0 {
				break
			}
			if len(flat)-from > c.limits.RowBytes/8 {
				return limitf("row bytes", "a list has more than %d elements", c.limits.RowBytes/8)
			}
		}
		if len(flat) == from {
			return errors.New("the column ends before its row group; the file is damaged")
		}
		if flat[from].RepetitionLevel() != 0 {
			return errors.New("a row starts in the middle of a list; the file is damaged")
		}
		c.rows[c.got] = flat[from:len(flat):len(flat)]
	}
	return nil
}

// peek returns the next value without using it, reading another page if it must; ok is false at the end of the chunk.
func (c *columnCursor) peek() (v parquet.Value, ok bool, err error) {
	for len(c.buf) == 0 {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && c.stream.stuck != nil && errors.Is(c.stream.stuck, io.EOF) {
				return v, false, nil
			}
			if err != nil {
				return v, false, fmt.Errorf("read page: %w", c.cause(err))
			}
			c.values = page.Values()
			if d := page.Dictionary(); d != nil {
				c.shared = d.Len()
			}
		}
		// A page's values may refer to its memory, which is never given back to the library's pool: the garbage collector frees it with
		// the last value.
		buf := make([]parquet.Value, BatchRows)
		n, err := c.values.ReadValues(buf)
		c.buf = buf[:n]
		if err != nil {
			c.values = nil
			if !errors.Is(err, io.EOF) {
				return v, false, fmt.Errorf("read values: %w", err)
			}
		} else if n == 0 {
			return v, false, errors.New("a page gives no values and no end; the file is damaged")
		}
	}
	return c.buf[0], true, nil
}

// cause prefers what the page stream found to what the library made of it.
func (c *columnCursor) cause(err error) error {
	if c.stream.stuck != nil && !errors.Is(c.stream.stuck, io.EOF) {
		return c.stream.stuck
	}
	return unexpected(err)
}

func (c *columnCursor) decoder() valueDecoder {
	return valueDecoder{leafType: c.leaf.leafType, texts: c.texts, shared: c.shared, limits: c.limits}
}
