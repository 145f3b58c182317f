package daemon

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// A message whose end is a matter of opinion is refused, or its connection ends behind it: nothing that hides in it is obeyed.
func TestN1AmbiguousMessageBordersAtTheDaemon(t *testing.T) {
	s := serveQuiet(t, patient, "")
	hidden := "POST /api/v1/repositories/r/reconcile HTTP/1.1\r\nHost: localhost\r\n" + auth + "Content-Length: 0\r\n\r\n"
	for name, text := range map[string]string{
		"CL and TE":             "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":           "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
		"an unknown coding":     "POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"two codings":           "POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
		"a length that is none": "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: +4\r\n\r\nabcd",
		"a blank in a name":     "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length : 4\r\n\r\nabcd",
		"two hosts":             "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n\r\n",
	} {
		codes, all := s.raw(text + hidden)
		for _, c := range codes {
			if c == "202" && name != "CL and TE" { // of the chunked one the border is clear, as RFC 9112 has it, and ours to see
				t.Errorf("%s: what hides in it is obeyed:\n%s", name, all)
			}
		}
		if len(codes) == 0 || codes[0] == "200" {
			t.Errorf("%s: %v", name, codes)
		}
	}
	// Chunks that end with a bare line feed, and an extension that hides one.
	codes, all := s.raw("POST /hooks/r HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n" + hidden)
	if len(codes) > 1 && codes[1] == "202" && codes[0] != "401" {
		t.Errorf("a bare line feed: %v\n%s", codes, all)
	}
	s.answers()
}

func TestN2PathsThatGoAround(t *testing.T) {
	s := serveQuiet(t, patient, "")
	for _, path := range []string{
		"//", "//api/v1/repositories", "/./api/v1/repositories", "/x/../api/v1/repositories", "/%2e%2e/api/v1/repositories", "/api%2Fv1/repositories", "/api/v1/repositories/",
		"/healthz/../api/v1/repositories", "/healthz;/../api/v1/repositories", "/web/..%2f..%2fdaemon.go", "/web/%2e%2e/daemon.go", "/web/style.css%00", "/api/v1/repositories%00", "/hooks/r/../../api/v1/repositories",
	} {
		codes, all := s.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if len(codes) != 1 || codes[0] == "200" || strings.Contains(all, "nowhere") || strings.Contains(all, "package daemon") {
			t.Errorf("%s: %v\n%s", path, codes, all)
		}
	}
	s.answers()
}

// N5: slow clients are let go, and hold nobody up; no more of them are let in than there is room for.
func TestN5SlowClientsOfTheDaemonAreLetGo(t *testing.T) {
	n := 1200
	if raceEnabled {
		n = 300
	}
	s := serveQuiet(t, times{header: 500 * time.Millisecond, body: 500 * time.Millisecond, answer: time.Second}, "")
	before := runtime.NumGoroutine()
	var conns []net.Conn
	for range n {
		conn, err := net.Dial("tcp", s.addr) //nolint:noctx // of a test
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: loc") // one that was one too many is closed already
	}
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	eventually(t, "it answers", func() bool {
		resp, err := http.Get("http://" + s.addr + "/healthz") //nolint:noctx // of a test
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	eventually(t, "they are gone", func() bool { return runtime.NumGoroutine() < before+50 })
}

// W12: bodies of a byte now and then are let go after their time.
func TestW12SlowBodiesAreLetGo(t *testing.T) {
	n := 500
	if raceEnabled {
		n = 100
	}
	s := serveQuiet(t, times{header: time.Second, body: time.Second, answer: time.Minute}, "")
	before := runtime.NumGoroutine()
	began := time.Now()
	var done sync.WaitGroup
	for range n {
		done.Go(func() {
			conn, err := net.Dial("tcp", s.addr) //nolint:noctx // of a test
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "POST /hooks/r HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if _, err := conn.Write([]byte("x")); err != nil || time.Since(began) > 20*time.Second {
					return
				}
			}
		})
	}
	eventually(t, "it answers meanwhile", func() bool {
		resp, err := http.Get("http://" + s.addr + "/healthz") //nolint:noctx // of a test
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	done.Wait()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("they stayed for %s", took)
	}
	eventually(t, "they are gone", func() bool { return runtime.NumGoroutine() < before+50 })
}

// N6: HTTP/2, and its floods with it, is not spoken.
func TestN6TheDaemonSpeaksNoHTTP2(t *testing.T) {
	cert, key := selfSigned(t)
	s := serveQuiet(t, patient, fmt.Sprintf("tls {\n cert_file = %q\n key_file = %q\n}\n", cert, key))
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}) //nolint:gosec,noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p := conn.ConnectionState().NegotiatedProtocol; p == "h2" {
		t.Error("HTTP/2 is offered")
	}
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && !strings.Contains(line, " 4") && !strings.Contains(line, " 505") {
		t.Errorf("it says %q", line)
	}
}

func TestN7TooMuchIsRefusedByTheDaemon(t *testing.T) {
	s := serveQuiet(t, patient, "")
	var many strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&many, "X-%d: y\r\n", i)
	}
	for name, text := range map[string]string{
		"a header of a megabyte": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"10,000 headers":         "GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + many.String() + "\r\n",
		"a long address":         "GET /" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		if codes, _ := s.raw(text); len(codes) > 0 && codes[0] == "200" {
			t.Errorf("%s: %v", name, codes)
		}
	}
	body := io.LimitReader(zeros{}, 100<<20)
	resp, err := http.Post("http://"+s.addr+"/hooks/r", "application/json", body) //nolint:noctx // of a test
	if err == nil {
		if cerr := resp.Body.Close(); cerr != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("100 MB: %d, %v", resp.StatusCode, cerr)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapInuse > 256<<20 {
		t.Errorf("%d MB are in use", m.HeapInuse>>20)
	}
	s.answers()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// N8 and N9: no header takes another away, or says where a request comes from.
func TestN8AndN9HeadersThatSpeakForOthers(t *testing.T) {
	s := serveQuiet(t, patient, "")
	for name, c := range map[string]struct{ head, want string }{
		"N8 to drop the token":         {"Host: localhost\r\nConnection: Authorization\r\n", "401"},
		"N8 dropped, and shown":        {"Host: localhost\r\nConnection: Authorization\r\n" + auth, "200"},
		"N9 from this machine":         {"Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n", "401"},
		"N9 by a name that we go by":   {"Host: evil.com\r\nX-Forwarded-Host: localhost\r\n" + auth, "421"},
		"N9 with rights of a proxy's":  {"Host: localhost\r\nX-Forwarded-User: admin\r\nRemote-User: admin\r\n", "401"},
		"N9 as somebody who has a say": {"Host: localhost\r\nML-Who: admin\r\n", "401"},
	} {
		codes, all := s.raw("GET /api/v1/repositories HTTP/1.1\r\n" + c.head + "Content-Length: 0\r\n\r\n")
		if len(codes) != 1 || codes[0] != c.want {
			t.Errorf("%s: %v, want %s\n%s", name, codes, c.want, all)
		}
	}
}

func TestN10NamesThatAreNone(t *testing.T) {
	s := serveQuiet(t, patient, "")
	for _, name := range []string{"..", "..%2f..%2fetc", "http:%2f%2f169.254.169.254", strings.Repeat("x", 10_000), "r%00", "R", "r%20", "r.json"} {
		for _, path := range []string{"/api/v1/repositories/" + name, "/hooks/" + name, "/r/" + name} {
			method := "GET"
			if strings.HasPrefix(path, "/hooks/") {
				method = "POST"
			}
			if codes, all := s.raw(method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + auth + "Content-Length: 0\r\nConnection: close\r\n\r\n"); len(codes) != 1 || codes[0] == "200" || codes[0] == "202" {
				t.Errorf("%.60s: %v\n%.300s", path, codes, all)
			}
		}
	}
}

// N12 and N17: who leaves a stream in the middle, or stalls, holds nothing.
func TestN12AndN17ReadersOfEventsWhoLeaveOrStall(t *testing.T) {
	s := serveQuiet(t, patient, "")
	feed := s.d.repos[0].feed
	readers := func() int {
		feed.mu.Lock()
		defer feed.mu.Unlock()
		return len(feed.readers)
	}
	var conns []net.Conn
	ask := func(n int) (accepted int) {
		for range n {
			conn, err := net.Dial("tcp", s.addr) //nolint:noctx // of a test
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
			if _, err := io.WriteString(conn, "GET /api/v1/repositories/r/events HTTP/1.1\r\nHost: localhost\r\n"+auth+"\r\n"); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, " 200 ") {
				accepted++
			}
		}
		return accepted
	}
	closeAll := func() {
		for _, c := range conns {
			_ = c.Close()
		}
		conns = nil
	}
	defer closeAll()
	if n := ask(50); n != 50 || readers() != 50 {
		t.Fatalf("%d of 50 were taken, %d read", n, readers())
	}
	closeAll()
	eventually(t, "who left is gone", func() bool { return readers() == 0 })
	if n := ask(maxReaders + 50); n != maxReaders {
		t.Errorf("%d were taken, of %d", n, maxReaders)
	}
	note := Note{Type: "x", Message: strings.Repeat("m", 4<<10)}
	told := make(chan struct{})
	go func() {
		defer close(told)
		for range 3000 { // none of them reads
			feed.publish(note)
		}
	}()
	select {
	case <-told:
	case <-time.After(5 * time.Minute): // for ever, as far as a test can tell
		t.Fatal("whoever tells waits for those who stall")
	}
	if n := readers(); n != 0 {
		t.Errorf("%d who stall are still told", n)
	}
	s.answers()
}

// N16: what callers send makes no series.
func TestN16SeriesOfTheDaemonDoNotGrowWithRequests(t *testing.T) {
	s := serveQuiet(t, patient, "")
	series := func() int {
		resp, body := s.call("GET", "/metrics", "", nil)
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.StatusCode)
		}
		n := 0
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, "#") {
				n++
			}
		}
		return n
	}
	send := func(i int) {
		body := fmt.Sprintf(`{"ref":"refs/heads/b%d","repository":{"full_name":"team%d/x"},"n":%d}`, i, i, i)
		event := []string{"push", "pull_request", fmt.Sprint("event", i)}[i%3]
		head := map[string]string{"X-Gitea-Event": event, "X-Gitea-Delivery": fmt.Sprint("d", i), "User-Agent": fmt.Sprint("agent", i)}
		if i%2 == 0 {
			head["X-Gitea-Signature"] = sign(body)
		}
		s.call("POST", []string{"/hooks/r", fmt.Sprint("/hooks/x", i)}[i%5/4], body, head)
		s.call("GET", fmt.Sprint("/api/v1/repositories/x", i), "", nil)
	}
	for i := range 60 {
		send(i)
	}
	before := series()
	for i := range 600 {
		send(1000 + i)
	}
	if after := series(); after != before || after > 1000 {
		t.Errorf("%d series became %d", before, after)
	}
}

// N18: a token in an address is refused, and stands in no log.
func TestN18ATokenInTheAddressIsRefusedAndNotLogged(t *testing.T) {
	s := serveQuiet(t, patient, "")
	for _, query := range []string{"?token=the-read-token", "?access_token=the-read-token", "?TOKEN=the-read-token", "?a=1&private_token=the-read-token", "?%74oken=the-read-token"} {
		codes, all := s.raw("GET /api/v1/repositories" + query + " HTTP/1.1\r\nHost: localhost\r\n" + auth + "Connection: close\r\n\r\n")
		if len(codes) != 1 || codes[0] != "400" || strings.Contains(all, "the-read-token") {
			t.Errorf("%s: %v\n%s", query, codes, all)
		}
	}
	if strings.Contains(s.log.String(), "the-read-token") {
		t.Errorf("the log:\n%s", s.log)
	}
}
