package gateway

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// flood opens n connections to addr, writes the beginning of a request, or a
// whole one and reads nothing of its answer, and keeps them open until its
// standard input ends. It is a process of its own, since each side of so many
// connections needs the descriptors that one process may have.
func flood(addr, count, text string) int {
	n, err := strconv.Atoi(count)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	d := net.Dialer{Timeout: 20 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		// A small window fills soon, so that a reader who stalls is felt.
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	conns := make([]net.Conn, n)
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				c, err := d.Dial("tcp", addr)
				if err == nil {
					_, err = io.WriteString(c, text)
				}
				if err != nil && failed.Add(1) == 1 {
					fmt.Fprintln(os.Stderr, err)
				}
				conns[i] = c
			}
		})
	}
	wg.Wait()
	fmt.Println("ready", int64(n)-failed.Load())
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(conns)
	return 0
}

// startFlood returns when n connections are open; end closes them.
func startFlood(t *testing.T, addr string, n int, text string) (end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "__flood", addr, strconv.Itoa(n), text)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != fmt.Sprintf("ready %d\n", n) {
		t.Errorf("flood of %d: %q, %v", n, line, err)
	}
	return func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("flood: %v", err)
		}
	}
}

// crowd is how many of the wanted connections this machine allows, with a
// reason in the log if they are fewer: perConn is how many descriptors of one
// process each takes.
func crowd(t *testing.T, want, perConn int) int {
	t.Helper()
	if raceEnabled {
		t.Log("800 instead of ", want, ": the race detector bears 8,128 goroutines; make test runs this once without it")
		return 800
	}
	limit, err := descriptors()
	if err != nil {
		t.Fatal(err)
	}
	if most := (limit - 1000) / perConn; most < want {
		t.Logf("%d instead of %d: the limit of open files is %d (ulimit -n)", most, want, limit)
		return most
	}
	return want
}

// busyFront is a front that counts its connections.
type busyFront struct {
	*fake
	came, open, peak atomic.Int64
}

// crowded replaces the front by one with changes, whose accepted connections
// buffer little.
func (f *fake) crowded(t *testing.T, change func(*http.Server)) *busyFront {
	t.Helper()
	b := &busyFront{fake: f}
	s := newServer(f.proxy, f.proxy.log, f.proxy.config.Load().limits)
	change(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.front.Close()
	f.front = httptest.NewUnstartedServer(nil)
	_ = f.front.Listener.Close()
	f.front.Listener, f.front.Config = thinListener{l}, s
	s.ConnState = func(_ net.Conn, state http.ConnState) { // httptest calls it beside its own
		switch state {
		case http.StateNew:
			b.came.Add(1)
			if n := b.open.Add(1); n > b.peak.Load() {
				b.peak.Store(n)
			}
		case http.StateClosed, http.StateHijacked:
			b.open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	f.front.Start()
	return b
}

// thinListener gives its connections small buffers.
type thinListener struct{ net.Listener }

func (l thinListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tc, ok := c.(*net.TCPConn); ok {
		_ = tc.SetWriteBuffer(8 << 10)
	}
	return c, err
}

// quick asks n times and wants each answer at once, though others are slow.
func (b *busyFront) quick(t *testing.T, n int, path string) {
	t.Helper()
	for range n {
		began := time.Now()
		got := b.raw(t, 1, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if took := time.Since(began); len(got) != 1 || got[0] != 200 || took > time.Minute {
			t.Fatalf("a quick client beside %d others: %v after %v", b.open.Load(), got, took)
		}
	}
}

func TestN5SlowClientsHoldNobodyUp(t *testing.T) {
	n := crowd(t, 10000, 1)
	for patience := 4 * time.Second; ; patience *= 2 {
		f := newFake(t, Limits{}, newBackend(t, nil).URL).crowded(t, func(s *http.Server) { s.ReadHeaderTimeout = patience })
		end := startFlood(t, f.addr(), n, "POST / HTTP/1.1\r\nHost: x\r\nX-")
		within(t, "all connections", func() bool { return f.came.Load() >= int64(n) })
		if peak := f.peak.Load(); peak < int64(n) && patience < time.Minute && !t.Failed() {
			t.Logf("only %d at once: this machine needs more than %v to open so many", peak, patience)
			end()
			continue
		} else if peak < int64(n) {
			t.Errorf("%d connections at once, want %d", peak, n)
		}
		f.quick(t, 20, "/")
		within(t, "the end of all slow connections", func() bool { return f.open.Load() == 0 })
		end()
		if got := f.tally(); got.Requests != 20 || got.Errors != 0 {
			t.Errorf("tally %+v", got)
		}
		return
	}
}

func TestSlowHeadersHaveALimit(t *testing.T) {
	if s := newServer(nil, slog.New(slog.DiscardHandler), Desired{}.withDefaults().Limits); s.ReadHeaderTimeout <= 0 || s.ReadHeaderTimeout > 10*time.Second {
		t.Errorf("a header may take %v", s.ReadHeaderTimeout)
	}
}

// A gateway that may open few files keeps some for its servers and for what it
// captures: clients wait at the door, and none of it is the model's fault.
func TestN5SlowClientsLeaveFilesForTheServers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := Start(t.Context(), []string{"sh", "-c", `ulimit -n 150; exec "$0" "$@"`, os.Args[0]}, r.dir); err != nil {
		t.Fatal(err)
	}
	live := r.apply(desired(1))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	together := func() {
		t.Helper()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				resp, err := client.Get(live.Endpoint + "/slow")
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					t.Errorf("status %d, %v", resp.StatusCode, err)
				}
			})
		}
		wg.Wait()
	}
	together() // these have their connections
	end := startFlood(t, strings.TrimPrefix(live.Endpoint, "http://"), 400, "POST / HTTP/1.1\r\nHost: x\r\nX-")
	defer end()
	for range 3 {
		together()
	}
	if text := scrape(t, live.Admin); strings.Contains(text, `ml_gateway_errors_total{version="1"}`) && !strings.Contains(text, `ml_gateway_errors_total{version="1"} 0`) {
		t.Errorf("the model is blamed:\n%s", text)
	}
}

func TestN17ReadersThatStallAreLetGo(t *testing.T) {
	n := crowd(t, 5000, 3) // the gateway's two connections, and the server's
	for patience := 5 * time.Second; ; patience *= 3 {
		got := stall(t, n, patience)
		if got.Errors > 0 && patience < time.Minute {
			// With all sides in one process, a busy machine can keep the model silent for so long.
			t.Logf("the model is blamed for %d: this machine needs more than %v", got.Errors, patience)
			continue
		}
		if got.Errors != 0 || got.Requests != quickBeside {
			t.Errorf("tally %+v, though only the readers are at fault", got)
		}
		return
	}
}

const quickBeside = 10

// stall has n clients read nothing of an endless answer, and returns the tally
// when the gateway has given them up after patience.
func stall(t *testing.T, n int, patience time.Duration) Tally {
	var written atomic.Int64
	full := make(chan struct{}) // all readers are there
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for part := ":\n\n"; r.Context().Err() == nil; written.Add(1) {
			_, err := io.WriteString(w, part)
			if err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-full:
				part = "data: " + strings.Repeat("x", 2000) + "\n\n"
			case <-tick.C:
			}
		}
	}))
	backend.Listener = thinListener{backend.Listener}
	backend.Start()
	defer backend.Close()
	f := newFake(t, Limits{Timeout: patience, MaxInFlight: n + quickBeside}, backend.URL).crowded(t, func(*http.Server) {})
	end := startFlood(t, f.addr(), n, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	defer end()
	within(t, "all readers at once", func() bool { return f.router.inflight.Load() >= int64(n) || f.tally().Errors > 0 })
	close(full)
	seen, since := int64(0), time.Now()
	within(t, "the moment when all have stalled", func() bool {
		if n := written.Load(); n != seen {
			seen, since = n, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
	if f.tally().Errors == 0 {
		f.quick(t, quickBeside, "/quick")
	}
	within(t, "the end of all that stalled", func() bool { return f.router.inflight.Load() == 0 })
	idle(t, f.fake)
	return f.tally()
}

// hang ends a wait for what never comes. It says nothing of speed: machines differ.
const hang = 5 * time.Minute

// within polls until ok.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(hang)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not come within %v", what, hang)
		}
	}
}
