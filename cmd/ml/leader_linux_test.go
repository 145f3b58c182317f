package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/continuo-ml/continuo/internal/fault"
)

// twins are two daemons on one data folder. What they do is seen from outside: the files of the folder, a log that each start of the training
// writes a line to, and a forge that counts what is written to it.
type twins struct {
	*testing.T
	dir, team string
	forge     *httptest.Server
	written   atomic.Int64 // at the forge
}

func newTwins(t *testing.T) *twins {
	t.Helper()
	w := &twins{T: t, dir: t.TempDir()}
	w.team = filepath.Join(w.dir, "team")
	w.forge = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		out := "[]"
		if r.Method != http.MethodGet {
			w.written.Add(1)
			out = "{}"
		}
		if _, err := io.WriteString(rw, out); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(w.forge.Close)
	files := map[string]string{
		"p.ml.hcl": "dataset \"d\" { source = \"d.csv\" }\ntraining \"t\" {\n command = [\"sh\", \"t.sh\"]\n inputs = { d = dataset.d }\n}\nvalidation \"v\" {\n model = training.t.model\n threshold \"ok\" { min = 1 }\n}\n",
		"d.csv":    "a\n1\n",
		"t.sh":     "echo started >> " + w.dir + "/starts\nsleep 0.3\necho m > \"$ML_MODEL_DIR/m\"\necho '{\"ok\": 1}' > \"$ML_METRICS\"\n",
	}
	w.ok(os.MkdirAll(w.team, 0o755))
	repo, err := git.PlainInit(w.team, false)
	w.ok(err)
	wt, err := repo.Worktree()
	w.ok(err)
	for name, text := range files {
		w.ok(os.WriteFile(filepath.Join(w.team, name), []byte(text), 0o644))
		_, err := wt.Add(name)
		w.ok(err)
	}
	_, err = wt.Commit("first", &git.CommitOptions{Author: &object.Signature{Name: "Ada", Email: "ada@example.org", When: time.Now()}})
	w.ok(err)
	w.ok(os.WriteFile(filepath.Join(w.dir, "daemon.hcl"), fmt.Appendf(nil, `data = "data"
listen = "127.0.0.1:0"
leader { duration = "2s" }
repository "r" {
  url      = %q
  branch   = "master"
  interval = "1h"
  mode     = "apply"
  forge {
    kind      = "gitea"
    url       = %q
    repo      = "team/models"
    token_env = "FORGE_TOKEN"
  }
}
`, w.team, w.forge.URL), 0o644))
	return w
}

func (w *twins) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// twin is one of them, as a process.
type twin struct {
	w    *twins
	cmd  *exec.Cmd
	log  string // its output
	done chan struct{}
	err  error // once done
}

func (w *twins) start(name, armed string) *twin {
	w.Helper()
	d := &twin{w: w, log: filepath.Join(w.dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(d.log)
	w.ok(err)
	d.cmd = exec.Command(os.Args[0], "daemon", "-config", filepath.Join(w.dir, "daemon.hcl"))
	d.cmd.Env = append(os.Environ(), asProgram+"=1", "FORGE_TOKEN=t0ken", fault.Variable+"="+armed)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	w.ok(d.cmd.Start())
	w.ok(out.Close())
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	w.Cleanup(func() {
		d.signal(syscall.SIGKILL)
		<-d.done
	})
	return d
}

func (d *twin) signal(s syscall.Signal) {
	if err := d.cmd.Process.Signal(s); err != nil && !strings.Contains(err.Error(), "finished") {
		d.w.Error(err)
	}
}

func (d *twin) said() string {
	raw, err := os.ReadFile(d.log)
	d.w.ok(err)
	return string(raw)
}

// stopped says whether the kernel has stopped the process.
func (d *twin) stopped() bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	_, rest, ok := strings.Cut(string(raw), ") ")
	return err == nil && ok && rest[0] == 'T'
}

var overview = regexp.MustCompile(`Overview: (http://[^ \n]+)`)

// phase is what the daemon says over HTTP, "" while it stands by.
func (d *twin) phase() string {
	at := overview.FindStringSubmatch(d.said())
	if at == nil {
		return ""
	}
	c := http.Client{Timeout: 2 * time.Second}
	resp, err := c.Get(at[1] + "api/v1/repositories/r") //nolint:noctx // it has a bound
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var s struct{ Phase string }
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&s) != nil {
		return ""
	}
	return s.Phase
}

func (w *twins) until(what string, d *twin, ok func() bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.Fatalf("waited in vain until %s:\n%s", what, d.said())
		}
	}
}

// files are the content of everything in the data folder but the copy of the git repository, which is fetched anew by whoever leads.
func (w *twins) files() map[string]string {
	w.Helper()
	out := map[string]string{}
	root := filepath.Join(w.dir, "data")
	w.ok(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || d.IsDir() && rel == "r/git" {
			return fs.SkipDir
		}
		if d.Type().IsRegular() {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(raw)
			out[rel] = hex.EncodeToString(sum[:4])
		}
		return nil
	}))
	out["the starts of the training"] = fmt.Sprint(w.starts())
	out["writes at the forge"] = fmt.Sprint(w.written.Load())
	return out
}

func (w *twins) starts() int {
	raw, err := os.ReadFile(filepath.Join(w.dir, "starts"))
	if os.IsNotExist(err) {
		return 0
	}
	w.ok(err)
	return strings.Count(string(raw), "\n")
}

// ownEnds are the files that a process may still take away, or finish, without touching anything of anybody else: temporary files of its own, and
// the post of its own term, which is over for all who read.
func ownEnds(name string) bool {
	return strings.Contains(name, ".tmp-") || strings.Contains(name, "/.staged-") || strings.Contains(name, "/artifacts/tmp/") || name == "leader/term-1"
}

// inTheMiddle are the files that the second waits for, while the first is stopped with one of them half written, or open: it ends that one write
// before the second begins.
func inTheMiddle(name string) bool {
	return name == "r/daemon.json" || name == "r/work.files.json" || strings.HasPrefix(name, "r/work/") && !strings.HasPrefix(name, "r/work/.ml/") ||
		name == "r/work/.ml/state.db" || name == "r/work/.ml/serial"
}

// try stops the leader, lets the other take over and do the work, and stops that one, too. What changes while only the first one goes on again, it wrote.
func (w *twins) try(armed string, after time.Duration) {
	w.Helper()
	a := w.start("a", armed)
	w.until("the first leads", a, func() bool { return strings.Contains(a.said(), "this daemon leads") })
	b := w.start("b", "")
	if armed == "" {
		t := time.NewTimer(after)
		<-t.C
		a.signal(syscall.SIGSTOP)
	}
	w.until("the first is stopped", a, a.stopped)
	waits := false
	w.until("the second has done its work, or waits", b, func() bool {
		waits = strings.Contains(b.said(), "waits to take over")
		return waits || b.phase() == "synced"
	})
	b.signal(syscall.SIGSTOP)
	w.until("the second is stopped", b, b.stopped)
	before := w.files()
	a.signal(syscall.SIGCONT)
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	select {
	case <-a.done:
	case <-late.C:
		w.Errorf("the first goes on")
	}
	strict := !waits || strings.HasPrefix(armed, fault.StateCommitBefore) // where the last question is still to be asked
	if waits {
		w.Logf("the second waited for it")
	}
	for name, now := range w.files() {
		if before[name] != now && !ownEnds(name) && (strict || !inTheMiddle(name)) {
			w.Errorf("the former leader wrote %s (%q, was %q)", name, now, before[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, err := os.Lstat(filepath.Join(w.dir, "data", name)); os.IsNotExist(err) && !ownEnds(name) && !strings.Contains(name, " ") {
			w.Errorf("the former leader removed %s", name)
		}
	}
	a.signal(syscall.SIGKILL)
	<-a.done
	if a.err == nil || !strings.Contains(a.said(), "does not lead any more") {
		w.Errorf("the former leader ended with %v:\n%s", a.err, a.said())
	}
	b.signal(syscall.SIGKILL)
	<-b.done
	c := w.start("c", "")
	w.until("a third one has done all there was", c, func() bool { return c.phase() == "synced" })
	if n := w.starts(); n != 1 {
		w.Errorf("the training was started %d times", n)
	}
	if w.Failed() {
		w.Logf("a:\n%s\nb:\n%s\nc:\n%s", a.said(), b.said(), c.said())
	}
}

func TestAFormerLeaderWritesNothing(t *testing.T) {
	// Where the first one stops, and at which pass of it: half of the tries, the other half at any moment.
	var armed []string
	for _, p := range []struct {
		name string
		hits int
	}{
		{fault.EngineIntentAfter, 3}, {fault.StateCommitBefore, 5}, {fault.EngineActed, 3}, {fault.EngineIntentBefore, 3}, {fault.EngineDoneBefore, 3},
		{fault.StateLeaseAcquired, 1}, {fault.EngineDoneAfter, 2}, {fault.StateCommitAfter, 3}, {fault.StateCreateRename, 1}, {fault.StateSerialBefore, 1},
	} {
		for hit := range p.hits {
			armed = append(armed, fmt.Sprintf("%s:%d:stop", p.name, hit+1))
		}
	}
	armed = append(armed, make([]string, len(armed))...)
	if os.Getenv("ML_GITOPS_FULL") == "" {
		armed = []string{armed[0], armed[3], "", ""}
	}
	for n, armed := range armed {
		after := time.Duration(rand.IntN(1200)) * time.Millisecond
		t.Run(fmt.Sprintf("%d, %s %s", n, armed, after), func(t *testing.T) {
			t.Parallel()
			newTwins(t).try(armed, after)
		})
	}
}
