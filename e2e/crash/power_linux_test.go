package crash

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// calls are the system calls that decide what a power cut leaves.
const calls = "openat,write,pwrite64,writev,pwritev,ftruncate,copy_file_range,sendfile,ioctl," +
	"fsync,fdatasync,syncfs,renameat,renameat2,linkat,unlinkat,mkdir,mkdirat,execve"

// trace is what strace wrote of one command and of all that it started.
type trace struct {
	path, command string
	known         map[string]bool // the files before it
}

// traced runs ml under strace. It returns when ml has ended; the tracer stays
// with what ml left running, and its file is whole when nothing runs any more.
func (p *project) traced(args ...string) {
	p.t.Helper()
	tr := trace{path: filepath.Join(p.dir, fmt.Sprintf("%d.trace", len(p.traces))), command: "ml " + strings.Join(args, " "), known: map[string]bool{}}
	if err := filepath.WalkDir(p.dir, func(path string, _ fs.DirEntry, err error) error {
		tr.known[path] = true
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	p.traces = append(p.traces, tr)
	cmd := exec.Command("strace", append([]string{
		"-D", "-f", "-y", "-qq", "--seccomp-bpf", "-s", "200", "-e", "signal=none", "-e", "trace=" + calls, "-o", tr.path,
		binary, "-chdir", p.dir,
	}, args...)...)
	cmd.Dir = p.dir
	// A file, and no pipe: the tracer holds it for as long as a gateway lives.
	out, err := os.Create(tr.path + ".log")
	if err != nil {
		p.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	failed := cmd.Run()
	text, err := os.ReadFile(out.Name())
	if err := errors.Join(err, out.Close()); err != nil {
		p.t.Fatal(err)
	}
	if failed != nil {
		p.t.Fatalf("%s: %v\n%s", tr.command, failed, text)
	}
}

const powered = `
dataset "d" {
  source = "data.csv"
  expect "rows" { row_count = { min = 1 } }
  split "train" { fraction = 0.5 }
}
dataset "prepared" {
  command = ["sh", "step.sh", "prepare"]
  sources = ["step.sh"]
  inputs  = { data = dataset.d }
}
check "c" {
  command = ["sh", "step.sh", "check"]
  sources = ["step.sh"]
}
training "t" {
  keep       = 1
  depends_on = [check.c]
  command    = ["sh", "step.sh", "train"]
  sources    = ["step.sh"]
  inputs     = { data = dataset.d.split.train, prepared = dataset.prepared }
}
validation "t" {
  model   = training.t.model
  command = ["sh", "step.sh", "validate"]
  sources = ["step.sh"]
  threshold "score" { min = 0.5 }
}
batch_inference "b" {
  model   = validation.t.model
  input   = dataset.d
  output  = "out/predictions.csv"
  command = ["sh", "step.sh", "predict"]
  sources = ["step.sh"]
}
deployment "d" {
  model   = validation.t.model
  command = ["python3", "serve.py"]
  sources = ["serve.py"]
  drain   = "1s"
  sink { file = "answers.jsonl" }
}
monitor "m" {
  deployment = deployment.d
  reference  = dataset.d
  window     = { requests = 4 }
  latency { p99 = "1ns" }
  alert { notify = [notifier.log] }
}
notifier "log" { type = "log" }
`

const poweredStep = `set -e
case "$1" in
prepare) cp "$ML_INPUT_DATA" "$ML_OUTPUT/prepared.csv";;
train) cp "$ML_INPUT_DATA" "$ML_MODEL_DIR/model"; cp "$ML_INPUT_DATA" "$ML_MODEL_DIR/token";;
predict) cp "$ML_INPUT_DATA" "$ML_OUTPUT";;
esac
if [ -n "$ML_METRICS" ]; then echo '{"score": 0.9}' > "$ML_METRICS"; fi
`

// TestAPowerCutTakesNothingThatTheStateNames follows the system calls of a whole
// life, from the first plan to prune and destroy, and asks at each moment that
// matters what a power cut would take.
func TestAPowerCutTakesNothingThatTheStateNames(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		const why = "strace, which shows the system calls, is not installed: apt-get install strace"
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip("SKIPPED: " + why)
	}
	p := poweredProject(t)
	p.traced("plan", "-no-color", "-out", "first.plan")
	p.traced("apply", "-no-color", "-parallelism", "1", "first.plan")
	p.predict(8)
	p.traced("monitor", "monitor.m", "-no-color")
	for range 2 {
		p.newData()
		p.traced("apply", "-auto-approve", "-no-color", "-parallelism", "1")
	}
	p.traced("prune", "-no-color")
	p.traced("destroy", "-auto-approve", "-no-color")
	if err := os.Remove(filepath.Join(p.dir, ".ml", "key")); err != nil {
		t.Fatal(err)
	}
	p.traced("plan", "-no-color", "-out", "again.plan")
	p.damage()
	p.traced("state", "rebuild", "-no-color")
	p.checkProcesses()
	seen := map[string]int{}
	renames := 0
	p.pruned = 0
	for _, tr := range p.traces {
		raw, err := os.ReadFile(tr.path)
		if err != nil {
			t.Fatal(err)
		}
		d := &disk{known: tr.known}
		p.rules(d, tr.command)
		d.replay(t, string(raw))
		if left := d.lost(p.kept); len(left) > 0 {
			t.Errorf("%s: when all of it had ended, a power cut would have taken\n  %s", tr.command, strings.Join(left, "\n  "))
		}
		for name, n := range d.syncs {
			seen[name] += n
		}
		renames += d.renames
	}
	if seen["state.db"] < 20 || seen["started"] < 5 || renames < 50 || p.pruned == 0 || seen["alerts.log"] == 0 {
		t.Errorf("%d syncs of the state, %d of starts, %d renames, %d pruned blobs, %d alerts: the test saw too little to say anything", seen["state.db"], seen["started"], renames, p.pruned, seen["alerts.log"])
	}
}

// volatile is what may be lost, and why.
var volatile = []struct{ form, why string }{
	{`\.trace(\.log)?$`, "written by the tracer"},
	{`/\.ml/cache(/|$)`, "made again from the artifacts, or by reading the files once more"},
	{`/\.ml/(runs|deployments)/.*\.log$`, "what commands and servers said; a run without its log is a run all the same"},
	{`/(lock|[a-z.]+\.lock)$`, "its content says nothing; the kernel holds the lock"},
	{`/\.ml/serial$`, "the highest serial, to recognise old copies of the state: an older one errs on the side of silence"},
	{`/\.ml/runs/[^/]+/(model|output|attempts?|[^/]*metrics[^/]*|progress[^/]*|parts?)(/|$)`, "what the user's command writes; it is copied and synced before the state names it"},
}

var volatileForms = func() []*regexp.Regexp {
	var out []*regexp.Regexp
	for _, v := range volatile {
		out = append(out, regexp.MustCompile(v.form))
	}
	return out
}()

// kept says whether a power cut must leave the file at path alone.
func (p *project) kept(path string) bool {
	return strings.HasPrefix(path, p.dir+"/") && !slices.ContainsFunc(volatileForms, func(r *regexp.Regexp) bool { return r.MatchString(path) })
}

// named says whether records name what is at path: it must be safe before they are.
func (p *project) named(path string) bool {
	rel := strings.TrimPrefix(path, p.dir+"/")
	return p.kept(path) && (strings.HasPrefix(rel, ".ml/data") || strings.HasPrefix(rel, ".ml/artifacts") || strings.HasPrefix(rel, "out")) &&
		!regexp.MustCompile(`/(\.staged-|\.scan-|tmp/|\.)[^/]*`).MatchString(strings.TrimPrefix(rel, ".ml"))
}

// started says whether a command may run only once path is safe: without it the
// next ml would start the command again.
func (p *project) started(path string) bool {
	rel, in := strings.CutPrefix(path, p.dir+"/.ml/")
	return in && (rel == "state.db" || rel == "runs" || strings.HasPrefix(rel, "runs/") && (filepath.Base(rel) == "started" || filepath.Base(rel) == "spec.json" || strings.Count(rel, "/") == 1))
}

// rules puts the questions into d that are asked on the way.
func (p *project) rules(d *disk, command string) {
	ask := func(moment string, left []string) {
		p.t.Helper()
		if len(left) > 0 {
			p.t.Errorf("%s: %s, a power cut would have taken\n  %s", command, moment, strings.Join(left, "\n  "))
		}
	}
	d.onRename = func(d *disk, from, to string) {
		under := func(path string) bool { return path == from || strings.HasPrefix(path, from+"/") }
		if !p.kept(to) || !p.kept(from) {
			return
		}
		var bytesOnly []string
		for _, l := range d.lost(under) {
			if strings.HasPrefix(l, "the bytes") {
				bytesOnly = append(bytesOnly, l)
			}
		}
		ask("when "+to+" got its name", bytesOnly)
		if filepath.Base(to) == "sink.json" {
			ask("when the sink's place was kept", d.lost(func(path string) bool { return path == filepath.Join(p.dir, "answers.jsonl") && d.dirty[path] > 0 }))
		}
	}
	d.onSync = func(d *disk, path string) {
		if path == filepath.Join(p.dir, ".ml", "state.db") {
			ask("when the state was written", d.lost(p.named))
			if _, new := d.names[path]; new {
				ask("when the state was written", []string{"its name"})
			}
		}
	}
	d.onUnlink = func(d *disk, path string) {
		if strings.Contains(path, "/.ml/artifacts/blobs/") {
			var left []string
			for gone := range d.gone {
				if strings.Contains(gone, "/.ml/artifacts/manifests/") {
					left = append(left, "the removal of "+gone)
				}
			}
			ask("when "+path+" was removed", left)
			p.pruned++
		}
	}
	d.onExec = func(d *disk, args string) {
		if strings.Contains(args, `"step.sh"`) {
			ask("when a command started", d.lost(p.started))
		}
		if strings.Contains(args, `"serve.py"`) {
			ask("when a server started", d.lost(func(path string) bool { return filepath.Base(path) == "desired.json" }))
		}
	}
}

// poweredProject is a project that passes every place where something is made durable.
func poweredProject(t *testing.T) *project {
	t.Helper()
	p := &project{t: t, dir: t.TempDir()}
	p.write("main.ml.hcl", powered)
	p.write("step.sh", poweredStep)
	p.write("serve.py", serveScript)
	p.write(".mlignore", "*.trace\n*.plan\nanswers.jsonl\nout/\n")
	p.newData()
	t.Cleanup(func() {
		if len(p.processes()) == 0 {
			return
		}
		if out, err := p.ml("ML_NOTHING=", 0, "destroy", "-auto-approve", "-no-color", "-lock-timeout=30s"); err != nil {
			t.Errorf("destroy: %v\n%s", err, out)
		}
	})
	return p
}

// predict sends n requests and waits until the sink has them.
func (p *project) predict(n int) {
	p.t.Helper()
	endpoint := p.endpoint()
	client := http.Client{Timeout: 10 * time.Second}
	for range n {
		res, err := client.Post(endpoint, "text/plain", nil) // what monitors count
		if err != nil {
			p.t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
			p.t.Fatalf("answered %s, %v", res.Status, err)
		}
	}
	deadline := time.After(30 * time.Second)
	for p.lines("answers.jsonl") < n {
		select {
		case <-deadline:
			p.t.Fatalf("%d of %d answers came out of the sink", p.lines("answers.jsonl"), n)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// damage makes the state unreadable, so that a snapshot has to take its place.
func (p *project) damage() {
	p.t.Helper()
	p.write(".ml/state.db", "no state at all")
}
