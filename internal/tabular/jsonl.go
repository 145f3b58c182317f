package tabular

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// jsonlSource reads one JSON object per line. The columns are the keys in order of first appearance; a key that a row lacks is null.
// Numbers keep their spelling, nested values are the text they were written as. Repeated keys, text behind the object and lone
// surrogates are refused: every reader of such a line may see another row.
type jsonlSource struct {
	in      *input
	text    *bufio.Reader
	limits  Limits
	header  []string
	index   map[string]int
	stamp   []int64 // by column: the last row that had it
	row     int64   // the row being read, from 1
	line    int64   // physical line being read, from 1
	pending error   // a bad row after good ones: given once those are handed out
}

func openJSONL(in *input, limits Limits) (*jsonlSource, error) {
	text, err := openText(in)
	return &jsonlSource{in: in, text: text, limits: limits, index: map[string]int{}}, err
}

func (s *jsonlSource) names() []string { return s.header }

func (s *jsonlSource) close() error { return nil }

func (s *jsonlSource) fill(f *frame) error {
	for size := 0; s.pending == nil && f.rows < BatchRows && size < batchBytes; {
		s.line++
		line, err := readLine(s.text, s.limits.RowBytes)
		if err == nil && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err == io.EOF { //nolint:errorlint // only the bare value is the end of the input.
			s.pending = err
			break
		}
		s.row++
		row := string(line) // every cell without escapes is a slice of it
		if err == nil {
			err = s.parse(f, row)
		}
		if err != nil {
			var placed *Error
			if !errors.As(err, &placed) {
				placed = &Error{Err: err}
			}
			placed.File, placed.Row, placed.Line = s.in.path, s.row, s.line
			s.pending = placed
			break
		}
		f.lines = append(f.lines, row)
		f.rows++
		size += len(row)
	}
	if f.rows == 0 {
		return s.pending
	}
	for c := range f.cells { // drop what a bad row had added
		f.cells[c].text, f.cells[c].kinds = f.cells[c].text[:f.rows], f.cells[c].kinds[:f.rows]
	}
	return nil
}

// parse adds one line's values to the frame.
func (s *jsonlSource) parse(f *frame, line string) error {
	if strings.IndexByte(line, 0) >= 0 {
		return errors.New("holds a NUL byte; the file is binary, or UTF-16 without a byte order mark")
	}
	if !utf8.ValidString(line) {
		return errors.New("is not UTF-8; JSON is UTF-8")
	}
	p := jsonScanner{s: line, depth: s.limits.Depth}
	p.space()
	if !p.take('{') {
		return fmt.Errorf("is not a JSON object but starts with %s; write one {\"column\": value} per line", clip(p.rest(10)))
	}
	p.space()
	guess := 0
	for !p.take('}') {
		key, text, k, err := s.member(&p)
		if err != nil {
			return err
		}
		c, err := s.column(f, key, guess)
		if err != nil {
			return err
		}
		if len(text) > s.limits.FieldBytes {
			return &Error{Column: key, Err: limitf("field bytes", "the value has %d bytes, more than %d", len(text), s.limits.FieldBytes)}
		}
		guess = c + 1
		f.cells[c].text = append(f.cells[c].text, text)
		f.cells[c].kinds = append(f.cells[c].kinds, k)
		p.space()
		if !p.take(',') {
			if p.peek() != '}' {
				return fmt.Errorf("a comma or } is missing before %s", clip(p.rest(20)))
			}
			continue
		}
		p.space()
		if p.peek() == '}' {
			return errors.New("a comma stands before the closing }")
		}
	}
	p.space()
	if p.at < len(line) {
		return fmt.Errorf("text follows the JSON object: %s", clip(p.rest(20)))
	}
	for c := range f.cells {
		if s.stamp[c] != s.row {
			f.cells[c].text = append(f.cells[c].text, "")
			f.cells[c].kinds = append(f.cells[c].kinds, kindNull)
		}
	}
	return nil
}

// member reads `"key": value`.
func (s *jsonlSource) member(p *jsonScanner) (key, text string, k kind, err error) {
	if p.peek() != '"' {
		return "", "", 0, fmt.Errorf("a key in double quotes is missing before %s", clip(p.rest(20)))
	}
	if key, err = p.str(); err != nil {
		return "", "", 0, fmt.Errorf("a key: %w", err)
	}
	p.space()
	if !p.take(':') {
		return "", "", 0, fmt.Errorf("a colon is missing after the key %s", clip(key))
	}
	p.space()
	if text, k, err = p.value(); err != nil {
		return "", "", 0, &Error{Column: key, Err: err}
	}
	return key, text, k, nil
}

// column returns the index of the column named key, adding it if it is new. guess is the column that follows the last one.
func (s *jsonlSource) column(f *frame, key string, guess int) (int, error) {
	c, ok := guess, guess < len(s.header) && s.header[guess] == key
	if !ok {
		c, ok = s.index[key]
	}
	if ok {
		if s.stamp[c] == s.row {
			return 0, &Error{Column: key, Err: errors.New("the key stands twice in the row; keep one")}
		}
		s.stamp[c] = s.row
		return c, nil
	}
	switch {
	case key == "":
		return 0, errors.New("a key is empty; name the column")
	case len(key) > s.limits.NameBytes:
		return 0, limitf("name bytes", "a key has %d bytes, more than %d", len(key), s.limits.NameBytes)
	case len(s.header) == s.limits.Columns:
		return 0, limitf("columns", "the rows have more than %d different keys", s.limits.Columns)
	}
	key = strings.Clone(key)
	c = len(s.header)
	s.header = append(s.header, key)
	s.index[key] = c
	s.stamp = append(s.stamp, s.row)
	absent := absentCells(f.rows)
	f.cells = append(f.cells, *absent)
	return c, nil
}
