package daemon

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/site"
	"github.com/continuo-ml/continuo/internal/daemonclient"
)

// right is what a caller must show.
type right int

const (
	open  right = iota // anybody; what it says is worth nothing, or it has a guard of its own
	read               // see
	write              // approve, and make the daemon look
)

// route is one entry of the table of all that the daemon answers.
type route struct {
	pattern string
	right   right
	handle  http.HandlerFunc
}

// Limits of the server.
const (
	maxBody       = 64 << 10
	maxHeader     = 32 << 10
	idleTime      = 2 * time.Minute
	shutdownTime  = 10 * time.Second
	maxConnecting = 1000
)

// times are how long the server waits for others.
type times struct {
	header time.Duration // for the head of a request
	body   time.Duration // for that of a webhook, which is a mebibyte at most
	answer time.Duration // for all of a request, and until an answer is taken
}

var patient = times{header: 10 * time.Second, body: 10 * time.Second, answer: time.Minute}

func (d *Daemon) routes() []route {
	return []route{
		{"GET /healthz", open, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") }}, //nolint:errcheck // who went away needs no answer
		{"GET /readyz", open, d.ready},
		{"GET /metrics", read, d.meter.handler().ServeHTTP},
		{"GET /api/v1/repositories", read, d.list},
		{"GET /api/v1/repositories/{repo}", read, d.one(d.showStatus)},
		{"GET /api/v1/repositories/{repo}/blocks", read, d.one(d.showBlocks)},
		{"GET /api/v1/repositories/{repo}/state", read, d.one(d.showState)},
		{"GET /api/v1/repositories/{repo}/plan", read, d.one(d.showPlan)},
		{"GET /api/v1/repositories/{repo}/versions/{address}", read, d.one(d.showVersions)},
		{"GET /api/v1/repositories/{repo}/runs", read, d.one(d.showRuns)},
		{"GET /api/v1/repositories/{repo}/runs/{address}", read, d.one(d.showRuns)},
		{"GET /api/v1/repositories/{repo}/logs/{address}", read, d.one(d.showLog)},
		{"GET /api/v1/repositories/{repo}/events", read, d.one(d.events)},
		{"POST /hooks/{repo}", open, d.one(d.hook)}, // its signature is its right
		{"POST /api/v1/repositories/{repo}/reconcile", write, d.one(d.reconcile)},
		{"POST /api/v1/repositories/{repo}/approve/{plan}", write, d.one(d.approvePlan)},
	}
}

// pages are what people see in a browser, and what those pages ask for.
func (d *Daemon) pages() (out []route) {
	s := &site.Site{Version: d.opts.Version, Log: d.opts.Log, MayFollow: d.mayFollow, MayApprove: func(req *http.Request) bool {
		has, err := d.rightOf(req)
		return err == nil && has >= write
	}}
	for _, r := range d.repos {
		s.Add(shown{r})
	}
	for _, r := range s.Routes() {
		need := read
		if r.Public {
			need = open
		}
		out = append(out, route{r.Pattern, need, r.Handle})
	}
	return out
}

// Handler answers over HTTP. Every route stands in one table with the right that
// it needs; what is not in it is not there.
func (d *Daemon) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range slices.Concat(d.routes(), d.pages()) {
		mux.Handle(r.pattern, d.guard(r.right, r.handle))
	}
	// Beyond GET, a browser must come from our own pages.
	return http.NewCrossOriginProtection().Handler(d.harden(d.standby(mux)))
}

// harden refuses what no caller of ours sends, and sets what every answer has.
func (d *Daemon) harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set(daemonclient.Header, d.opts.Version)
		if !d.knowsHost(r.Host) {
			http.Error(w, "this daemon does not go by that name", http.StatusMisdirectedRequest)
			return
		}
		for name := range r.URL.Query() {
			if strings.Contains(strings.ToLower(name), "token") {
				http.Error(w, "a token does not belong into an address: send it as Authorization: Bearer", http.StatusBadRequest)
				return
			}
		}
		// Who takes no answer is not waited for; streams say for themselves how long.
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d.times.answer)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return // it is gone
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxHook)
		next.ServeHTTP(w, r)
	})
}

// knowsHost guards a daemon on loopback against names that a web page makes
// point there. Beyond loopback the token guards.
func (d *Daemon) knowsHost(host string) bool {
	if d.conf.TLS != nil {
		return true
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	if u, err := url.Parse(d.conf.Public); err == nil && u.Hostname() != "" && strings.EqualFold(u.Hostname(), name) {
		return true // behind somebody else's TLS
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func (d *Daemon) guard(need right, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		has, err := d.rightOf(r)
		switch {
		case err != nil:
			d.opts.Log.Error("tokens cannot be read", "error", err)
			http.Error(w, "the daemon cannot read its tokens", http.StatusInternalServerError)
		case has >= need:
			next(w, r)
		case r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="ml daemon", charset="UTF-8"`)
			http.Error(w, "a token is needed: Authorization: Bearer TOKEN, or the token as password of any user", http.StatusUnauthorized)
		default:
			http.Error(w, "this token does not allow it", http.StatusForbidden)
		}
	})
}

// rightOf is what a request's token allows. Without tokens in the file, whoever
// reaches loopback may do all.
func (d *Daemon) rightOf(r *http.Request) (right, error) {
	if !d.conf.Tokens.Read.Set() && !d.conf.Tokens.Write.Set() {
		return write, nil
	}
	shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, shown, _ = r.BasicAuth()
	}
	got := open
	for _, t := range []struct {
		secret Secret
		gives  right
	}{{d.conf.Tokens.Read, read}, {d.conf.Tokens.Write, write}} {
		if !t.secret.Set() {
			continue
		}
		want, err := t.secret.Read()
		if err != nil {
			return open, err
		}
		if subtle.ConstantTimeCompare([]byte(shown), []byte(want)) == 1 {
			got = max(got, t.gives)
		}
	}
	return got, nil
}

// Serve answers on the configured address until ctx ends.
func (d *Daemon) Serve(ctx context.Context, l net.Listener) error {
	d.meter.watch(d.repos)
	d.meter.leads(d.election)
	srv := &http.Server{
		Handler: d.Handler(), ReadHeaderTimeout: d.times.header, ReadTimeout: d.times.answer, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(d.opts.Log.Handler(), slog.LevelDebug), // what strangers send is no error of ours
		// HTTP/1 alone: connections are bounded, and so is what comes over each.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	l = &bounded{Listener: l, slots: make(chan struct{}, maxConnecting)}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		err := srv.Shutdown(sctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close() // somebody still reads; they come again
		}
		done <- err
	}()
	var err error
	if t := d.conf.TLS; t != nil {
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		err = srv.ServeTLS(l, t.Cert, t.Key)
	} else {
		err = srv.Serve(l)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", d.conf.Listen, err)
	}
	return <-done
}

// bounded keeps the number of connections in bounds, so that slow callers use
// up no memory that the work needs.
type bounded struct {
	net.Listener
	slots chan struct{}
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.slots <- struct{}{}:
			return &counted{Conn: c, slots: b.slots}, nil
		default:
			c.Close() //nolint:errcheck // one too many
		}
	}
}

type counted struct {
	net.Conn
	slots chan struct{}
	once  sync.Once // the server closes from several sides
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}
