//go:build e2e && linux

package gitops

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// weather stands between the daemon and the forge, git and API alike, and breaks what goes through as it is told.
type weather struct {
	*httptest.Server
	mu    sync.Mutex
	fault func(w http.ResponseWriter, r *http.Request) bool // says whether it took the request
	api   int                                               // requests to the API since the fault was set
}

func newWeather(t *testing.T) *weather {
	t.Helper()
	to := must[*url.URL](t)(url.Parse(server.URL))
	pass := httputil.NewSingleHostReverseProxy(to)
	x := &weather{}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		fault := x.fault
		if strings.HasPrefix(r.URL.Path, "/api/") {
			x.api++
		}
		x.mu.Unlock()
		if fault == nil || !fault(w, r) {
			pass.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() { x.CloseClientConnections(); x.Close() })
	return x
}

func (x *weather) set(fault func(http.ResponseWriter, *http.Request) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fault, x.api = fault, 0
}

func (x *weather) asked() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.api
}

func breakOff(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return // it is broken already
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0) // then it is an orderly end, which breaks it as well
	}
	_ = conn.Close()
}

// half answers as the forge does, and breaks the connection in the middle of it.
func half(w http.ResponseWriter, r *http.Request) {
	to, err := url.Parse(server.URL)
	if err != nil {
		breakOff(w)
		return
	}
	rec := httptest.NewRecorder()
	httputil.NewSingleHostReverseProxy(to).ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body[:len(body)/2]) // the connection is about to break anyway
	w.(http.Flusher).Flush()
	breakOff(w)
}

func all(do func(http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool { do(w); return true }
}

// TestTheForgeInBadWeather puts the daemon's whole way to a real forge, git and API, through one fault after the other. Each time the status says
// what is the matter, nothing is taken away, and when the weather is over the commit is applied by itself: once.
func TestTheForgeInBadWeather(t *testing.T) {
	x := newWeather(t)
	oracle := filepath.Join(t.TempDir(), "oracle.log")
	files := func(n int) map[string]string {
		return map[string]string{
			"p.ml.hcl": fmt.Sprintf("dataset \"d\" { source = \"data.csv\" }\ntraining \"t\" {\n  command = [\"sh\", \"-c\", \"echo run >> %s; head -c 8 \\\"$ML_INPUT_DATA\\\" > \\\"$ML_MODEL_DIR/m\\\"\"]\n  inputs = { data = dataset.d }\n}\n", oracle),
			"data.csv": fmt.Sprintf("n,x\n%d,1\n%s", n, strings.Repeat("7,7\n", 2000)),
		}
	}
	w := newWorksAt(t, x.URL, files(0), "interval = \"5s\"\n  mode = \"apply\"")
	w.until("the first commit is applied", w.applied(w.first))
	faults := []struct {
		name   string
		fault  func(http.ResponseWriter, *http.Request) bool
		says   string // in what the status says of git; "" = git is well
		normal bool   // in the run of every day
	}{
		{"500", all(func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }), "500", true},
		{"reset at half of each answer", func(w http.ResponseWriter, r *http.Request) bool { half(w, r); return true }, "reset", true},
		{"down", all(breakOff), "reset", false},
		{"503 and a page", all(func(w http.ResponseWriter) { http.Error(w, "<html>busy</html>", http.StatusServiceUnavailable) }), "503", false},
		{"denied", all(func(w http.ResponseWriter) { http.Error(w, "token expired", http.StatusUnauthorized) }), "authentication", false},
		{"a page of somebody else", all(func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, "<html>Sign in") }), "fetch", false},
		{"an answer that comes too late", func(w http.ResponseWriter, r *http.Request) bool {
			select {
			case <-r.Context().Done():
			case <-time.After(3 * time.Minute):
			}
			return true
		}, "", false},
	}
	n := 0
	for _, f := range faults {
		if !full && !f.normal || f.says == "" {
			continue // what comes too late is tried in the daemon's own tests: here its patience is minutes
		}
		n++
		x.set(f.fault)
		commit := must[string](t)(w.checkout.Push(t.Context(), "main", files(n), f.name))
		w.until(f.name+": the status says so", func() bool { return strings.Contains(w.get("/api/v1/repositories/models"), "\"fetch_error\"") })
		text := w.get("/api/v1/repositories/models")
		if s := w.status(); s.Applied.Commit == commit || len(s.Blocks) != 2 || s.Held != nil || !strings.Contains(text, f.says) {
			t.Errorf("%s: %s", f.name, text)
		}
		x.set(nil)
		took := w.until(f.name+": it goes on by itself", w.applied(commit))
		t.Logf("%s: applied %s after it was over", f.name, took.Round(time.Millisecond))
	}
	// A limit of the API's: the branch goes on, the API is left alone until its time, and then hears everything.
	until := time.Now().Add(12 * time.Second).Truncate(time.Second)
	x.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			return false
		}
		w.Header().Set("X-RateLimit-Remaining", "0")
		w.Header().Set("X-RateLimit-Reset", fmt.Sprint(until.Unix()))
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	n++
	commit := must[string](t)(w.checkout.Push(t.Context(), "main", files(n), "limited"))
	w.until("the branch goes on", w.applied(commit))
	if !time.Now().Before(until) {
		t.Log("this machine was too slow to see it before the limit was over")
	} else if text := w.get("/api/v1/repositories/models"); !strings.Contains(text, "no more requests until") {
		t.Errorf("the status says nothing of the limit: %s", text)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for time.Until(until) > time.Second {
		<-tick.C
	}
	if asked := x.asked(); asked > 4 {
		t.Errorf("%d requests to an API that wants none", asked)
	}
	x.set(nil)
	w.until("it hears of the commit", func() bool { return w.state(commit) == "success" })
	if runs := strings.Count(string(must[[]byte](t)(os.ReadFile(oracle))), "run"); runs != n+1 {
		t.Errorf("%d trainings of %d commits", runs, n+1)
	}
	if v := w.status().version("training.t"); v != n+1 {
		t.Errorf("version %d after %d commits", v, n+1)
	}
	// The commit that is applied is pushed away.
	_ = must[string](t)(w.checkout.Git(t.Context(), "reset", "--quiet", "--hard", "HEAD~1"))
	_ = must[string](t)(w.checkout.Git(t.Context(), "push", "--quiet", "--force", "origin", "main"))
	w.until("a forced push waits", func() bool { return w.status().Held != nil })
	if s := w.status(); s.Applied.Commit != commit || !strings.Contains(strings.Join(s.Held.Why, ";"), "rewritten") {
		t.Errorf("%+v", s)
	}
}
