package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/outbox"
	"github.com/continuo-ml/continuo/daemon/internal/status"
)

// hook is somebody's webhook, which may be down.
type hook struct {
	srv  *httptest.Server
	mu   sync.Mutex
	down bool
	got  []told
	seen int // requests, whatever became of them
}

type told struct {
	Event, Repository, Commit, Message, Text, Key, Title, URL string
	Delivery, Signature                                       string `json:"-"`
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{}
	h.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		var m told
		if err = errors.Join(err, json.Unmarshal(raw, &m)); err != nil {
			t.Error(err)
		}
		m.Delivery, m.Signature = r.Header.Get("ML-Delivery"), r.Header.Get("ML-Signature")
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.seen++; h.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.got = append(h.got, m)
	}))
	t.Cleanup(h.srv.Close)
	return h
}

func (h *hook) set(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

func (h *hook) requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}

// events are what came, in order.
func (h *hook) events() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, m := range h.got {
		out = append(out, m.Event)
	}
	return out
}

func (h *hook) last() told {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got[len(h.got)-1]
}

// want waits until exactly this was told, and noted as told: a daemon that ends in between tells it again, under the same key.
func (h *hook) want(w *works, events ...string) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("told %v (told so far: %v)", events, h.events()), func() bool { return slices.Equal(h.events(), events) })
	w.eventually("nothing is owed", func() bool { return len(w.d.repos[0].box.Owed()) == 0 })
}

// notified is a file with a webhook whose address holds a secret.
func (h *hook) notified(t *testing.T, tm *team, more string) string {
	t.Helper()
	t.Setenv("TEST_HOOK", h.srv.URL+"/ml?token=t0ken")
	t.Setenv("TEST_KEY", "s3cret")
	return "notifier \"team\" {\n type = \"webhook\"\n url_env = \"TEST_HOOK\"\n secret_env = \"TEST_KEY\"\n}\nnotifier \"file\" { type = \"log\" }\n" +
		repository(tm, "notify {\n to = [\"team\", \"file\"]\n after = 1\n"+more+"}\n")
}

func TestPeopleAreToldOnceWhatHappened(t *testing.T) {
	h := newHook(t)
	tm := newTeam(t, map[string]string{"p.ml.hcl": project + "\ndataset \"extra\" { source = \"data.csv\" }\n", "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	dir, file := t.TempDir(), h.notified(t, tm, "")
	w := start(t, dir, file)
	h.want(w, "applied")
	if m := h.last(); m.Commit != first || m.Repository != "r" || !strings.Contains(m.Text, "r: applied commit "+status.Short(first)) || !strings.Contains(m.Text, "to run") ||
		m.Title != m.Text || m.Delivery != m.Key || m.Key != "r/applied/1" || !strings.HasPrefix(m.Signature, "sha256=") {
		t.Errorf("applied: %+v", m)
	}
	second := tm.push("without extra", map[string]string{"p.ml.hcl": project})
	w.d.repos[0].nudge()
	h.want(w, "applied", "waits")
	held := w.until("the plan waits", func(s status.Repository) bool { return s.Phase == status.Held }).Held
	if m := h.last(); m.Commit != second || !strings.Contains(m.Message, held.ID) || !strings.Contains(m.Message, "dataset.extra") {
		t.Errorf("waits: %+v", m)
	}
	// A new daemon has nothing new to tell.
	w.end()
	w = start(t, dir, file)
	w.until("it waits still", func(s status.Repository) bool { return s.Phase == status.Held && s.Held.ID == held.ID })
	if code, body := w.post("/api/v1/repositories/r/approve/" + held.ID); code != 200 {
		t.Fatalf("approve: %d %s", code, body)
	}
	h.want(w, "applied", "waits", "applied")
	// A cycle that fails, once more, and one that does not.
	tm.push("broken", map[string]string{"p.ml.hcl": "dataset \"d\" { source = }"})
	w.d.repos[0].nudge()
	h.want(w, "applied", "waits", "applied", "failing")
	s := w.until("it fails", func(s status.Repository) bool { return s.Phase == status.Failing })
	w.d.repos[0].nudge()
	w.until("it fails again", func(n status.Repository) bool { return n.Last.After(s.Last) && n.Failures > 1 })
	// Mended, but the verdict is bad; later cycles find it so again.
	tm.push("too strict", map[string]string{"p.ml.hcl": strings.Replace(project, "min = 3", "min = 30", 1)})
	w.d.repos[0].nudge()
	h.want(w, "applied", "waits", "applied", "failing", "applied", "recovered", "bad")
	if m := h.last(); !strings.Contains(m.Message, "validation.v") {
		t.Errorf("bad: %+v", m)
	}
	s = w.d.repos[0].look()
	w.d.repos[0].nudge()
	w.until("it is looked at again", func(n status.Repository) bool { return n.Last.After(s.Last) && n.Phase == status.Bad })
	w.end()
	if got := len(h.events()); got != 7 || h.requests() != 7 {
		t.Errorf("told %d times: %v", h.requests(), h.events())
	}
	raw, err := os.ReadFile(filepath.Join(dir, "data", "alerts.log"))
	if err != nil || strings.Count(string(raw), "\n") != 7 || !strings.Contains(string(raw), `"event":"recovered"`) {
		t.Errorf("the log: %s, %v", raw, err)
	}
}

func TestWhatCouldNotBeToldIsToldLater(t *testing.T) {
	h := newHook(t)
	h.set(true)
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	dir, file := t.TempDir(), h.notified(t, tm, "on = [\"applied\", \"failing\"]\n")
	w := start(t, dir, file)
	w.until("the first commit is applied", syncedAt(first))
	w.eventually("it was tried", func() bool { return h.requests() > 0 })
	// One that is down keeps neither the work nor the others.
	tm.push("broken", map[string]string{"p.ml.hcl": "dataset \"d\" { source = }"})
	w.d.repos[0].nudge()
	w.until("it fails", func(s status.Repository) bool { return s.Phase == status.Failing })
	alerts := filepath.Join(dir, "data", "alerts.log")
	w.eventually("the log has both", func() bool {
		raw, err := os.ReadFile(alerts)
		return err == nil && strings.Count(string(raw), "\n") == 2
	})
	w.d.meter.watch(w.d.repos)
	if _, body := w.get("/metrics"); !strings.Contains(body, `ml_news_owed{repository="r"} 2`) {
		t.Errorf("metrics: %s", body)
	}
	if got := w.d.repos[0].box.Owed(); len(got) != 2 || !slices.Equal(got[0].Owed, []string{"team"}) {
		t.Errorf("owed: %+v", got)
	}
	w.end()
	h.set(false)
	w = start(t, dir, file)
	h.want(w, "applied", "failing")
	w.end()
	kept, err := os.ReadFile(filepath.Join(dir, "data", "r", "news.json"))
	log, lerr := os.ReadFile(alerts)
	if err = errors.Join(err, lerr); err != nil || strings.Count(string(log), "\n") != 2 {
		t.Errorf("the log: %s, %v", log, err)
	}
	if all := string(kept) + string(log); strings.Contains(all, "t0ken") || strings.Contains(all, "s3cret") {
		t.Errorf("a secret is kept: %s", all)
	}
}

func TestANoticeThatIsNotDeliveredTellsNoSecret(t *testing.T) {
	h := newHook(t)
	h.set(true)
	tm := newTeam(t, map[string]string{"x": "1"})
	dir := t.TempDir()
	path := filepath.Join(dir, "daemon.hcl")
	if err := os.WriteFile(path, []byte(h.notified(t, tm, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	conf, _, diags := Load(path)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	d, err := New(conf, Options{Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := d.repos[0]
	send := r.told(r.senders["team"])
	for _, c := range []struct{ hook, want string }{
		{os.Getenv("TEST_HOOK"), "status 503"}, {"", "TEST_HOOK is empty"}, {"http://127.0.0.1:1/ml?token=t0ken", "connection refused"},
	} {
		t.Setenv("TEST_HOOK", c.hook)
		err := send(t.Context(), &outbox.Notice{Key: "r/bad/1", News: NewsBad, Text: "1", At: time.Now()})
		if text := fmt.Sprint(err); err == nil || !strings.Contains(text, c.want) || strings.Contains(text, "t0ken") || strings.Contains(text, "s3cret") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestAnApplyWhoseEndNobodySawIsTold(t *testing.T) {
	h := newHook(t)
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	dir, file := t.TempDir(), h.notified(t, tm, "on = [\"applied\"]\n")
	w := start(t, dir, file)
	h.want(w, "applied")
	w.end()
	// As a daemon leaves it that was killed between the last step and its own note.
	if err := w.d.repos[0].box.Change(func(b *outbox.Kept) { b.Begun = &outbox.Begun{Commit: first, Counts: "1 to run"} }); err != nil {
		t.Fatal(err)
	}
	w = start(t, dir, file)
	h.want(w, "applied", "applied")
	if m := h.last(); m.Key != "r/applied/2" || !strings.Contains(m.Message, "1 to run") {
		t.Errorf("told: %+v", m)
	}
}
