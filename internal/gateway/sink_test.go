package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/internal/proc"
)

// answerKinds are the ways in which an answer can come: read before it is
// passed on, of a known length, in chunks, and to a client of HTTP/1.0.
var answerKinds = map[string]struct {
	path, version string
	length        int
}{
	"short":                {"/short", "1.1", 40},
	"beyond a buffer":      {"/known", "1.1", 100 << 10},
	"streamed":             {"/known", "1.1", 700 << 10},
	"in chunks":            {"/chunks", "1.1", 90 << 10},
	"in chunks for 1.0":    {"/chunks", "1.0", 90 << 10},
	"in one chunk for 1.0": {"/chunks", "1.0", 10},
}

// sized answers as many bytes as the query says, of a length that is told or not.
func sized(w http.ResponseWriter, r *http.Request) {
	var n int
	_, _ = fmt.Sscan(r.URL.Query().Get("n"), &n)
	if r.URL.Path != "/chunks" {
		w.Header().Set("Content-Length", fmt.Sprint(n))
	}
	for n > 0 {
		part := min(n, 30<<10)
		_, _ = w.Write(make([]byte, part))
		_ = http.NewResponseController(w).Flush()
		n -= part
	}
}

// withSink is a fake whose answers are for a sink.
func withSink(t *testing.T, h http.HandlerFunc) *fake {
	f := newFake(t, Limits{}, newBackend(t, h).URL)
	cfg := *f.proxy.config.Load()
	cfg.sink = true
	f.proxy.config.Store(&cfg)
	f.writer.KeepAfter(0)
	return f
}

// ask returns the status and how many bytes of a whole body came; -1 when its end did
// not, and status 0 when not even its head did.
func (f *fake) ask(t *testing.T, path, version string, n int) (status, got int) {
	t.Helper()
	c, err := net.Dial("tcp", f.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "GET %s?n=%d HTTP/%s\r\nHost: x\r\n\r\n", path, n, version); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, -1
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, -1
	}
	return resp.StatusCode, len(body)
}

func TestAnAnswerForASinkIsKeptBeforeItsClientHasIt(t *testing.T) {
	f := withSink(t, sized)
	seq := uint64(0)
	for name, k := range answerKinds {
		for range 5 { // a flush that came in time by chance is not meant
			status, got := f.ask(t, k.path, k.version, k.length)
			if status != 200 || got != k.length {
				t.Fatalf("%s: status %d, %d bytes", name, status, got)
			}
			seq++
			found := 0
			for rec, err := range capture.Records(f.dir, seq) {
				if found++; err != nil || rec.Seq != seq || rec.Path != k.path || rec.Status != 200 {
					t.Errorf("%s: %+v, %v", name, rec, err)
				}
			}
			if found != 1 {
				t.Fatalf("%s: the client has its answer, and %d records stand", name, found)
			}
		}
	}
	idle(t, f)
	if got := f.tally(); got.Requests != int64(seq) || got.Errors != 0 || f.writer.Dropped() != 0 {
		t.Errorf("tally %+v, %d dropped", got, f.writer.Dropped())
	}
}

// lastPart is a client that looks whether the record stands before it takes the end of an answer.
type lastPart struct {
	http.ResponseWriter
	left  int
	stood func() bool
	early bool
}

func (w *lastPart) SetWriteDeadline(time.Time) error { return nil }

func (w *lastPart) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left == 0 {
		w.early = !w.stood()
	}
	return w.ResponseWriter.Write(p)
}

// Over a connection the end of a long answer is in a buffer of net/http as often as not.
func TestTheEndOfALongAnswerIsWrittenWhenItsRecordStands(t *testing.T) {
	const length = 700 << 10
	f := withSink(t, sized)
	for seq := range uint64(5) {
		w := &lastPart{ResponseWriter: httptest.NewRecorder(), left: length, stood: func() bool {
			for _, err := range capture.Records(f.dir, seq+1) {
				return err == nil
			}
			return false
		}}
		f.proxy.ServeHTTP(w, httptest.NewRequest(http.MethodGet, fmt.Sprintf("/known?n=%d", length), nil))
		if w.left != 0 || w.early {
			t.Fatalf("answer %d: %d bytes are missing; written before its record stood: %v", seq+1, w.left, w.early)
		}
	}
}

func TestAnAnswerThatCannotBeKeptIsNotGiven(t *testing.T) {
	f := withSink(t, sized)
	if err := f.writer.Close(); err != nil { // as good as a full disk
		t.Fatal(err)
	}
	for name, k := range answerKinds {
		status, got := f.ask(t, k.path, k.version, k.length)
		switch {
		case k.path == "/chunks" && k.version == "1.0":
			if got >= k.length {
				t.Errorf("%s: all %d bytes came", name, got)
			}
		case k.path == "/chunks" || k.length > bufferAnswer:
			if status != 200 || got != -1 {
				t.Errorf("%s: status %d, %d bytes: the end was not cut off", name, status, got)
			}
		case status != 503:
			t.Errorf("%s: status %d", name, status)
		}
	}
	idle(t, f)
	if got := f.tally(); got.Errors != 0 {
		t.Errorf("tally %+v: the disk's fault is not the model's", got)
	}
	// What the sink is not sent may go out.
	g := withSink(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	if err := g.writer.Close(); err != nil {
		t.Fatal(err)
	}
	if status, _ := g.ask(t, "/", "1.1", 0); status != http.StatusTeapot {
		t.Errorf("an error of the model: %d", status)
	}
}

func TestRequestsAreRefusedWhileTooMuchWaitsForTheSink(t *testing.T) {
	f := withSink(t, sized)
	f.writer.SetOptions(capture.Options{MaxBytes: 16 << 10})
	served := 0
	for ; ; served++ {
		if status, _ := f.ask(t, "/short", "1.1", 6000); status == 503 {
			break
		}
		if served > 100 {
			t.Fatal("nothing is ever refused")
		}
	}
	if n := f.scraped(t, "ml_gateway_sink_refused_total"); n != 1 {
		t.Errorf("%v refusals are counted", n)
	}
	if n := f.scraped(t, "ml_gateway_sink_unsent_bytes"); n < 64<<10 {
		t.Errorf("%v bytes unsent are told", n)
	}
	first := uint64(0)
	for rec, err := range capture.Records(f.dir, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = rec.Seq
		}
	}
	if first != 1 {
		t.Errorf("record %d is the first that is left", first)
	}
	f.writer.KeepAfter(f.writer.Last()) // the sink took them
	eventually(t, "room", func() bool { return !f.writer.Full() })
	if status, _ := f.ask(t, "/short", "1.1", 6000); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

// scraped is the value of a metric without labels.
func (f *fake) scraped(t *testing.T, name string) float64 {
	t.Helper()
	families, err := f.meters.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// eventually is within ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, what, ok)
}

// collector is a sink in this process.
type collector struct {
	*httptest.Server
	down atomic.Bool
	away atomic.Int64 // requests while it was down
	mu   sync.Mutex
	ids  map[string]int
}

func newCollector(t *testing.T) *collector {
	c := &collector{ids: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var rec capture.Record
		if err := json.NewDecoder(r.Body).Decode(&rec); err != nil || c.down.Load() {
			c.away.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		c.mu.Lock()
		c.ids[rec.ID]++
		c.mu.Unlock()
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.ids)
}

// missing counts the ids that did not arrive.
func (c *collector) missing(ids map[string]bool) int {
	n, arrived := 0, c.all()
	for id := range ids {
		if arrived[id] == 0 {
			n++
		}
	}
	return n
}

// clients send requests of all kinds of answers until stop is closed, and
// note the ids of those that were answered whole.
type clients struct {
	wg      sync.WaitGroup
	stop    chan struct{}
	mu      sync.Mutex
	ids     map[string]bool
	answers atomic.Int64
}

func (r *rig) clients(n int) *clients {
	c := &clients{stop: make(chan struct{}), ids: map[string]bool{}}
	endpoint := r.live().Endpoint
	paths := []string{predict, "/sized?n=100", "/sized?n=70000", "/sized?n=300000", "/chunks?n=40000"}
	for i := range n {
		c.wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for j := i; ; j++ {
				select {
				case <-c.stop:
					return
				default:
				}
				resp, err := client.Post(endpoint+paths[j%len(paths)], "application/json", strings.NewReader("{}"))
				if err != nil {
					continue // the gateway is down
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err == nil && resp.StatusCode == 200 {
					c.mu.Lock()
					c.ids[resp.Header.Get("ML-Prediction-Id")] = true
					c.mu.Unlock()
					c.answers.Add(1)
				}
			}
		})
	}
	return c
}

func (c *clients) end() map[string]bool {
	close(c.stop)
	c.wg.Wait()
	return c.ids
}

func (r *rig) kill() {
	r.t.Helper()
	id := r.live().Process
	if err := proc.Kill(id, syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	if !awaitGone(r.t.Context(), id, 5*time.Second) {
		r.t.Fatal("the gateway does not die")
	}
}

// newSinkRig is a gateway that runs, a sink, and what to apply for the one to send to the other.
func newSinkRig(t *testing.T) (*rig, *collector, Desired) {
	t.Helper()
	r, sink, d := newRig(t), newCollector(t), desired(1)
	r.start()
	d.Sink = &Sink{URL: sink.URL}
	return r, sink, d
}

func TestEveryAnswerReachesTheSinkThoughTheGatewayIsKilled(t *testing.T) {
	t.Parallel()
	r, sink, d := newSinkRig(t)
	gen := r.apply(d).Generation
	c := r.clients(8)
	for round := range 5 {
		before := c.answers.Load()
		sink.down.Store(round%3 == 0) // it may be away while that happens
		within(t, "load", func() bool { return c.answers.Load() > before+25 })
		r.kill()
		r.start()
		r.wait(gen)
	}
	ids := c.end()
	sink.down.Store(false)
	// A sink that was away for long is tried again after as long.
	within(t, fmt.Sprintf("the rest of %d answers", len(ids)), func() bool { return sink.missing(ids) == 0 })
	t.Logf("%d answers, none lost", len(ids))
}

func TestASinkThatWasAwayGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	r.apply(desired(1))
	r.load(3) // before there is a sink: not for it
	sink := newCollector(t)
	sink.down.Store(true)
	d := desired(1)
	d.Sink = &Sink{URL: sink.URL}
	r.apply(d)
	ids := map[string]bool{}
	for range 5 {
		ids[r.mustPost(predict, "{}").id] = true
	}
	r.until("the failure is told", func(l Live) bool {
		return l.Sink != nil && l.Sink.Unsent == 5 && strings.Contains(l.Sink.Failure, "status 503")
	})
	sink.down.Store(false)
	live := r.until("nothing unsent", func(l Live) bool { return l.Sink.Unsent == 0 })
	if n := sink.missing(ids); n != 0 || live.Sink.Failure != "" || len(sink.all()) != 5 {
		t.Errorf("%d missing of %d that came; %+v", n, len(sink.all()), live.Sink)
	}
	if text := scrape(t, live.Admin); !strings.Contains(text, "ml_gateway_sink_sent_total 5") {
		t.Errorf("metrics:\n%s", text)
	}
}

// Records that were sent are not synced before that, and a power cut takes
// what is not: here, all of them.
func TestAPowerCutThatTookRecordsHidesNoneFromTheSink(t *testing.T) {
	t.Parallel()
	r, sink, d := newSinkRig(t)
	gen := r.apply(d).Generation
	r.load(3)
	r.until("three sent", func(l Live) bool { return l.Sink != nil && l.Sink.Unsent == 0 && len(sink.all()) == 3 })
	r.kill()
	if err := os.RemoveAll(CaptureDir(r.dir)); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.wait(gen)
	id := r.mustPost(predict, "{}").id
	eventually(t, "the next answer", func() bool { return sink.all()[id] > 0 })
}

func TestAStoppedGatewayHasSentAllOrKeepsIt(t *testing.T) {
	t.Parallel()
	r, sink, d := newSinkRig(t)
	r.apply(d)
	stop := func() {
		t.Helper()
		if err := Stop(t.Context(), r.dir, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "unsent.jsonl")
	sink.down.Store(true)
	ids := map[string]bool{r.mustPost(predict, "{}").id: true, r.mustPost(predict, "{}").id: true}
	// After four attempts the next is not due for a while, so that it is the stop that sends.
	eventually(t, "four attempts", func() bool { return sink.away.Load() >= 4 })
	sink.down.Store(false)
	stop()
	if n := sink.missing(ids); n != 0 {
		t.Errorf("%d answers had not been sent when the gateway ended", n)
	}
	if n, err := SaveUnsent(r.dir, file); n != 0 || err != nil {
		t.Errorf("%d unsent, %v", n, err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a file for nothing: %v", err)
	}
	sink.down.Store(true)
	r.start()
	r.until("ready", func(l Live) bool { return l.Alive && l.Phase == PhaseReady })
	id := r.mustPost(predict, "{}").id
	stop()
	n, err := SaveUnsent(r.dir, file)
	data, readErr := os.ReadFile(file)
	if n != 1 || err != nil || readErr != nil || !strings.Contains(string(data), id) {
		t.Errorf("%d unsent, %v, %v: %s", n, err, readErr, data)
	}
}
