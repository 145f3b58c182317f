package daemon

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/bolt"
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
	headerTime    = 10 * time.Second
	answerTime    = time.Minute
	idleTime      = 2 * time.Minute
	shutdownTime  = 10 * time.Second
	beat          = 20 * time.Second
	maxConnecting = 1000
)

func (d *Daemon) routes() []route {
	return []route{
		{"GET /healthz", open, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") }}, //nolint:errcheck // who went away needs no answer
		{"GET /readyz", open, d.ready},
		{"GET /metrics", read, d.meter.handler().ServeHTTP},
		{"GET /api/v1/repositories", read, d.list},
		{"GET /api/v1/repositories/{repo}", read, d.one(d.showStatus)},
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

// Handler answers over HTTP. Every route stands in one table with the right that
// it needs; what is not in it is not there.
func (d *Daemon) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range slices.Concat(d.routes(), d.pages()) {
		mux.Handle(r.pattern, d.guard(r.right, r.handle))
	}
	// Beyond GET, a browser must come from our own pages.
	return http.NewCrossOriginProtection().Handler(d.harden(mux))
}

// harden refuses what no caller of ours sends, and sets what every answer has.
func (d *Daemon) harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
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
	srv := &http.Server{
		Handler: d.Handler(), ReadHeaderTimeout: headerTime, ReadTimeout: answerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
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
	slots  chan struct{}
	closed bool
}

// Close implements net.Conn.
func (c *counted) Close() error {
	if !c.closed {
		c.closed = true
		<-c.slots
	}
	return c.Conn.Close()
}

func (d *Daemon) ready(w http.ResponseWriter, _ *http.Request) {
	for _, r := range d.repos {
		if r.look().Last.IsZero() {
			http.Error(w, "repository "+r.conf.Name+" has not been looked at yet", http.StatusServiceUnavailable)
			return
		}
	}
	io.WriteString(w, "ready\n") //nolint:errcheck // who went away needs no answer
}

// one finds the repository that a request names.
func (d *Daemon) one(next func(*repo, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		name := req.PathValue("repo")
		for _, r := range d.repos {
			if r.conf.Name == name {
				next(r, w, req)
				return
			}
		}
		http.Error(w, "there is no such repository", http.StatusNotFound)
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(true)
	enc.Encode(v) //nolint:errcheck // who went away needs no answer
}

func (d *Daemon) list(w http.ResponseWriter, _ *http.Request) {
	out := make([]Status, 0, len(d.repos))
	for _, r := range d.repos {
		out = append(out, r.look())
	}
	answer(w, out)
}

func (d *Daemon) showStatus(r *repo, w http.ResponseWriter, _ *http.Request) { answer(w, r.look()) }

func (d *Daemon) showPlan(r *repo, w http.ResponseWriter, _ *http.Request) {
	s := r.look()
	if s.plan == nil {
		http.Error(w, "there is no plan yet", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	report.PlanJSON(w, s.plan) //nolint:errcheck // who went away needs no answer
}

// snapshot reads the state, whoever writes it now.
func (r *repo) snapshot(ctx context.Context) (*state.Snapshot, *bolt.Store, error) {
	store := bolt.Open(r.work+"/.ml/state.db", bolt.Options{})
	snap, err := store.Snapshot(ctx)
	return snap, store, err
}

// address reads the address in a request's path; it answers what is none.
func address(w http.ResponseWriter, req *http.Request) (resource.Address, bool) {
	a, err := resource.ParseAddress(req.PathValue("address"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return a, err == nil
}

func (d *Daemon) showVersions(r *repo, w http.ResponseWriter, req *http.Request) {
	a, ok := address(w, req)
	if !ok {
		return
	}
	snap, _, err := r.snapshot(req.Context())
	if err != nil {
		d.broken(w, r, err)
		return
	}
	versions := snap.Versions[a]
	if versions == nil {
		versions = []*state.Version{}
	}
	answer(w, versions)
}

func (d *Daemon) showRuns(r *repo, w http.ResponseWriter, req *http.Request) {
	snap, store, err := r.snapshot(req.Context())
	if err != nil {
		d.broken(w, r, err)
		return
	}
	var of []resource.Address
	if req.PathValue("address") != "" {
		a, ok := address(w, req)
		if !ok {
			return
		}
		of = append(of, a)
	} else {
		for a := range snap.Records {
			of = append(of, a)
		}
	}
	out := []*state.Run{}
	for _, a := range of {
		runs, err := store.Runs(req.Context(), a)
		if err != nil {
			d.broken(w, r, err)
			return
		}
		out = append(out, runs...)
	}
	slices.SortFunc(out, func(a, b *state.Run) int { return b.Started.Compare(a.Started) })
	answer(w, out)
}

func (d *Daemon) showLog(r *repo, w http.ResponseWriter, req *http.Request) {
	a, ok := address(w, req)
	if !ok {
		return
	}
	commit := r.recall().Attempted.Commit
	if commit == "" {
		http.Error(w, "nothing has run yet", http.StatusNotFound)
		return
	}
	lines, err := strconv.Atoi(req.URL.Query().Get("lines"))
	if err != nil || lines < 1 || lines > 100_000 {
		lines = 1000
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := r.logs(req.Context(), a, lines, w); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
	}
}

func (r *repo) logs(ctx context.Context, a resource.Address, lines int, to io.Writer) error {
	w, err := r.reopen(ctx)
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // it only read
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	return w.Engine.Logs(ctx, snap, a, "", false, lines, to)
}

func (d *Daemon) broken(w http.ResponseWriter, r *repo, err error) {
	r.log.Error("read the state", "error", err)
	http.Error(w, "the state cannot be read now; the daemon's log says why", http.StatusInternalServerError)
}

// events streams what happens, as server-sent events.
func (d *Daemon) events(r *repo, w http.ResponseWriter, req *http.Request) {
	after, err := strconv.ParseUint(req.Header.Get("Last-Event-ID"), 10, 64)
	if err != nil {
		after = ^uint64(0) // only what comes
	}
	past, ch, ok := r.feed.follow(after)
	if !ok {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many readers", http.StatusServiceUnavailable)
		return
	}
	defer r.feed.leave(ch)
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Time{}); err != nil { // the request is read; what ends it is the reader's leaving
		d.opts.Log.Warn("events", "error", err)
	}
	send := func(text string) bool {
		if err := rc.SetWriteDeadline(time.Now().Add(beat)); err != nil {
			return false
		}
		_, err := io.WriteString(w, text)
		return err == nil && rc.Flush() == nil
	}
	for _, n := range past {
		if !send(eventText(n)) {
			return
		}
	}
	t := time.NewTicker(beat)
	defer t.Stop()
	if !send(": hello\n\n") {
		return
	}
	for {
		select {
		case <-req.Context().Done():
			return
		case n, ok := <-ch:
			if !ok || !send(eventText(n)) {
				return
			}
		case <-t.C:
			if !send(": still here\n\n") {
				return
			}
		}
	}
}

func eventText(n Note) string {
	raw, err := json.Marshal(n)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", n.ID, n.Type, raw)
}

func (d *Daemon) reconcile(r *repo, w http.ResponseWriter, _ *http.Request) {
	r.nudge()
	w.WriteHeader(http.StatusAccepted)
	answer(w, map[string]bool{"accepted": true})
}

func (d *Daemon) approvePlan(r *repo, w http.ResponseWriter, req *http.Request) {
	by := req.Header.Get("ML-Who")
	if name, _, ok := req.BasicAuth(); ok && by == "" {
		by = name
	}
	if by == "" {
		by = "the API"
	}
	given, err := r.approve(req.Context(), req.PathValue("plan"), by)
	switch {
	case errors.Is(err, errNotApply), errors.Is(err, engine.ErrStale), errors.Is(err, engine.ErrNotApproved):
		http.Error(w, err.Error(), http.StatusConflict)
	case errors.Is(err, state.ErrLocked):
		w.Header().Set("Retry-After", "10")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusNotFound)
	case strings.Contains(req.Header.Get("Accept"), "text/html"):
		http.Redirect(w, req, "/r/"+r.conf.Name, http.StatusSeeOther)
	default:
		answer(w, given)
	}
}
