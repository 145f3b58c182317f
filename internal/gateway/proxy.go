package gateway

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

const (
	// bufferBody is the longest request body that is read before it is sent;
	// a longer one is passed on in parts.
	bufferBody = 1 << 20
	// bufferAnswer is the longest answer that is read before it is sent, so
	// that a server dying in the middle of it still gives a clean 502.
	bufferAnswer = 256 << 10
	maxAttempts  = 3
	maxID        = 128
)

// proxy carries requests to the servers that the router chooses.
type proxy struct {
	router  *router
	entries *capture.Entries
	writer  *capture.Writer
	log     *slog.Logger
	config  atomic.Pointer[proxyConfig]
	meters  *meters
}

// proxyConfig is what a new Desired may change while requests run.
type proxyConfig struct {
	limits  Limits
	capture bool
	sink    bool // no answer without a record: see exchange.keep
}

// exchange is one request with its answer.
type exchange struct {
	p       *proxy
	cfg     *proxyConfig
	w       http.ResponseWriter
	r       *http.Request
	entry   *capture.Entry
	u       *upstream
	route   *route
	side    side
	start   time.Time
	latency time.Duration
	wrote   bool // the answer's head is out
	kept    bool // the record stands
	failed  bool // by the model's fault
	gone    bool // the client left
	counted bool // a server was asked
}

// ServeHTTP passes one request on. Whatever goes wrong in here ends this
// request only.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.pass(w, r, byWeight) }

// pass is ServeHTTP for a request of which the version may be decided.
func (p *proxy) pass(w http.ResponseWriter, r *http.Request, to side) {
	cfg := p.config.Load()
	x := exchange{p: p, cfg: cfg, w: w, r: r, side: to, start: time.Now(), entry: p.entries.Get()}
	x.entry.ID = predictionID(r)
	if why := p.busy(cfg); why != "" {
		x.refuse(http.StatusServiceUnavailable, why)
		p.entries.Put(x.entry)
		return
	}
	defer x.end()
	x.serve(r)
}

// end closes the books on a request, also when serve panicked.
func (x *exchange) end() {
	panicked := recover()
	x.p.router.inflight.Add(-1)
	if x.u != nil {
		x.u.leave()
	}
	cause, _ := panicked.(error)
	if panicked != nil && !errors.Is(cause, http.ErrAbortHandler) {
		x.p.log.Error("request handler failed", "panic", panicked, "stack", string(debug.Stack()))
		if !x.wrote {
			x.refuse(http.StatusInternalServerError, "the gateway failed on this request; its log says why")
			panicked = nil
		} else {
			panicked = http.ErrAbortHandler
		}
	}
	x.book()
	if panicked != nil {
		panic(http.ErrAbortHandler) // net/http cuts the connection, which tells the client
	}
}

// answered notes how long the model took, at the end of its answer.
func (x *exchange) answered() {
	e := x.entry
	x.latency = time.Since(x.start)
	e.Time, e.Latency, e.Version = x.start, x.latency, x.u.release.spec.Model.Number
}

// keep makes an answer that is for the sink outlive this process before its
// client can have all of it. It reports whether the answer may go out.
func (x *exchange) keep(status int) bool {
	if !x.cfg.sink || x.kept || strings.HasSuffix(x.r.URL.Path, explainSuffix) && len(x.u.release.explain) > 0 || status < 200 || status > 299 {
		return true
	}
	x.answered()
	x.entry.Status = status
	if err := x.p.writer.Commit(x.r.Context(), x.entry); err != nil {
		x.entry = &capture.Entry{ID: x.entry.ID} // the writer may still look at the other
		x.gone = x.r.Context().Err() != nil
		x.counted = x.gone // the model did its part
		x.p.meters.unkept.Inc()
		return false
	}
	x.kept = true
	return true
}

// book counts, captures and mirrors what was answered.
func (x *exchange) book() {
	if !x.counted || x.u == nil {
		x.p.entries.Put(x.entry)
		return
	}
	if !x.kept {
		x.answered()
	}
	rel, e := x.u.release, x.entry
	if !x.gone {
		rel.account(x.latency, x.failed)
	}
	rel.meters.observe(e.Status, x.latency, x.failed, x.gone)
	other := len(rel.explain) > 0 && strings.HasSuffix(x.r.URL.Path, explainSuffix) // than a prediction
	if m := x.route.mirror; m != nil && !x.failed && !x.gone && !other {
		m.offer(x.r, e)
	}
	if !x.cfg.capture || x.gone || x.kept || other {
		x.p.entries.Put(e)
		return
	}
	x.p.writer.Add(e)
}

func (x *exchange) serve(r *http.Request) {
	if r.ProtoMajor != 1 { // net/http hands over the preface of HTTP/2
		x.refuse(http.StatusHTTPVersionNotSupported, "only HTTP/1 is spoken here")
		return
	}
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		x.refuse(http.StatusMethodNotAllowed, "method "+r.Method+" is not passed on")
		return
	}
	if r.Header.Get("Upgrade") != "" {
		x.refuse(http.StatusNotImplemented, "protocol upgrades are not passed on; use plain HTTP/1.1")
		return
	}
	m := message{r: r, id: x.entry.ID, client: clientAddr(r.RemoteAddr)}
	if err := x.readBody(&m); err != nil {
		x.refuse(err.status, err.Error())
		return
	}
	k, ok := x.forward(&m)
	if !ok {
		return
	}
	whole := false
	defer func() { k.finish(whole) }()
	whole = x.answer(r, k)
}

// readBody reads the body, or the beginning of a long one.
func (x *exchange) readBody(m *message) *clientError {
	limit := x.cfg.limits.MaxBody
	n := m.r.ContentLength
	if n > limit {
		return &clientError{http.StatusRequestEntityTooLarge, fmt.Errorf("%w of %d bytes", errBodyTooLong, limit)}
	}
	e := x.entry
	e.Method, e.Path = m.r.Method, m.r.URL.EscapedPath()
	e.RequestEncoding = m.r.Header.Get("Content-Encoding")
	if n == 0 {
		return nil
	}
	want := int64(bufferBody)
	if n > 0 {
		want = min(n, want)
	}
	var err error
	e.Request, err = readUpTo(e.Request[:0], m.r.Body, want)
	whole := errors.Is(err, io.EOF) || err == nil && n > 0 && n == want
	if err != nil && !errors.Is(err, io.EOF) {
		return &clientError{http.StatusBadRequest, err}
	}
	if n > 0 && whole && int64(len(e.Request)) < n {
		return &clientError{http.StatusBadRequest, io.ErrUnexpectedEOF}
	}
	m.body, m.length = e.Request, int64(len(e.Request))
	if m.length > limit {
		return &clientError{http.StatusRequestEntityTooLarge, fmt.Errorf("%w of %d bytes", errBodyTooLong, limit)}
	}
	if !whole {
		m.rest, m.length, m.limit = m.r.Body, n, limit-int64(len(e.Request))
		e.RequestTruncated = true
	}
	return nil
}

// readUpTo appends at most n bytes of r to dst. io.EOF says that r ended.
func readUpTo(dst []byte, r io.Reader, n int64) ([]byte, error) {
	for n > 0 {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		room := dst[len(dst):cap(dst)]
		got, err := r.Read(room[:min(int64(len(room)), n)])
		dst = dst[:len(dst)+got]
		n -= int64(got)
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// forward sends the request to a server; when nothing of it was sent, it may
// go to another. ok says that there is an answer to pass back.
func (x *exchange) forward(m *message) (k *call, ok bool) {
	var tried []*upstream
	x.start = time.Now() // a slow upload is not the model's latency
	for range maxAttempts {
		u, route := x.p.router.acquire(tried, x.side)
		if u == nil {
			break
		}
		if u = u.explains(m.r.URL.Path, tried); u == nil {
			continue
		}
		if x.u != nil {
			x.u.leave()
		}
		x.u, x.route, x.counted = u, route, true
		k, err := u.send(m.r, m, x.cfg.limits.Timeout)
		if err == nil {
			return k, true
		}
		if errors.Is(err, errNotSent) && m.r.Context().Err() == nil {
			u.release.missed()
			tried = append(tried, u)
			x.counted = false
			continue
		}
		x.sendFailed(m.r, err)
		return nil, false
	}
	x.refuse(http.StatusServiceUnavailable, "no model server is ready; try again in a second")
	return nil, false
}

// sendFailed answers for a server that took the request and gave no answer.
func (x *exchange) sendFailed(r *http.Request, err error) {
	var client *clientError
	var timeout net.Error
	switch {
	case errors.As(err, &client):
		x.gone = true
		x.refuse(client.status, client.Error())
	case r.Context().Err() != nil:
		x.gone = true
	case errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded):
		x.failed = true
		x.refuse(http.StatusGatewayTimeout, fmt.Sprintf("the model server did not answer within %v", x.cfg.limits.Timeout))
	default:
		x.failed = true
		x.p.log.Warn("model server gave no answer", "version", x.u.release.spec.Model.Number, "error", err)
		x.refuse(http.StatusBadGateway, "the model server gave no valid answer")
	}
}

// answer passes an answer back and reports whether it was read to its end.
func (x *exchange) answer(r *http.Request, k *call) bool {
	resp := k.resp
	x.entry.ResponseEncoding = resp.Header.Get("Content-Encoding")
	x.failed = resp.StatusCode >= 500
	noBody := r.Method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified
	n := resp.ContentLength
	if !noBody && (n < 0 || n > bufferAnswer) {
		return x.streamAnswer(r, k)
	}
	if !noBody && n > 0 {
		e := x.entry
		var err error
		e.Response, err = readUpTo(e.Response[:0], resp.Body, n)
		if int64(len(e.Response)) < n {
			x.sendFailed(r, fmt.Errorf("answer broke off: %w", err))
			return false
		}
	}
	if !x.keep(resp.StatusCode) {
		x.refuse(http.StatusServiceUnavailable, "the answer could not be kept for the sink; try again in a second")
		return true
	}
	x.head(resp)
	if len(x.entry.Response) > 0 {
		if _, err := x.w.Write(x.entry.Response); err != nil {
			x.gone = true
		}
	}
	return true
}

// head writes status and headers.
func (x *exchange) head(resp *http.Response) {
	h := x.w.Header()
	nominated := resp.Header["Connection"]
	for name, values := range resp.Header {
		if hopByHop(name) || len(nominated) > 0 && nominates(nominated, name) {
			continue
		}
		switch name {
		case "Ml-Prediction-Id", "Ml-Model-Version":
		default:
			h[name] = values
		}
	}
	// Spelled as documented; HTTP/1 carries the spelling through.
	h["ML-Prediction-Id"] = []string{x.entry.ID}
	h["ML-Model-Version"] = x.u.release.versionHeader
	x.entry.Status, x.wrote = resp.StatusCode, true
	x.w.WriteHeader(resp.StatusCode)
}
