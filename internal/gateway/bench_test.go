package gateway

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// fake is the request path of a gateway in this process, without a controller:
// for tests that are about requests, not about servers.
type fake struct {
	router *router
	proxy  *proxy
	writer *capture.Writer
	front  *httptest.Server
	meters *meters
	dir    string
}

// newFake fronts the given backends, all of version 1.
func newFake(t testing.TB, limits Limits, backends ...string) *fake {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	f := &fake{router: newRouter(), dir: t.TempDir()}
	entries := &capture.Entries{}
	var err error
	if f.writer, err = capture.Open(f.dir, entries, capture.Options{}, log); err != nil {
		t.Fatal(err)
	}
	f.meters = newMeters(f.router, f.writer)
	f.proxy = &proxy{router: f.router, entries: entries, writer: f.writer, log: log, meters: f.meters}
	limits = Desired{Limits: limits}.withDefaults().Limits
	f.proxy.config.Store(&proxyConfig{limits: limits, capture: true})
	f.router.route.Store(&route{current: f.release(1, backends...)})
	f.front = httptest.NewUnstartedServer(nil)
	f.front.Config = newServer(f.proxy, log, limits)
	f.front.Start()
	t.Cleanup(func() {
		f.front.Close()
		for _, r := range []*release{f.router.route.Load().current, f.router.route.Load().candidate} {
			if r != nil {
				for _, u := range *r.ready.Load() {
					u.close()
				}
			}
		}
		if err := f.writer.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fake) release(version int, backends ...string) *release {
	r := &release{spec: spec{Model: Version{Number: version}}, wake: func() {},
		meters: f.meters.version(version), versionHeader: []string{fmt.Sprint(version)}}
	ups := []*upstream{}
	for _, b := range backends {
		ups = append(ups, newUpstream(strings.TrimPrefix(b, "http://"), r))
	}
	r.ready.Store(&ups)
	return r
}

// load200 posts 200-byte bodies over 16 kept connections.
func load200(b *testing.B, target string) {
	body := `{"instances":[[` + strings.Repeat("1.25,", 35) + `1.25]]}`
	b.SetParallelism(8) // 16 on two cores
	b.ReportAllocs()
	addr := strings.TrimPrefix(target, "http://")
	request := "POST /v1/models/m:predict HTTP/1.1\r\nHost: " + addr + "\r\nContent-Type: application/json\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body
	b.ResetTimer()
	start := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 4096)
		for pb.Next() {
			if _, err := io.WriteString(c, request); err != nil {
				b.Error(err)
				return
			}
			// One answer fits one read or two; it ends in the marker.
			got := 0
			for !strings.HasSuffix(string(buf[:got]), "]}") {
				n, err := c.Read(buf[got:])
				if err != nil {
					b.Error(err)
					return
				}
				got += n
			}
			if !strings.HasPrefix(string(buf[:12]), "HTTP/1.1 200") {
				b.Errorf("answer %q", buf[:got])
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "req/s")
}

// model200 answers 200 bytes of JSON.
func model200() *httptest.Server {
	answer := []byte(`{"predictions":[` + strings.Repeat("0.75,", 36) + `1]}`)
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
}

func BenchmarkDirect(b *testing.B) {
	m := model200()
	defer m.Close()
	load200(b, m.URL)
}

func BenchmarkGateway(b *testing.B) {
	m := model200()
	defer m.Close()
	f := newFake(b, Limits{}, m.URL)
	load200(b, f.front.URL)
	b.ReportMetric(float64(f.writer.Dropped()), "dropped")
}

func BenchmarkReverseProxy(b *testing.B) {
	m := model200()
	defer m.Close()
	u, err := url.Parse(m.URL)
	if err != nil {
		b.Fatal(err)
	}
	front := httptest.NewServer(httputil.NewSingleHostReverseProxy(u))
	defer front.Close()
	load200(b, front.URL)
}

// The same with a transport that keeps as many connections as there are
// clients, which the default does not.
func BenchmarkReverseProxyTuned(b *testing.B) {
	m := model200()
	defer m.Close()
	u, err := url.Parse(m.URL)
	if err != nil {
		b.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(u)
	p.Transport = &http.Transport{MaxIdleConns: 64, MaxIdleConnsPerHost: 64}
	front := httptest.NewServer(p)
	defer front.Close()
	load200(b, front.URL)
}
