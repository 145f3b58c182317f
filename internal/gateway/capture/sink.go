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
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sinkBatch   = 256
	sinkWindow  = 32 // records between two moves of the cursor
	sinkWorkers = 8  // records that are on their way at once
	sinkTimeout = 10 * time.Second
	sinkMinWait = 100 * time.Millisecond
	sinkMaxWait = 30 * time.Second
)

// Target is where answers go: a URL that takes one JSON record per POST, or a
// file that is appended to. One of the two is set.
type Target struct {
	URL  string
	File string
	// Stats, if not nil, is counted into.
	Stats *SinkStats
}

// Sink sends the captured 2xx answers on, at least once and nearly in order
// (Record.Seq tells it): the cursor moves after records arrived, so a crash in
// between sends them again with the same ids. A record that the receiver refuses for good (4xx other
// than 408 and 429) is skipped and counted, or it would hold up all others.
type Sink struct {
	dir    string // capture folder
	cursor string // cursor file
	target Target
	stats  *SinkStats
	log    *slog.Logger
	client *http.Client
	acked  atomic.Uint64 // sequence number behind which nothing is owed
}

// SinkStats is what sinks did; it may outlive the Sink that counts into it.
type SinkStats struct {
	Sent     atomic.Uint64
	Rejected atomic.Uint64 // refused by the receiver for good
	failure  atomic.Pointer[string]
}

// Failure says why the last attempt failed; it is empty when it succeeded.
func (s *SinkStats) Failure() string {
	if f := s.failure.Load(); f != nil {
		return *f
	}
	return ""
}

func (s *SinkStats) note(err error) {
	if err == nil {
		s.failure.Store(nil)
		return
	}
	text := err.Error()
	s.failure.Store(&text)
}

// NewSink returns a sink for the records in dir that keeps its place in the
// file cursor. With no cursor it starts at the oldest record there is.
func NewSink(dir, cursor string, t Target, log *slog.Logger) *Sink {
	s := &Sink{dir: dir, cursor: cursor, target: t, stats: t.Stats, log: log, client: &http.Client{
		Timeout:   sinkTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: sinkWorkers, IdleConnTimeout: time.Minute},
		// A redirect could carry answers to a host that nobody named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if s.stats == nil {
		s.stats = &SinkStats{}
	}
	seq, _, err := ReadCursor(cursor)
	if err != nil {
		log.Error("sink begins anew", "error", err)
	}
	s.acked.Store(seq)
	return s
}

// Acked is the sequence number up to which every record has arrived.
func (s *Sink) Acked() uint64 { return s.acked.Load() }

// Run sends until ctx ends. It looks for new records after each value on
// fresh, and once a second.
func (s *Sink) Run(ctx context.Context, fresh <-chan struct{}) {
	defer s.client.CloseIdleConnections()
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
			if s.deliver(ctx, batch, func(do func() error) error { return s.retry(ctx, do) }) != nil {
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

// Drain sends what there is, once Run has returned, until ctx ends or an
// attempt fails: whoever stops does not wait for a receiver that is down.
func (s *Sink) Drain(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	r := NewReader(s.dir, s.acked.Load()+1)
	for {
		batch := s.collect(r)
		if len(batch) == 0 {
			return r.Close()
		}
		if err := s.deliver(ctx, batch, func(do func() error) error { return do() }); err != nil {
			return errors.Join(err, r.Close())
		}
	}
}

// deliver sends a batch and moves the cursor; try says how often and until when.
func (s *Sink) deliver(ctx context.Context, batch []Record, try func(func() error) error) error {
	if s.target.File != "" {
		return try(func() error { return s.appendBatch(batch) })
	}
	for window := range slices.Chunk(batch, sinkWindow) {
		if err := s.postAll(ctx, window, try); err != nil {
			return err
		}
		if err := try(func() error { return s.advance(window[len(window)-1].Seq) }); err != nil {
			return err
		}
	}
	return nil
}

// postAll posts several records at a time, so that a receiver far away does not
// set the pace. After an error the cursor stands before the first that failed.
func (s *Sink) postAll(ctx context.Context, window []Record, try func(func() error) error) error {
	errs := make([]error, len(window))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(sinkWorkers, len(window)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(window); i = int(next.Add(1)) - 1 {
				if ok(window[i]) {
					errs[i] = try(func() error { return s.post(ctx, window[i]) })
				}
			}
		})
	}
	wg.Wait()
	first := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if first < 0 {
		return nil
	}
	return errors.Join(errs[first], s.advance(window[first].Seq-1))
}

func ok(r Record) bool { return r.Status >= 200 && r.Status < 300 }

// retry calls do until it succeeds or ctx ends, with exponential waits and jitter.
func (s *Sink) retry(ctx context.Context, do func() error) error {
	wait := sinkMinWait
	for {
		err := do()
		s.stats.note(err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.Warn("sink will try again", "error", err, "in", wait)
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
		s.stats.Sent.Add(1)
		return nil // it arrived, whatever became of the rest of the answer
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		s.stats.Rejected.Add(1)
		s.log.Error("sink refused a record for good", "seq", rec.Seq, "status", code)
		return nil
	default:
		return errors.Join(fmt.Errorf("send record %d: status %d", rec.Seq, code), err)
	}
}

// advance stores the cursor durably.
func (s *Sink) advance(seq uint64) error {
	if seq <= s.acked.Load() {
		return nil
	}
	if err := WriteCursor(s.cursor, seq); err != nil {
		return err
	}
	s.acked.Store(seq)
	return nil
}
