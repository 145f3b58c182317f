package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
)

const (
	queueEntries     = 8192
	queueBytes       = 64 << 20
	announceInterval = 100 * time.Millisecond
	// groupEntries is how many committed entries one flush may make wait.
	groupEntries = 256

	// DefaultMaxBytes is how much disk the segments take together.
	DefaultMaxBytes = 256 << 20
	// DefaultMaxBody is how much of one body is kept.
	DefaultMaxBody = 256 << 10
	// OwedFactor times MaxBytes is what records that a sink has not taken may
	// occupy before the Writer counts as full.
	OwedFactor = 4

	nothingOwed = ^uint64(0)
)

// ErrClosed says that an entry came after Close.
var ErrClosed = errors.New("capture is closed")

// Options bound what a Writer keeps.
type Options struct {
	// MaxBytes bounds all segments together; 0 is DefaultMaxBytes. Records
	// that a sink has not taken (KeepAfter) are kept beyond it.
	MaxBytes int64
	// MaxBody bounds each body; 0 is DefaultMaxBody.
	MaxBody int
	// After is a sequence number that was given before, for Open. A power cut
	// may have taken records that a sink has; their numbers must not come
	// again, or the sink would pass over what gets them.
	After uint64
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
	kept    atomic.Uint64 // a sink has all records up to this one
	owed    atomic.Int64  // bytes of segments that a sink still needs
	seq     atomic.Uint64 // of the last record; only run moves it
	flushed chan struct{} // has room for one: something new is readable

	mu     sync.RWMutex // guards closed against Add and Commit
	closed bool
	done   chan struct{}

	// Only run touches what follows.
	segments []segmentInfo // oldest first; the last is seg
	seg      segment
	line     []byte
	waiting  []*Entry // committed, not flushed yet
	pruned   uint64   // kept at the last look at the segments
	buffered bool     // something was written since the last flush
	news     bool     // something was flushed since the last announcement
	failing  bool     // the last write failed: say so once, not per record
}

// Open continues the segments in dir, which it makes if need be. A line that
// a crash left half-written is cut off; the sequence goes on after the last
// whole line and after o.After.
func Open(dir string, entries *Entries, o Options, log *slog.Logger) (*Writer, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open capture: %w", err)
	}
	w := &Writer{
		dir: dir, log: log, entries: entries,
		queue:   make(chan *Entry, queueEntries),
		flushed: make(chan struct{}, 1),
		done:    make(chan struct{}),
		pruned:  nothingOwed,
	}
	w.SetOptions(o)
	w.kept.Store(nothingOwed)
	if err := w.resume(o.After); err != nil {
		return nil, fmt.Errorf("open capture %s: %w", dir, err)
	}
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

// Flushed receives a value within a tenth of a second after records became
// readable. It coalesces.
func (w *Writer) Flushed() <-chan struct{} { return w.flushed }

// Last is the sequence number of the last record.
func (w *Writer) Last() uint64 { return w.seq.Load() }

// KeepAfter says that records after seq still have to be sent on: they are
// never removed, however much disk that takes. See Full.
func (w *Writer) KeepAfter(seq uint64) { w.kept.Store(seq) }

// KeepNone says that no record has to be sent on.
func (w *Writer) KeepNone() { w.kept.Store(nothingOwed) }

// Owed is how many bytes of segments hold records that were not sent on.
func (w *Writer) Owed() int64 { return w.owed.Load() }

// Full reports whether so much waits to be sent on that no more should come:
// OwedFactor times MaxBytes.
func (w *Writer) Full() bool { return w.owed.Load() >= OwedFactor*w.options.Load().MaxBytes }

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

// Commit returns when e is with the operating system, where it outlives this
// process (a power cut may still take it). It waits for room rather than drop
// anything. Without an error e is the caller's again; with one, nobody may
// touch it any more, and the record may or may not stand.
func (w *Writer) Commit(ctx context.Context, e *Entry) error {
	e.stands = make(chan error, 1)
	if err := w.enqueue(ctx, e); err != nil {
		return err
	}
	select {
	case err := <-e.stands:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *Writer) enqueue(ctx context.Context, e *Entry) error {
	w.mu.RLock() // Close waits for it, while run makes room
	defer w.mu.RUnlock()
	if w.closed {
		return ErrClosed
	}
	w.queued.Add(e.size())
	select {
	case w.queue <- e:
		return nil
	case <-ctx.Done():
		w.queued.Add(-e.size())
		return ctx.Err()
	}
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
	tick := time.NewTicker(announceInterval)
	defer tick.Stop()
	for {
		select {
		case e, ok := <-w.queue:
			if !ok {
				w.flush()
				return
			}
			w.write(e)
			// All that are here share a flush. The last of them does not wait for a next one: who asks a monitor right after
			// the last answer finds it.
			if len(w.queue) == 0 || len(w.waiting) >= groupEntries {
				w.flush()
			}
		case <-tick.C:
			w.flush() // under load the queue may never be empty
			w.announce()
			if w.kept.Load() != w.pruned {
				w.report(w.prune(w.options.Load().MaxBytes))
			}
		}
	}
}

// write appends one entry; a failing disk drops it and never stops the writer.
func (w *Writer) write(e *Entry) {
	o := w.options.Load()
	w.line = e.appendLine(w.line[:0], w.seq.Load()+1, o.MaxBody)
	w.queued.Add(-e.size())
	if e.stands != nil {
		w.waiting = append(w.waiting, e)
	} else {
		w.entries.Put(e)
	}
	if cap(w.line) > 4<<20 {
		defer func() { w.line = nil }()
	}
	if err := w.append(o, w.line); err != nil {
		w.dropped.Add(1)
		w.report(err)
		w.tell(err)
		return
	}
	w.seq.Add(1)
	w.buffered = true
}

func (w *Writer) flush() {
	if !w.buffered {
		return
	}
	w.buffered = false
	if w.seg.file != nil { // else it was abandoned
		if err := w.seg.buf.Flush(); err != nil {
			err = w.abandon(err)
			w.report(err)
			w.tell(err)
			return
		}
		w.failing = false
	}
	w.news = true
	w.tell(nil)
}

// announce tells the sink of what is new. It is told in groups: each of its turns ends in a sync.
func (w *Writer) announce() {
	if !w.news {
		return
	}
	w.news = false
	select {
	case w.flushed <- struct{}{}:
	default:
	}
}

// tell ends the wait of all that were committed.
func (w *Writer) tell(err error) {
	for i, e := range w.waiting {
		e.stands <- err // it has room
		w.waiting[i] = nil
	}
	w.waiting = w.waiting[:0]
}

func (w *Writer) report(err error) {
	if err == nil {
		return
	}
	if !w.failing {
		w.log.Error("capture is losing records", "error", err)
	}
	w.failing = true
}
