//go:build e2e

package gitops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/proc/proctest"
)

// plain is a daemon over a git repository of this machine, without a forge.
type plain struct {
	t    *testing.T
	dir  string // of the daemon
	repo string
	at   string
	conf string   // file
	env  []string // beside that of the test
	bin  string
	cmd  *exec.Cmd
	said *saying
	over chan error
}

func newPlain(t *testing.T, settings string) plain {
	t.Helper()
	dir := t.TempDir()
	p := plain{t: t, dir: dir, repo: filepath.Join(dir, "repo"), at: freePort(t), conf: filepath.Join(dir, "daemon.hcl"), bin: must[string](t)(program()), said: &saying{}}
	ok(t, os.Mkdir(p.repo, 0o755))
	p.git("init", "--quiet", "--initial-branch=main")
	ok(t, os.WriteFile(p.conf, fmt.Appendf(nil, "listen = %q\ndata = \"data\"\nrepository \"r\" {\n  url = %q\n  mode = \"apply\"\n  interval = \"5s\"\n%s}\n", p.at, p.repo, settings), 0o600))
	return p
}

func (p *plain) git(args ...string) string {
	p.t.Helper()
	return p.gitIn("", args...)
}

// gitIn runs git with something to read.
func (p *plain) gitIn(in string, args ...string) string {
	p.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = p.repo, strings.NewReader(in)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "GIT_CONFIG_NOSYSTEM=1", "LANG=C.UTF-8",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// push commits files and gives the commit.
func (p *plain) push(files map[string]string) string {
	p.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		ok(p.t, os.WriteFile(filepath.Join(p.repo, name), []byte(files[name]), 0o644))
		p.git("add", "--", name)
	}
	p.git("commit", "--quiet", "--allow-empty", "-m", "a change")
	return p.git("rev-parse", "HEAD")
}

// start starts the daemon; with a fault it dies by itself at that point.
func (p *plain) start(faults string) {
	p.t.Helper()
	p.cmd = exec.Command(p.bin, "daemon", "-config", p.conf)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, p.said, p.said
	p.cmd.Env = append(append(os.Environ(), "NO_COLOR=1"), p.env...)
	if faults != "" {
		p.cmd.Env = append(p.cmd.Env, fault.Variable+"="+faults)
		_, _ = fmt.Fprintf(p.said, "--- %s\n", faults) // a strings.Builder takes all
	}
	ok(p.t, p.cmd.Start())
	p.over = make(chan error, 1)
	go func(cmd *exec.Cmd, over chan error) { over <- cmd.Wait() }(p.cmd, p.over)
	p.t.Cleanup(func() { p.stop() })
}

// second is another daemon on the same data, and settings that both have.
func (p *plain) second(settings string) *plain {
	p.t.Helper()
	text := settings + string(must[[]byte](p.t)(os.ReadFile(p.conf)))
	ok(p.t, os.WriteFile(p.conf, []byte(text), 0o600))
	s := &plain{t: p.t, dir: p.dir, repo: p.repo, at: freePort(p.t), conf: filepath.Join(p.dir, "second.hcl"), bin: p.bin, env: p.env, said: &saying{}}
	ok(p.t, os.WriteFile(s.conf, []byte(strings.Replace(text, p.at, s.at, 1)), 0o600))
	return s
}

// stopped says whether the kernel has stopped the process.
func (p *plain) stopped() bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	_, rest, found := strings.Cut(string(raw), ") ")
	return err == nil && found && rest[0] == 'T'
}

// stop ends the daemon in good order, if it still runs.
func (p *plain) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone, which Wait says
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	if err := <-p.over; err != nil && !wasKilled(err) {
		p.t.Errorf("the daemon ended with %v:\n%s", err, p.said)
	}
	p.cmd = nil
}

func wasKilled(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	ws, ok := exit.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

// diesOr waits until the daemon was killed, or until so is true.
func (p *plain) diesOr(what string, so func() bool) (died bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-p.over:
			p.cmd = nil
			if !wasKilled(err) {
				p.t.Fatalf("the daemon ended with %v:\n%s", err, p.said)
			}
			return true
		case <-ctx.Done():
			p.t.Fatalf("%s: not so within %s:\n%s\n%s", what, patience, p.said, p.get("/api/v1/repositories/r"))
		case <-tick.C:
			if so() {
				return false
			}
		}
	}
}

func (p *plain) until(what string, so func() bool) {
	p.t.Helper()
	if p.diesOr(what, so) {
		p.t.Fatalf("%s: the daemon died:\n%s", what, p.said)
	}
}

// get asks the daemon; "" when it does not answer, or not now.
func (p *plain) get(path string) string {
	resp, err := http.Get("http://" + p.at + path) //nolint:noctx // a test of a program of its own
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusServiceUnavailable { // it stands by
		return ""
	}
	return string(raw)
}

func (p *plain) post(path string) (int, string) {
	resp, err := http.Post("http://"+p.at+path, "", nil) //nolint:noctx // a test of a program of its own
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(raw)
}

func (p *plain) status() (s status) {
	text := p.get("/api/v1/repositories/r")
	if text != "" && json.Unmarshal([]byte(text), &s) != nil {
		p.t.Fatalf("no status: %s", text)
	}
	return s
}

func (p *plain) applied(commit string) func() bool {
	return func() bool {
		s := p.status()
		return s.Applied.Commit == commit && s.Phase == "synced"
	}
}

func (p *plain) work() string { return filepath.Join(p.dir, "data", "r", "work") }

// ml runs the program beside the daemon, on the daemon's own folder.
func (p *plain) ml(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.bin, append([]string{"-chdir", p.work()}, args...)...)
	cmd.Env = append(append(os.Environ(), "NO_COLOR=1"), p.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const allowAll = "  policy { allow = [\"create\", \"update\", \"replace\", \"delete\", \"run\", \"move\", \"import\", \"forget\"] }\n"

func (p *plain) noOrphans() {
	p.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond) // a runner takes a moment to leave after its status is written
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		left := must[[]string](p.t)(proctest.In(p.dir))
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("orphans: %s", strings.Join(left, "; "))
		}
	}
}

// shown are the points that the normal run visits: one of each kind of durable step.
var shown = []string{fault.StateCommitAfter, fault.EngineActed, fault.DaemonKeepBefore}
