//go:build e2e && linux

package gitops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/e2e/gitops/gitea"
)

const hookSecret = "a webhook's secret"

// works is a daemon, the real program, that looks after a team's repository.
type works struct {
	team
	t    *testing.T
	dir  string
	url  string
	bin  string
	env  []string
	cmd  *exec.Cmd
	said *saying
}

// saying keeps what a program wrote.
type saying struct {
	mu  sync.Mutex
	all strings.Builder
}

func (s *saying) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(b)
}

func (s *saying) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// program builds ml once for all tests.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ml-gitops-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "ml")
	out, err := exec.Command("go", "build", "-o", bin, "../../cmd/ml").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return bin, nil
})

func freePort(t *testing.T) string {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().String()
}

// newWorks makes a repository with the files, and a daemon for it that no interval wakes in time: webhooks do.
func newWorks(t *testing.T, files map[string]string, settings string) *works {
	t.Helper()
	return newWorksAt(t, server.URL, files, settings)
}

// newWorksAt is one whose daemon finds the forge at an address of its own.
func newWorksAt(t *testing.T, forge string, files map[string]string, settings string) *works {
	t.Helper()
	at := freePort(t)
	w := &works{team: newTeam(t, files), t: t, dir: t.TempDir(), url: "http://" + at, bin: must[string](t)(program())}
	w.env = append(os.Environ(), "GIT_TOKEN="+w.owner.Token, "HOOK_SECRET="+hookSecret, "NO_COLOR=1")
	config := fmt.Sprintf(`listen = %q
data = "data"
repository "models" {
  url    = "%s/%s.git"
  branch = "main"
  %s
  credentials { password_env = "GIT_TOKEN" }
  forge {
    kind               = "gitea"
    url                = %q
    repo               = %q
    token_env          = "GIT_TOKEN"
    webhook_secret_env = "HOOK_SECRET"
  }
}
`, at, forge, w.repo, settings, forge, w.repo)
	ok(t, os.WriteFile(filepath.Join(w.dir, "daemon.hcl"), []byte(config), 0o600))
	ok(t, w.owner.Hook(t.Context(), w.repo, w.url+"/hooks/models", hookSecret))
	w.start()
	t.Cleanup(func() {
		w.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the daemon said:\n%s", w.said)
		}
		// What serves belongs to no process of ours; it goes as a person would have it go.
		cmd := exec.Command(w.bin, "-chdir", w.work(), "destroy", "-auto-approve")
		cmd.Env = w.env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("destroy: %v\n%s", err, out)
		}
	})
	return w
}

func (w *works) work() string { return filepath.Join(w.dir, "data", "models", "work") }

func (w *works) start() {
	w.t.Helper()
	w.said = &saying{}
	w.cmd = exec.Command(w.bin, "daemon")
	w.cmd.Dir, w.cmd.Env, w.cmd.Stdout, w.cmd.Stderr = w.dir, w.env, w.said, w.said
	ok(w.t, w.cmd.Start())
	w.until("the daemon answers", func() bool {
		resp, err := http.Get(w.url + "/healthz") //nolint:noctx // bounded by until
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
}

// stop ends the daemon and waits for it.
func (w *works) stop(sig os.Signal) {
	w.t.Helper()
	if w.cmd == nil {
		return
	}
	ok(w.t, w.cmd.Process.Signal(sig))
	err := w.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && (sig != syscall.SIGKILL || !errors.As(err, &exit)) {
		w.t.Errorf("the daemon ended with %v:\n%s", err, w.said)
	}
	w.cmd = nil
}

const patience = 3 * time.Minute

func (w *works) until(what string, so func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			w.t.Fatalf("%s: not so within %s; the daemon said:\n%s\nand is\n%s", what, patience, w.said, w.get("/api/v1/repositories/models"))
		case <-tick.C:
		}
	}
	return time.Since(began)
}

func (w *works) get(path string) string {
	resp, err := http.Get(w.url + path) //nolint:noctx // a test of a program of its own
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// status is the part of a repository's status that the story asks for.
type status struct {
	Phase, Message string
	Last           time.Time
	Observed       struct{ Commit string }
	Applied        struct{ Commit string }
	Held           *struct {
		ID  string
		Why []string
	}
	Blocks []struct {
		Address, Endpoint string
		Version           int
		Signal            map[string]string
	}
}

func (w *works) status() (s status) {
	w.t.Helper()
	text := w.get("/api/v1/repositories/models")
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		w.t.Fatalf("%v: %s", err, text)
	}
	return s
}

func (s status) version(address string) int {
	for _, b := range s.Blocks {
		if b.Address == address {
			return b.Version
		}
	}
	return 0
}

func (w *works) applied(commit string) func() bool {
	return func() bool {
		s := w.status()
		return s.Applied.Commit == commit && s.Phase == "synced"
	}
}

// comment is the one comment of the daemon's that begins with the marker.
func (w *works) comment(n int) string {
	w.t.Helper()
	var found []string
	for _, c := range must[[]gitea.Said](w.t)(w.owner.Comments(w.t.Context(), w.repo, n)) {
		if c.User.Login == w.owner.Name && strings.HasPrefix(c.Body, "<!-- continuo plan") {
			found = append(found, c.Body)
		}
	}
	if len(found) > 1 {
		w.t.Fatalf("%d comments with a plan", len(found))
	}
	return strings.Join(found, "")
}

// state is the commit's status as the forge has it.
func (w *works) state(commit string) string {
	w.t.Helper()
	for _, s := range must[[]gitea.Status](w.t)(w.owner.Statuses(w.t.Context(), w.repo, commit)) {
		if s.Context == "continuo" {
			return s.Status
		}
	}
	return ""
}

// answer is the last reply of the daemon's on a pull request, besides its plan.
func (w *works) answer(n int) string {
	w.t.Helper()
	last := ""
	for _, c := range must[[]gitea.Said](w.t)(w.owner.Comments(w.t.Context(), w.repo, n)) {
		if c.User.Login == w.owner.Name && !strings.HasPrefix(c.Body, "<!-- continuo plan") {
			last = c.Body
		}
	}
	return last
}

func quickstart(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := filepath.Join("..", "..", "examples", "quickstart")
	ok(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		files[filepath.ToSlash(name)] = string(raw)
		return err
	}))
	return files
}

// traffic asks for predictions as examples/traffic.py does, and wants no request to fail.
func (w *works) traffic(endpoint string, args ...string) *exec.Cmd {
	cmd := exec.Command("python3", append([]string{filepath.Join("..", "..", "examples", "traffic.py"), "send", endpoint, filepath.Join("..", "..", "examples", "quickstart", "data", "wdbc.csv")}, args...)...)
	return cmd
}

// The whole story: a push is applied; a pull request shows its plan; who may not is refused; the merge trains, judges and rolls out under
// traffic; the world drifts, and the daemon trains again by itself.
func TestTheStory(t *testing.T) {
	files := quickstart(t)
	w := newWorks(t, files, "interval = \"10s\"\n  mode = \"apply\"")
	ctx := t.Context()
	took := w.until("the first commit is applied", w.applied(w.first))
	t.Logf("push to version 1 serves: %s", took.Round(time.Millisecond))
	s := w.status()
	if s.version("deployment.tumors") != 1 {
		t.Fatalf("%+v", s)
	}
	w.until("the forge hears of it", func() bool { return w.state(w.first) == "success" })
	endpoint := ""
	for _, b := range s.Blocks {
		if b.Address == "deployment.tumors" {
			endpoint = b.Endpoint
		}
	}

	// A pull request that trains longer.
	member := must[gitea.Checkout](t)(w.member.Clone(ctx, w.repo, filepath.Join(t.TempDir(), "member")))
	longer := strings.Replace(files["tumors.ml.hcl"], "epochs = 200", "epochs = 250", 1)
	head := must[string](t)(member.Push(ctx, "longer", map[string]string{"tumors.ml.hcl": longer}, "train longer"))
	n := must[int](t)(w.member.Pull(ctx, w.repo, "longer", "main", "Train longer"))
	took = w.until("the pull request has its comment", func() bool { return w.state(head) == "success" })
	t.Logf("pull request to comment and status: %s", took.Round(time.Millisecond))
	text := w.comment(n)
	t.Logf("it says:\n%s", text)
	for _, want := range []string{"training.tumors", "250", "recall", "mermaid"} {
		if !strings.Contains(text, want) {
			t.Errorf("the comment lacks %q:\n%s", want, text)
		}
	}
	// Commands, from those who may and those who may not.
	_ = must[int64](t)(w.stranger.Comment(ctx, w.repo, n, "ml approve"))
	w.until("a stranger is refused", func() bool { return strings.Contains(w.answer(n), "needs the right to write") })
	_ = must[int64](t)(w.member.Comment(ctx, w.repo, n, "ml explain training.tumors"))
	w.until("a member is told", func() bool { return strings.Contains(w.answer(n), "training.tumors") })

	// Merged, it trains, and the new version takes over while doctors ask.
	stream := w.traffic(endpoint)
	var streamed saying
	stream.Stdout, stream.Stderr = &streamed, &streamed
	ok(t, stream.Start())
	ok(t, w.member.Merge(ctx, w.repo, n))
	took = w.until("version 2 serves", func() bool {
		s := w.status()
		return s.Phase == "synced" && s.version("deployment.tumors") == 2
	})
	t.Logf("merge to version 2 serves: %s", took.Round(time.Millisecond))
	ok(t, stream.Process.Signal(syscall.SIGTERM))
	if err := stream.Wait(); err != nil || !strings.Contains(streamed.String(), "by version 2") {
		t.Errorf("%v: %s", err, streamed.String())
	}

	// A new scanner: the signal turns, and the daemon trains again without anybody.
	before := strings.Count(w.get("/api/v1/repositories/models/runs/training.tumors"), `"signal"`)
	if out, err := w.traffic(endpoint, "-n", "150", "--scale", "1.3", "--seed", "2").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	took = w.until("the daemon trains again for the signal", func() bool {
		return strings.Count(w.get("/api/v1/repositories/models/runs/training.tumors"), `"signal"`) > before
	})
	t.Logf("drift to retraining: %s", took.Round(time.Millisecond))

	// A daemon that dies goes on where it was.
	w.stop(syscall.SIGKILL)
	w.start()
	w.until("it is synced again", func() bool { return w.status().Phase == "synced" })
	if v := w.status().version("deployment.tumors"); v < 2 {
		t.Errorf("version %d serves after a new start", v)
	}
}

// A fork's pull request is planned without values, runs nothing, and a deletion waits for somebody who may.
func TestAForkIsPlannedAndADeletionWaits(t *testing.T) {
	files := map[string]string{
		"p.ml.hcl": "dataset \"a\" { source = \"a.csv\" }\ndataset \"b\" { source = \"a.csv\" }\n", "a.csv": "x,y\n1,2\n3,4\n",
	}
	w := newWorks(t, files, "interval = \"10s\"\n  mode = \"apply\"")
	ctx := t.Context()
	w.until("the first commit is applied", w.applied(w.first))
	fork := must[string](t)(w.stranger.Fork(ctx, w.repo))
	theirs := must[gitea.Checkout](t)(w.stranger.Clone(ctx, fork, filepath.Join(t.TempDir(), "stranger")))
	head := must[string](t)(theirs.Push(ctx, "fewer", map[string]string{"p.ml.hcl": "dataset \"a\" { source = \"a.csv\" }\n"}, "fewer"))
	n := 0
	w.until("the forge knows the fork's branch", func() bool { // it learns of pushes by and by
		var err error
		n, err = w.stranger.Pull(ctx, w.repo, w.stranger.Name+":fewer", "main", "Fewer")
		return err == nil
	})
	w.until("it has its comment", func() bool { return w.state(head) == "success" })
	if text := w.comment(n); !strings.Contains(text, "dataset.b") {
		t.Errorf("the comment:\n%s", text)
	}
	ok(t, w.owner.Merge(ctx, w.repo, n))
	w.until("the deletion waits", func() bool { return w.status().Phase == "held" })
	s := w.status()
	_ = must[int64](t)(w.member.Comment(ctx, w.repo, n, "ml approve "+s.Held.ID))
	// The pull request is closed: commands are taken on open ones only; the API takes it.
	resp := must[*http.Response](t)(http.Post(w.url+"/api/v1/repositories/models/approve/"+s.Held.ID, "", nil))
	body := must[[]byte](t)(io.ReadAll(resp.Body))
	ok(t, resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	w.until("it is applied", func() bool {
		s := w.status()
		return s.Phase == "synced" && len(s.Blocks) == 1
	})
}
