package capture

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/internal/durable"
)

// segment is the file being appended to.
type segment struct {
	number int
	file   *os.File
	buf    *bufio.Writer
	size   int64
}

func (w *Writer) append(o *Options, line []byte) error {
	if w.seg.file == nil || w.seg.size > 0 && w.seg.size+int64(len(line)) > segmentSize(o.MaxBytes) {
		if err := w.rotate(o); err != nil {
			return err
		}
	}
	if _, err := w.seg.buf.Write(line); err != nil {
		return w.abandon(err)
	}
	w.seg.size += int64(len(line))
	w.segments[len(w.segments)-1].size = w.seg.size
	return nil
}

// segmentSize cuts the whole into eight, so that dropping the oldest segment
// loses an eighth of the history.
func segmentSize(total int64) int64 { return min(max(total/8, 16<<10), 32<<20) }

// rotate closes the segment, opens the next and drops the oldest.
func (w *Writer) rotate(o *Options) error {
	number := w.seg.number + 1
	if err := w.closeSegment(); err != nil {
		return err
	}
	if err := w.openSegment(number); err != nil {
		return err
	}
	w.segments = append(w.segments, segmentInfo{number: number, size: w.seg.size, first: w.seq.Load() + 1})
	return w.prune(o.MaxBytes)
}

func (w *Writer) openSegment(number int) error {
	name := filepath.Join(w.dir, segmentName(number))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		err = durable.SyncDir(w.dir) // it may be new
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open segment: %w", err), f.Close())
	}
	w.seg = segment{number: number, file: f, buf: bufio.NewWriterSize(f, 256<<10), size: info.Size()}
	return nil
}

func (w *Writer) closeSegment() error {
	if w.seg.file == nil {
		return nil
	}
	f := w.seg.file
	w.seg.file = nil
	err := errors.Join(w.seg.buf.Flush(), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("close segment %s: %w", segmentName(w.seg.number), err)
	}
	return nil
}

// abandon leaves a segment whose write failed: what it holds in full lines
// stays readable, and the next record starts a new one.
func (w *Writer) abandon(cause error) error {
	f := w.seg.file
	w.seg.file = nil
	return errors.Join(fmt.Errorf("write segment %s: %w", segmentName(w.seg.number), cause), f.Close())
}

// prune removes the oldest segments until all fit into total bytes, but none
// with a record that a sink has not taken, and counts what those occupy.
func (w *Writer) prune(total int64) error {
	kept := w.kept.Load()
	w.pruned = kept
	var sum, owed int64
	for i, s := range w.segments {
		sum += s.size
		if !w.sent(i, kept) {
			owed += s.size
		}
	}
	w.owed.Store(owed)
	for len(w.segments) > 1 && sum > total && w.sent(0, kept) {
		err := os.Remove(filepath.Join(w.dir, segmentName(w.segments[0].number)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("drop old segment: %w", err)
		}
		sum -= w.segments[0].size
		w.segments = w.segments[1:]
	}
	return nil
}

// sent reports whether no sink needs segment i: all records before the next
// segment's first have been taken.
func (w *Writer) sent(i int, kept uint64) bool {
	next := w.seq.Load() + 1
	if i+1 < len(w.segments) {
		next = w.segments[i+1].first
	}
	return next-1 <= kept
}
