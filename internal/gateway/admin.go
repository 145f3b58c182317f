package gateway

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strconv"
)

// admin serves /metrics, /healthz and /status on a port of its own, so that no
// path of a model is taken away. It changes nothing: GET and HEAD only, and
// only under a loopback name, since a web page could otherwise read it by
// rebinding its own name to 127.0.0.1.
type admin struct {
	live    func() Live
	metrics http.Handler
	log     *slog.Logger
}

func newAdmin(m *meters, live func() Live, log *slog.Logger) *admin {
	return &admin{live: live, log: log, metrics: metricsHandler(m)}
}

// ServeHTTP answers the three paths.
func (a *admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	switch {
	case !loopbackHost(r.Host):
		http.Error(w, "this address answers under 127.0.0.1 and localhost only", http.StatusMisdirectedRequest)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "nothing can be changed here", http.StatusMethodNotAllowed)
	case r.URL.Path == "/metrics":
		a.metrics.ServeHTTP(w, r)
	case r.URL.Path == "/healthz":
		a.health(w)
	case r.URL.Path == "/status":
		a.json(w, http.StatusOK, a.live())
	default:
		http.NotFound(w, r)
	}
}

// health is 200 while a version serves, else 503.
func (a *admin) health(w http.ResponseWriter) {
	live := a.live()
	status := http.StatusServiceUnavailable
	for _, s := range live.Servers {
		if s.Ready && s.Version == live.Current.Number {
			status = http.StatusOK
		}
	}
	a.json(w, status, map[string]any{"phase": live.Phase, "serving": status == http.StatusOK})
}

func (a *admin) json(w http.ResponseWriter, status int, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	if _, err := w.Write(append(data, '\n')); err != nil {
		a.log.Debug("admin client left", "error", err)
	}
}

// loopbackHost reports whether a Host header names this machine by a name
// that cannot be made to point elsewhere.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host == "localhost" || host == "127.0.0.1" || host == "::1" || host == "[::1]"
}
