// Package ocitest gives tests a real registry in their own process, on loopback. It stops with its test.
package ocitest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Registry is a running registry; its blobs are in memory.
type Registry struct {
	Host string // address and port

	mu       sync.Mutex
	between  func(http.Handler) http.Handler
	requests []string // "METHOD /path", in their order
	serve    http.Handler
}

// Start starts a registry. With a user it asks for basic authentication.
func Start(t testing.TB, user, password string) *Registry {
	t.Helper()
	r := &Registry{serve: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	if user != "" {
		r.serve = withPassword(r.serve, user, password)
	}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.Host = strings.TrimPrefix(s.URL, "http://")
	return r
}

// Repo is the reference of a repository in it.
func (r *Registry) Repo(name string) string { return "oci://" + r.Host + "/ml/" + name }

// Between puts a handler in front of the registry from now on, to make faults; nil takes it away.
func (r *Registry) Between(f func(next http.Handler) http.Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.between = f
}

// Requests returns the requests since the last call that begin with prefix, such as "PUT /v2/ml/data/manifests".
func (r *Registry) Requests(prefix string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, q := range r.requests {
		if strings.HasPrefix(q, prefix) {
			out = append(out, q)
		}
	}
	return out
}

// Forget drops the requests seen so far.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, q.Method+" "+q.URL.Path)
	h := r.serve
	if r.between != nil {
		h = r.between(h)
	}
	r.mu.Unlock()
	h.ServeHTTP(w, q)
}

func withPassword(next http.Handler, user, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		u, p, ok := q.BasicAuth()
		if !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, q)
	})
}
