package capture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
)

const (
	sinkBatch   = 256
	sinkTimeout = 10 * time.Second
	sinkMinWait = 100 * time.Millisecond
	sinkMaxWait = 30 * time.Second
)

// Target is where answers go: a URL that takes one JSON record per POST, or a
// file that is appended to. One of the two is set.
type Target struct {
	URL  string
	File string
}

// Sink sends the captured 2xx answers on, in order and at least once: the
// cursor moves after a record arrived, so a crash in between sends it again
// with the same id. A record that the receiver refuses for good (4xx other
// than 408 and 429) is skipped and counted, or it would hold up all others.
type Sink struct {
	dir      string // capture folder
	cursor   string // cursor file
	target   Target
	log      *slog.Logger
	client   *http.Client
	sent     atomic.Uint64
	rejected atomic.Uint64
	acked    atomic.Uint64 // sequence number behind which nothing is owed
}

type cursorFile struct {
	Seq uint64 `json:"seq"`
}

// NewSink returns a sink for the records in dir that keeps its place in the
// file cursor. With no cursor it starts at the oldest record there is.
func NewSink(dir, cursor string, t Target, log *slog.Logger) (*Sink, error) {
	s := &Sink{dir: dir, cursor: cursor, target: t, log: log, client: &http.Client{
		Timeout: sinkTimeout,
		// A redirect could carry answers to a host that nobody named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	data, err := os.ReadFile(cursor)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("read sink cursor: %w", err)
	}
	var c cursorFile
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("read sink cursor %s: %w (remove it to send all captured answers again)", cursor, err)
	}
	s.acked.Store(c.Seq)
	return s, nil
}

// Sent and Rejected count records since the sink was made.
func (s *Sink) Sent() uint64 { return s.sent.Load() }

// Rejected counts the records that the receiver refused for good.
func (s *Sink) Rejected() uint64 { return s.rejected.Load() }

// Acked is the sequence number up to which every record has arrived.
func (s *Sink) Acked() uint64 { return s.acked.Load() }

// Run sends until ctx ends. It looks for new records after each value on
// fresh, and once a second.
func (s *Sink) Run(ctx context.Context, fresh <-chan struct{}) {
	r := NewReader(s.dir, s.acked.Load()+1)
	defer func() {
		if err := r.Close(); err != nil {
			s.log.Warn("close capture reader", "error", err)
		}
	}()
	poll := time.NewTicker(time.Second)
	defer poll.Stop()
	for {
		batch := s.collect(r)
		if len(batch) > 0 {
			if s.deliver(ctx, batch) != nil {
				return // only when ctx ended: the cursor holds our place
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-fresh:
		case <-poll.C:
		}
	}
}

// collect reads up to a batch of records.
func (s *Sink) collect(r *Reader) []Record {
	var batch []Record
	for len(batch) < sinkBatch {
		rec, err := r.Next()
		var bad *LineError
		switch {
		case errors.As(err, &bad):
			s.log.Warn("sink skips a line", "error", err)
			continue
		case err != nil:
			if !errors.Is(err, io.EOF) {
				s.log.Warn("sink cannot read", "error", err)
			}
			return batch
		}
		batch = append(batch, rec)
	}
	return batch
}

// deliver sends a batch and moves the cursor, trying until ctx ends.
func (s *Sink) deliver(ctx context.Context, batch []Record) error {
	if s.target.File != "" {
		return retry(ctx, s.log, func() error { return s.appendBatch(batch) })
	}
	for i, rec := range batch {
		if ok(rec) {
			if err := retry(ctx, s.log, func() error { return s.post(ctx, rec) }); err != nil {
				// Keep what did arrive out of the next attempt.
				return errors.Join(err, s.advance(rec.Seq-1))
			}
		}
		if i == len(batch)-1 || i%32 == 31 {
			if err := retry(ctx, s.log, func() error { return s.advance(rec.Seq) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func ok(r Record) bool { return r.Status >= 200 && r.Status < 300 }

// retry calls do until it succeeds or ctx ends, with exponential waits and jitter.
func retry(ctx context.Context, log *slog.Logger, do func() error) error {
	wait := sinkMinWait
	for {
		err := do()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.Warn("sink will try again", "error", err, "in", wait)
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait = min(2*wait, sinkMaxWait)
	}
}

// post sends one record.
func (s *Sink) post(ctx context.Context, rec Record) error {
	body, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record %d: %w", rec.Seq, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("send record %d: %w", rec.Seq, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("ML-Prediction-Id", rec.ID)
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("send record %d: %w", rec.Seq, err)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	err = errors.Join(err, resp.Body.Close())
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		s.sent.Add(1)
		return nil // it arrived, whatever became of the rest of the answer
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		s.rejected.Add(1)
		s.log.Error("sink refused a record for good", "seq", rec.Seq, "status", code)
		return nil
	default:
		return errors.Join(fmt.Errorf("send record %d: status %d", rec.Seq, code), err)
	}
}

// appendBatch appends records to the file, syncs it, then moves the cursor.
func (s *Sink) appendBatch(batch []Record) error {
	var lines []byte
	count := uint64(0)
	for _, rec := range batch {
		if !ok(rec) {
			continue
		}
		line, err := json.Marshal(rec)
		if err != nil {
			return fmt.Errorf("encode record %d: %w", rec.Seq, err)
		}
		lines = append(append(lines, line...), '\n')
		count++
	}
	if err := appendSynced(s.target.File, lines); err != nil {
		return err
	}
	s.sent.Add(count)
	return s.advance(batch[len(batch)-1].Seq)
}

// appendSynced appends whole lines to a file. A torn line that a crash left
// there is cut first: its record was never acknowledged and comes again.
func appendSynced(name string, lines []byte) (err error) {
	if len(lines) == 0 {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open sink: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, err := lastLineEnd(f)
	if err != nil {
		return fmt.Errorf("read sink: %w", err)
	}
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("cut sink: %w", err)
	}
	if _, err := f.WriteAt(lines, end); err != nil {
		return fmt.Errorf("write sink: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync sink: %w", err)
	}
	if end > 0 {
		return nil
	}
	return durable.SyncDir(filepath.Dir(name)) // the file may be new
}

// lastLineEnd returns the offset behind the last line break.
func lastLineEnd(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 32<<10)
	for end := info.Size(); end > 0; {
		start := max(0, end-int64(len(buf)))
		part := buf[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

// advance stores the cursor durably.
func (s *Sink) advance(seq uint64) error {
	if seq <= s.acked.Load() {
		return nil
	}
	data, err := json.Marshal(cursorFile{Seq: seq})
	if err != nil {
		return fmt.Errorf("store sink cursor: %w", err)
	}
	if err := durable.WriteFile(s.cursor, data, 0o600); err != nil {
		return fmt.Errorf("store sink cursor: %w", err)
	}
	s.acked.Store(seq)
	return nil
}
