package capture

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
)

// maxLine bounds one line that a Reader accepts, in bytes: two bodies of
// 16 MiB in base64.
const maxLine = 48 << 20

// Reader reads records in order, while a Writer appends or between runs of it.
// Close it after use. It is not safe for concurrent use.
type Reader struct {
	dir     string
	from    uint64
	number  int // segment being read; 0 before the first
	file    *os.File
	buf     *bufio.Reader
	partial []byte // a last line that has no end yet
	line    int
}

// NewReader returns a Reader of the records of dir whose sequence number is
// at least from.
func NewReader(dir string, from uint64) *Reader {
	return &Reader{dir: dir, from: from}
}

// Close releases the open segment.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

// Next returns the next record. It returns io.EOF at the present end, which
// includes a last line that is torn or still being written; a later call goes
// on from there. An error that is a *LineError spoils one line only.
func (r *Reader) Next() (Record, error) {
	for {
		if r.file == nil {
			if err := r.open(); err != nil {
				return Record{}, err
			}
		}
		line, err := r.nextLine()
		if errors.Is(err, io.EOF) {
			more, err := r.advance()
			if err != nil {
				return Record{}, err
			}
			if !more {
				return Record{}, io.EOF
			}
			continue
		}
		if err != nil {
			return Record{}, err
		}
		rec, err := Decode(line)
		if err != nil {
			return Record{}, &LineError{File: segmentName(r.number), Line: r.line, Err: err}
		}
		if rec.Seq >= r.from {
			r.from = rec.Seq + 1
			return rec, nil
		}
	}
}

// LineError is a line that is whole but not a record.
type LineError struct {
	File string
	Line int
	Err  error
}

// Error names the place and the cause.
func (e *LineError) Error() string {
	return fmt.Sprintf("read capture %s:%d: %v", e.File, e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.Err }

// Decode reads one line. The line need not end in a line break.
func Decode(line []byte) (Record, error) {
	var rec Record
	if err := json.Unmarshal(line, &rec); err != nil {
		return Record{}, fmt.Errorf("decode record: %w", err)
	}
	if rec.Seq == 0 {
		return Record{}, errors.New("decode record: no sequence number")
	}
	return rec, nil
}

// Records yields the records of dir from sequence number fromSeq to the
// present end. A line that cannot be read is yielded as an error and skipped;
// any other error is the last pair. Ranging over it again reads again.
func Records(dir string, fromSeq uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		r := NewReader(dir, fromSeq)
		for {
			rec, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			var bad *LineError
			if !yield(rec, err) || err != nil && !errors.As(err, &bad) {
				break
			}
		}
		// Closing a file that was only read loses nothing.
		_ = r.Close()
	}
}

// open opens the segment where from is, or the first after the last read.
func (r *Reader) open() error {
	segments, err := listSegments(r.dir)
	if err != nil {
		return err
	}
	at := -1
	for i, s := range segments {
		if s.number <= r.number {
			continue
		}
		if at < 0 {
			at = i
			continue
		}
		// A later segment is the right place when it does not start after from.
		first, err := firstSeq(filepath.Join(r.dir, segmentName(s.number)))
		if err != nil || first > r.from {
			break
		}
		at = i
	}
	if at < 0 {
		return io.EOF
	}
	number := segments[at].number
	f, err := os.Open(filepath.Join(r.dir, segmentName(number)))
	if errors.Is(err, fs.ErrNotExist) {
		r.number = number // rotated away meanwhile
		return r.open()
	}
	if err != nil {
		return fmt.Errorf("read capture: %w", err)
	}
	r.number, r.file, r.line, r.partial = number, f, 0, nil
	r.buf = bufio.NewReaderSize(f, 64<<10)
	return nil
}

// advance leaves a segment that was read to its end, if there is a later one.
func (r *Reader) advance() (bool, error) {
	segments, err := listSegments(r.dir)
	if err != nil {
		return false, err
	}
	if len(segments) == 0 || segments[len(segments)-1].number <= r.number {
		return false, nil
	}
	// The writer may have ended this segment between our last read and the
	// listing: read once more before leaving it.
	if _, err := r.buf.Peek(1); err == nil {
		return true, nil
	}
	return true, r.Close()
}

// nextLine returns the next whole line without its end, or io.EOF.
func (r *Reader) nextLine() ([]byte, error) {
	for {
		part, err := r.buf.ReadSlice('\n')
		if len(r.partial)+len(part) > maxLine {
			return nil, fmt.Errorf("read capture %s:%d: line longer than %d bytes", segmentName(r.number), r.line+1, maxLine)
		}
		if err == nil && len(r.partial) == 0 {
			r.line++
			return bytes.TrimSuffix(part, []byte("\n")), nil
		}
		r.partial = append(r.partial, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return nil, err
		default:
			line := bytes.TrimSuffix(r.partial, []byte("\n"))
			r.partial = nil
			r.line++
			return line, nil
		}
	}
}
