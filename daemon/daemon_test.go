package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/runner"
)

// The test program is also what a daemon starts: runners, gateways and evaluations.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "__runner" {
		os.Exit(runner.Main(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == "__gateway" {
		os.Exit(gateway.Main(os.Args[2]))
	}
	if len(os.Args) == 2 && os.Args[1] == config.EvalCommand {
		os.Exit(config.EvalMain(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// team is a real git repository that people push to.
type team struct {
	t    testing.TB
	dir  string
	repo *git.Repository
}

func newTeam(t testing.TB, files map[string]string) *team {
	t.Helper()
	dir := t.TempDir()
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	tm := &team{t: t, dir: dir, repo: repo}
	tm.push("first", files)
	return tm
}

// push commits files; "" takes one away.
func (tm *team) push(message string, files map[string]string) string {
	tm.t.Helper()
	wt, err := tm.repo.Worktree()
	if err != nil {
		tm.t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(tm.dir, filepath.FromSlash(name))
		if text == "" {
			if _, err := wt.Remove(name); err != nil {
				tm.t.Fatal(err)
			}
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			tm.t.Fatal(err)
		}
		if _, err := wt.Add(name); err != nil {
			tm.t.Fatal(err)
		}
	}
	h, err := wt.Commit(message, &git.CommitOptions{Author: &object.Signature{Name: "Ada", Email: "ada@example.org", When: time.Now()}, AllowEmptyCommits: true})
	if err != nil {
		tm.t.Fatal(err)
	}
	return h.String()
}

const project = `
dataset "d" { source = "data.csv" }

training "t" {
  command = ["sh", "train.sh"]
  inputs  = { data = dataset.d }
}

validation "v" {
  model = training.t.model
  threshold "rows" { min = 3 }
}
`

const train = `set -e
wc -l < "$ML_INPUT_DATA" > "$ML_MODEL_DIR/model"
echo "{\"rows\": $(wc -l < "$ML_INPUT_DATA")}" > "$ML_METRICS"
`

const data = "a,b\n1,2\n3,4\n5,6\n"

// works is a daemon that works on a team's repository, and its face.
type works struct {
	t   *testing.T
	d   *Daemon
	srv *httptest.Server
	end func()
}

// start runs a daemon on a file; end stops it and waits.
func start(t *testing.T, dir, file string) *works {
	t.Helper()
	return startWith(t, dir, file, NewForge)
}

func startWith(t *testing.T, dir, file string, forges func(*ForgeConfig) (Forge, error)) *works {
	t.Helper()
	return begin(t, dir, file, Options{Forges: forges})
}

// startPatient is one that waits so long for git servers and forges.
func startPatient(t *testing.T, file string, patience time.Duration) *works {
	t.Helper()
	return begin(t, t.TempDir(), file, Options{Forges: NewForge, Patience: patience})
}

// newDaemon makes a daemon of a file; it does nothing yet.
func newDaemon(t testing.TB, dir, file string, o Options) *Daemon {
	t.Helper()
	path := filepath.Join(dir, "daemon.hcl")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	conf, _, diags := Load(path)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Version, o.Exe, o.Environ, o.Now = "test", []string{exe}, os.Environ, time.Now
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	}
	d, err := New(conf, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func begin(t *testing.T, dir, file string, o Options) *works {
	t.Helper()
	d := newDaemon(t, dir, file, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	w := &works{t: t, d: d, srv: httptest.NewServer(d.Handler())}
	ended := false
	w.end = func() {
		if ended {
			return
		}
		ended = true
		w.srv.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	}
	t.Cleanup(w.end)
	return w
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// until waits for the first repository's status to be as asked, and nudges as a webhook would.
func (w *works) until(what string, ok func(status.Repository) bool) status.Repository {
	w.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s := w.d.repos[0].look()
		if ok(s) {
			return s
		}
		select {
		case <-deadline:
			w.t.Fatalf("%s: never so; it is %s: %s", what, s.Phase, s.Message)
		case <-tick.C:
		}
	}
}

func (w *works) get(path string) (int, string) {
	w.t.Helper()
	resp, err := http.Get(w.srv.URL + path) //nolint:noctx // a test of a server of its own
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func (w *works) post(path string) (int, string) {
	w.t.Helper()
	resp, err := http.Post(w.srv.URL+path, "", nil) //nolint:noctx // a test of a server of its own
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func repository(tm *team, more string) string {
	return fmt.Sprintf("data = \"data\"\nrepository \"r\" {\n url = %q\n branch = \"master\"\n interval = \"5s\"\n mode = \"apply\"\n%s}\n", tm.dir, more)
}

func syncedAt(commit string) func(status.Repository) bool {
	return func(s status.Repository) bool { return s.Phase == status.Synced && s.Applied.Commit == commit }
}

func TestAPushIsAppliedAndABadOneTakesNothingAway(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	w := start(t, t.TempDir(), repository(tm, ""))
	w.until("the first commit is applied", syncedAt(first))
	if code, body := w.get("/api/v1/repositories/r/versions/training.t"); code != 200 || !strings.Contains(body, `"number":1`) && !strings.Contains(body, `"version":1`) {
		t.Fatalf("versions: %d %s", code, body)
	}
	// More data is a new version.
	second := tm.push("more data", map[string]string{"data.csv": data + "7,8\n"})
	w.d.repos[0].nudge()
	s := w.until("the second commit is applied", syncedAt(second))
	if s.Observed.Commit != second || s.Attempted.Commit != second {
		t.Errorf("revisions %+v", s)
	}
	// A broken file: nothing is taken away, and the page says why.
	broken := tm.push("broken", map[string]string{"p.ml.hcl": "dataset \"d\" { source = }"})
	w.d.repos[0].nudge()
	s = w.until("the broken commit is told", func(s status.Repository) bool { return s.Phase == status.Failing })
	if s.Applied.Commit != second || s.Observed.Commit != broken || !strings.Contains(s.Message, "p.ml.hcl") {
		t.Errorf("after a broken commit: %+v", s)
	}
	if code, body := w.get("/r/r"); code != 200 || !strings.Contains(body, "p.ml.hcl") {
		t.Errorf("the page: %d %s", code, body)
	}
	// No file at all: the same.
	tm.push("empty", map[string]string{"p.ml.hcl": "", "readme": "x"})
	w.d.repos[0].nudge()
	w.until("the empty commit is told", func(s status.Repository) bool {
		return s.Phase == status.Failing && strings.Contains(s.Message, "No configuration")
	})
	if code, body := w.get("/api/v1/repositories/r/versions/training.t"); code != 200 || strings.Count(body, `"digest"`) < 2 {
		t.Fatalf("R18: versions after an empty commit: %d %s", code, body)
	}
	// And the fix is applied at once.
	fixed := tm.push("fixed", map[string]string{"p.ml.hcl": project})
	w.d.repos[0].nudge()
	w.until("the fix is applied", syncedAt(fixed))
}

func TestADeletionWaitsForAnApproval(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": project + "\ndataset \"extra\" { source = \"data.csv\" }\n", "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	dir := t.TempDir()
	w := start(t, dir, repository(tm, ""))
	w.until("the first commit is applied", syncedAt(first))
	second := tm.push("without extra", map[string]string{"p.ml.hcl": project})
	w.d.repos[0].nudge()
	s := w.until("the plan waits", func(s status.Repository) bool { return s.Phase == status.Held })
	if s.Held == nil || !strings.Contains(strings.Join(s.Held.Why, ";"), "dataset.extra") {
		t.Fatalf("held: %+v", s.Held)
	}
	id := s.Held.ID
	w.d.repos[0].nudge()
	s = w.until("it is looked at again", func(n status.Repository) bool { return n.Last.After(s.Last) })
	if s.Held == nil || s.Held.ID != id {
		t.Fatalf("the id moved: %+v", s.Held)
	}
	// A new daemon finds it under the id that people have before them.
	w.end()
	w = start(t, dir, repository(tm, ""))
	if s = w.until("it waits still", func(s status.Repository) bool { return s.Phase == status.Held }); s.Held.ID != id {
		t.Fatalf("the id moved with the daemon: %+v", s.Held)
	}
	if code, body := w.post("/api/v1/repositories/r/approve/ffff"); code != http.StatusNotFound {
		t.Errorf("an id that is none: %d %s", code, body)
	}
	if code, body := w.post("/api/v1/repositories/r/approve/" + id); code != 200 {
		t.Fatalf("approve: %d %s", code, body)
	}
	s = w.until("it is applied", syncedAt(second))
	for _, b := range s.Blocks {
		if b.Address == "dataset.extra" {
			t.Error("dataset.extra is still there")
		}
	}
}

func TestANewDaemonGoesOnWhereTheLastOneWas(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	dir := t.TempDir()
	w := start(t, dir, repository(tm, ""))
	w.until("the first commit is applied", syncedAt(first))
	w.end()
	w = start(t, dir, repository(tm, ""))
	s := w.until("it is so again", syncedAt(first))
	if len(s.Blocks) != 3 {
		t.Errorf("blocks: %+v", s.Blocks)
	}
	if code, body := w.get("/api/v1/repositories/r/runs/training.t"); code != 200 || strings.Count(body, `"id"`) != 1 {
		t.Errorf("the training ran again: %d %s", code, body)
	}
}

func TestR9AForcedPushWaitsForAnApproval(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	w := start(t, t.TempDir(), repository(tm, ""))
	w.until("the first commit is applied", syncedAt(first))
	// The branch becomes another one.
	other := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data + "7,8\n"})
	if err := os.RemoveAll(filepath.Join(tm.dir, ".git")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other.dir, ".git"), filepath.Join(tm.dir, ".git")); err != nil {
		t.Fatal(err)
	}
	w.d.repos[0].nudge()
	s := w.until("the plan waits", func(s status.Repository) bool { return s.Phase == status.Held })
	if !strings.Contains(strings.Join(s.Held.Why, ";"), "rewritten") {
		t.Errorf("held: %+v", s.Held)
	}
}
