package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// backend is a model server that remembers what it was asked.
type backend struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
	body []string
}

func newBackend(t testing.TB, h http.HandlerFunc) *backend {
	t.Helper()
	b := &backend{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.seen, b.body = append(b.seen, r), append(b.body, string(data))
		b.mu.Unlock()
		if h != nil {
			h(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"predictions":[1]}`)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *backend) requests() []*http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*http.Request(nil), b.seen...)
}

// raw sends bytes and returns the answers' status codes until the connection
// ends or n answers came.
func (f *fake) raw(t *testing.T, n int, text string) []int {
	t.Helper()
	c, err := net.Dial("tcp", f.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Logf("write: %v", err) // the gateway may have answered and closed already
	}
	br := bufio.NewReader(c)
	var codes []int
	for range n {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			break
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		codes = append(codes, resp.StatusCode)
	}
	return codes
}

func (f *fake) addr() string { return strings.TrimPrefix(f.front.URL, "http://") }

func (f *fake) tally() Tally { return f.router.route.Load().current.tally() }

// rawServer answers every connection with whatever serve writes.
func rawServer(t *testing.T, serve func(c net.Conn, br *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// readRequest reads one request whole.
func readRequest(br *bufio.Reader) error {
	r, err := http.ReadRequest(br)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

func TestN1AmbiguousMessageBordersReachNoServer(t *testing.T) {
	b := newBackend(t, nil)
	f := newFake(t, Limits{}, b.URL)
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, tc := range map[string]struct {
		text string
		want int
	}{
		"unknown transfer encoding": {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
		"bare line feed in a chunk": {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", 400},
		"two lengths":               {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
		"length with a sign":        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 400},
		"space before the colon":    {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
		"no host":                   {"GET / HTTP/1.1\r\n\r\n", 400},
	} {
		if got := f.raw(t, 1, tc.text); len(got) != 1 || got[0] != tc.want {
			t.Errorf("%s: %v, want %d", name, got, tc.want)
		}
	}
	if n := len(b.requests()); n != 0 {
		t.Errorf("%d ambiguous requests reached the server", n)
	}
	// Length and chunked together: chunked counts, the connection ends, and
	// the server sees one request whose length the gateway wrote.
	f.raw(t, 2, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"+smuggled)
	for _, r := range b.requests() {
		if r.URL.Path == "/a" && (r.ContentLength != 3 || len(r.TransferEncoding) > 0) {
			t.Errorf("length %d, encoding %v", r.ContentLength, r.TransferEncoding)
		}
	}
	if got := b.requests(); len(got) == 0 || got[0].URL.Path != "/a" {
		t.Errorf("requests: %v", got)
	}
}

func TestN2PathsPassThroughAsTheyAre(t *testing.T) {
	b := newBackend(t, nil)
	f := newFake(t, Limits{}, b.URL)
	for _, path := range []string{"//", "//evil.example/x", "/%2e%2e/", "/a%2Fb", "/a;b", "/%00", "/../x", "/metrics", "/a?x=%zz&y", "/?"} {
		if got := f.raw(t, 1, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); len(got) != 1 || got[0] != 200 {
			t.Errorf("%s: %v", path, got)
			continue
		}
		seen := b.requests()
		if got := seen[len(seen)-1].RequestURI; got != path {
			t.Errorf("%s arrived as %s", path, got)
		}
	}
	if got := f.raw(t, 1, "GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n"); len(got) != 1 || got[0] != 400 {
		t.Errorf("NUL: %v", got)
	}
}

func TestN3TheAdminListenerAnswersToLoopbackNamesOnly(t *testing.T) {
	f := newFake(t, Limits{})
	a := newAdmin(f.meters, func() Live { return Live{Name: "m"} }, slog.New(slog.DiscardHandler))
	for host, want := range map[string]int{
		"127.0.0.1:1": 200, "localhost": 200, "[::1]:1": 200,
		"evil.example": 421, "127.0.0.1.nip.io": 421, "localhost.evil.example:80": 421, "": 421,
	} {
		r := httptest.NewRequest(http.MethodGet, "/status", nil)
		r.Host = host
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestN4NothingCanBeChangedOverTheAdminListener(t *testing.T) {
	f := newFake(t, Limits{})
	a := newAdmin(f.meters, func() Live { return Live{} }, slog.New(slog.DiscardHandler))
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		r := httptest.NewRequest(method, "/status", strings.NewReader("{}"))
		r.Host = "127.0.0.1"
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
}

func TestN6HTTP2IsNotSpoken(t *testing.T) {
	b := newBackend(t, nil)
	f := newFake(t, Limits{}, b.URL)
	if got := f.raw(t, 1, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); len(got) > 0 && got[0] < 400 {
		t.Errorf("prior knowledge: %v", got)
	}
	if got := f.raw(t, 1, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"); len(got) != 1 || got[0] != 501 {
		t.Errorf("upgrade: %v", got)
	}
	if n := len(b.requests()); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

func TestN7TooMuchIsRefused(t *testing.T) {
	b := newBackend(t, nil)
	f := newFake(t, Limits{MaxBody: 1000}, b.URL)
	many := strings.Repeat("X-A: b\r\n", 10000)
	for name, tc := range map[string]struct {
		text string
		want int
	}{
		"one long header":    {"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", 431},
		"ten thousand":       {"GET / HTTP/1.1\r\nHost: x\r\n" + many + "\r\n", 431},
		"at the limit":       {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000), 200},
		"a body that breaks": {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
	} {
		if got := f.raw(t, 1, tc.text); len(got) != 1 || got[0] != tc.want {
			t.Errorf("%s: %v, want %d", name, got, tc.want)
		}
	}
	if got := f.tally(); got.Requests != 1 || got.Errors != 0 {
		t.Errorf("tally %+v: refused requests are not the model's", got)
	}
}

func TestN8ConnectionCannotDropWhatServersDecideBy(t *testing.T) {
	b := newBackend(t, nil)
	f := newFake(t, Limits{}, b.URL)
	f.raw(t, 1, "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTe: trailers\r\n"+
		"Connection: Authorization, X-Hop, X-Forwarded-For, ML-Prediction-Id\r\n\r\n")
	h := b.requests()[0].Header
	if h.Get("Authorization") != "Bearer t" || h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("Ml-Prediction-Id") == "" {
		t.Errorf("dropped: %v", h)
	}
	for _, name := range []string{"X-Hop", "Connection", "Keep-Alive", "Te"} {
		if h.Get(name) != "" {
			t.Errorf("%s was passed on: %v", name, h)
		}
	}
}

func TestN9ForwardedHeadersAreOurs(t *testing.T) {
	b := newBackend(t, nil)
	f := newFake(t, Limits{}, b.URL)
	f.raw(t, 1, "GET / HTTP/1.1\r\nHost: model.example\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n\r\n")
	h := b.requests()[0].Header
	if got := h.Values("X-Forwarded-For"); len(got) != 1 || got[0] != "127.0.0.1" || h.Get("X-Forwarded-Host") != "model.example" || h.Get("X-Forwarded-Proto") != "http" {
		t.Errorf("headers: %v", h)
	}
	if h.Get("X-Real-Ip") != "" || h.Get("Forwarded") != "" || h.Get("X-Forwarded-Port") != "" {
		t.Errorf("a claim was passed on: %v", h)
	}
}

func TestN11ABadServerGivesACleanAnswerAndAnError(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		want   int // 0: the connection is cut
	}{
		"upgrade nobody asked for": {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 502},
		"status 999":               {"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", 502},
		"status 099":               {"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n", 502},
		"no HTTP":                  {"220 mail.example ESMTP\r\n", 502},
		"nothing":                  {"", 502},
		"half a header":            {"HTTP/1.1 200 OK\r\nContent-Le", 502},
		"a header without end":     {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 2<<20) + "\r\n\r\n", 502},
		"only interim answers":     {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 40), 502},
		"a short body cut off":     {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", 502},
		"a long body cut off":      {"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc", 0},
		"a chunked body cut off":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 0},
		"after an interim answer":  {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, Limits{}, rawServer(t, func(c net.Conn, br *bufio.Reader) {
				if readRequest(br) == nil {
					_, _ = io.WriteString(c, tc.answer)
				}
			}))
			resp, err := http.Post(f.front.URL, "application/json", strings.NewReader("{}"))
			if err != nil {
				if tc.want != 0 {
					t.Fatal(err)
				}
				return // cut before its head was out
			}
			defer resp.Body.Close()
			_, err = io.ReadAll(resp.Body)
			if tc.want == 0 && err == nil || tc.want != 0 && (err != nil || resp.StatusCode != tc.want) {
				t.Errorf("status %d, %v; want %d", resp.StatusCode, err, tc.want)
			}
			wantErrors := int64(1)
			if tc.want == 200 {
				wantErrors = 0
			}
			if got := f.tally(); got.Requests != 1 || got.Errors != wantErrors {
				t.Errorf("tally %+v", got)
			}
		})
	}
}

func TestN11AHangingServerGives504(t *testing.T) {
	release := make(chan struct{})
	b := newBackend(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	f := newFake(t, Limits{Timeout: 200 * time.Millisecond}, b.URL)
	resp, err := http.Post(f.front.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := f.tally(); resp.StatusCode != http.StatusGatewayTimeout || got.Errors != 1 {
		t.Errorf("status %d, tally %+v", resp.StatusCode, got)
	}
}

func TestN12AClientThatLeavesIsNoModelError(t *testing.T) {
	asked := make(chan struct{})
	left := make(chan struct{})
	b := newBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done() // the gateway gives the server's request up too
		close(left)
	})
	f := newFake(t, Limits{}, b.URL)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.front.URL, strings.NewReader("{}"))
		if err != nil {
			t.Error(err)
			return
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_ = resp.Body.Close()
			t.Error("an answer came")
		}
	}()
	<-asked
	cancel()
	<-done
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Fatal("the server's request goes on")
	}
	idle(t, f)
	if got := f.tally(); got.Requests != 0 || got.Errors != 0 {
		t.Errorf("tally %+v", got)
	}
}

// idle waits until no request runs.
func idle(t *testing.T, f *fake) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for f.router.inflight.Load() != 0 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("a request never ended")
		}
	}
	for _, u := range *f.router.route.Load().current.ready.Load() {
		if n := u.inflight.Load(); n != 0 {
			t.Errorf("%d requests are counted as in flight", n)
		}
	}
}

func TestN13OnlyAnUnsentRequestIsTriedElsewhere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("a server that cannot be reached is passed over", func(t *testing.T) {
		b := newBackend(t, nil)
		f := newFake(t, Limits{}, dead, b.URL)
		for range 10 {
			if got := f.raw(t, 1, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); len(got) != 1 || got[0] != 200 {
				t.Fatalf("answers: %v", got)
			}
		}
		if n := len(b.requests()); n != 10 {
			t.Errorf("the good server was asked %d times", n)
		}
	})
	t.Run("a server that took the request is not", func(t *testing.T) {
		var taken atomic.Int64
		cut := rawServer(t, func(_ net.Conn, br *bufio.Reader) {
			if readRequest(br) == nil {
				taken.Add(1)
			}
		})
		f := newFake(t, Limits{}, cut, cut)
		for range 4 {
			if got := f.raw(t, 1, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); len(got) != 1 || got[0] != 502 {
				t.Fatalf("answers: %v", got)
			}
		}
		if n := taken.Load(); n != 4 {
			t.Errorf("4 requests were sent %d times", n)
		}
	})
	t.Run("a connection that the server closed meanwhile is not used", func(t *testing.T) {
		closing := rawServer(t, func(c net.Conn, br *bufio.Reader) {
			if readRequest(br) == nil { // answers as if it would stay, and goes
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		f := newFake(t, Limits{}, closing)
		for i := range 50 {
			if got := f.raw(t, 1, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); len(got) != 1 || got[0] != 200 {
				t.Fatalf("request %d: %v", i, got)
			}
			// Wait for the server's close to arrive, as it would between requests.
			u := (*f.router.route.Load().current.ready.Load())[0]
			gone(t, u)
		}
	})
}

// gone waits until the kept connections of u are dead, or there are none.
func gone(t *testing.T, u *upstream) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		u.mu.Lock()
		alive := false
		for _, c := range u.idle {
			alive = alive || c.alive()
		}
		u.mu.Unlock()
		if !alive && u.inflight.Load() == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the connection stays open")
		}
	}
}

func TestN14NonFinitePredictionsAreKept(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"predictions": [NaN, -Infinity, Infinity, 1.5, "NaN"]}`)
	})
	f := newFake(t, Limits{}, b.URL)
	f.raw(t, 1, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 19\r\n\r\n{\"instances\":[[1]]}")
	idle(t, f)
	if err := f.writer.Close(); err != nil {
		t.Fatal(err)
	}
	for rec, err := range capture.Records(f.dir, 1) {
		if err != nil {
			t.Fatal(err)
		}
		_, preds, err := capture.Instances(rec)
		if got := fmt.Sprint(preds, err); got != "[NaN -Inf +Inf 1.5 NaN] <nil>" {
			t.Errorf("predictions %s", got)
		}
		return
	}
	t.Error("nothing was captured")
}

func TestN15WithAllServersDownTheAnswerIs503WithRetryAfter(t *testing.T) {
	f := newFake(t, Limits{})
	resp, err := http.Post(f.front.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || resp.Header.Get("ML-Prediction-Id") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestN18QueriesAreNeitherCapturedNorLogged(t *testing.T) {
	var log strings.Builder
	b := newBackend(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	f := newFake(t, Limits{}, b.URL)
	f.proxy.log = slog.New(slog.NewTextHandler(&log, nil))
	f.raw(t, 1, "GET /x?token=hunter2 HTTP/1.1\r\nHost: x\r\nAuthorization: hunter2\r\n\r\n")
	idle(t, f)
	if err := f.writer.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(f.dir, "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"path":"/x"`) || strings.Contains(string(data), "hunter2") || strings.Contains(log.String(), "hunter2") {
		t.Errorf("capture %s\nlog %s", data, log.String())
	}
}

func TestG5OverloadIsAnsweredAtOnce(t *testing.T) {
	release := make(chan struct{})
	b := newBackend(t, func(http.ResponseWriter, *http.Request) { <-release })
	f := newFake(t, Limits{MaxInFlight: 2}, b.URL)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if got := f.raw(t, 1, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); len(got) != 1 || got[0] != 200 {
				t.Errorf("accepted: %v", got)
			}
		})
	}
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(b.requests()) < 2 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("requests did not arrive")
		}
	}
	if got := f.raw(t, 1, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); len(got) != 1 || got[0] != 503 {
		t.Errorf("third: %v", got)
	}
	close(release)
	wg.Wait()
	idle(t, f)
	if got := f.tally(); got.Requests != 2 || got.Errors != 0 {
		t.Errorf("tally %+v", got)
	}
}

func TestAPanicInAHandlerEndsOneRequest(t *testing.T) {
	b := newBackend(t, nil)
	f := newFake(t, Limits{}, b.URL)
	broken := &route{current: f.release(2, b.URL)}
	broken.current.ready.Store(nil) // acquire dereferences it
	good := f.router.route.Swap(broken)
	if got := f.raw(t, 1, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); len(got) != 1 || got[0] != 500 {
		t.Errorf("broken: %v", got)
	}
	f.router.route.Store(good)
	if got := f.raw(t, 1, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); len(got) != 1 || got[0] != 200 {
		t.Errorf("after: %v", got)
	}
	if n := f.router.inflight.Load(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}
