package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// fakeServer answers like an API server where the test does not say otherwise. It stands for faults that no real one shows on demand;
// what real ones do is tested in e2e.
type fakeServer struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
	// script answers the Nth request that is no discovery; nil or past its end: answer.
	script []http.HandlerFunc
	answer http.HandlerFunc
	served int
	// watch answers what is sent to watch; by default that is not allowed.
	watch http.HandlerFunc
	// starting: it is not ready, and says so.
	starting atomic.Bool
}

func newServer(t *testing.T, answer http.HandlerFunc, script ...http.HandlerFunc) *fakeServer {
	t.Helper()
	f := &fakeServer{script: script, answer: answer, watch: fails(403, "Forbidden", `deployments is forbidden: User "u" cannot watch resource`, "")}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/apis/apps/v1":
		resources(w, "deployments/Deployment/true", "replicasets/ReplicaSet/true", "deployments/scale/Scale/true")
		return
	case "/api/v1":
		resources(w, "pods/Pod/true", "events/Event/true", "configmaps/ConfigMap/true", "secrets/Secret/true", "nodes/Node/false")
		return
	case "/readyz":
		if f.starting.Load() {
			http.Error(w, "[-]informer-sync failed", http.StatusInternalServerError)
		}
		return
	case "/apis/gone/v1":
		status(w, 404, "NotFound", "the server could not find the requested resource", "")
		return
	}
	if f.watch != nil && (r.URL.Query().Has("watch") || strings.HasPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")) {
		f.watch(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f.mu.Lock()
	f.requests, f.bodies = append(f.requests, r), append(f.bodies, string(body))
	handler := f.answer
	if f.served < len(f.script) {
		handler = f.script[f.served]
	}
	f.served++
	f.mu.Unlock()
	handler(w, r)
}

func (f *fakeServer) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

func resources(w http.ResponseWriter, list ...string) {
	var out []map[string]any
	for _, l := range list {
		p := strings.Split(l, "/")
		n := len(p)
		out = append(out, map[string]any{"name": strings.Join(p[:n-2], "/"), "kind": p[n-2], "namespaced": p[n-1] == "true"})
	}
	reply(w, 200, map[string]any{"kind": "APIResourceList", "resources": out})
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func status(w http.ResponseWriter, code int, reason, message, details string) {
	s := map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}
	if details != "" {
		var d any
		if err := json.Unmarshal([]byte(details), &d); err != nil {
			panic(http.ErrAbortHandler)
		}
		s["details"] = d
	}
	reply(w, code, s)
}

func fails(code int, reason, message, details string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { status(w, code, reason, message, details) }
}

func returns(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, text)
	}
}

// reset breaks the connection in the middle of the answer.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
	if err := conn.Close(); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// connect makes a client of a server, with "ns" as its namespace.
func connect(t *testing.T, host string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{Kubeconfig: writeConfig(t, host, "token: secret"), Namespace: "ns", Version: "1.2.3", RetryFor: 5 * time.Second}
	if change != nil {
		change(&cfg)
	}
	c, err := Connect(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// writeConfig writes a kubeconfig with two contexts, of which "main" is current.
func writeConfig(t *testing.T, host, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: main
clusters: [{name: c, cluster: {server: %q}}]
contexts:
- {name: main, context: {cluster: c, user: u, namespace: team}}
- {name: other, context: {cluster: c, user: u}}
users:
- name: u
  user: {%s}
`, host, user)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return u
}
