// Package faultproxy stands between a program and an API server or a registry, counts what goes through, and breaks it by rule.
//
// A [Proxy] passes everything on as it comes, watches and logs included, and a [Rule] says which requests meet which [Fault]: a refusal that
// the server never saw, a connection that breaks before the request went on or after the server has done it, half of an answer, or an
// answer that comes late. It is for tests: it knows no limits of its own, and listens on loopback alone.
package faultproxy

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// Options of a proxy.
type Options struct {
	// Upstream is the server behind it; nil makes it a proxy in the sense of HTTP_PROXY, to whatever host a request names.
	Upstream *url.URL
	TLS      *tls.Config // for the connection to Upstream
	// HTTP2 is offered to clients as API servers do. Without it each request has a connection to itself at a time, so that a broken
	// connection breaks one request, and by a real reset.
	HTTP2 bool
}

// Proxy is one that runs.
type Proxy struct {
	server *httptest.Server
	pass   *httputil.ReverseProxy
	done   context.CancelFunc

	mu     sync.Mutex
	rules  []*counted
	seen   []Request
	closed chan struct{}
}

// New starts one. Without an upstream it speaks plain HTTP.
func New(o Options) *Proxy {
	ctx, done := context.WithCancel(context.Background())
	p := &Proxy{done: done, closed: make(chan struct{})}
	transport := &http.Transport{TLSClientConfig: o.TLS, ForceAttemptHTTP2: true, DisableCompression: true, MaxIdleConnsPerHost: 100}
	p.pass = &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // watches and logs come line by line
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			if o.Upstream != nil {
				r.SetURL(o.Upstream)
			}
		},
		ErrorHandler: unanswered,
	}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	if o.Upstream == nil {
		p.server.Start()
		return p
	}
	p.server.EnableHTTP2 = o.HTTP2
	p.server.StartTLS()
	return p
}

// URL is where it listens.
func (p *Proxy) URL() string { return p.server.URL }

// CA is the certificate that its clients must trust, as PEM.
func (p *Proxy) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
}

// Close ends it and the requests that are on their way.
func (p *Proxy) Close() {
	close(p.closed)
	p.done()
	p.server.CloseClientConnections()
	p.server.Close()
}

// Set replaces the rules, and begins their counts, and the list of what was seen, anew.
func (p *Proxy) Set(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.seen = nil, nil
	for _, r := range rules {
		p.rules = append(p.rules, &counted{Rule: r, per: map[string]int{}})
	}
}

// Seen lists what came since the rules were set, in the order in which it came.
func (p *Proxy) Seen() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.seen...)
}

// Faults counts the requests that met one since the rules were set.
func (p *Proxy) Faults() (n int) {
	for _, r := range p.Seen() {
		if r.Fault != "" {
			n++
		}
	}
	return n
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := parse(r)
	fault := p.choose(&req)
	switch fault.Kind {
	case None:
		p.pass.ServeHTTP(w, r)
	case Refuse:
		refuse(w, r, fault)
	case ResetBefore:
		reset(w)
	case ResetAfter:
		if streams(r, req) {
			p.pass.ServeHTTP(&breaking{ResponseWriter: w}, r)
			return
		}
		p.forward(r)
		reset(w)
	case Truncate:
		if streams(r, req) {
			p.pass.ServeHTTP(&breaking{ResponseWriter: w, pieces: 1}, r)
			return
		}
		truncate(w, p.forward(r))
	case Slow:
		p.late(w, r, fault)
	}
}

// choose counts a request, and says what it meets: the first rule that has something for it.
func (p *Proxy) choose(req *Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	var fault Fault
	for _, r := range p.rules {
		if fault.Kind == None && r.meets(*req) {
			fault = r.Fault
		}
	}
	req.Fault = fault.Kind
	p.seen = append(p.seen, *req)
	return fault
}

// forward lets the server do it, whatever becomes of the client, and returns the answer; nil when there was none.
func (p *Proxy) forward(r *http.Request) *httptest.ResponseRecorder {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rec := httptest.NewRecorder()
	p.pass.ServeHTTP(rec, r.WithContext(ctx))
	if rec.Code == noAnswer {
		return nil
	}
	return rec
}

const noAnswer = -1

// unanswered is the server's own end.
func unanswered(w http.ResponseWriter, _ *http.Request, _ error) {
	if rec, ok := w.(*httptest.ResponseRecorder); ok {
		rec.Code = noAnswer
		return
	}
	panic(http.ErrAbortHandler)
}

// streams reports whether an answer has no end of its own.
func streams(r *http.Request, q Request) bool {
	return q.Verb == "watch" || q.Resource == "pods/log" && r.URL.Query().Get("follow") == "true"
}

// breaking passes a number of pieces of a stream on, and breaks the connection at the next.
type breaking struct {
	http.ResponseWriter
	pieces int
}

// Write implements http.ResponseWriter.
func (b *breaking) Write(data []byte) (int, error) {
	if b.pieces == 0 {
		panic(http.ErrAbortHandler)
	}
	b.pieces--
	return b.ResponseWriter.Write(data)
}

// Unwrap is how the pieces are flushed.
func (b *breaking) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// late lets the server do it at once, and answers after a while, if anybody still listens.
func (p *Proxy) late(w http.ResponseWriter, r *http.Request, f Fault) {
	rec := p.forward(r)
	if rec == nil {
		reset(w)
		return
	}
	timer := time.NewTimer(f.After)
	defer timer.Stop()
	select {
	case <-timer.C:
		answer(w, rec, rec.Body.Bytes())
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	case <-p.closed:
		panic(http.ErrAbortHandler)
	}
}

func answer(w http.ResponseWriter, rec *httptest.ResponseRecorder, body []byte) {
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(rec.Code)
	if _, err := w.Write(body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// truncate breaks off in the middle of the answer.
func truncate(w http.ResponseWriter, rec *httptest.ResponseRecorder) {
	if rec == nil {
		reset(w)
		return
	}
	body := rec.Body.Bytes()
	answer(w, rec, body[:len(body)/2])
	if f, ok := w.(http.Flusher); ok {
		f.Flush() // what is there arrives, or the client would see no answer at all
	}
	reset(w)
}

// reset breaks the connection: with HTTP/1 by a TCP reset, with HTTP/2 by that of the stream.
func reset(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	conn, _, err := h.Hijack()
	if errors.Is(err, http.ErrNotSupported) {
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		return // it is broken already
	}
	raw := conn
	if t, ok := conn.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // then it is an orderly end, which breaks the request as well
	}
	_ = raw.Close()
}
