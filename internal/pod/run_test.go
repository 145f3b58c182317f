//go:build linux || darwin

package pod

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/runner"
)

const good = `set -e
echo "epochs $ML_PARAM_EPOCHS seed $ML_SEED run $ML_RUN_ID secret $TOKEN plain $PLAIN"
cat "$ML_INPUT_TRAIN" "$ML_INPUT_MANY/a.csv"; ls -l "$ML_INPUT_TRAIN" | cut -c1-10; basename "$ML_INPUT_TRAIN"
echo '{"step": 1, "of": 2, "loss": 0.5}' >> "$ML_PROGRESS"; echo '{"step": 2, "of": 2}' >> "$ML_PROGRESS"
mkdir "$ML_MODEL_DIR/sub"; printf weights > "$ML_MODEL_DIR/sub/w.bin"; printf '#!' > "$ML_MODEL_DIR/run"; chmod 755 "$ML_MODEL_DIR/run"
printf '{"accuracy": 0.9}' > "$ML_METRICS"; mkdir reports; echo '<testsuite/>' > reports/junit.xml
echo once >> "$COUNT"; printf 'no line break'`

func TestAGoodRunEndsInTheRegistry(t *testing.T) {
	k := newCluster(t)
	task := k.task(t, good)
	count := filepath.Join(t.TempDir(), "count")
	data := tree(t, map[string]string{"train.csv": "1,2\n", "many/a.csv": "3\n", "many/b.csv": "4\n"})
	task.Inputs = map[string]Artifact{"train": k.data(t, data+"/train.csv"), "many": k.data(t, data+"/many")}
	// The digest that a plan has of a dataset is as good as our own.
	in := task.Inputs["many"]
	_, m, err := files.DigestDir(data + "/many")
	if err != nil {
		t.Fatal(err)
	}
	if in.Digest, err = m.SourceDigest(true); err != nil {
		t.Fatal(err)
	}
	task.Inputs["many"] = in
	task.Params, task.Seed, task.NeedModel, task.NeedMetrics = map[string]any{"epochs": 300}, 7, true, true
	task.Env, task.EnvFrom = map[string]string{"PLAIN": "p", "COUNT": count}, []string{"TOKEN"}
	task.Outputs = []string{"reports/junit.xml", "not/written.txt"}
	p := start(t, task, t.TempDir(), "TOKEN=s3cr3t", "OTHER=x")
	term := p.mustEnd(ExitDone, runner.Succeeded, "")

	text, progress := p.lines()
	if d := cmp.Diff([]string{"epochs 300 seed 7 run 01RUN secret s3cr3t plain p", "1,2", "3", "-r--r--r--", "train.csv", "no line break"}, text); d != "" {
		t.Error(d)
	}
	want := []runner.Progress{{Step: 1, Of: 2, Values: map[string]float64{"loss": 0.5}}, {Step: 2, Of: 2}}
	if d := cmp.Diff(want, progress); d != "" {
		t.Error(d)
	}
	ctx := within(t)
	dir := filepath.Join(t.TempDir(), "result")
	res, err := FetchResult(ctx, k.c, task.Results, task.ID, dir)
	if err != nil {
		t.Fatal(err)
	}
	if res.Ref != term.Result || !strings.HasPrefix(res.Ref, task.Results+"@sha256:") || string(res.Metrics) != `{"accuracy": 0.9}` ||
		res.Status.Phase != runner.Succeeded || res.Status.ProgressLines != 2 || res.ID != task.ID || res.Address != task.Address {
		t.Errorf("%+v", res)
	}
	if d := cmp.Diff([]string{"reports/junit.xml"}, res.Outputs); d != "" || read(t, res.OutputPath("reports/junit.xml")) != "<testsuite/>\n" {
		t.Errorf("outputs: %s", d)
	}
	if !strings.HasSuffix(read(t, res.LogPath()), "no line break") {
		t.Error("the log is not in the result")
	}
	model := filepath.Join(t.TempDir(), "model")
	if err := k.c.PullDir(ctx, term.Model.Ref, ModelPrefix, model); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(res.Model, term.Model); d != "" || digestOf(t, model) != term.Model.Digest || term.Model.Bytes != 9 || !strings.HasPrefix(term.Model.Ref, task.Models.Repo+"@") {
		t.Errorf("model %+v: %s", term.Model, d)
	}
	// Another pod for the same run, elsewhere: it finds the result and runs nothing.
	again := start(t, task, t.TempDir()).mustEnd(ExitDone, runner.Succeeded, "")
	again.code, term.code = 0, 0
	if d := cmp.Diff(term, again, cmp.AllowUnexported(Termination{})); d != "" {
		t.Error(d)
	}
	if n := read(t, count); n != "once\n" {
		t.Errorf("it ran %q", n)
	}
}

func TestAFailedCommandIsToldWithItsLastLines(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		change func(*Task)
		phase  runner.Phase
		says   string
		exit   int
	}{
		"exit code":             {"echo one; echo two >&2; exit 3", func(*Task) {}, runner.Failed, "exit code 3", 3},
		"no model":              {"echo one; echo two", func(t *Task) { t.NeedModel = true }, runner.Failed, "wrote no model", 0},
		"no metrics":            {"echo one; echo two", func(t *Task) { t.NeedMetrics = true }, runner.Failed, "wrote no metrics", 0},
		"timeout":               {"echo one; echo two; exec sleep 60", func(t *Task) { t.Timeout = 500 * time.Millisecond }, runner.TimedOut, "timed out after 500ms", -1},
		"killed":                {"echo one; echo two; kill -9 $$", func(*Task) {}, runner.Failed, "killed by SIGKILL", -1},
		"output is a pipe":      {"echo one; echo two; mkfifo junit.xml", func(t *Task) { t.Outputs = []string{"junit.xml"} }, runner.Failed, "output junit.xml: junit.xml is no regular file", 0},
		"model with a link out": {`echo one; echo two; echo x > $ML_MODEL_DIR/x; ln -s /etc/passwd $ML_MODEL_DIR/l`, func(t *Task) { t.NeedModel = true }, runner.Failed, "store the model", 0},
		"ML_OUTPUT, link out":   {`echo one; echo two; ln -s /etc/passwd $ML_OUTPUT/l`, func(t *Task) { t.Output = &Output{} }, runner.Failed, "ML_OUTPUT: ", 0},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t)
			task := k.task(t, c.script)
			c.change(&task)
			term := start(t, task, t.TempDir()).mustEnd(ExitFailed, c.phase, c.says)
			if d := cmp.Diff([]string{"one", "two"}, term.Tail); d != "" || term.ExitCode != c.exit || term.Model != nil {
				t.Errorf("%+v: %s", term, d)
			}
			res, err := ReadResult(within(t), k.c, task.Results, task.ID)
			if err != nil || res.Phase != c.phase || res.Message != term.Message || res.Ref != term.Result {
				t.Errorf("%+v: %v", res, err)
			}
		})
	}
}

func TestAContainerThatIsStartedAgainRunsNothingTwice(t *testing.T) {
	k := newCluster(t)
	mark := filepath.Join(t.TempDir(), "mark")
	task := k.task(t, `echo once >> $MARK; while [ ! -e $MARK.go ]; do sleep 0.02; done; echo x > $ML_MODEL_DIR/x`)
	task.NeedModel, task.Env = true, map[string]string{"MARK": mark}
	work := t.TempDir()
	p := start(t, task, work)
	eventually(t, "it runs", func() bool { return read(t, mark) != "" })
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	again := start(t, task, work) // the command still runs
	if err := os.WriteFile(mark+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again.mustEnd(ExitDone, runner.Succeeded, "")
	if s := read(t, mark); s != "once\n" {
		t.Errorf("it ran %q", s)
	}
}

func TestALostAttemptIsFollowedByAnother(t *testing.T) {
	k := newCluster(t)
	mark := filepath.Join(t.TempDir(), "mark")
	task := k.task(t, `echo $$ >> $MARK; if [ "$(wc -l < $MARK)" = 1 ]; then echo first; exec sleep 60; fi; echo second`)
	task.Env = map[string]string{"MARK": mark}
	work := t.TempDir()
	p := start(t, task, work)
	eventually(t, "it runs", func() bool { return read(t, mark) != "" })
	st, err := runner.Read(work + "/attempt-1/run")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	again := start(t, task, work)
	eventually(t, "the second container follows the first one's command", func() bool { return read(t, again.out) == "first\n" })
	if err := syscall.Kill(st.Runner.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again.mustEnd(ExitDone, runner.Succeeded, "")
	if text, _ := again.lines(); strings.Join(text, "|") != "first|second" {
		t.Errorf("%q", text)
	}
}

func TestAnInputThatIsNotWhatItWasIsRefused(t *testing.T) {
	k := newCluster(t)
	dir := tree(t, map[string]string{"a.csv": "1", "b.csv": "2"})
	file, folder := k.data(t, dir+"/a.csv"), k.data(t, dir)
	wrong := "sha256:" + strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		change func(*Task)
		code   int
		says   string
	}{
		"digest of a file":   {func(t *Task) { t.Inputs = map[string]Artifact{"x": {Ref: file.Ref, Digest: wrong, File: file.File}} }, ExitFailed, "fetch input x: " + k.Repo("data")},
		"digest of a folder": {func(t *Task) { t.Inputs = map[string]Artifact{"x": {Ref: folder.Ref, Digest: wrong}} }, ExitFailed, "has other content"},
		"digest of the code": {func(t *Task) { t.Code.Digest = wrong }, ExitFailed, "fetch the code"},
		"digest of a model":  {func(t *Task) { t.Model = &Artifact{Ref: folder.Ref, Digest: wrong, Prefix: DataPrefix} }, ExitFailed, "fetch the model"},
		"no such file": {func(t *Task) {
			t.Inputs = map[string]Artifact{"x": {Ref: file.Ref, Digest: file.Digest, File: "c.csv"}}
		}, ExitFailed, "holds no file c.csv"},
		"not there": {func(t *Task) {
			t.Inputs = map[string]Artifact{"x": {Ref: k.Repo("none") + "@" + wrong}}
		}, ExitFailed, "the registry does not know it"},
	} {
		t.Run(name, func(t *testing.T) {
			task := k.task(t, "echo must not run")
			task.ID = "RUN-" + strconv.Itoa(len(name))
			c.change(&task)
			p := start(t, task, t.TempDir())
			term := p.mustEnd(c.code, runner.Failed, c.says)
			if out := read(t, p.out); term.ExitCode != -1 || out != "" {
				t.Errorf("%+v %s", term, out)
			}
		})
	}
}

func TestARegistryThatIsAwayAtTheEndIsWaitedForAndTold(t *testing.T) {
	k := newCluster(t)
	mark := filepath.Join(t.TempDir(), "mark")
	task := k.task(t, "echo once >> $MARK; echo x > $ML_MODEL_DIR/x")
	task.NeedModel, task.Env = true, map[string]string{"MARK": mark}
	var refused atomic.Int32
	k.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Method != http.MethodGet && q.Method != http.MethodHead {
				refused.Add(1)
				http.Error(w, "", http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, q)
		})
	})
	work := t.TempDir()
	term := start(t, task, work).mustEnd(ExitLost, runner.Lost, "the command ended (succeeded), and its model could not be stored: ")
	if !strings.Contains(term.Message, "503 Service Unavailable") || refused.Load() < 6 {
		t.Errorf("after %d requests: %s", refused.Load(), term.Message)
	}
	k.Between(nil)
	start(t, task, work).mustEnd(ExitDone, runner.Succeeded, "")
	if s := read(t, mark); s != "once\n" {
		t.Errorf("it ran %q", s)
	}
	// A registry that refuses for good is no reason to run it all again.
	other := k.task(t, "echo x > $ML_MODEL_DIR/x")
	other.ID, other.NeedModel = "02RUN", true
	k.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Method == http.MethodPost && strings.Contains(q.URL.Path, "/runs/") {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, q)
		})
	})
	start(t, other, t.TempDir()).mustEnd(ExitFailed, runner.Lost, "its result could not be stored: push "+k.Repo("runs")+": the registry refuses (403)")
}

func TestTwoNodesMeet(t *testing.T) {
	for name, env := range map[string]func(rank, port int) []string{
		"indexed Job": func(rank, port int) []string {
			return []string{"JOB_COMPLETION_INDEX=" + strconv.Itoa(rank), "MASTER_ADDR=127.0.0.1", fmt.Sprintf("MASTER_PORT=%d", port)}
		},
		"Trainer": func(rank, port int) []string {
			return []string{"PET_NNODES=2", "PET_NODE_RANK=" + strconv.Itoa(rank), "PET_MASTER_ADDR=127.0.0.1", fmt.Sprintf("PET_MASTER_PORT=%d", port), "JOB_COMPLETION_INDEX=9"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t)
			task := k.task(t, "")
			task.Command, task.NeedModel, task.NeedMetrics, task.Processes = []string{os.Args[0], "meet"}, true, false, 2
			if name != "Trainer" {
				task.Nodes = 2
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			port := l.Addr().(*net.TCPAddr).Port
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			zero, one := start(t, task, t.TempDir(), env(0, port)...), start(t, task, t.TempDir(), env(1, port)...)
			other := one.mustEnd(ExitDone, runner.Succeeded, "")
			term := zero.mustEnd(ExitDone, runner.Succeeded, "")
			if other.Result != "" || other.Model != nil || term.Model == nil {
				t.Errorf("node 1: %+v; node 0: %+v", other, term)
			}
			if text, _ := zero.lines(); strings.Join(text, "|") != `["0 of 4" "1 of 4" "2 of 4" "3 of 4"]` {
				t.Errorf("%q", text)
			}
		})
	}
}

func TestANodeWhoseCommandFailedWaitsWhetherAnotherWasLost(t *testing.T) {
	env := []string{"JOB_COMPLETION_INDEX=0", "MASTER_ADDR=127.0.0.1"}
	k := newCluster(t)
	task := k.task(t, "exit 3")
	task.Nodes, task.Settle = 2, time.Millisecond
	start(t, task, t.TempDir(), env...).mustEnd(ExitFailed, runner.Failed, "exit code 3")

	k = newCluster(t)
	task = k.task(t, "exit 3")
	task.Nodes, task.Settle = 2, time.Hour
	p := start(t, task, t.TempDir(), env...)
	eventually(t, "the command has ended", func() bool { _, err := os.Stat(p.message); return err == nil })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.mustEnd(ExitLost, runner.Lost, "ended with the other nodes")
	if _, err := FetchResult(within(t), k.c, task.Results, task.ID, filepath.Join(t.TempDir(), "r")); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("it stored a result, which would end the run for good: %v", err)
	}
}

func TestWhatACommandLeavesInItsOutputComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		out    Output
		script string
		file   string
	}{
		"file":               {Output{Name: "predictions.csv"}, `echo x > $ML_OUTPUT`, "predictions.csv"},
		"folder":             {Output{}, `mkdir $ML_OUTPUT/d; echo x > $ML_OUTPUT/d/y`, "d/y"},
		"file of its own":    {Output{Name: "p.csv", Repo: "data"}, `echo x > $ML_OUTPUT`, "p.csv"},
		"folder of its own":  {Output{Repo: "data"}, `mkdir $ML_OUTPUT/d; echo x > $ML_OUTPUT/d/y`, "d/y"},
		"without a code dir": {Output{}, `echo x > $ML_OUTPUT/y`, "y"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t)
			task := k.task(t, c.script)
			if name == "without a code dir" {
				task.Code, task.Command = nil, []string{"sh", "-c", c.script}
			}
			if c.out.Repo != "" {
				c.out.Repo = k.Repo(c.out.Repo)
			}
			task.Output = &c.out
			start(t, task, t.TempDir()).mustEnd(ExitDone, runner.Succeeded, "")
			dir := filepath.Join(t.TempDir(), "result")
			res, err := FetchResult(within(t), k.c, task.Results, task.ID, dir)
			if err != nil {
				t.Fatal(err)
			}
			got := filepath.Join(res.OutputDir(), c.file)
			if c.out.Repo != "" {
				if read(t, got) != "" {
					t.Error("it is in the result too")
				}
				in := filepath.Join(t.TempDir(), "data")
				if err := bring(within(t), k.c, "it", *res.Output, DataPrefix, in, true); err != nil {
					t.Fatal(err)
				}
				got = filepath.Join(in, c.file)
			}
			if read(t, got) != "x\n" {
				t.Errorf("%+v", res.Report)
			}
		})
	}
}

func TestACommandThatTheKernelKilledForMemorySaysSo(t *testing.T) {
	for name, c := range map[string]struct{ events, limit, bump, script, says string }{
		"version 2":          {"memory.events", "memory.max", "low 0\\noom_kill 3\\n", "kill -9 $$", "killed: out of memory (limit 512Mi)"},
		"version 1":          {"memory/memory.oom_control", "memory/memory.limit_in_bytes", "oom_kill_disable 0\\noom_kill 1\\n", "kill -9 $$", "killed: out of memory (limit 512Mi)"},
		"one of its workers": {"memory.events", "memory.max", "oom_kill 1\\n", "exit 7", "exit code 7; 1 of its processes were killed: out of memory (limit 512Mi)"},
		"killed by somebody": {"memory.events", "memory.max", "oom_kill 0\\n", "kill -9 $$", "killed by SIGKILL"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t)
			group := tree(t, map[string]string{c.events: "oom_kill 0\n", c.limit: "536870912\n"})
			task := k.task(t, "printf '"+c.bump+"' > "+group+"/"+c.events+"; "+c.script)
			term := start(t, task, t.TempDir(), "TEST_CGROUP="+group).mustEnd(ExitFailed, runner.Failed, c.says)
			if !strings.HasPrefix(term.Message, c.says) {
				t.Errorf("%q", term.Message)
			}
		})
	}
}

func TestAPodThatIsEndedWhileItFetchesSaysSo(t *testing.T) {
	k := newCluster(t)
	task := k.task(t, "echo must not run")
	var came atomic.Bool
	stop := make(chan struct{})
	defer close(stop)
	k.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if strings.Contains(q.URL.Path, "/code/blobs/") {
				came.Store(true)
				select {
				case <-stop:
				case <-q.Context().Done():
				}
				return
			}
			next.ServeHTTP(w, q)
		})
	})
	p := start(t, task, t.TempDir())
	eventually(t, "it fetches", came.Load)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.mustEnd(ExitLost, runner.Cancelled, "cancelled: fetch the code")
}
