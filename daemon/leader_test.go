package daemon

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/leader"
)

func TestADaemonThatStandsByAnswersForNobody(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	dir := t.TempDir()
	file := repository(tm, "") + "leader { duration = \"2s\" }\n"
	a := start(t, dir, file)
	a.until("the first leads and applies", syncedAt(first))
	b := start(t, dir, file)
	b.eventually("the second knows who leads", func() bool {
		_, body := b.get("/readyz")
		return strings.Contains(body, "stands by, and the one that leads is")
	})
	for path, want := range map[string]int{
		"/healthz": 200, "/metrics": 200, "/readyz": 503, "/": 503, "/r/r": 503, "/api/v1/repositories": 503, "/api/v1/repositories/r/state": 503,
	} {
		if code, body := b.get(path); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for _, path := range []string{"/api/v1/repositories/r/reconcile", "/api/v1/repositories/r/approve/abcd", "/hooks/r"} {
		if code, body := b.post(path); code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	a.eventually("the one that leads is ready", func() bool {
		code, _ := a.get("/readyz")
		return code == http.StatusOK
	})
	// Given up, it is taken at once, and what was kept is read anew.
	second := tm.push("more", map[string]string{"data.csv": data + "7,8\n"})
	a.end()
	b.until("the second goes on", syncedAt(second))
	b.eventually("it is ready", func() bool {
		code, _ := b.get("/readyz")
		return code == http.StatusOK
	})
}

func TestDaemonsThatElectAndOneThatDoesNotShareNoFolder(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	dir := t.TempDir()
	start(t, dir, repository(tm, "")).until("it works, and no run is left to", func(s status.Repository) bool { return s.Phase == status.Synced })
	path := filepath.Join(dir, "other.hcl")
	if err := os.WriteFile(path, []byte(repository(tm, "")+"leader {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, _, diags := Load(path)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	d, err := New(conf, Options{Version: "test", Environ: os.Environ, Forges: NewForge, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "all of them a leader block") {
		t.Errorf("%v", err)
	}
}

func TestWhoLeadsIsToldFromWhoStandsBy(t *testing.T) {
	e := &election{}
	if err := e.guard(); err == nil || !strings.Contains(err.Error(), "nobody yet") {
		t.Errorf("%v", err)
	}
	e.saw(leader.Post{Holder: "b"})
	if err := e.guard(); err == nil || !strings.Contains(err.Error(), "is b") {
		t.Errorf("%v", err)
	}
}
