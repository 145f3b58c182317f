//go:build e2e

package sources

import (
	"io"
	"net/http"
	"sync/atomic"
	"syscall"
)

// errReset is what a connection ends with that the other side has cut.
var errReset = syscall.ECONNRESET

// stopping cancels in the middle of a body.
type stopping struct {
	stop  func()
	left  atomic.Int64
	reads int64
}

// stopAfter returns a transport that calls stop after some reads of bodies.
func stopAfter(reads int64, stop func()) http.RoundTripper {
	s := &stopping{stop: stop, reads: reads}
	return s
}

func (s *stopping) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		resp.Body = &stoppingBody{resp.Body, s}
	}
	return resp, err
}

type stoppingBody struct {
	io.ReadCloser
	s *stopping
}

func (b *stoppingBody) Read(p []byte) (int, error) {
	if b.s.left.Add(1) == b.s.reads {
		b.s.stop()
	}
	return b.ReadCloser.Read(p)
}
