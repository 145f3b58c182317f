package mirror

import (
	"bytes"
	"context" //nolint:gosec // what git names objects by
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// server is git's own HTTP server before an origin, with a fault between it and whoever fetches.
type server struct {
	*httptest.Server
	origin *origin
	// fault changes the answer to the request for a pack; nil = none.
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request, answer []byte)]
	asked atomic.Int32 // for packs
}

func serve(t *testing.T, o *origin) *server {
	t.Helper()
	where, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatalf("git is needed: apt-get install git: %v", err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(where)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(o.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"},
	}
	s := &server{origin: o}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/git-upload-pack") {
			backend.ServeHTTP(w, r)
			return
		}
		s.asked.Add(1)
		rec := httptest.NewRecorder()
		backend.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		if f := s.fault.Load(); f != nil {
			(*f)(w, r, rec.Body.Bytes())
			return
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes()) //nolint:errcheck // who went away needs no answer
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) breaks(f func(w http.ResponseWriter, r *http.Request, answer []byte)) {
	s.fault.Store(&f)
}

func (s *server) mends() { s.fault.Store(nil) }

func (s *server) mirror() *Mirror {
	s.origin.t.Helper()
	m, err := New(s.URL+"/"+filepath.Base(s.origin.dir), filepath.Join(s.origin.t.TempDir(), "git"), Credentials{})
	if err != nil {
		s.origin.t.Fatal(err)
	}
	return m
}

// reset breaks the connection, as a server that dies does.
func reset(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush() // what is there arrives
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return // it is broken already
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0) // then it is an orderly end, which breaks it as well
	}
	_ = conn.Close()
}

// noise is a file that does not compress.
func noise(n int, seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // no secret
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

// whole wants the copy to have the commit and nothing half: git itself looks, too.
func whole(t *testing.T, m *Mirror, commit, file, text string) {
	t.Helper()
	if head, err := m.Head(branch); err != nil || head != commit {
		t.Fatalf("head %s, %v; want %s", head, err, commit)
	}
	dir := filepath.Join(t.TempDir(), "work")
	if _, err := m.Write(context.Background(), commit, ".", dir, DefaultLimits); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(raw) != text {
		t.Fatalf("%s holds %d bytes, %v; want %d", file, len(raw), err, len(text))
	}
	if out, err := exec.Command("git", "-C", m.dir, "fsck", "--full").CombinedOutput(); err != nil {
		t.Fatalf("git fsck: %v: %s", err, out)
	}
	if left, err := filepath.Glob(filepath.Join(m.dir, "objects", "pack", "tmp_pack_*")); err != nil || len(left) > 0 {
		t.Errorf("a broken transfer left %v, %v", left, err)
	}
}

func cutAt(part float64) func(w http.ResponseWriter, r *http.Request, answer []byte) {
	return func(w http.ResponseWriter, _ *http.Request, answer []byte) {
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		w.Write(answer[:int(part*float64(len(answer)))]) //nolint:errcheck // the client may be gone
		reset(w)
	}
}

// inPack changes an answer from the pack's first byte on; a pack of more than one packet must not be moved.
func inPack(change func(pack []byte)) func(w http.ResponseWriter, r *http.Request, answer []byte) {
	return func(w http.ResponseWriter, _ *http.Request, answer []byte) {
		if at := bytes.Index(answer, []byte("PACK\x00\x00\x00\x02")); at >= 0 {
			change(answer[at:])
		}
		w.Write(answer) //nolint:errcheck // the client may be gone
	}
}
