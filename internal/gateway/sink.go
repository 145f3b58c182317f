package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// runningSink is a sink with its goroutine.
type runningSink struct {
	target Sink
	sink   *capture.Sink
	cancel context.CancelFunc
	done   chan struct{}
}

// restartSink makes the sink follow the desired one. Its cursor stays, so a
// changed target goes on where the old one was.
func (c *controller) restartSink(want *Sink) error {
	if c.sink != nil && want != nil && c.sink.target == *want {
		return nil
	}
	c.stopSink()
	if want == nil {
		return c.forgetSink()
	}
	// What was captured before there was a sink is not for it.
	_, found, _ := capture.ReadCursor(c.dir.cursor()) // NewSink tells what is wrong with it
	if !found {
		if err := capture.WriteCursor(c.dir.cursor(), c.writer.Last()); err != nil {
			return fmt.Errorf("sink: %w", err)
		}
	}
	s := capture.NewSink(c.dir.capture(), c.dir.cursor(), capture.Target{URL: want.URL, File: want.File, Stats: &c.meters.sink}, c.log)
	ctx, cancel := context.WithCancel(context.Background())
	c.sink = &runningSink{target: *want, sink: s, cancel: cancel, done: make(chan struct{})}
	c.writer.KeepAfter(s.Acked())
	running := c.sink
	go func() {
		defer close(running.done)
		s.Run(ctx, c.writer.Flushed())
	}()
	return nil
}

// forgetSink gives up the place of a sink that is no longer wanted: one that
// is declared later starts with what comes then.
func (c *controller) forgetSink() error {
	seq, found, err := capture.ReadCursor(c.dir.cursor())
	if found && err == nil && seq < c.writer.Last() {
		c.log.Warn("the sink was taken away before it had everything; the rest stays with the captured answers", "sent", seq, "last", c.writer.Last())
	}
	c.writer.KeepNone()
	if err := os.Remove(c.dir.cursor()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove sink cursor: %w", err)
	}
	return nil
}

// stopSink ends the sink; what it has not sent waits for the next one.
func (c *controller) stopSink() {
	if c.sink == nil {
		return
	}
	c.sink.cancel()
	<-c.sink.done
	c.sink = nil
}

// drainSink sends what is left before the gateway ends, for as long as a stop
// may take, and a second in any case.
func (c *controller) drainSink(until time.Time) {
	if c.sink == nil {
		return
	}
	s := c.sink.sink
	c.stopSink()
	ctx, cancel := context.WithTimeout(context.Background(), max(time.Until(until), time.Second))
	defer cancel()
	if err := s.Drain(ctx); err != nil {
		c.log.Warn("answers wait for the sink until the gateway runs again", "sent", s.Acked(), "last", c.writer.Last(), "error", err)
	}
	c.writer.KeepAfter(s.Acked())
}

// sinkStatus is what Live says of the sink.
func (c *controller) sinkStatus() *SinkStatus {
	if c.sink == nil {
		return nil
	}
	acked := c.sink.sink.Acked()
	return &SinkStatus{Unsent: c.writer.Last() - min(acked, c.writer.Last()), Full: c.writer.Full(), Failure: c.meters.sink.Failure()}
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
