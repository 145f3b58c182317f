package oci

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// sink is a fake of a registry that keeps blobs in files: what it is to show is the memory of the client. It takes every digest as right.
func sink(t *testing.T) string {
	t.Helper()
	s := &sinkServer{dir: t.TempDir(), manifests: map[string][]byte{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

type sinkServer struct {
	dir       string
	mu        sync.Mutex
	uploads   int
	manifests map[string][]byte
}

func (s *sinkServer) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := filepath.Base(q.URL.Path)
	file := filepath.Join(s.dir, strings.ReplaceAll(last, ":", "-"))
	switch {
	case strings.Contains(q.URL.Path, "/manifests/") && q.Method == http.MethodPut:
		b, _ := io.ReadAll(q.Body)
		s.manifests[last], s.manifests[fmt.Sprintf("sha256:%x", sha256.Sum256(b))] = b, b
		w.WriteHeader(http.StatusCreated)
	case strings.Contains(q.URL.Path, "/manifests/"):
		b, ok := s.manifests[last]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write(b)
	case q.Method == http.MethodPost:
		s.uploads++
		w.Header().Set("Location", fmt.Sprintf("/v2/ml/uploads/%d", s.uploads))
		w.WriteHeader(http.StatusAccepted)
	case q.Method == http.MethodPatch:
		f, err := os.Create(file)
		if err == nil {
			_, err = io.Copy(f, q.Body)
			_ = f.Close()
		}
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		w.Header().Set("Location", q.URL.Path)
		w.WriteHeader(http.StatusAccepted)
	case q.Method == http.MethodPut:
		if err := os.Rename(file, filepath.Join(s.dir, strings.ReplaceAll(q.URL.Query().Get("digest"), ":", "-"))); err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		w.WriteHeader(http.StatusCreated)
	case strings.Contains(q.URL.Path, "/blobs/"):
		http.ServeFile(w, q, file)
	}
}
