package tabular

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// csvSource reads RFC 4180 with encoding/csv's rules: a quote only at the start of a field, "" inside quotes, CRLF as LF, blank lines
// skipped, every row as wide as the header. It differs in what it refuses: UTF-16, invalid UTF-8, NUL, empty or repeated column names.
// encoding/csv has no limits per row, and costs twice the time (BenchmarkLoadCSV); csv_test.go holds the two to the same answers.
type csvSource struct {
	lines
	header  []string
	width   int   // columns; 0 while the header is read
	row     int64 // data rows read
	arena   []byte
	fields  []span  // row-major spans of the arena
	lineOf  []int64 // physical line where each row of the batch starts
	pending error   // a bad row after good ones: given once those are handed out
}

type span struct{ from, to uint32 }

func openCSV(in *input, limits Limits) (*csvSource, error) {
	s := &csvSource{lines: newLines(in, limits)}
	if err := s.skipBOM(); err != nil {
		return nil, s.fail("", err)
	}
	switch err := s.record(); {
	case errors.Is(err, io.EOF):
		return nil, s.fail("", errors.New("is empty; a CSV file starts with a header row of column names"))
	case err != nil:
		return nil, err
	}
	if err := s.checkText(string(s.arena), 0, 1); err != nil {
		return nil, err
	}
	for _, f := range s.fields {
		s.header = append(s.header, string(s.arena[f.from:f.to]))
	}
	if err := checkNames(s.header, limits); err != nil {
		return nil, s.fail("", err)
	}
	s.width = len(s.header)
	return s, nil
}

// checkNames refuses the columns that no rule could name: none, empty, repeated, or longer than a name is.
func checkNames(names []string, limits Limits) error {
	if len(names) > limits.Columns {
		return limitf("columns", "has %d columns, more than %d", len(names), limits.Columns)
	}
	seen := make(map[string]int, len(names))
	for i, n := range names {
		switch first, dup := seen[n]; {
		case n == "":
			return fmt.Errorf("column %d has no name; name it in the header", i+1)
		case len(n) > limits.NameBytes:
			return limitf("name bytes", "the name of column %d has %d bytes, more than %d", i+1, len(n), limits.NameBytes)
		case !utf8.ValidString(n):
			return fmt.Errorf("the name of column %d is not UTF-8", i+1)
		case dup:
			return fmt.Errorf("columns %d and %d are both named %s; rename one", first+1, i+1, clip(n))
		}
		seen[n] = i
	}
	return nil
}

func (s *csvSource) names() []string { return s.header }

func (s *csvSource) close() error { return nil }

func (s *csvSource) fill(f *frame) error {
	if s.pending != nil {
		return s.pending
	}
	s.arena, s.fields, s.lineOf = s.arena[:0], s.fields[:0], s.lineOf[:0]
	for f.rows < BatchRows && len(s.arena) < batchBytes {
		used := len(s.arena)
		if err := s.record(); err != nil {
			s.pending = err
			s.arena, s.fields = s.arena[:used], s.fields[:f.rows*s.width]
			break
		}
		s.lineOf = append(s.lineOf, s.began)
		f.rows++
		s.row++
	}
	if f.rows == 0 {
		return s.pending
	}
	return s.deal(f)
}

// deal turns the row-major spans into columns of strings that share one arena.
func (s *csvSource) deal(f *frame) error {
	text := string(s.arena)
	if !cleanText(text) {
		return s.findUnclean(f.rows)
	}
	for c := range f.cells {
		cell := &f.cells[c]
		if cap(cell.text) < f.rows {
			cell.text = make([]string, 0, BatchRows)
		}
		for i := c; i < len(s.fields); i += s.width {
			sp := s.fields[i]
			cell.text = append(cell.text, text[sp.from:sp.to])
		}
	}
	return nil
}

func cleanText(s string) bool {
	return strings.IndexByte(s, 0) < 0 && utf8.ValidString(s)
}

func (s *csvSource) findUnclean(rows int) error {
	for i, sp := range s.fields {
		row := i / s.width
		if err := s.checkText(string(s.arena[sp.from:sp.to]), s.row-int64(rows)+int64(row)+1, s.lineOf[row]); err != nil {
			err.Column = s.header[i%s.width]
			return err
		}
	}
	return s.fail("", errors.New("holds bytes that are not UTF-8 text"))
}

// checkText returns nil (as *Error) for clean UTF-8.
func (s *csvSource) checkText(text string, row, line int64) *Error {
	cause := ""
	switch {
	case strings.IndexByte(text, 0) >= 0:
		cause = "holds a NUL byte; the file is binary, or UTF-16 without a byte order mark"
	case !utf8.ValidString(text):
		cause = "is not UTF-8; convert the file, for instance with iconv -f latin1 -t utf-8"
	default:
		return nil
	}
	return &Error{File: s.in.path, Row: row, Line: line, Err: errors.New(cause)}
}

// placed gives an error of the line reader its row; io.EOF stays what it is.
func (s *csvSource) placed(err error) error {
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return s.fail("", err)
}

func (s *csvSource) fail(column string, err error) *Error {
	e := &Error{File: s.in.path, Column: column, Err: err}
	if s.width > 0 {
		e.Row, e.Line = s.row+1, s.line
	}
	return e
}

// record appends the next record's fields, or returns io.EOF.
func (s *csvSource) record() error {
	for {
		line, next, err := s.physicalLine()
		if err != nil {
			return s.placed(err)
		}
		if len(line) == 0 {
			s.pos = next
			s.line++
			continue
		}
		s.began = s.line
		if bytes.IndexByte(line, '"') >= 0 {
			return s.quotedRecord()
		}
		if len(line) > s.limits.RowBytes {
			return s.fail("", limitf("row bytes", "the row has %d bytes, more than %d", len(line), s.limits.RowBytes))
		}
		if err := s.plainRecord(line); err != nil {
			return err
		}
		s.pos = next
		s.line++
		return nil
	}
}

func (s *csvSource) plainRecord(line []byte) error {
	from := len(s.arena)
	s.arena = append(s.arena, line...)
	to := len(s.arena)
	count := 0
	for {
		end := to
		i := bytes.IndexByte(s.arena[from:to], ',')
		if i >= 0 {
			end = from + i
		}
		count++
		if err := s.field(from, end, count); err != nil {
			return err
		}
		if i < 0 {
			return s.checkWidth(count)
		}
		from = end + 1
	}
}

// field appends the span of field number count, within the limits.
func (s *csvSource) field(from, to, count int) error {
	if count > s.limits.Columns {
		return s.fail("", limitf("columns", "has more than %d columns", s.limits.Columns))
	}
	if s.width > 0 && count > s.width {
		return s.fail("", fmt.Errorf("has more fields than the header's %d; quote a field that holds a comma", s.width))
	}
	if to-from > s.limits.FieldBytes {
		column := ""
		if s.width > 0 {
			column = s.header[count-1]
		}
		return s.fail(column, limitf("field bytes", "the value has %d bytes, more than %d", to-from, s.limits.FieldBytes))
	}
	s.fields = append(s.fields, span{uint32(from), uint32(to)})
	return nil
}

func (s *csvSource) checkWidth(count int) error {
	if s.width > 0 && count != s.width {
		return s.fail("", fmt.Errorf("has %d fields but the header has %d; complete the row", count, s.width))
	}
	return nil
}

// quotedRecord reads a record with at least one quote in it. Positions are relative to s.pos, as more moves the record.
func (s *csvSource) quotedRecord() error {
	at, count, newlines := 0, 0, int64(1)
	for {
		from := len(s.arena)
		var last bool
		var err error
		if s.peek(at) == '"' {
			at, last, err = s.quotedField(at+1, &newlines)
		} else {
			at, last, err = s.bareField(at)
		}
		if err != nil {
			return err
		}
		count++
		if err := s.field(from, len(s.arena), count); err != nil {
			return err
		}
		if last {
			break
		}
	}
	if at > s.limits.RowBytes {
		return s.fail("", limitf("row bytes", "the row has %d bytes, more than %d", at, s.limits.RowBytes))
	}
	if err := s.checkWidth(count); err != nil {
		return err
	}
	s.pos += at
	s.line += newlines
	return nil
}

// peek returns the byte at the relative position at, or 0 past what is buffered.
func (s *csvSource) peek(at int) byte {
	if s.pos+at < s.end {
		return s.buf[s.pos+at]
	}
	return 0
}

// bareField appends an unquoted field and returns the position behind its comma or line end, and whether it ended the record.
func (s *csvSource) bareField(at int) (int, bool, error) {
	for n := 0; ; {
		b := s.buf[s.pos+at : s.end]
		i := bytes.IndexAny(b[n:], ",\n\"")
		if i < 0 && !s.eof {
			n = len(b)
			if err := s.more(); err != nil {
				return 0, false, s.placed(err)
			}
			continue
		}
		i += n
		switch {
		case i < n: // end of file
			s.arena = append(s.arena, bytes.TrimSuffix(b, []byte{'\r'})...)
			return at + len(b), true, nil
		case b[i] == ',':
			s.arena = append(s.arena, b[:i]...)
			return at + i + 1, false, nil
		case b[i] == '\n':
			s.arena = append(s.arena, bytes.TrimSuffix(b[:i], []byte{'\r'})...)
			return at + i + 1, true, nil
		}
		return 0, false, s.fail("", errors.New(`a quote " stands inside an unquoted field; quote the whole field and double the quotes in it`))
	}
}

// quotedField appends a quoted field whose content starts at the relative position at.
func (s *csvSource) quotedField(at int, newlines *int64) (int, bool, error) {
	start := len(s.arena)
	for {
		b := s.buf[s.pos+at : s.end]
		i := bytes.IndexByte(b, '"')
		part := b
		if i >= 0 {
			part = b[:i]
		} else if !s.eof && len(part) > 0 && part[len(part)-1] == '\r' {
			part = part[:len(part)-1] // its line feed may follow
		}
		*newlines += int64(bytes.Count(part, []byte{'\n'}))
		s.arena = appendUnix(s.arena, part)
		at += len(part)
		if len(s.arena)-start > s.limits.FieldBytes {
			return 0, false, s.fail("", limitf("field bytes", "a quoted value has more than %d bytes: its closing quote is missing", s.limits.FieldBytes))
		}
		if i < 0 {
			if s.eof {
				return 0, false, s.fail("", errors.New("a quoted value is not closed before the end of the file"))
			}
			if err := s.more(); err != nil {
				return 0, false, s.placed(err)
			}
			continue
		}
		at++ // the quote
		for s.end-s.pos-at < 2 && !s.eof {
			if err := s.more(); err != nil {
				return 0, false, s.placed(err)
			}
		}
		switch rest := s.buf[s.pos+at : s.end]; {
		case len(rest) == 0, len(rest) == 1 && rest[0] == '\r' && s.eof:
			return at + len(rest), true, nil
		case rest[0] == '"':
			s.arena = append(s.arena, '"')
			at++
		case rest[0] == ',':
			return at + 1, false, nil
		case rest[0] == '\n':
			return at + 1, true, nil
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return at + 2, true, nil
		default:
			return 0, false, s.fail("", errors.New("text follows the closing quote of a value; double the quotes inside it"))
		}
	}
}

// appendUnix appends part with CRLF as LF.
func appendUnix(dst, part []byte) []byte {
	for {
		i := bytes.Index(part, []byte("\r\n"))
		if i < 0 {
			return append(dst, part...)
		}
		dst = append(dst, part[:i]...)
		part = part[i+1:]
	}
}
