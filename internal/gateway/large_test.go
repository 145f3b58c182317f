package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	hundredMB = 100 << 20
	gigabyte  = 1 << 30
)

// sendAll writes a request with a body of n bytes, in chunks or of a length
// that it tells, all of it before it looks for an answer.
func (f *fake) sendAll(t *testing.T, n int, chunked bool) int {
	t.Helper()
	c, err := net.Dial("tcp", f.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	head, part, end := fmt.Sprintf("Content-Length: %d\r\n\r\n", n), make([]byte, 1<<20), ""
	if chunked {
		head, end = "Transfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"
		part = append(append([]byte("100000\r\n"), part...), "\r\n"...)
	}
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+head); err != nil {
		t.Fatal(err)
	}
	for range n >> 20 {
		if _, err := c.Write(part); err != nil {
			t.Errorf("the client cannot send on: %v", err)
			return 0
		}
	}
	if _, err := io.WriteString(c, end); err != nil {
		t.Errorf("the client cannot send on: %v", err)
		return 0
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// allocates returns how many bytes do allocates.
func allocates(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// counting is a server that counts the bytes of each body.
func counting(t *testing.T) (address string, counts <-chan int64) {
	ch := make(chan int64, 8)
	return rawServer(t, func(c net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			n = -n
		}
		ch <- n
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	}), ch
}

func TestN7ALongBodyStreamsAndIsCutAtTheLimit(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		backend, counts := counting(t)
		f := newFake(t, Limits{MaxBody: hundredMB}, backend)
		if used := allocates(func() {
			if got := f.sendAll(t, hundredMB, chunked); got != 200 {
				t.Errorf("chunked %v: status %d", chunked, got)
			}
		}); used > 32<<20 {
			t.Errorf("chunked %v: %d bytes were allocated for one body", chunked, used)
		}
		if n := <-counts; n != hundredMB {
			t.Errorf("chunked %v: the server got %d bytes", chunked, n)
		}
		// The usual limit, with all of the body sent and the answer read after it.
		backend, counts = counting(t)
		f = newFake(t, Limits{}, backend)
		if got := f.sendAll(t, hundredMB, chunked); got != 413 {
			t.Errorf("chunked %v: status %d, want 413", chunked, got)
		}
		if chunked { // what is told to be too long does not get so far
			if n := <-counts; n > 0 || -n > DefaultMaxRequest {
				t.Errorf("the server took %d bytes for a whole body", n)
			}
		}
		if got := f.tally(); got.Errors != 0 {
			t.Errorf("chunked %v: tally %+v", chunked, got)
		}
		if len(counts) != 0 {
			t.Error("the server was asked about what was refused")
		}
	}
}

func TestN7WhoAsksFirstIsRefusedBeforeItSends(t *testing.T) {
	f := newFake(t, Limits{}, newBackend(t, nil).URL)
	if got := f.raw(t, 1, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 104857600\r\n\r\n"); len(got) != 1 || got[0] != 413 {
		t.Errorf("answers: %v", got)
	}
}

func TestN11AGigabyteOfAnAnswerStreams(t *testing.T) {
	for name, header := range map[string]string{
		"known length": fmt.Sprintf("Content-Length: %d", gigabyte), "in chunks": "Transfer-Encoding: chunked",
	} {
		part := make([]byte, 1<<20)
		end := ""
		if name == "in chunks" {
			part = append(append([]byte("100000\r\n"), part...), "\r\n"...)
			end = "0\r\n\r\n"
		}
		f := newFake(t, Limits{}, rawServer(t, func(c net.Conn, br *bufio.Reader) {
			if readRequest(br) != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+header+"\r\n\r\n")
			for range gigabyte >> 20 {
				if _, err := c.Write(part); err != nil {
					return
				}
			}
			_, _ = io.WriteString(c, end)
		}))
		used := allocates(func() {
			resp, err := http.Get(f.front.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); n != gigabyte || err != nil {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		})
		idle(t, f)
		if got := f.tally(); used > 64<<20 || got.Requests != 1 || got.Errors != 0 {
			t.Errorf("%s: %d bytes were allocated, tally %+v", name, used, got)
		}
	}
}

// names returns every series that there is, without its value.
func (f *fake) names(t *testing.T) string {
	t.Helper()
	families, err := f.meters.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, family := range families {
		for _, m := range family.Metric {
			for i := range 1 + len(m.GetHistogram().GetBucket()) {
				fmt.Fprintln(&b, family.GetName(), m.GetLabel(), i)
			}
		}
	}
	return b.String()
}

func TestN16SeriesDoNotGrowWithRequestsOrVersions(t *testing.T) {
	f := newFake(t, Limits{MaxBody: 1000}, newBackend(t, nil).URL)
	before := f.names(t)
	refused := map[int]int{}
	for i := range 50 { // each with a method, path, host, id and header of its own
		tail := fmt.Sprintf("/p%d HTTP/1.1\r\nHost: h%d\r\nML-Prediction-Id: i%d\r\nX-%d: %d\r\n", i, i, i, i, i)
		for _, text := range []string{
			fmt.Sprintf("M%d ", i) + tail + "\r\n",
			"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
			"TRACE " + tail + "\r\n",
			"GET " + tail + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
			"POST " + tail + "Content-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000),
			"POST " + tail + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
			"GET " + tail + strings.Repeat("x", 70<<10) + ": 1\r\n\r\n",
			fmt.Sprintf("GET /%d HTTP/3.%d\r\n\r\n", i, i%10),
		} {
			for _, code := range f.raw(t, 1, text) {
				refused[code]++
			}
		}
	}
	f.router.route.Store(&route{}) // and with no server
	refused[f.raw(t, 1, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0]]++
	if got, want := fmt.Sprint(refused), "map[200:50 400:50 405:100 413:50 431:50 501:50 503:1 505:50]"; got != want {
		t.Errorf("answers %s, want %s", got, want)
	}
	if after := f.names(t); after != before {
		t.Errorf("new series:\n%s\nbefore:\n%s", after, before)
	}
	f.router.route.Store(&route{current: f.release(1)})
	for v := range 200 {
		f.meters.version(v).observe(200, time.Second, false, false)
	}
	if n := strings.Count(f.names(t), "\n"); n > 1000 {
		t.Errorf("%d series after 200 versions", n)
	}
}
