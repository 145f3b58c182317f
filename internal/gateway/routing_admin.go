package gateway

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// RouterTokenHeader carries the token of a router's admin port. It is not
// Authorization, since the API server of a cluster keeps that for itself when
// it passes a request on.
const RouterTokenHeader = "ML-Router-Token"

const (
	maxRoutes    = 1 << 20 // bytes of a PUT
	maxTake      = 10000   // records of one GET /capture
	defaultTake  = 1000
	maxTakeBytes = 16 << 20
)

// routeAdmin is the admin port of a router:
//
//	GET  /routes   the routes that it follows
//	PUT  /routes   newer ones; 409 with a message for a generation that is not newer
//	GET  /stats    Stats
//	GET  /reach    200 when a connection to ?url= can be made from here, 502 with why not
//	GET  /capture  captured answers, see CapturedRecord; ?after=CURSOR&limit=N
//	GET  /metrics  for Prometheus
//	GET  /healthz  200 while the process answers
//	GET  /readyz   200 while requests can be passed on
//
// All but the last three need the token when there is one.
type routeAdmin struct {
	plane   *dataPlane
	metrics http.Handler
}

func metricsHandler(m *meters) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// ServeHTTP answers the paths above.
func (a *routeAdmin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	put := r.Method == http.MethodPut && r.URL.Path == "/routes"
	switch r.URL.Path {
	case "/routes", "/stats", "/reach", "/capture":
		if status, err := a.permit(r); err != nil {
			a.fail(w, status, err)
			return
		}
	}
	switch {
	case !get && !put:
		h.Set("Allow", "GET, HEAD")
		a.fail(w, http.StatusMethodNotAllowed, errors.New("only PUT /routes changes anything here"))
	case put:
		a.put(w, r)
	case r.URL.Path == "/routes":
		a.plane.mu.Lock()
		routes := a.plane.routes
		a.plane.mu.Unlock()
		a.json(w, http.StatusOK, routes)
	case r.URL.Path == "/stats":
		a.json(w, http.StatusOK, a.plane.stats())
	case r.URL.Path == "/reach":
		a.reach(w, r)
	case r.URL.Path == "/capture":
		a.capture(w, r)
	case r.URL.Path == "/metrics":
		a.metrics.ServeHTTP(w, r)
	case r.URL.Path == "/healthz":
		a.json(w, http.StatusOK, map[string]any{"leaving": a.plane.leaving.Load()})
	case r.URL.Path == "/readyz":
		a.ready(w)
	default:
		http.NotFound(w, r)
	}
}

// permit checks the token. A token that cannot be read lets nobody in.
func (a *routeAdmin) permit(r *http.Request) (int, error) {
	if a.plane.o.TokenFile == "" {
		return 0, nil
	}
	data, err := os.ReadFile(a.plane.o.TokenFile)
	token := bytes.TrimSpace(data)
	if err != nil || len(token) == 0 {
		a.plane.log.Error("the token of the admin port cannot be had", "error", err)
		return http.StatusServiceUnavailable, errors.New("the token of the admin port cannot be had")
	}
	if subtle.ConstantTimeCompare(token, []byte(r.Header.Get(RouterTokenHeader))) != 1 {
		return http.StatusForbidden, fmt.Errorf("header %s is missing or wrong", RouterTokenHeader)
	}
	return 0, nil
}

func (a *routeAdmin) put(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRoutes))
	if err != nil {
		a.fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("read routes: %w", err))
		return
	}
	routes, err := ParseRoutes(data)
	if err != nil {
		a.fail(w, http.StatusBadRequest, err)
		return
	}
	err = a.plane.take(routes)
	var stale *StaleRoutesError
	switch {
	case errors.As(err, &stale):
		a.fail(w, http.StatusConflict, err)
	case err != nil:
		a.fail(w, http.StatusInternalServerError, err)
	default:
		a.json(w, http.StatusOK, a.plane.stats())
	}
}

// reach tries whether a version answers from here. That its pods are ready says
// little of that: the name of a new Service, and the way to it, are others' work.
func (a *routeAdmin) reach(w http.ResponseWriter, r *http.Request) {
	dial, _, err := addr(r.URL.Query().Get("url"))
	if err != nil {
		a.fail(w, http.StatusBadRequest, fmt.Errorf("url: %w", err))
		return
	}
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(r.Context(), "tcp", dial)
	if err == nil {
		err = c.Close()
	}
	if err != nil {
		a.fail(w, http.StatusBadGateway, err)
		return
	}
	a.json(w, http.StatusOK, map[string]bool{"reached": true})
}

func (a *routeAdmin) ready(w http.ResponseWriter) {
	t := a.plane.router.route.Load()
	switch {
	case a.plane.leaving.Load():
		a.fail(w, http.StatusServiceUnavailable, errors.New("leaving"))
	case t.current == nil:
		a.fail(w, http.StatusServiceUnavailable, errors.New("no routes yet"))
	default:
		a.json(w, http.StatusOK, map[string]any{"version": t.current.spec.Model.Number})
	}
}

// CapturedRecord is one line of GET /capture. Cursor is what to give as
// "after" for what comes behind it. A reader that keeps the cursor together
// with what it copied has every record once, whatever restarts in between; one
// from a store that is gone (of another router) is answered from the beginning.
type CapturedRecord struct {
	Cursor string         `json:"cursor"`
	Record capture.Record `json:"record"`
}

// capture sends whole records, as many as limit and a bound of bytes allow. An
// answer without a line says that there are no more yet.
func (a *routeAdmin) capture(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit := defaultTake
	if s := query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			a.fail(w, http.StatusBadRequest, fmt.Errorf("limit: %q is not a number above 0", s))
			return
		}
		limit = min(n, maxTake)
	}
	after, err := a.after(query.Get("after"))
	if err != nil {
		a.fail(w, http.StatusBadRequest, err)
		return
	}
	body, last, err := a.lines(after, limit)
	if err != nil {
		a.fail(w, http.StatusInternalServerError, err)
		return
	}
	if err := a.give(last); err != nil {
		a.fail(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		a.plane.log.Debug("admin client left", "error", err)
	}
}

// after reads a cursor: STORE:SEQ.
func (a *routeAdmin) after(cursor string) (uint64, error) {
	if cursor == "" {
		return 0, nil
	}
	store, seq, ok := strings.Cut(cursor, ":")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("after: %q is not a cursor", cursor)
	}
	if store != a.plane.store {
		return 0, nil
	}
	return n, nil
}

func (a *routeAdmin) lines(after uint64, limit int) (body []byte, last uint64, err error) {
	for rec, err := range capture.Records(a.plane.dir.capture(), after+1) {
		var bad *capture.LineError
		if errors.As(err, &bad) {
			a.plane.log.Error("a captured answer is passed over", "error", err)
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		line, err := json.Marshal(CapturedRecord{Cursor: fmt.Sprintf("%s:%d", a.plane.store, rec.Seq), Record: rec})
		if err != nil {
			return nil, 0, fmt.Errorf("encode record %d: %w", rec.Seq, err)
		}
		body = append(append(body, line...), '\n')
		last = rec.Seq
		if limit--; limit == 0 || len(body) >= maxTakeBytes {
			break
		}
	}
	return body, last, nil
}

// give notes durably what readers have seen, before they do.
func (a *routeAdmin) give(last uint64) error {
	a.plane.mu.Lock()
	defer a.plane.mu.Unlock()
	seen, _, err := capture.ReadCursor(a.plane.dir.given())
	if err != nil || last <= seen {
		return err
	}
	return capture.WriteCursor(a.plane.dir.given(), last)
}

func (a *routeAdmin) fail(w http.ResponseWriter, status int, err error) {
	a.json(w, status, map[string]string{"error": err.Error()})
}

func (a *routeAdmin) json(w http.ResponseWriter, status int, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	if _, err := w.Write(append(data, '\n')); err != nil {
		a.plane.log.Debug("admin client left", "error", err)
	}
}
