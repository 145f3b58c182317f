//go:build e2e && linux

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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/proc/proctest"
)

// full says whether everything is tried, as make e2e-gitops-full does, or a part that shows that the rest can work.
var full = os.Getenv("ML_GITOPS_FULL") != ""

// Every command appends its name, the round's token and its run id to the oracle before it does anything: what the state says is not asked.
const killedFiles = `
dataset "d" {
  source = "data.csv"
  expect "rows" { row_count = { min = 1 } }
}
check "c" {
  command = ["sh", "step.sh", "check"]
  sources = ["step.sh"]
  env     = { ORACLE = "ORACLE_PATH" }
  inputs  = { data = dataset.d }
}
training "t" {
  depends_on = [check.c]
  command    = ["sh", "step.sh", "train"]
  sources    = ["step.sh"]
  env        = { ORACLE = "ORACLE_PATH" }
  inputs     = { data = dataset.d }
}
validation "t" {
  model   = training.t.model
  command = ["sh", "step.sh", "validate"]
  sources = ["step.sh"]
  env     = { ORACLE = "ORACLE_PATH" }
  inputs  = { data = dataset.d }
  threshold "score" { min = 0.5 }
}
`

const killedStep = `set -e
token=$(sed -n 2p "$ML_INPUT_DATA" | cut -d, -f1)
echo "$1 $token $ML_RUN_ID start" >> "$ORACLE"
case "$1" in train*) echo "$token" > "$ML_MODEL_DIR/model";; esac
if [ -n "$ML_METRICS" ]; then echo '{"score": 0.9}' > "$ML_METRICS"; fi
echo "$1 $token $ML_RUN_ID end" >> "$ORACLE"
`

// killed is a daemon, the real program, over a plain git repository, that is killed once a round. Each round has other data, so that
// everything has to happen again, and exactly once.
type killed struct {
	plain
	oracle string
	round  int
	commit string // the round's
	extra  bool   // the dataset that comes and goes is there
}

// plain is a daemon over a git repository of this machine, without a forge.
type plain struct {
	t    *testing.T
	dir  string // of the daemon
	repo string
	at   string
	bin  string
	cmd  *exec.Cmd
	said *saying
	over chan error
}

func newPlain(t *testing.T, settings string) plain {
	t.Helper()
	dir := t.TempDir()
	p := plain{t: t, dir: dir, repo: filepath.Join(dir, "repo"), at: freePort(t), bin: must[string](t)(program()), said: &saying{}}
	ok(t, os.Mkdir(p.repo, 0o755))
	p.git("init", "--quiet", "--initial-branch=main")
	ok(t, os.WriteFile(filepath.Join(dir, "daemon.hcl"), fmt.Appendf(nil, "listen = %q\ndata = \"data\"\nrepository \"r\" {\n  url = %q\n  mode = \"apply\"\n  interval = \"5s\"\n%s}\n", p.at, p.repo, settings), 0o600))
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
	p.cmd = exec.Command(p.bin, "daemon")
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, p.said, p.said
	p.cmd.Env = append(os.Environ(), "NO_COLOR=1")
	if faults != "" {
		p.cmd.Env = append(p.cmd.Env, fault.Variable+"="+faults)
		_, _ = fmt.Fprintf(p.said, "--- %s\n", faults) // a strings.Builder takes all
	}
	ok(p.t, p.cmd.Start())
	p.over = make(chan error, 1)
	go func(cmd *exec.Cmd, over chan error) { over <- cmd.Wait() }(p.cmd, p.over)
	p.t.Cleanup(func() { p.stop() })
}

// stop ends the daemon in good order, if it still runs.
func (p *plain) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone, which Wait says
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

// get asks the daemon; "" when it does not answer.
func (p *plain) get(path string) string {
	resp, err := http.Get("http://" + p.at + path) //nolint:noctx // a test of a program of its own
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
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
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const allowAll = "  policy { allow = [\"create\", \"update\", \"replace\", \"delete\", \"run\", \"move\", \"import\", \"forget\"] }\n"

func newKilled(t *testing.T) *killed {
	t.Helper()
	k := &killed{plain: newPlain(t, allowAll)}
	k.oracle = filepath.Join(k.dir, "oracle.log")
	return k
}

// newRound pushes other data, and adds or takes away a dataset that nothing needs.
func (k *killed) newRound() {
	k.t.Helper()
	k.round++
	k.extra = !k.extra
	var b strings.Builder
	b.WriteString("token,n\n")
	for i := range 20 {
		fmt.Fprintf(&b, "r%d,%d\n", k.round, i)
	}
	main := strings.ReplaceAll(killedFiles, "ORACLE_PATH", k.oracle)
	if k.extra {
		main += "dataset \"extra\" { source = \"data.csv\" }\n"
	}
	k.commit = k.push(map[string]string{"main.ml.hcl": main, "step.sh": killedStep, "data.csv": b.String()})
}

// recovered starts the daemon as a machine would, and compares the world with the oracle and the commit.
func (k *killed) recovered() {
	k.t.Helper()
	k.start("")
	k.until("the commit is applied", k.applied(k.commit))
	k.stop()
	raw := must[[]byte](k.t)(os.ReadFile(k.oracle))
	seen := map[string]int{}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) != 4 {
			k.t.Fatalf("a torn line in the oracle: %q", line)
		}
		if f[1] == fmt.Sprintf("r%d", k.round) {
			seen[f[0]+" "+f[3]]++
		}
	}
	for _, what := range []string{"check", "train", "validate"} {
		if seen[what+" start"] != 1 || seen[what+" end"] != 1 {
			k.t.Fatalf("round %d: %s started %d times and ended %d times, want once each; the daemon said\n%s", k.round, what, seen[what+" start"], seen[what+" end"], k.said)
		}
	}
	out, err := k.ml("versions", "training.t", "-json")
	ok(k.t, err)
	var versions []struct {
		Version int
		Current bool
	}
	ok(k.t, json.Unmarshal([]byte(out), &versions))
	if len(versions) != k.round || !versions[len(versions)-1].Current {
		k.t.Fatalf("round %d: versions %+v", k.round, versions)
	}
	for i, v := range versions {
		if v.Version != i+1 {
			k.t.Fatalf("round %d: versions out of order: %+v", k.round, versions)
		}
	}
	if out, err := k.ml("plan", "-detailed-exitcode"); err != nil {
		k.t.Fatalf("round %d: the plan after it must be empty: %v\n%s", k.round, err, out)
	}
	if out, err := k.ml("state", "list"); err != nil || strings.Contains(out, "dataset.extra") != k.extra {
		k.t.Fatalf("round %d: dataset.extra there: want %v; %v\n%s", k.round, k.extra, err, out)
	}
	k.noOrphans()
}

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

// TestADaemonKilledAtEveryJournalPoint kills a daemon with SIGKILL at each named point, at its first, second, … hit, and starts it again.
func TestADaemonKilledAtEveryJournalPoint(t *testing.T) {
	points, hits := shown, 1
	if full {
		points, hits = fault.Points(), 4
	}
	var done atomic.Int64
	t.Run("points", func(t *testing.T) {
		for _, point := range points {
			switch {
			case strings.HasPrefix(point, "state.restore"), point == fault.StateCommitSync, point == fault.EngineSettleBefore, strings.HasPrefix(point, "daemon.approve"):
				continue // no daemon restores; the others have tests of their own below
			}
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				k := newKilled(t)
				reached := 0
				for hit := 1; hit <= hits; hit++ {
					k.newRound()
					if strings.HasPrefix(point, "engine.delete") && k.extra {
						k.recovered() // what is taken away has to be there first
						k.newRound()
					}
					k.start(fmt.Sprintf("%s:%d", point, hit))
					if k.diesOr("it dies, or the commit is applied", k.applied(k.commit)) {
						reached++
						done.Add(1)
					} else {
						k.stop()
					}
					k.recovered()
				}
				if reached == 0 {
					t.Fatal("the point was never reached: the test would pass whatever the code did")
				}
				t.Logf("%d kills", reached)
			})
		}
	})
	t.Logf("%d kills of the daemon at %d journal points: every training ran once, no orphan, versions in order", done.Load(), len(points))
}

// TestADaemonKilledWhileItSettles kills a daemon, and then the one that settles after it.
func TestADaemonKilledWhileItSettles(t *testing.T) {
	t.Parallel()
	k := newKilled(t)
	k.newRound()
	for _, faults := range []string{fault.EngineActed + ":2", fault.EngineSettleBefore + ":1"} {
		k.start(faults)
		if !k.diesOr("it dies", k.applied(k.commit)) {
			t.Fatalf("%s was not reached:\n%s", faults, k.said)
		}
	}
	k.recovered()
}

// TestADaemonWhoseSyncFailsEnds lets an fsync of the state fail: what is on the disk is not known to that process any more, so it says so
// and ends, and the next one finishes.
func TestADaemonWhoseSyncFailsEnds(t *testing.T) {
	t.Parallel()
	hits := []int{4}
	if full {
		hits = []int{1, 2, 3, 5, 8}
	}
	k := newKilled(t)
	for _, hit := range hits {
		k.newRound()
		k.start(fmt.Sprintf("%s:%d:error", fault.StateCommitSync, hit))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		select {
		case err := <-k.over:
			k.cmd = nil
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(k.said.String(), "the state is read-only after a failed write") {
				t.Fatalf("hit %d: it ended with %v:\n%s", hit, err, k.said)
			}
		case <-ctx.Done():
			t.Fatalf("hit %d: it goes on:\n%s", hit, k.said)
		}
		k.recovered()
	}
}

// TestAnApprovalOutlivesAKill kills the daemon around an approval: it is given, or it can be given again; what it lets run runs once.
func TestAnApprovalOutlivesAKill(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		faults string
		given  bool // it is recorded when the daemon dies
	}{
		{fault.DaemonApproveBefore + ":1", false},
		{fault.DaemonApproveAfter + ":1", true},
		{fault.EngineDeleteIntentAfter + ":1", true},
		{fault.EngineDeleteActed + ":1", true},
	} {
		t.Run(c.faults, func(t *testing.T) {
			t.Parallel()
			k := &killed{plain: newPlain(t, "")} // deletions wait
			k.oracle = filepath.Join(k.dir, "oracle.log")
			k.newRound()
			k.recovered()
			k.extra = false
			k.commit = k.push(map[string]string{"main.ml.hcl": strings.ReplaceAll(killedFiles, "ORACLE_PATH", k.oracle)})
			k.start(c.faults)
			k.until("the plan waits", func() bool { return k.status().Held != nil })
			id := k.status().Held.ID
			code, body := k.post("/api/v1/repositories/r/approve/" + id)
			if !k.diesOr("it dies", k.applied(k.commit)) {
				t.Fatalf("%d %s: the point was not reached", code, body)
			}
			k.start("")
			if !c.given {
				k.until("the plan waits again", func() bool { return k.status().Held != nil })
				if again := k.status().Held; again.ID != id {
					t.Fatalf("the plan %s is %s after the kill", id, again.ID)
				}
				if code, body := k.post("/api/v1/repositories/r/approve/" + id); code != http.StatusOK {
					t.Fatalf("%d %s", code, body)
				}
			}
			k.until("it is applied", k.applied(k.commit))
			k.stop()
			k.recovered()
		})
	}
}
