package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	dialTimeout = 2 * time.Second
	// idleLimit is below the keep-alive timeouts of the common Python servers
	// (gunicorn 2 s, uvicorn 5 s), so that a connection is not written to in
	// the moment its server closes it.
	idleLimit    = 1500 * time.Millisecond
	idleCount    = 256
	maxRespHead  = 1 << 20 // bytes of an answer's header
	maxInterim   = 16      // 1xx answers before the real one
	writeBufKeep = 64 << 10
)

// errNotSent says that no byte of the request has left for the server, so
// that it may be tried elsewhere.
var errNotSent = errors.New("no connection to the server")

// upstream is one ready server, or a way to a server behind a URL. It keeps its own connections instead
// of an http.Transport: request and answer then run on the handler's own
// goroutine, and it is known for certain whether a byte was sent.
type upstream struct {
	addr     string // where to connect to
	host     string // what the server is called in a request
	release  *release
	inflight atomic.Int64
	closed   atomic.Bool // no new request may enter

	mu   sync.Mutex
	idle []*conn
}

func newUpstream(addr string, r *release) *upstream {
	return &upstream{addr: addr, host: addr, release: r}
}

// enter admits one request; leave ends it. A drain that has set closed and
// then sees no request in flight can rely on none coming: enter counts first
// and looks at closed second.
func (u *upstream) enter() bool {
	u.inflight.Add(1)
	if u.closed.Load() {
		u.inflight.Add(-1)
		return false
	}
	return true
}

func (u *upstream) leave() { u.inflight.Add(-1) }

// close lets no new request in and drops idle connections; requests in flight
// go on.
func (u *upstream) close() {
	u.closed.Store(true)
	u.mu.Lock()
	idle := u.idle
	u.idle = nil
	u.mu.Unlock()
	for _, c := range idle {
		c.discard()
	}
}

// conn is one connection to a server.
type conn struct {
	net.Conn
	raw    syscall.RawConn
	probe  func(fd uintptr) bool
	quiet  bool // result of probe: open, and nothing to read
	br     *bufio.Reader
	out    []byte // request head, and body when short
	budget int64  // bytes that may still be read; guards against endless headers
	since  time.Time
}

// errTooLong says that an answer's header has no end.
var errTooLong = errors.New("the answer's header is longer than 1 MiB")

// Read reads within the budget.
func (c *conn) Read(p []byte) (int, error) {
	if c.budget <= 0 {
		return 0, errTooLong
	}
	n, err := c.Conn.Read(p)
	c.budget -= int64(n)
	return n, err
}

// discard closes a connection that will not be used again. Nothing is lost by
// a failing close: the answer has been read, or was given up.
func (c *conn) discard() { _ = c.Close() }

// alive reports whether an idle connection is still open. A server that
// closes connections without saying so would otherwise fail a request.
func (c *conn) alive() bool {
	c.quiet = false
	if err := c.raw.Read(c.probe); err != nil {
		return false
	}
	return c.quiet
}

// get returns an idle connection that is still good, or dials.
func (u *upstream) get(ctx context.Context, now time.Time) (*conn, error) {
	for {
		u.mu.Lock()
		n := len(u.idle)
		if n == 0 {
			u.mu.Unlock()
			return u.dial(ctx)
		}
		c := u.idle[n-1]
		u.idle = u.idle[:n-1]
		u.mu.Unlock()
		if now.Sub(c.since) < idleLimit && c.alive() {
			return c, nil
		}
		c.discard()
	}
}

func (u *upstream) dial(ctx context.Context) (*conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	nc, err := d.DialContext(ctx, "tcp", u.addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	c := &conn{Conn: nc}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		c.discard()
		return nil, fmt.Errorf("%w: connection has no descriptor", errNotSent)
	}
	if c.raw, err = sc.SyscallConn(); err != nil {
		c.discard()
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	c.probe = func(fd uintptr) bool {
		c.quiet = nothingToRead(fd)
		return true
	}
	c.br = bufio.NewReaderSize(c, 4<<10)
	return c, nil
}

// put keeps a connection for the next request.
func (u *upstream) put(c *conn) {
	c.since = time.Now()
	if cap(c.out) > writeBufKeep {
		c.out = nil
	}
	u.mu.Lock()
	keep := !u.closed.Load() && len(u.idle) < idleCount
	if keep {
		u.idle = append(u.idle, c)
	}
	u.mu.Unlock()
	if !keep {
		c.discard()
	}
}

// reap closes connections that have been idle for too long.
func (u *upstream) reap(now time.Time) {
	u.mu.Lock()
	var old []*conn
	u.idle = slices.DeleteFunc(u.idle, func(c *conn) bool {
		stale := now.Sub(c.since) >= idleLimit
		if stale {
			old = append(old, c)
		}
		return stale
	})
	u.mu.Unlock()
	for _, c := range old {
		c.discard()
	}
}

// call is a request that was sent, with its answer's head read.
type call struct {
	u    *upstream
	c    *conn
	resp *http.Response
	stop func() bool // ends the watch over the client's context
}

// send writes the request that head and body make and reads the answer's
// head. stream, if not nil, writes the rest of the body. The caller ends the
// call with finish. An error wraps errNotSent when no byte was sent.
func (u *upstream) send(r *http.Request, m *message, timeout time.Duration) (*call, error) {
	ctx := r.Context()
	c, err := u.get(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		c.discard()
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	// The client leaving ends the wait: a deadline in the past wakes the read.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	k := &call{u: u, c: c, stop: stop}
	if err := k.exchange(r, m, timeout); err != nil {
		k.finish(false)
		return nil, err
	}
	return k, nil
}

func (k *call) exchange(r *http.Request, m *message, timeout time.Duration) error {
	c := k.c
	c.out = m.appendHead(c.out[:0], k.u.host)
	var n int
	var err error
	if len(m.body) <= writeBufKeep-len(c.out) {
		c.out = append(c.out, m.body...)
		n, err = c.Write(c.out)
	} else {
		if n, err = c.Write(c.out); err == nil {
			_, err = c.Write(m.body)
		}
	}
	if err != nil && n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	if err == nil && m.rest != nil {
		err = m.stream(c, timeout)
		var client *clientError
		if errors.As(err, &client) {
			return err
		}
	}
	// A server may answer before it has read everything (413), so a failed
	// write is only an error when there is no answer either.
	writeErr := err
	c.budget = maxRespHead
	for range maxInterim {
		k.resp, err = http.ReadResponse(c.br, r)
		if err != nil {
			return errors.Join(err, writeErr)
		}
		if k.resp.StatusCode >= 200 || k.resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	c.budget = 1<<63 - 1
	if s := k.resp.StatusCode; s < 200 || s > 599 {
		return fmt.Errorf("the server answered with status %d", s)
	}
	if writeErr != nil {
		k.resp.Close = true // what follows on this connection is not defined
	}
	return nil
}

// finish ends the call. whole says that the answer was read to its end, so
// that the connection may serve again.
func (k *call) finish(whole bool) {
	if !k.stop() || !whole || k.resp == nil || k.resp.Close || k.c.br.Buffered() > 0 {
		k.c.discard()
		return
	}
	k.u.put(k.c)
}

// extend gives the server another timeout for the next part of its answer.
func (k *call) extend(ctx context.Context, timeout time.Duration) error {
	if err := k.c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	return ctx.Err() // the deadline may just have undone the wake-up
}
