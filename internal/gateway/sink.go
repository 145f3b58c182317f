package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// outlet is the way of captured answers to a sink, if one is wanted.
type outlet struct {
	dir    folder
	log    *slog.Logger
	writer *capture.Writer
	stats  *capture.SinkStats
	sink   *runningSink
}

// runningSink is a sink with its goroutine.
type runningSink struct {
	target Sink
	sink   *capture.Sink
	cancel context.CancelFunc
	done   chan struct{}
}

// restart makes the sink follow the desired one. Its cursor stays, so a
// changed target goes on where the old one was.
func (o *outlet) restart(want *Sink) error {
	if o.sink != nil && want != nil && o.sink.target == *want {
		return nil
	}
	o.stop()
	if want == nil {
		return o.forget()
	}
	// What was captured before there was a sink is not for it.
	_, found, _ := capture.ReadCursor(o.dir.cursor()) // NewSink tells what is wrong with it
	if !found {
		if err := capture.WriteCursor(o.dir.cursor(), o.writer.Last()); err != nil {
			return fmt.Errorf("sink: %w", err)
		}
	}
	s := capture.NewSink(o.dir.capture(), o.dir.cursor(), capture.Target{URL: want.URL, File: want.File, Stats: o.stats}, o.log)
	ctx, cancel := context.WithCancel(context.Background())
	o.sink = &runningSink{target: *want, sink: s, cancel: cancel, done: make(chan struct{})}
	o.writer.KeepAfter(s.Acked())
	running := o.sink
	go func() {
		defer close(running.done)
		s.Run(ctx, o.writer.Flushed())
	}()
	return nil
}

// forget gives up the place of a sink that is no longer wanted: one that
// is declared later starts with what comes then.
func (o *outlet) forget() error {
	seq, found, err := capture.ReadCursor(o.dir.cursor())
	if found && err == nil && seq < o.writer.Last() {
		o.log.Warn("the sink was taken away before it had everything; the rest stays with the captured answers", "sent", seq, "last", o.writer.Last())
	}
	o.writer.KeepNone()
	if err := os.Remove(o.dir.cursor()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove sink cursor: %w", err)
	}
	return nil
}

// stop ends the sink; what it has not sent waits for the next one.
func (o *outlet) stop() {
	if o.sink == nil {
		return
	}
	o.sink.cancel()
	<-o.sink.done
	o.sink = nil
}

// drain sends what is left before the gateway ends, for as long as a stop
// may take, and a second in any case.
func (o *outlet) drain(until time.Time) {
	if o.sink == nil {
		return
	}
	s := o.sink.sink
	o.stop()
	ctx, cancel := context.WithTimeout(context.Background(), max(time.Until(until), time.Second))
	defer cancel()
	if err := s.Drain(ctx); err != nil {
		o.log.Warn("answers wait for the sink until the gateway runs again", "sent", s.Acked(), "last", o.writer.Last(), "error", err)
	}
	o.writer.KeepAfter(s.Acked())
}

// status is what Live says of the sink.
func (o *outlet) status() *SinkStatus {
	if o.sink == nil {
		return nil
	}
	acked := o.sink.sink.Acked()
	return &SinkStatus{Unsent: o.writer.Last() - min(acked, o.writer.Last()), Full: o.writer.Full(), Failure: o.stats.Failure()}
}

// keep tells the writer what the sink has by now.
func (o *outlet) keep() {
	if o.sink != nil {
		o.writer.KeepAfter(o.sink.sink.Acked())
	}
}

// SaveUnsent writes the answers that the sink of a gateway on dir never took
// to name, one JSON record a line, and returns how many they are; with none,
// or without a sink, there is no file. The gateway must have ended.
func SaveUnsent(dir, name string) (n int, err error) {
	f := folder(dir)
	seq, found, err := capture.ReadCursor(f.cursor())
	if !found {
		return 0, err
	}
	return capture.Export(f.capture(), seq+1, name) // from the beginning if the cursor is spoilt
}
