package tabular

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// csvSource reads CSV with encoding/csv: RFC 4180, a quote only at the start of a field, blank lines skipped, every row as wide as the header.
// Beyond that it refuses UTF-16, invalid UTF-8, NUL, empty or repeated column names, and through a rowGuard what would take too much memory.
type csvSource struct {
	in      *input
	limits  Limits
	guard   rowGuard
	csv     *csv.Reader
	header  []string
	row     int64 // data rows read
	line    int   // physical line on which the last row ended
	pending error // a bad row after good ones: given once those are handed out
}

func openCSV(in *input, limits Limits) (*csvSource, error) {
	s := &csvSource{in: in, limits: limits, guard: rowGuard{in: in, limits: limits}}
	text, err := openText(&s.guard)
	if err != nil {
		return nil, s.fail(0, "", err)
	}
	s.csv = csv.NewReader(text)
	s.csv.ReuseRecord = true
	names, err := s.record()
	switch {
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, s.fail(0, "", errors.New("is empty; a CSV file starts with a header row of column names"))
	case err != nil:
		return nil, err
	}
	if err := checkNames(names, limits); err != nil {
		return nil, s.fail(0, "", err)
	}
	for _, n := range names {
		s.header = append(s.header, strings.Clone(n))
	}
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
	size := int64(0)
	for s.pending == nil && f.rows < BatchRows && size < batchBytes {
		began := s.guard.began
		record, err := s.record()
		if err != nil {
			s.pending = err
			break
		}
		for c, text := range record {
			f.cells[c].text = append(f.cells[c].text, text)
		}
		f.rows++
		s.row++
		size += s.guard.began - began
	}
	if f.rows == 0 {
		return s.pending
	}
	return nil
}

// record returns the next record, valid until the next call, or io.EOF; the strings stay valid.
func (s *csvSource) record() ([]string, error) {
	record, err := s.csv.Read()
	if err != nil {
		return nil, s.refused(record, err)
	}
	line, _ := s.csv.FieldPos(0)
	size := s.guard.next(s.csv.InputOffset())
	if size > int64(s.limits.RowBytes) {
		return nil, s.fail(line, "", limitf("row bytes", "the row has %d bytes, more than %d", size, s.limits.RowBytes))
	}
	for i, text := range record {
		if isPlain(text) && len(text) <= s.limits.FieldBytes {
			continue
		}
		if err := s.checkText(text); err != nil {
			column := ""
			if s.header != nil {
				column = s.header[i]
			}
			return nil, s.fail(line, column, err)
		}
	}
	last := len(record) - 1
	s.line, _ = s.csv.FieldPos(last)
	s.line += strings.Count(record[last], "\n")
	return record, nil
}

// refused puts what encoding/csv or the guard says into a user's words; io.EOF stays what it is.
func (s *csvSource) refused(record []string, err error) error {
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	line := s.line + 1
	var syntax *csv.ParseError
	if errors.As(err, &syntax) {
		line = syntax.StartLine
	}
	switch {
	case errors.Is(err, errTooWide), errors.Is(err, csv.ErrFieldCount) && len(record) > len(s.header):
		err = s.tooWide()
	case errors.Is(err, csv.ErrFieldCount):
		err = fmt.Errorf("has %d fields but the header has %d; complete the row", len(record), len(s.header))
	case errors.Is(err, csv.ErrBareQuote):
		err = errors.New(`a quote " stands inside an unquoted field; quote the whole field and double the quotes in it`)
	case errors.Is(err, csv.ErrQuote) && s.guard.ended && s.guard.quoted:
		err = errors.New("a quoted value is not closed before the end of the file")
	case errors.Is(err, csv.ErrQuote):
		err = errors.New("text follows the closing quote of a value; double the quotes inside it")
	}
	return s.fail(line, "", err)
}

func (s *csvSource) tooWide() error {
	if s.header == nil {
		return limitf("columns", "has more than %d columns", s.limits.Columns)
	}
	return fmt.Errorf("has more fields than the header's %d; quote a field that holds a comma", len(s.header))
}

// isPlain reports whether s is ASCII without NUL, as most values are.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i]-1 >= utf8.RuneSelf-1 {
			return false
		}
	}
	return true
}

func (s *csvSource) checkText(text string) error {
	switch {
	case strings.IndexByte(text, 0) >= 0:
		return errors.New("holds a NUL byte; the file is binary, or UTF-16 without a byte order mark")
	case !utf8.ValidString(text):
		return errors.New("is not UTF-8; convert the file, for instance with iconv -f latin1 -t utf-8")
	case len(text) > s.limits.FieldBytes:
		return limitf("field bytes", "the value has %d bytes, more than %d", len(text), s.limits.FieldBytes)
	}
	return nil
}

func (s *csvSource) fail(line int, column string, err error) error {
	e := &Error{File: s.in.path, Line: int64(line), Column: column, Err: err}
	if s.header != nil {
		e.Row = s.row + 1
	}
	return e
}
