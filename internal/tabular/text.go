package tabular

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// textBuffer is how many bytes of a text file are read at once.
const textBuffer = 256 << 10

// openText buffers r, skips a UTF-8 byte order mark and refuses UTF-16.
func openText(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, textBuffer)
	head, err := b.Peek(3)
	switch {
	case bytes.HasPrefix(head, []byte{0xFF, 0xFE}), bytes.HasPrefix(head, []byte{0xFE, 0xFF}):
		return nil, errors.New("is UTF-16; convert it to UTF-8, for instance with iconv -f utf-16 -t utf-8")
	case string(head) == "\ufeff":
		_, err = b.Discard(len(head))
	}
	if err == io.EOF { // a bare io.EOF is a short file; a wrapped one would be a cut-off stream.
		err = nil
	}
	return b, err
}

// readLine returns the next line without its end, valid until the next call, or io.EOF. A line of more than most bytes is an error.
func readLine(b *bufio.Reader, most int) ([]byte, error) {
	line, err := b.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line = bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) && len(line) <= most {
			var more []byte
			more, err = b.ReadSlice('\n')
			line = append(line, more...)
		}
	}
	if err == io.EOF && len(line) > 0 { // a bare io.EOF ends the last line; a wrapped one would be a cut-off stream.
		err = nil
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
	if len(line) > most {
		return nil, limitf("row bytes", "the row has more than %d bytes: no line ends", most)
	}
	return line, err
}

// rowGuard stands between a CSV file and encoding/csv, which itself would take a row of any length, and forty times the memory of a row
// of commas.
type rowGuard struct {
	in     io.Reader
	limits Limits
	given  int64 // bytes read
	began  int64 // where the row being read began
	quoted bool  // what comes next is inside quotes: every accepted row has an even number of them
	ended  bool  // all was read
	commas int   // outside of quotes, in the part of a row beyond longRow
}

// longRow is from where on the commas of a row are counted as they come.
const longRow = 128 << 10

var errTooWide = errors.New("too many columns")

// next says that the row ended at offset end, and returns its size.
func (g *rowGuard) next(end int64) (size int64) {
	size = end - g.began
	g.began, g.commas = end, 0
	return size
}

func (g *rowGuard) Read(p []byte) (int, error) {
	held := g.given - g.began
	if held > int64(g.limits.RowBytes)+textBuffer {
		return 0, limitf("row bytes", "the row has more than %d bytes: an unclosed quote, or no line ends", g.limits.RowBytes)
	}
	n, err := g.in.Read(p)
	g.given += int64(n)
	g.ended = errors.Is(err, io.EOF)
	if held <= longRow {
		if bytes.Count(p[:n], []byte{'"'})%2 == 1 {
			g.quoted = !g.quoted
		}
		return n, err
	}
	for _, c := range p[:n] {
		switch {
		case c == '"':
			g.quoted = !g.quoted
		case c == '\n' && !g.quoted:
			g.commas = 0
		case c == ',' && !g.quoted:
			if g.commas++; g.commas >= g.limits.Columns {
				return n, errTooWide
			}
		}
	}
	return n, err
}
