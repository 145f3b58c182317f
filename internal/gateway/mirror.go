package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

const (
	mirrorQueue   = 256
	mirrorWorkers = 4
	maxExamples   = 5
	maxExample    = 200 // bytes of one side of an example
	// tolerance is the relative difference that two numbers may have and
	// still be the same answer.
	tolerance = 1e-6
)

// mirror sends copies of requests to a candidate and compares the answers.
// It is never waited for: what finds the queue full is dropped and counted.
type mirror struct {
	candidate *release
	timeout   time.Duration
	queue     chan mirrored
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	mu     sync.Mutex
	result Comparison
}

// mirrored is a request with the answer that its client got.
type mirrored struct {
	id, method, path, query string
	header                  http.Header
	body, answer            []byte
	status                  int
	encoding                string
}

func newMirror(candidate *release, timeout time.Duration, before Comparison) *mirror {
	ctx, cancel := context.WithCancel(context.Background())
	m := &mirror{candidate: candidate, timeout: timeout, queue: make(chan mirrored, mirrorQueue), cancel: cancel, result: before}
	for range mirrorWorkers {
		m.wg.Go(func() { m.work(ctx) })
	}
	return m
}

// close stops comparing and waits for the requests that run.
func (m *mirror) close() {
	m.cancel()
	m.wg.Wait()
}

func (m *mirror) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-m.queue:
			d, same := m.compare(ctx, c)
			if ctx.Err() == nil {
				m.note(d, same)
			}
		}
	}
}

// comparison returns what was found so far.
func (m *mirror) comparison() Comparison {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.result
	c.Examples = slices.Clone(c.Examples)
	return c
}

func (m *mirror) note(d Difference, same bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.result.Compared++
	if same {
		return
	}
	m.result.Differed++
	if len(m.result.Examples) < maxExamples {
		m.result.Examples = append(m.result.Examples, d)
	}
}

func (m *mirror) drop() {
	m.mu.Lock()
	m.result.Dropped++
	m.mu.Unlock()
}

// offer hands over a copy of an answered exchange.
func (m *mirror) offer(r *http.Request, e *capture.Entry) {
	if e.RequestTruncated || e.ResponseTruncated || len(m.queue) == cap(m.queue) {
		m.drop()
		return
	}
	c := mirrored{
		id: e.ID, method: e.Method, path: r.URL.EscapedPath(), query: r.URL.RawQuery,
		header: r.Header.Clone(), body: bytes.Clone(e.Request), answer: bytes.Clone(e.Response),
		status: e.Status, encoding: e.ResponseEncoding,
	}
	select {
	case m.queue <- c:
	default:
		m.drop()
	}
}

// compare asks the candidate the same and reports the first difference.
func (m *mirror) compare(ctx context.Context, c mirrored) (Difference, bool) {
	d := Difference{ID: c.id, Where: "status", Current: strconv.Itoa(c.status)}
	status, answer, err := m.ask(ctx, c)
	if err != nil {
		d.Candidate = clipText(err.Error())
		return d, false
	}
	if status != c.status {
		d.Candidate = strconv.Itoa(status)
		return d, false
	}
	where, a, b, same := differ(c.answer, answer)
	d.Where, d.Current, d.Candidate = where, a, b
	return d, same
}

func (m *mirror) ask(ctx context.Context, c mirrored) (int, []byte, error) {
	u := m.candidate.acquire(nil)
	if u == nil {
		return 0, nil, fmt.Errorf("no server of %s is ready", m.candidate.spec.Model)
	}
	defer u.leave()
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	path, err := url.PathUnescape(c.path)
	if err != nil {
		return 0, nil, err
	}
	r := (&http.Request{Method: c.method, Header: c.header, Host: u.host,
		URL: &url.URL{Path: path, RawPath: c.path, RawQuery: c.query}}).WithContext(ctx)
	start := time.Now()
	k, err := u.send(r, &message{r: r, id: c.id, client: "127.0.0.1", body: c.body, length: int64(len(c.body))}, m.timeout)
	if err != nil {
		return 0, nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(k.resp.Body, bufferBody+1))
	k.finish(err == nil && len(answer) <= bufferBody)
	if err != nil {
		return 0, nil, err
	}
	m.candidate.meters.observe(k.resp.StatusCode, time.Since(start), k.resp.StatusCode >= 500, false)
	return k.resp.StatusCode, answer, nil
}

// differ compares two answers: as JSON with a tolerance for numbers when both
// are JSON, else byte by byte.
func differ(current, candidate []byte) (where, a, b string, same bool) {
	x, errX := capture.DecodeJSON(current)
	y, errY := capture.DecodeJSON(candidate)
	if errX != nil || errY != nil {
		return "answer", clipText(string(current)), clipText(string(candidate)), bytes.Equal(current, candidate)
	}
	// An Open Inference answer names its own request and version.
	for _, v := range []any{x, y} {
		if object, ok := v.(map[string]any); ok && object["outputs"] != nil {
			delete(object, "id")
			delete(object, "model_version")
		}
	}
	where, u, v, same := differAt("$", x, y)
	return where, show(u), show(v), same
}

func differAt(at string, x, y any) (where string, a, b any, same bool) {
	switch x := x.(type) {
	case float64:
		y, ok := y.(float64)
		return at, x, y, ok && closeTo(x, y)
	case []any:
		y, ok := y.([]any)
		if !ok || len(x) != len(y) {
			return at, x, y, false
		}
		for i := range x {
			if where, a, b, same = differAt(fmt.Sprintf("%s[%d]", at, i), x[i], y[i]); !same {
				return where, a, b, false
			}
		}
		return at, nil, nil, true
	case map[string]any:
		y, ok := y.(map[string]any)
		if !ok || len(x) != len(y) {
			return at, x, y, false
		}
		keys := make([]string, 0, len(x))
		for k := range x {
			keys = append(keys, k)
		}
		slices.Sort(keys) // so that equal answers give equal examples
		for _, k := range keys {
			v, found := y[k]
			if !found {
				return at + "." + k, x[k], nil, false
			}
			if where, a, b, same = differAt(at+"."+k, x[k], v); !same {
				return where, a, b, false
			}
		}
		return at, nil, nil, true
	default:
		return at, x, y, x == y // nil, bool, string
	}
}

// closeTo reports whether two numbers are the same answer.
func closeTo(x, y float64) bool {
	if x == y || math.IsNaN(x) && math.IsNaN(y) {
		return true
	}
	// Infinities of one sign were equal above; otherwise the difference is
	// infinite or NaN, and neither is small.
	if math.IsInf(x, 0) || math.IsInf(y, 0) {
		return false
	}
	return math.Abs(x-y) <= tolerance*max(math.Abs(x), math.Abs(y), 1e-3)
}

func show(v any) string {
	data, err := json.Marshal(v)
	if err != nil { // NaN and infinities
		return clipText(fmt.Sprint(v))
	}
	return clipText(string(data))
}

func clipText(s string) string {
	if len(s) > maxExample {
		return s[:maxExample] + "…"
	}
	return s
}
