package capture

import (
	"bufio"
	"errors"
	"fmt"
	"github.com/continuo-ml/continuo/internal/durable"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	queueEntries  = 8192
	queueBytes    = 64 << 20
	flushInterval = 100 * time.Millisecond

	// DefaultMaxBytes is how much disk the segments take together.
	DefaultMaxBytes = 256 << 20
	// DefaultMaxBody is how much of one body is kept.
	DefaultMaxBody = 256 << 10
)

// Options bound what a Writer keeps.
type Options struct {
	// MaxBytes bounds all segments together; 0 is DefaultMaxBytes.
	MaxBytes int64
	// MaxBody bounds each body; 0 is DefaultMaxBody.
	MaxBody int
}

// Writer appends entries to segments. Only one Writer may be open on a folder.
type Writer struct {
	dir     string
	log     *slog.Logger
	entries *Entries
	queue   chan *Entry
	queued  atomic.Int64 // bytes in the queue
	dropped atomic.Uint64
	options atomic.Pointer[Options]
	kept    atomic.Uint64 // records up to this one are not needed by a sink
	flushed chan struct{} // has room for one: something new is readable

	mu     sync.RWMutex // guards closed against Add
	closed bool
	done   chan struct{}

	seg     segment
	seq     uint64
	line    []byte
	failing bool // the last write failed: say so once, not per record
}

// segment is the file being appended to.
type segment struct {
	number int
	file   *os.File
	buf    *bufio.Writer
	size   int64
}

// Open continues the segments in dir, which it makes if need be. A line that
// a crash left half-written is cut off; the sequence goes on after the last
// whole line.
func Open(dir string, entries *Entries, o Options, log *slog.Logger) (*Writer, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open capture: %w", err)
	}
	w := &Writer{
		dir: dir, log: log, entries: entries,
		queue:   make(chan *Entry, queueEntries),
		flushed: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	w.SetOptions(o)
	if err := w.resume(); err != nil {
		return nil, fmt.Errorf("open capture %s: %w", dir, err)
	}
	w.kept.Store(^uint64(0))
	go w.run()
	return w, nil
}

// SetOptions changes the bounds for what comes next.
func (w *Writer) SetOptions(o Options) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	w.options.Store(&o)
}

// MaxBody is the present bound of one body, in bytes.
func (w *Writer) MaxBody() int { return w.options.Load().MaxBody }

// Dropped counts the entries that found the queue full or the disk failing.
func (w *Writer) Dropped() uint64 { return w.dropped.Load() }

// Flushed receives a value after records became readable. It coalesces.
func (w *Writer) Flushed() <-chan struct{} { return w.flushed }

// KeepAfter says that records after seq still have to be sent on: their
// segments may outlive MaxBytes, up to four times of it.
func (w *Writer) KeepAfter(seq uint64) { w.kept.Store(seq) }

// Add hands e over, never blocks, and reports whether it was taken. Taken or
// not, e belongs to the Writer afterwards.
func (w *Writer) Add(e *Entry) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if !w.closed && w.queued.Add(e.size()) <= queueBytes {
		select {
		case w.queue <- e:
			return true
		default:
		}
	}
	if !w.closed {
		w.queued.Add(-e.size())
	}
	w.dropped.Add(1)
	w.entries.Put(e)
	return false
}

// Close writes what is queued, syncs, and stops.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	close(w.queue)
	w.mu.Unlock()
	<-w.done
	return w.closeSegment()
}

func (w *Writer) run() {
	defer close(w.done)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case e, ok := <-w.queue:
			if !ok {
				return
			}
			w.write(e)
		case <-tick.C:
			w.flush()
		}
	}
}

// write appends one entry; a failing disk drops it and never stops the writer.
func (w *Writer) write(e *Entry) {
	o := w.options.Load()
	w.line = e.appendLine(w.line[:0], w.seq+1, o.MaxBody)
	w.queued.Add(-e.size())
	w.entries.Put(e)
	if cap(w.line) > 4<<20 {
		defer func() { w.line = nil }()
	}
	if err := w.append(o, w.line); err != nil {
		w.dropped.Add(1)
		w.report(err)
		return
	}
	w.seq++
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
	return nil
}

// segmentSize cuts the whole into eight, so that dropping the oldest segment
// loses an eighth of the history.
func segmentSize(total int64) int64 { return min(max(total/8, 16<<10), 32<<20) }

func (w *Writer) flush() {
	if w.seg.file == nil || w.seg.buf.Buffered() == 0 {
		return
	}
	if err := w.seg.buf.Flush(); err != nil {
		w.report(w.abandon(err))
		return
	}
	w.failing = false
	select {
	case w.flushed <- struct{}{}:
	default:
	}
}

// rotate closes the segment, opens the next and drops the oldest.
func (w *Writer) rotate(o *Options) error {
	number := w.seg.number + 1
	if err := w.closeSegment(); err != nil {
		return err
	}
	if err := w.openSegment(number); err != nil {
		return err
	}
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

func (w *Writer) report(err error) {
	if !w.failing {
		w.log.Error("capture is losing records", "error", err)
	}
	w.failing = true
}

// prune removes the oldest segments until all fit into total bytes.
func (w *Writer) prune(total int64) error {
	segments, err := listSegments(w.dir)
	if err != nil {
		return err
	}
	var sum int64
	for _, s := range segments {
		sum += s.size
	}
	for i := 0; i < len(segments)-1 && sum > total; i++ {
		next, err := firstSeq(filepath.Join(w.dir, segmentName(segments[i+1].number)))
		if err == nil && next > w.kept.Load()+1 && w.kept.Load() != ^uint64(0) && sum <= 4*total {
			return nil // a sink has not sent it yet
		}
		if err := os.Remove(filepath.Join(w.dir, segmentName(segments[i].number))); err != nil {
			return fmt.Errorf("drop old segment: %w", err)
		}
		sum -= segments[i].size
	}
	return nil
}
