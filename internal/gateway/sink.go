package gateway

import (
	"context"
	"os"

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
func (c *controller) restartSink(want *Sink) {
	if c.sink != nil && want != nil && c.sink.target == *want {
		return
	}
	c.stopSink()
	c.writer.KeepAfter(^uint64(0))
	if want == nil {
		// A sink declared later starts with what comes then.
		if err := os.Remove(c.dir.cursor()); err != nil && !os.IsNotExist(err) {
			c.log.Error("remove sink cursor", "error", err)
		}
		return
	}
	s, err := capture.NewSink(c.dir.capture(), c.dir.cursor(), capture.Target{URL: want.URL, File: want.File}, c.log)
	if err != nil {
		c.log.Error("start sink", "error", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.sink = &runningSink{target: *want, sink: s, cancel: cancel, done: make(chan struct{})}
	c.writer.KeepAfter(s.Acked())
	running := c.sink
	go func() {
		defer close(running.done)
		s.Run(ctx, c.writer.Flushed())
	}()
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
