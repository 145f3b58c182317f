package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// plane is a router in this process, with real listeners and folders.
type plane struct {
	t      *testing.T
	o      RouteOptions
	d      *dataPlane
	cancel context.CancelFunc
	ended  chan error
}

func newPlane(t *testing.T, change func(*RouteOptions)) *plane {
	t.Helper()
	p := &plane{t: t, o: RouteOptions{Dir: t.TempDir(), Traffic: "127.0.0.1:0", Admin: "127.0.0.1:0", Drain: 10 * time.Second}}
	if change != nil {
		change(&p.o)
	}
	p.start()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		p.stop()
	})
	return p
}

func (p *plane) start() {
	p.t.Helper()
	var err error
	if p.d, err = openPlane(p.o, slog.New(slog.DiscardHandler)); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.ended = cancel, make(chan error, 1)
	go func() { p.ended <- p.d.serve(ctx) }()
}

func (p *plane) stop() {
	p.t.Helper()
	if p.cancel == nil {
		return
	}
	p.cancel()
	p.cancel = nil
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Error(err)
		}
	case <-time.After(30 * time.Second):
		p.t.Fatal("the router did not end")
	}
}

// version is a real server that answers with its number.
func version(t *testing.T, n int, h http.HandlerFunc) *Backend {
	t.Helper()
	if h == nil {
		h = func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprintf(w, `{"predictions":[%d]}`, n)
		}
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &Backend{Version: n, Digest: "sha256:" + strconv.Itoa(n), URL: s.URL}
}

func (p *plane) admin(method, path string, body any) (int, []byte) {
	p.t.Helper()
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			p.t.Fatal(err)
		}
		in = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, "http://"+p.d.control.Addr().String()+path, in)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, data
}

func (p *plane) put(r Routes) {
	p.t.Helper()
	if status, body := p.admin(http.MethodPut, "/routes", r); status != http.StatusOK {
		p.t.Fatalf("PUT /routes: %d %s", status, body)
	}
}

func (p *plane) stats() Stats {
	p.t.Helper()
	_, body := p.admin(http.MethodGet, "/stats", nil)
	var s Stats
	if err := json.Unmarshal(body, &s); err != nil {
		p.t.Fatalf("%v: %s", err, body)
	}
	return s
}

// ask sends one request and returns the version that answered.
func (p *plane) ask(id string) (string, error) { return p.askAt(p.d.traffic, id) }

func (p *plane) askAt(l net.Listener, id string) (string, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+l.Addr().String()+"/v1/models/m:predict", strings.NewReader(`{"instances":[[1]]}`))
	if err != nil {
		return "", err
	}
	if id != "" {
		req.Header.Set("ML-Prediction-Id", id)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	if err == nil && id != "" && resp.Header.Get("ML-Prediction-Id") != id {
		err = fmt.Errorf("prediction id %q", resp.Header.Get("ML-Prediction-Id"))
	}
	return resp.Header.Get("ML-Model-Version"), err
}

func (p *plane) askAll(n int) map[string]int {
	p.t.Helper()
	got := map[string]int{}
	for range n {
		v, err := p.ask("")
		if err != nil {
			p.t.Fatal(err)
		}
		got[v]++
	}
	return got
}

func TestARouterSaysWhatItReaches(t *testing.T) {
	p := newPlane(t, nil)
	there := version(t, 1, nil)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]int{
		there.URL: http.StatusOK, "http://" + gone.Addr().String(): http.StatusBadGateway, "http://nobody.invalid": http.StatusBadGateway,
		"file:///etc/passwd": http.StatusBadRequest, "": http.StatusBadRequest,
	} {
		if status, body := p.admin(http.MethodGet, "/reach?url="+url.QueryEscape(at), nil); status != want {
			t.Errorf("%q: %d %s; want %d", at, status, body, want)
		}
	}
}

func TestARouterFollowsItsRoutes(t *testing.T) {
	p := newPlane(t, nil)
	if status, _ := p.admin(http.MethodGet, "/readyz", nil); status != http.StatusServiceUnavailable {
		t.Errorf("readyz without routes: %d", status)
	}
	if _, err := p.ask(""); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a request without routes: %v", err)
	}
	one, two := version(t, 1, nil), version(t, 2, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", http.StatusInternalServerError) })
	p.put(Routes{Generation: 1, Current: one})
	if status, _ := p.admin(http.MethodGet, "/readyz", nil); status != http.StatusOK {
		t.Errorf("readyz: %d", status)
	}
	if got := p.askAll(20); got["1"] != 20 {
		t.Errorf("%v", got)
	}
	if v := p.stats().Of(1); v.Requests != 20 || v.Errors != 0 {
		t.Errorf("%+v", v)
	}
	p.put(Routes{Generation: 2, Current: one, Candidate: two, Weight: 10, SlowAfter: time.Nanosecond})
	if v := p.stats().Of(1); v.Requests != 0 {
		t.Errorf("counts go on over a change of the routes: %+v", v)
	}
	failed := 0
	for range 50 {
		if v, err := p.ask(""); err != nil {
			if v != "2" || !strings.Contains(err.Error(), "500") {
				t.Errorf("version %s: %v", v, err)
			}
			failed++
		}
	}
	s := p.stats()
	two2, one1 := s.Of(2), s.Of(1)
	if failed != 5 || two2.Requests != 5 || two2.Errors != 5 || one1.Requests != 45 || one1.Errors != 0 || one1.Slow != 45 || s.Generation != 2 {
		t.Errorf("%d failed; %+v", failed, s)
	}
	var seen uint64
	for _, n := range one1.Latency.Counts {
		seen += n
	}
	if seen != 45 || len(one1.Latency.Counts) != len(one1.Latency.Bounds)+1 {
		t.Errorf("latency of 45 answers: %+v", one1.Latency)
	}
	_, metrics := p.admin(http.MethodGet, "/metrics", nil)
	for _, want := range []string{
		`ml_gateway_requests_total{code_class="5xx",version="2"} 5`, `ml_gateway_rollout_weight{version="2"} 10`,
		`ml_gateway_errors_total{version="2"} 5`, `ml_gateway_routes_generation 2`,
	} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestWhoeverStandsBeforeARouterMayDecideBetweenTheVersions(t *testing.T) {
	p := newPlane(t, func(o *RouteOptions) { o.Current, o.Candidate = "127.0.0.1:0", "127.0.0.1:0" })
	one, two := version(t, 1, nil), version(t, 2, nil)
	atBoth := func(current, candidate string) {
		t.Helper()
		for i, want := range []string{current, candidate} {
			for range 10 {
				if got, err := p.askAt(p.d.sides[i].listener, ""); err != nil || got != want {
					t.Errorf("port %d is answered by version %q (%v), want %s", i, got, err, want)
				}
			}
		}
	}
	p.put(Routes{Generation: 1, Current: one})
	atBoth("1", "1")
	p.put(Routes{Generation: 2, Current: one, Candidate: two, Weight: 10})
	atBoth("1", "2")
	if s := p.stats(); s.Of(1).Requests != 10 || s.Of(2).Requests != 10 {
		t.Errorf("what came by the ports is not counted: %+v", s)
	}
	if got := p.askAll(100); got["2"] != 10 {
		t.Errorf("where nobody decided the weight does: %v", got)
	}
	p.put(Routes{Generation: 3, Current: one, Candidate: two, Mirror: true})
	atBoth("1", "1") // a shadow answers nobody
	p.put(Routes{Generation: 4, Current: two})
	atBoth("2", "2")
}

func TestOnlyNewerRoutesAreTaken(t *testing.T) {
	p := newPlane(t, nil)
	one, two := version(t, 1, nil), version(t, 2, nil)
	p.put(Routes{Generation: 7, Current: two})
	p.put(Routes{Generation: 7, Current: two}) // said twice is no fault
	for name, r := range map[string]Routes{
		"older":                 {Generation: 6, Current: one},
		"other, but not newer":  {Generation: 7, Current: one},
		"no generation at all":  {Current: one},
		"a weight over 100":     {Generation: 8, Current: one, Candidate: two, Weight: 101},
		"twice one version":     {Generation: 8, Current: one, Candidate: one},
		"a candidate alone":     {Generation: 8, Candidate: two},
		"a URL that is none":    {Generation: 8, Current: &Backend{Version: 1, URL: "ftp://x"}},
		"a file outside of pod": {Generation: 8, Current: one, Sink: &Sink{File: "/x"}},
	} {
		want := http.StatusBadRequest
		if r.Generation == 6 || r.Generation == 7 {
			want = http.StatusConflict
		}
		if status, body := p.admin(http.MethodPut, "/routes", r); status != want || !strings.Contains(string(body), `"error"`) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, _ := p.admin(http.MethodPut, "/routes", map[string]any{"generation": 8, "future": true}); status != http.StatusBadRequest {
		t.Errorf("an unknown field: %d", status)
	}
	if got := p.askAll(3); got["2"] != 3 {
		t.Errorf("%v", got)
	}
	_, body := p.admin(http.MethodGet, "/routes", nil)
	var have Routes
	if err := json.Unmarshal(body, &have); err != nil || have.Generation != 7 || have.Current.Version != 2 {
		t.Errorf("%v %s", err, body)
	}
}

// load asks until it is ended, and returns how many were asked and what failed.
func (p *plane) load(workers int) (end func() (int64, []error)) {
	stop := make(chan struct{})
	var n atomic.Int64
	var mu sync.Mutex
	var failed []error
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := p.ask(""); err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
				n.Add(1)
			}
		})
	}
	return func() (int64, []error) {
		close(stop)
		wg.Wait()
		return n.Load(), failed
	}
}

func TestNoRequestFailsWhileWeightsMove(t *testing.T) {
	p := newPlane(t, nil)
	backends := []*Backend{version(t, 1, nil), version(t, 2, nil), version(t, 3, nil)}
	p.put(Routes{Generation: 1, Current: backends[0], Capture: Capture{Enabled: true}})
	end := p.load(4)
	for g := int64(2); g < 200; g++ {
		r := Routes{Generation: g, Current: backends[g/10%3], Candidate: backends[(g/10+1)%3], Weight: int(g % 10 * 10),
			Mirror: g%7 == 0, Capture: Capture{Enabled: g%3 > 0}}
		if g%10 == 9 {
			r.Candidate, r.Weight, r.Mirror = nil, 0, false
		}
		p.put(r)
	}
	n, failed := end()
	if len(failed) > 0 || n < 200 {
		t.Errorf("%d of %d requests failed, the first: %v", len(failed), n, failed)
	}
	within(t, "the releases of before are forgotten", func() bool { return len(p.stats().Versions) == 1 })
}

// A version behind a name has servers that come and go: a connection that is
// refused is tried again, and without any server the other version answers.
func TestAVersionWithoutServersIsStoodInFor(t *testing.T) {
	p := newPlane(t, nil)
	one := version(t, 1, nil)
	p.put(Routes{Generation: 1, Current: one, Candidate: &Backend{Version: 2, URL: "http://127.0.0.1:1"}, Weight: 50})
	if got := p.askAll(10); got["1"] != 10 {
		t.Errorf("%v", got)
	}
	if v := p.stats().Of(2); v.Errors < 5 || v.Requests != v.Errors {
		t.Errorf("what the candidate did not answer must count against it: %+v", v)
	}
}

// post asks at a path under an id, and returns what is answered.
func (p *plane) post(id, path string) string {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+p.d.traffic.Addr().String()+path, strings.NewReader("{}"))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("ML-Prediction-ID", id)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %d %v", path, resp.StatusCode, err)
	}
	return string(body)
}

// Explanations are asked of a server beside the version's: they count for it, and are no predictions that a monitor or a shadow looks at.
func TestExplanationsGoToWhoExplains(t *testing.T) {
	p := newPlane(t, nil)
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text+" "+r.URL.Path) }
	}
	one, two := version(t, 1, say("one")), version(t, 2, say("two"))
	one.Explain = version(t, 1, say("why one")).URL
	routes := Routes{Generation: 1, Current: one, Capture: Capture{Enabled: true}}
	p.put(routes)
	for path, want := range map[string]string{"/v1/models/a:predict": "one", "/v1/models/a:explain": "why one", "/v1/models/a:explainer": "one"} {
		if got := p.post("first"+path[len("/v1/models/a:"):], path); got != want+" "+path {
			t.Errorf("%s is answered by %q", path, got)
		}
	}
	p.post("last", "/v1/models/a:predict")
	into := map[string]int{}
	within(t, "the last to be captured", func() bool { p.copyAll("", 100, into); return into["last"] > 0 })
	if into["firstexplain"] > 0 || into["firstpredict"] == 0 || p.stats().Of(1).Requests != 4 {
		t.Errorf("captured %v, counted %+v", into, p.stats().Of(1))
	}

	routes.Generation, routes.Candidate, routes.Weight = 2, two, 100
	p.put(routes)
	if got := p.post("second", "/v1/models/a:explain"); got != "two /v1/models/a:explain" {
		t.Errorf("a version without one explains itself, and not %q", got)
	}
	routes.Generation, routes.Current = 3, &Backend{Version: 1, URL: one.URL, Explain: "ftp://a"}
	if status, body := p.admin(http.MethodPut, "/routes", routes); status == http.StatusOK {
		t.Errorf("an address that is none was taken: %s", body)
	}
}

func TestARouterComparesAShadow(t *testing.T) {
	p := newPlane(t, nil)
	one, two := version(t, 1, nil), version(t, 2, nil)
	routes := Routes{Generation: 1, Current: one, Candidate: two, Mirror: true}
	p.put(routes)
	if got := p.askAll(10); got["1"] != 10 {
		t.Errorf("%v", got)
	}
	within(t, "10 comparisons", func() bool { s := p.stats().Shadow; return s != nil && s.Compared == 10 })
	routes.Generation, routes.Mirror = 2, false
	p.put(routes)
	s := p.stats().Shadow
	if s == nil || s.Compared != 10 || s.Differed != 10 || len(s.Examples) == 0 || s.Examples[0].Candidate != "2" {
		t.Errorf("after the mirror is closed: %+v", s)
	}
	routes.Generation, routes.Candidate = 3, nil
	p.put(routes)
	if s := p.stats().Shadow; s != nil {
		t.Errorf("without a candidate: %+v", s)
	}
}

// copyAll copies captured answers as a monitor does, and returns the new cursor.
func (p *plane) copyAll(cursor string, limit int, into map[string]int) string {
	p.t.Helper()
	for {
		status, body := p.admin(http.MethodGet, fmt.Sprintf("/capture?after=%s&limit=%d", cursor, limit), nil)
		if status != http.StatusOK {
			p.t.Fatalf("%d %s", status, body)
		}
		lines := bufio.NewScanner(bytes.NewReader(body))
		n := 0
		for lines.Scan() {
			var c CapturedRecord
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				p.t.Fatal(err)
			}
			cursor = c.Cursor
			into[c.Record.ID]++
			n++
		}
		if n > limit {
			p.t.Fatalf("%d records, at most %d were asked for", n, limit)
		}
		if n == 0 {
			return cursor
		}
	}
}

func TestCapturedAnswersAreCopiedOnceOverRestarts(t *testing.T) {
	p := newPlane(t, nil)
	p.put(Routes{Generation: 3, Current: version(t, 1, nil), Capture: Capture{Enabled: true}})
	copied, cursor := map[string]int{}, ""
	for round := range 3 {
		for i := range 25 {
			if _, err := p.ask(fmt.Sprintf("r%d-%d", round, i)); err != nil {
				t.Fatal(err)
			}
		}
		if round == 1 {
			within(t, "some are readable", func() bool { cursor = p.copyAll(cursor, 7, copied); return len(copied) > 25 })
		}
		p.stop()
		if round == 2 { // a power cut takes what was not synced
			segments, err := filepath.Glob(filepath.Join(CaptureDir(p.o.Dir), "*.jsonl"))
			if err != nil || len(segments) == 0 {
				t.Fatal(err)
			}
			cursor = p.seen(cursor, copied)
			if err := os.Truncate(segments[len(segments)-1], 0); err != nil {
				t.Fatal(err)
			}
		}
		p.start() // takes its routes from before
	}
	if _, err := p.ask("last"); err != nil {
		t.Fatal(err)
	}
	within(t, "the last is readable", func() bool { cursor = p.copyAll(cursor, 1000, copied); return copied["last"] > 0 })
	if len(copied) != 76 {
		t.Errorf("%d of 76 answers were copied", len(copied))
	}
	for id, n := range copied {
		if n != 1 {
			t.Errorf("%s was copied %d times", id, n)
		}
	}
	if again := map[string]int{}; p.copyAll("of-another-router:99999", 1000, again) == "" || again["last"] != 1 {
		t.Errorf("a cursor of another store: %v", again)
	}
	if status, _ := p.admin(http.MethodGet, "/capture?after=nonsense", nil); status != http.StatusBadRequest {
		t.Errorf("a cursor that is none: %d", status)
	}
}

// seen copies the rest from a router that is started only for that.
func (p *plane) seen(cursor string, into map[string]int) string {
	p.start()
	cursor = p.copyAll(cursor, 1000, into)
	p.stop()
	return cursor
}

func TestARouterTakesTheNewestOfFileAndPut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "routes.json")
	one, two := version(t, 1, nil), version(t, 2, nil)
	write := func(r Routes) {
		t.Helper()
		if err := writeJSON(file, r); err != nil {
			t.Fatal(err)
		}
	}
	write(Routes{Generation: 4, Current: one})
	p := newPlane(t, func(o *RouteOptions) { o.File = file })
	if got := p.askAll(2); got["1"] != 2 {
		t.Errorf("from the file: %v", got)
	}
	p.put(Routes{Generation: 6, Current: two})
	p.stop()
	write(Routes{Generation: 5, Current: one}) // a mounted file that lags behind
	p.start()
	if got := p.askAll(2); got["2"] != 2 {
		t.Errorf("after a restart: %v", got)
	}
	write(Routes{Generation: 7, Current: one})
	within(t, "the new file is taken", func() bool { return p.stats().Generation == 7 })
	if got := p.askAll(2); got["1"] != 2 {
		t.Errorf("from the new file: %v", got)
	}
}

func TestTheAdminPortNeedsItsToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPlane(t, func(o *RouteOptions) { o.TokenFile = file })
	get := func(path, token string) int {
		req, err := http.NewRequest(http.MethodGet, "http://"+p.d.control.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(RouterTokenHeader, token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return errorless(t, resp)
	}
	for _, path := range []string{"/routes", "/stats", "/capture"} {
		if a, b, c := get(path, ""), get(path, "wrong"), get(path, "s3cret"); a != http.StatusForbidden || b != http.StatusForbidden || c != http.StatusOK {
			t.Errorf("%s: without %d, wrong %d, right %d", path, a, b, c)
		}
	}
	for _, path := range []string{"/healthz", "/metrics"} {
		if got := get(path, ""); got != http.StatusOK {
			t.Errorf("%s: %d", path, got)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := get("/stats", ""); got != http.StatusServiceUnavailable {
		t.Errorf("without a token file nobody may come in: %d", got)
	}
}

func errorless(t *testing.T, resp *http.Response) int {
	t.Helper()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// Whoever balances over routers still sends requests to one that was told to
// stop: they are answered, and asked to go elsewhere next.
func TestARouterThatLeavesStillAnswers(t *testing.T) {
	p := newPlane(t, func(o *RouteOptions) { o.LameDuck = 2 * time.Second })
	release, entered := make(chan struct{}), make(chan struct{}, 1)
	p.put(Routes{Generation: 1, Current: version(t, 1, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ML-Prediction-Id") == "slow" {
			entered <- struct{}{}
			<-release
		}
	})})
	slow := make(chan error, 1)
	go func() { _, err := p.ask("slow"); slow <- err }()
	<-entered
	p.cancel()
	within(t, "readyz says that it leaves", func() bool {
		status, _ := p.admin(http.MethodGet, "/readyz", nil)
		return status == http.StatusServiceUnavailable
	})
	resp, err := http.Get("http://" + p.d.traffic.Addr().String() + "/")
	if err != nil || errorless(t, resp) != http.StatusOK || !resp.Close {
		t.Errorf("%v, close %v", err, resp != nil && resp.Close)
	}
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	p.stop()
}

func TestTheDotOfAFullNameIsNotForServers(t *testing.T) {
	dial, host, err := addr("http://m-v1.ns.svc.cluster.local.:80/")
	if err != nil || dial != "m-v1.ns.svc.cluster.local.:80" || host != "m-v1.ns.svc.cluster.local:80" {
		t.Errorf("%q %q %v", dial, host, err)
	}
}
