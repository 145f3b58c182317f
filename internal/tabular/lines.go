package tabular

import (
	"bytes"
	"errors"
	"io"
	"slices"
)

// lines buffers a text input so that one row is contiguous in memory, and no row can grow past the limit.
type lines struct {
	in     *input
	limits Limits
	buf    []byte
	pos    int // start of the row being read, in buf
	end    int // end of what was read, in buf
	eof    bool
	line   int64 // physical line being read, 1-based
	began  int64 // physical line where the row being read starts
}

func newLines(in *input, limits Limits) lines {
	return lines{in: in, limits: limits, buf: make([]byte, min(256<<10, limits.RowBytes+1)), line: 1, began: 1}
}

// skipBOM skips a UTF-8 byte order mark and refuses UTF-16.
func (l *lines) skipBOM() error {
	for l.end < 3 && !l.eof {
		if err := l.more(); err != nil {
			return err
		}
	}
	b := l.buf[:l.end]
	switch {
	case bytes.HasPrefix(b, []byte{0xEF, 0xBB, 0xBF}):
		l.pos = 3
	case bytes.HasPrefix(b, []byte{0xFF, 0xFE}), bytes.HasPrefix(b, []byte{0xFE, 0xFF}):
		return errors.New("is UTF-16; convert it to UTF-8, for instance with iconv -f utf-16 -t utf-8")
	}
	return nil
}

// more reads more bytes behind those of the current row, which moves to the front of the buffer.
func (l *lines) more() error {
	if l.eof {
		return io.EOF
	}
	if l.pos > 0 {
		copy(l.buf, l.buf[l.pos:l.end])
		l.end -= l.pos
		l.pos = 0
	}
	if l.end == len(l.buf) {
		if l.end > l.limits.RowBytes {
			return limitf("row bytes", "the row has more than %d bytes: an unclosed quote, or no line ends", l.limits.RowBytes)
		}
		l.buf = slices.Grow(l.buf, len(l.buf))[:2*len(l.buf)]
	}
	n, err := l.in.Read(l.buf[l.end:])
	l.end += n
	if err == io.EOF { //nolint:errorlint // a bare io.EOF ends the input; a wrapped one would be a cut-off stream.
		l.eof = true
		return nil
	}
	return err
}

// physicalLine returns the bytes up to the next line end, without it, and where the next line starts. It does not move on.
func (l *lines) physicalLine() (line []byte, next int, err error) {
	searched := 0
	for {
		if i := bytes.IndexByte(l.buf[l.pos+searched:l.end], '\n'); i >= 0 {
			to := l.pos + searched + i
			return bytes.TrimSuffix(l.buf[l.pos:to], []byte{'\r'}), to + 1, nil
		}
		searched = l.end - l.pos
		if l.eof {
			if searched == 0 {
				return nil, 0, io.EOF
			}
			return bytes.TrimSuffix(l.buf[l.pos:l.end], []byte{'\r'}), l.end, nil
		}
		if err := l.more(); err != nil {
			return nil, 0, err
		}
	}
}
