package runs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"github.com/continuo-ml/continuo/internal/tabular"
)

// maxRowBytes bounds one row of text, as the reader of tables does.
const maxRowBytes = 16 << 20

// tableReader hands out the rows of one table file exactly as they are spelt: what a smoke run or a batch gets must not differ
// from the data in anything but the number of rows.
type tableReader struct {
	path   string
	format string
	header []byte // the CSV header with its line end
	lines  *bufio.Reader
	rows   *parquet.Reader
	schema *parquet.Schema
	closes []func() error
}

// openTable opens a file of the given format, "" meaning a text file of one row a line.
func openTable(path, format string) (_ *tableReader, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &tableReader{path: path, format: format, closes: []func() error{f.Close}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("read %s: %w", path, err), r.Close())
		}
	}()
	if format == formatParquet {
		return r, r.openParquet(f)
	}
	_, compression := tabular.FormatOf(path)
	var in io.Reader = f
	switch compression {
	case "gz":
		z, err := gzip.NewReader(f)
		if err != nil {
			return r, err
		}
		in = z
	case "zst":
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return r, err
		}
		r.closes = append(r.closes, func() error { z.Close(); return nil })
		in = z
	}
	r.lines = bufio.NewReaderSize(in, 256<<10)
	if format == formatCSV {
		h, err := r.record()
		if err != nil && !errors.Is(err, io.EOF) {
			return r, err
		}
		r.header = bytes.Clone(h)
	}
	return r, nil
}

// Close releases the file.
func (r *tableReader) Close() error {
	var err error
	for i := len(r.closes) - 1; i >= 0; i-- {
		err = errors.Join(err, r.closes[i]())
	}
	r.closes = nil
	return err
}

// copyTo appends up to n rows to w, -1 meaning all, and returns how many there were.
func (r *tableReader) copyTo(w *tableWriter, n int64) (int64, error) {
	var copied int64
	if r.format == formatParquet {
		return r.copyParquet(w, n)
	}
	for n < 0 || copied < n {
		row, err := r.record()
		if errors.Is(err, io.EOF) {
			return copied, nil
		}
		if err != nil {
			return copied, fmt.Errorf("read %s: %w", r.path, err)
		}
		if w != nil {
			if _, err := w.text.Write(row); err != nil {
				return copied, err
			}
		}
		copied++
	}
	return copied, nil
}

// record returns the next row with its line end, valid until the next call, or io.EOF. Blank lines of a table are no rows.
func (r *tableReader) record() ([]byte, error) {
	var row []byte
	var q quotes
	for {
		line, err := r.lines.ReadSlice('\n')
		if len(row)+len(line) > maxRowBytes {
			return nil, fmt.Errorf("a row has more than %d bytes: an unclosed quote, or no line ends", maxRowBytes)
		}
		open := r.format == formatCSV && q.after(line)
		row = append(row, line...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(row) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case errors.Is(err, io.EOF):
			if len(bytes.TrimRight(row, "\r\n")) == 0 {
				return nil, io.EOF
			}
			return ended(row), nil
		case open:
			continue
		case r.format != "" && len(bytes.TrimRight(row, "\r\n")) == 0:
			row, q = row[:0], quotes{}
			continue
		}
		return row, nil
	}
}

// ended adds the line end that a last line may lack.
func ended(row []byte) []byte {
	if bytes.HasSuffix(row, []byte{'\n'}) {
		return row
	}
	return append(row, '\n')
}

// quotes follows RFC 4180 through a row that may arrive in pieces: a quote opens only at the start of a field.
type quotes struct {
	inside, middle, maybeEnd bool
}

// after reports whether the row is still inside quotes at the end of b.
func (q *quotes) after(b []byte) bool {
	for _, c := range b {
		switch {
		case q.inside && q.maybeEnd:
			q.maybeEnd = false
			if c != '"' { // Not an escaped quote: the one before closed the field.
				q.inside, q.middle = false, c != ','
			}
		case q.inside:
			q.maybeEnd = c == '"'
		case c == '"' && !q.middle:
			q.inside = true
		default:
			q.middle = c != ','
		}
	}
	return q.inside && !q.maybeEnd
}

// tableWriter writes rows of the format of the reader that they come from. The CSV header goes ahead of the first row.
type tableWriter struct {
	text    *bufio.Writer
	parquet *parquet.Writer
}

// newTableWriter writes to out what comes from readers like r.
func newTableWriter(out io.Writer, r *tableReader) (*tableWriter, error) {
	if r.format == formatParquet {
		return &tableWriter{parquet: parquet.NewWriter(out, r.schema)}, nil
	}
	w := &tableWriter{text: bufio.NewWriterSize(out, 256<<10)}
	_, err := w.text.Write(r.header)
	return w, err
}

// close writes what a format needs at its end; it leaves the underlying one open.
func (w *tableWriter) close() error {
	if w.parquet != nil {
		return w.parquet.Close()
	}
	return w.text.Flush()
}

// countRows counts the rows of a file that a command wrote; a CSV header is none.
func countRows(path, format string) (n int64, err error) {
	r, err := openTable(path, format)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if format == formatParquet {
		return r.rows.NumRows(), nil
	}
	return r.copyTo(nil, -1)
}
