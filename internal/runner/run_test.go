//go:build linux || darwin

package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/internal/proc"
)

func TestTheCommandGetsTheContractAndNothingElse(t *testing.T) {
	t.Setenv("LEAK", "1")
	t.Setenv("CUDA_VISIBLE_DEVICES", "0")
	t.Setenv("CUDA_HOME", "/cuda")
	t.Setenv("LD_PRELOAD_NOT", "x")
	t.Setenv("GODEBUG_SECRET", "s3cr3t")
	t.Setenv("PATH", "/usr/bin:/bin")
	t.Setenv("HOME", "/home/x")
	t.Setenv("LANG", "C.UTF-8")
	t.Setenv("LC_ALL", "")
	t.Setenv("TMPDIR", "/tmp")
	t.Setenv("ML_RUN_ID", "of an outer run")
	dir := folderFor(t)
	spec := shell(t, "")
	spec.Command = []string{"env", "-0"}
	spec.Env = map[string]string{"A": "1", "MULTI": "one\ntwo"}
	spec.PassEnv = []string{"CUDA_*", "GODEBUG_SECRET", "ABSENT"}
	spec.ExtraEnv = map[string]string{"PORT": "8080"}
	spec.Params = map[string]any{"epochs": 300, "learning-rate": 0.1, "name": "a b", "layers": []int{1, 2}}
	spec.Seed = 7
	if err := os.WriteFile(filepath.Join(spec.Dir, "in.csv"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spec.Inputs = map[string]string{"train-set": "in.csv"}
	spec.ModelDir = filepath.Join(dir, "model")
	if st := outcome(t, dir, spec); st.Phase != Succeeded {
		t.Fatalf("%+v", st)
	}
	got := strings.Split(strings.TrimRight(content(t, filepath.Join(dir, "stdout.log")), "\x00"), "\x00")
	slices.Sort(got)
	want := []string{
		"A=1", "CUDA_HOME=/cuda", "CUDA_VISIBLE_DEVICES=0", "GODEBUG_SECRET=s3cr3t", "HOME=/home/x", "LANG=C.UTF-8", "LC_ALL=",
		"ML_CHECKPOINT_DIR=" + dir + "/checkpoint", "ML_INPUT_TRAIN_SET=" + spec.Dir + "/in.csv", "ML_METRICS=" + dir + "/metrics.json",
		"ML_MODEL_DIR=" + dir + "/model", "ML_PARAMS=" + dir + "/params.json", "ML_PARAM_EPOCHS=300", "ML_PARAM_LAYERS=[1,2]",
		"ML_PARAM_LEARNING_RATE=0.1", "ML_PARAM_NAME=a b", "ML_PROGRESS=" + dir + "/progress.jsonl", "ML_RUN_ID=r1", "ML_SEED=7",
		"MULTI=one\ntwo", "PATH=/usr/bin:/bin", "PORT=8080", "PYTHONUNBUFFERED=1", "TMPDIR=/tmp",
	}
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	var params map[string]any
	if err := json.Unmarshal([]byte(content(t, filepath.Join(dir, "params.json"))), &params); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]any{"epochs": 300.0, "learning-rate": 0.1, "name": "a b", "layers": []any{1.0, 2.0}}, params); d != "" {
		t.Error(d)
	}
}

func TestNoValueOfAVariableIsWrittenToTheRunFolder(t *testing.T) {
	t.Setenv("API_TOKEN", "canary-of-pass-env")
	dir := folderFor(t)
	spec := shell(t, `test "$API_TOKEN$DB$PORT" = canary-of-pass-envcanary-of-envcanary-of-extra`)
	spec.PassEnv = []string{"API_*"}
	spec.Env = map[string]string{"DB": "canary-of-env"}
	spec.ExtraEnv = map[string]string{"PORT": "canary-of-extra"}
	if st := outcome(t, dir, spec); st.Phase != Succeeded {
		t.Fatalf("the command did not get the values: %+v", st)
	}
	files := 0
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is readable by others: %v", p, info.Mode())
		}
		// The command itself stands in spec.json, so look for values by a part that is not in it.
		if s := strings.ReplaceAll(content(t, p), "canary-of-pass-envcanary-of-envcanary-of-extra", ""); strings.Contains(s, "canary") {
			t.Errorf("%s holds a value", p)
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Fatalf("looked at %d files: %v", files, err)
	}
}

func TestOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		script  string
		change  func(*Spec)
		want    Status
		says    string
		touched []string // of Status.Changed, relative to the working folder
	}{
		"exit 0 is success":              {script: "exit 0", want: Status{Phase: Succeeded}},
		"another code is a failure":      {script: "echo oh; exit 3", want: Status{Phase: Failed, ExitCode: 3, LastLogLines: []string{"oh"}}, says: "exit code 3"},
		"a signal is named":              {script: "kill -SEGV $$", want: Status{Phase: Failed, ExitCode: -1, Signal: "SIGSEGV"}, says: "killed by SIGSEGV"},
		"a foreign SIGKILL hints at oom": {script: "kill -KILL $$", want: Status{Phase: Failed, ExitCode: -1, Signal: "SIGKILL"}, says: "out of memory"},
		"an unknown program": {change: func(s *Spec) { s.Command = []string{"no-such-program"} },
			want: Status{Phase: Failed, ExitCode: -1}, says: `cannot start "no-such-program": program not found in PATH=`},
		"a script without x": {change: func(s *Spec) { s.Command = []string{"./plain"} },
			want: Status{Phase: Failed, ExitCode: -1}, says: "is not executable; run chmod +x"},
		"a missing input": {change: func(s *Spec) { s.Inputs = map[string]string{"train": "nowhere.csv"} },
			want: Status{Phase: Failed, ExitCode: -1}, says: `input "train"`},
		"no model": {script: `mkdir "$ML_MODEL_DIR/empty"; ln -s /etc/passwd "$ML_MODEL_DIR/link"`, change: func(s *Spec) { s.NeedModel = true },
			want: Status{Phase: Failed}, says: "exit code 0 but wrote no model"},
		"a model": {script: `mkdir "$ML_MODEL_DIR/sub"; echo m > "$ML_MODEL_DIR/sub/model"`, change: func(s *Spec) { s.NeedModel = true },
			want: Status{Phase: Succeeded}},
		"a model folder that is not empty": {change: func(s *Spec) { s.NeedModel, s.ModelDir = true, "." },
			want: Status{Phase: Failed, ExitCode: -1}, says: "is not empty (plain)"},
		"a model that is only read": {script: `cat "$ML_MODEL_DIR"/*`, change: func(s *Spec) { s.ModelDir, s.ModelReadOnly = ".", true },
			want: Status{Phase: Succeeded, LastLogLines: []string{"#!/bin/sh"}}},
		"a read-only model that is changed": {script: `echo x >> "$ML_MODEL_DIR/plain"`, change: func(s *Spec) { s.ModelDir, s.ModelReadOnly = ".", true },
			want: Status{Phase: Failed}, says: "changed the model, which is read-only", touched: []string{"."}},
		"an input that is only read": {script: `cat "$ML_INPUT_TRAIN"`, change: func(s *Spec) { s.Inputs = map[string]string{"train": "plain"} },
			want: Status{Phase: Succeeded, LastLogLines: []string{"#!/bin/sh"}}},
		"an input that is changed": {script: `echo x >> "$ML_INPUT_TRAIN"`, change: func(s *Spec) { s.Inputs = map[string]string{"train": "plain"} },
			want: Status{Phase: Failed}, says: `changed the input "train", which is read-only here`, touched: []string{"plain"}},
		"an input folder that gets another file": {script: `echo x > "$ML_INPUT_TRAIN/new"`, change: func(s *Spec) { s.Inputs = map[string]string{"train": "."} },
			want: Status{Phase: Failed}, says: "/new; write elsewhere", touched: []string{"."}},
		"an input that is gone after a failure": {script: `rm "$ML_INPUT_TRAIN"; exit 3`, change: func(s *Spec) { s.Inputs = map[string]string{"train": "plain"} },
			want: Status{Phase: Failed, ExitCode: 3}, says: `exit code 3; also, the command changed the input "train"`, touched: []string{"plain"}},
		"metrics that are needed and missing": {script: "exit 0", change: func(s *Spec) { s.NeedMetrics = true },
			want: Status{Phase: Failed}, says: "wrote no metrics"},
		"metrics with NaN": {script: `echo '{"loss": NaN}' > "$ML_METRICS"`, change: func(s *Spec) { s.NeedMetrics = true },
			want: Status{Phase: Failed}, says: `"loss" is NaN; a finite number is needed`},
		"good metrics": {script: `echo '{"loss": 1}' > "$ML_METRICS"`, change: func(s *Spec) { s.NeedMetrics = true },
			want: Status{Phase: Succeeded}},
		"progress, some of it broken": {script: `printf '{"step":1}\nnonsense\n{"step":2}' >> "$ML_PROGRESS"`,
			want: Status{Phase: Succeeded, ProgressLines: 3, MalformedProgress: 1}},
		"a fifo instead of metrics does not hang": {script: `mkfifo "$ML_METRICS"`, change: func(s *Spec) { s.NeedMetrics = true },
			want: Status{Phase: Failed}, says: "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folderFor(t)
			spec := shell(t, c.script)
			if err := os.WriteFile(filepath.Join(spec.Dir, "plain"), []byte("#!/bin/sh\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(&spec)
			}
			got := outcome(t, dir, spec)
			if got.Started.IsZero() || got.Finished.Before(got.Started) || got.ID != "r1" {
				t.Errorf("times or id: %+v", got)
			}
			if !strings.Contains(got.Message, c.says) || c.says == "" && got.Message != "" {
				t.Errorf("message %q, want one with %q", got.Message, c.says)
			}
			got.ID, got.Started, got.Finished, got.Message, got.MaxRSSBytes, got.CPUSeconds = "", time.Time{}, time.Time{}, "", 0, 0
			for _, p := range c.touched {
				c.want.Changed = append(c.want.Changed, filepath.Join(spec.Dir, p))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestUseOfResourcesIsRecorded(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, "")
	spec.Command = []string{"python3", "-c", "b = bytearray(80 << 20)\nfor i in range(2000000): pass"}
	spec.PassEnv = []string{"PYENV_*"}
	st := outcome(t, dir, spec)
	if st.Phase != Succeeded || st.MaxRSSBytes < 80<<20 || st.MaxRSSBytes > 1<<30 || st.CPUSeconds <= 0 || st.CPUSeconds > 30 {
		t.Errorf("%+v", st)
	}
}

// pidFrom reads the pid that a script echoes into a file, and its identity.
func pidFrom(t *testing.T, path string) proc.Identity {
	t.Helper()
	eventually(t, "a pid in "+path, func() bool { return strings.HasSuffix(content(t, path), "\n") })
	pid, err := strconv.Atoi(strings.TrimSpace(content(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	id, err := proc.Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

const stubborn = `sh -c 'trap "" TERM; echo $$ > child; while :; do sleep 1; done' & `

func TestATimeoutKillsAGrandChildThatIgnoresSIGTERM(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, stubborn+"wait")
	spec.Timeout, spec.Grace = 700*time.Millisecond, 300*time.Millisecond
	mustStart(t, dir, spec)
	child := pidFrom(t, filepath.Join(spec.Dir, "child"))
	st := mustWait(t, dir)
	if st.Phase != TimedOut || !strings.Contains(st.Message, "timed out after 700ms") {
		t.Errorf("%+v", st)
	}
	if child.Alive() {
		t.Error("the grand-child lives when the outcome is there")
	}
	if took := st.Finished.Sub(st.Started); took < time.Second || took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestACommandThatEndsOnSIGTERMIsGivenItsGrace(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `trap 'echo saved > "$ML_CHECKPOINT_DIR/c"; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	spec.Timeout, spec.Grace = 500*time.Millisecond, 20*time.Second
	st := outcome(t, dir, spec)
	if st.Phase != TimedOut || st.ExitCode != 0 {
		t.Errorf("%+v", st)
	}
	if got := content(t, filepath.Join(dir, "checkpoint", "c")); got != "saved\n" {
		t.Errorf("checkpoint %q", got)
	}
	if took := st.Finished.Sub(st.Started); took > 10*time.Second {
		t.Errorf("waited for the whole grace: %s", took)
	}
}

func TestWhatTheCommandLeavesBehindIsEndedWithIt(t *testing.T) {
	cases := map[string]string{"in its group": stubborn + "while [ ! -s child ]; do sleep 0.01; done"}
	if runtime.GOOS == "linux" { // Only there orphans come back to the runner.
		cases["in a session of its own"] = `setsid ` + stubborn + "while [ ! -s child ]; do sleep 0.01; done"
	}
	for name, script := range cases {
		t.Run(name, func(t *testing.T) {
			dir := folderFor(t)
			spec := shell(t, script)
			spec.Grace = 200 * time.Millisecond
			mustStart(t, dir, spec)
			child := pidFrom(t, filepath.Join(spec.Dir, "child"))
			st := mustWait(t, dir)
			if st.Phase != Succeeded || st.LeftBehind < 1 {
				t.Errorf("%+v", st)
			}
			if child.Alive() {
				t.Error("it lives when the outcome is there")
			}
		})
	}
}

func TestAnotherProcessCancels(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, "echo $$ > child; exec sleep 60")
	mustStart(t, dir, spec)
	child := pidFrom(t, filepath.Join(spec.Dir, "child"))
	cmd, in, _ := other(t, "cancel", dir)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	st, err := Read(dir)
	if err != nil || st.Phase != Cancelled || st.Signal != "SIGTERM" || st.Message != "cancelled" {
		t.Errorf("%+v %v", st, err)
	}
	if child.Alive() {
		t.Error("the command lives after Cancel returned")
	}
}

func TestASecondCancelWithLessGraceIsObeyed(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `trap "" TERM; echo $$ > child; while :; do sleep 0.1; done`)
	mustStart(t, dir, spec)
	child := pidFrom(t, filepath.Join(spec.Dir, "child"))
	ctx, cancel := context.WithCancel(within(t))
	patient := make(chan error, 1)
	go func() { patient <- Cancel(ctx, dir, time.Hour) }()
	eventually(t, "the request is written", func() bool { return content(t, filepath.Join(dir, cancelFile)) != "" })
	if err := Cancel(within(t), dir, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if child.Alive() {
		t.Error("the command lives after Cancel returned")
	}
	if err := <-patient; err != nil {
		t.Errorf("the first Cancel: %v", err)
	}
	cancel()
	// Not lost: then the runner did not do it, and was killed for that.
	if st, err := Read(dir); err != nil || st.Phase != Cancelled || st.Signal != "SIGKILL" {
		t.Errorf("%+v %v", st, err)
	}
}

func TestACancelledRunNeverStarts(t *testing.T) {
	for name, prepare := range map[string]bool{"before anything is there": false, "after it was prepared": true} {
		t.Run(name, func(t *testing.T) {
			dir := folderFor(t)
			spec := shell(t, "echo ran >> oracle")
			if prepare {
				f := folder(dir)
				full, err := spec.resolve(dir)
				if err := orElse(err, f.make, func() error { return f.prepare(full) }); err != nil {
					t.Fatal(err)
				}
			}
			if err := Cancel(within(t), dir, time.Second); err != nil {
				t.Fatal(err)
			}
			st := outcome(t, dir, spec)
			if st.Phase != Cancelled {
				t.Errorf("%+v", st)
			}
			if got := content(t, filepath.Join(spec.Dir, "oracle")); got != "" {
				t.Error("the command ran")
			}
		})
	}
}

func orElse(err error, steps ...func() error) error {
	for _, step := range steps {
		if err != nil {
			return err
		}
		err = step()
	}
	return err
}

func TestARunSurvivesTheDeathOfItsStarter(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `echo ran >> oracle; while [ ! -e go ]; do sleep 0.02; done; echo end >> oracle`)
	cmd, in, out := other(t, "start-and-stay", dir)
	if err := json.NewEncoder(in).Encode(spec); err != nil {
		t.Fatal(err)
	}
	if line, err := out.ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("%q %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the starter was not killed")
	}
	mustStart(t, dir, spec) // As the next `ml` does when it settles what is open.
	if st, err := Read(dir); err != nil || st.Phase != Running {
		t.Fatalf("%+v %v", st, err)
	}
	if err := os.WriteFile(filepath.Join(spec.Dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if st := mustWait(t, dir); st.Phase != Succeeded {
		t.Errorf("%+v", st)
	}
	if got := content(t, filepath.Join(spec.Dir, "oracle")); got != "ran\nend\n" {
		t.Errorf("oracle %q", got)
	}
}

func TestManyStartsRunTheCommandOnce(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, "echo ran >> oracle")
	var wg sync.WaitGroup
	errs := make([]error, 50)
	for i := range errs {
		wg.Go(func() { errs[i] = Start(within(t), dir, spec) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if st := mustWait(t, dir); st.Phase != Succeeded {
		t.Errorf("%+v", st)
	}
	if got := content(t, filepath.Join(spec.Dir, "oracle")); got != "ran\n" {
		t.Errorf("oracle %q", got)
	}
}

// The runner's own lock must do, since the lock among starters is free again when a starter dies.
func TestManyRunnersOnOneFolderRunTheCommandOnce(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, "echo ran >> oracle; sleep 0.1")
	f := folder(dir)
	full, err := spec.resolve(dir)
	if err := orElse(err, f.make, func() error { return f.prepare(full) }); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], Subcommand, dir)
			cmd.Env = spec.carried(os.Environ())
			if out, err := cmd.CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("%w: %s", err, out)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if st := mustWait(t, dir); st.Phase != Succeeded {
		t.Errorf("%+v", st)
	}
	if got := content(t, filepath.Join(spec.Dir, "oracle")); got != "ran\n" {
		t.Errorf("oracle %q", got)
	}
}

func TestAKilledRunnerTakesItsCommandAlongAndIsLost(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `echo ran >> oracle; env -i PATH="$PATH" sh -c 'echo $$ > child; exec sleep 60' & echo $$ > leader; wait`)
	mustStart(t, dir, spec)
	child, leader := pidFrom(t, filepath.Join(spec.Dir, "child")), pidFrom(t, filepath.Join(spec.Dir, "leader"))
	eventually(t, "process.json", func() bool { return content(t, filepath.Join(dir, processFile)) != "" })
	st, err := Read(dir)
	if err != nil || st.Phase != Running || !st.Runner.Alive() {
		t.Fatalf("%+v %v", st, err)
	}
	if err := proc.Kill(st.Runner, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" {
		eventually(t, "the kernel ended the command, without anybody looking", func() bool { return !leader.Alive() })
	}
	st = mustWait(t, dir)
	if st.Phase != Lost || !strings.Contains(st.Message, "died without recording an outcome") {
		t.Errorf("%+v", st)
	}
	if leader.Alive() || child.Alive() {
		t.Errorf("after Wait: leader alive %v, its child %v", leader.Alive(), child.Alive())
	}
	mustStart(t, dir, spec)
	if st := mustWait(t, dir); st.Phase != Lost {
		t.Errorf("after another Start: %+v", st)
	}
	if got := content(t, filepath.Join(spec.Dir, "oracle")); got != "ran\n" {
		t.Errorf("oracle %q", got)
	}
}

func TestAPowerCutBetweenMarkerAndCommandIsLost(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, "echo ran >> oracle")
	f := folder(dir)
	full, err := spec.resolve(dir)
	torn := func() error { return os.WriteFile(f.path(startedFile), nil, 0o600) }
	if err := orElse(err, f.make, func() error { return f.prepare(full) }, torn); err != nil {
		t.Fatal(err)
	}
	runDirectly(t, dir, spec)
	if done, err := f.forbid(spec.ID); done || err != nil {
		t.Errorf("a run that may have begun was recorded as never begun: %v %v", done, err)
	}
	if st := outcome(t, dir, spec); st.Phase != Lost {
		t.Errorf("%+v", st)
	}
	if got := content(t, filepath.Join(spec.Dir, "oracle")); got != "" {
		t.Error("the command ran")
	}
}

// runDirectly is a runner whose starter has died.
func runDirectly(t *testing.T, dir string, spec Spec) {
	t.Helper()
	cmd := exec.Command(os.Args[0], Subcommand, dir)
	cmd.Env = spec.carried(os.Environ())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestARunnerThatFindsACancelRunsNothing(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, "echo ran >> oracle")
	f := folder(dir)
	full, err := spec.resolve(dir)
	ask := func() error { return f.write(cancelFile, cancelRequest{Grace: time.Second}) }
	if err := orElse(err, f.make, func() error { return f.prepare(full) }, ask); err != nil {
		t.Fatal(err)
	}
	runDirectly(t, dir, spec)
	if st, err := Read(dir); err != nil || st.Phase != Cancelled {
		t.Errorf("%+v %v", st, err)
	}
	if got := content(t, filepath.Join(spec.Dir, "oracle")); got != "" {
		t.Error("the command ran")
	}
}

// A runner may record its outcome and end between two looks of a reader.
func TestAnEndingRunIsNeverTakenForLost(t *testing.T) {
	f := folder(t.TempDir())
	begin := func() error { return f.create(startedFile, begun{}) }
	if err := orElse(f.write(specFile, Spec{ID: "r1"}), begin); err != nil {
		t.Fatal(err)
	}
	if err := begin(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a run can begin twice: %v", err)
	}
	st, err := f.statusBy(func() (bool, error) {
		return false, f.write(statusFile, Status{ID: "r1", Phase: Succeeded})
	})
	if err != nil || st.Phase != Succeeded {
		t.Errorf("%+v %v", st, err)
	}
}

func TestAFolderServesOneRun(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, "exit 0")
	outcome(t, dir, spec)
	spec.Command = []string{"true"}
	if err := Start(within(t), dir, spec); err == nil || !strings.Contains(err.Error(), "already holds a different run") {
		t.Errorf("error %v", err)
	}
}

func TestRanksFindEachOtherAndAFailingOneEndsAll(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `echo "$MASTER_ADDR:$MASTER_PORT $WORLD_SIZE $RANK $LOCAL_RANK"; echo $$ > pid$RANK
if [ $RANK = 1 ]; then while [ ! -s pid0 ]; do sleep 0.01; done; exit 9; fi; exec sleep 60`)
	spec.Processes = 2
	st := outcome(t, dir, spec)
	if st.Phase != Failed || st.ExitCode != 9 || st.Rank != 1 || !strings.Contains(st.Message, "rank 1 ended first (exit status 9)") {
		t.Errorf("%+v", st)
	}
	zero, one := strings.TrimSpace(content(t, LogPath(dir, 0))), strings.TrimSpace(content(t, LogPath(dir, 1)))
	master, rest, _ := strings.Cut(zero, " ")
	if !strings.HasPrefix(master, "127.0.0.1:") || rest != "2 0 0" || one != master+" 2 1 1" {
		t.Errorf("rank 0 %q, rank 1 %q", zero, one)
	}
	if d := cmp.Diff([]string{one}, st.LastLogLines); d != "" {
		t.Error(d)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(content(t, filepath.Join(spec.Dir, "pid0"))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Of(pid); err == nil {
		t.Error("rank 0 lives")
	}
}

func TestRanksOfSeveralNodesCountOn(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `echo "$MASTER_ADDR:$MASTER_PORT $WORLD_SIZE $LOCAL_WORLD_SIZE $RANK $LOCAL_RANK"; test "$LOCAL_RANK" = 0 || exit 9; sleep 60`)
	spec.Processes, spec.Nodes, spec.NodeRank, spec.MasterAddr, spec.MasterPort = 2, 3, 2, "node-0.svc", 29500
	st := outcome(t, dir, spec)
	if st.Phase != Failed || st.Rank != 1 || !strings.Contains(st.Message, "rank 5 ended first") {
		t.Errorf("%+v", st)
	}
	for n, want := range []string{"node-0.svc:29500 6 2 4 0", "node-0.svc:29500 6 2 5 1"} {
		if got := strings.TrimSpace(content(t, LogPath(dir, n))); got != want {
			t.Errorf("process %d: %q, want %q", n, got, want)
		}
	}
	for says, change := range map[string]func(*Spec){
		"node rank: 3 is outside 0 to 2":   func(s *Spec) { s.NodeRank = 3 },
		"node rank: 2 is outside 0 to 0":   func(s *Spec) { s.Nodes = 1 },
		"nodes: -1 is outside":             func(s *Spec) { s.Nodes = -1 },
		"need the address and port of the": func(s *Spec) { s.MasterPort = 0 },
		`master: "" and port 29500`:        func(s *Spec) { s.MasterAddr = "" },
	} {
		bad := spec
		change(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestWaitStreamsProgressWhileTheCommandRuns(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `printf '{"step":1,"of":2,"loss":0.5}\n{"st' >> "$ML_PROGRESS"; while [ ! -e go ]; do sleep 0.02; done; printf 'ep":2,"of":2}' >> "$ML_PROGRESS"`)
	mustStart(t, dir, spec)
	var got []Progress
	st, err := Wait(within(t), dir, func(p Progress) {
		got = append(got, p)
		if len(got) == 1 { // The command waits for this very line to arrive.
			if err := os.WriteFile(filepath.Join(spec.Dir, "go"), nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || st.Phase != Succeeded {
		t.Fatalf("%+v %v", st, err)
	}
	want := []Progress{{Step: 1, Of: 2, Values: map[string]float64{"loss": 0.5}}, {Step: 2, Of: 2}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestWaitEndsWithItsContextAndTheRunGoesOn(t *testing.T) {
	dir := folderFor(t)
	mustStart(t, dir, shell(t, "exec sleep 60"))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if st, err := Wait(ctx, dir, nil); err == nil || st.Phase != Running {
		t.Errorf("%+v %v", st, err)
	}
	if st, err := Read(dir); err != nil || st.Phase != Running {
		t.Errorf("%+v %v", st, err)
	}
}

func TestNothingInheritedReachesTheRunOrKeepsAForeignPipeOpen(t *testing.T) {
	dir := folderFor(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "start-and-stay", dir)
	cmd.ExtraFiles = []*os.File{w, w}
	spec := shell(t, "exec sleep 60")
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader(string(b) + "\n") // It ends when this does.
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("the running run holds a pipe of its starter's parent: %d %v", n, err)
	}
	if st, err := Read(dir); err != nil || st.Phase != Running {
		t.Errorf("the run is not there any more, so this proved nothing: %+v %v", st, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFollowGivesTheWholeLogAndEndsWithTheRun(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `echo one; while [ ! -e go ]; do sleep 0.02; done; echo two >&2`)
	mustStart(t, dir, spec)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Follow(within(t), dir, w)
		done <- errors.Join(err, w.Close())
	}()
	log := bufio.NewReader(r)
	if line, err := log.ReadString('\n'); err != nil || line != "one\n" { // Before the command has ended.
		t.Fatalf("%q %v", line, err)
	}
	if err := os.WriteFile(filepath.Join(spec.Dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(log)
	if err != nil || string(rest) != "two\n" {
		t.Errorf("%q %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestALoudCommandIsHeldToTheLogLimitAndNotDisturbed(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `echo first; i=0; while [ $i -lt 8 ]; do head -c 200000 /dev/zero | tr '\0' 'x'; echo; sleep 0.12; i=$((i+1)); done; echo last`)
	spec.LogLimit = 100_000
	if st := outcome(t, dir, spec); st.Phase != Succeeded || st.LastLogLines[len(st.LastLogLines)-1] != "last" {
		t.Fatalf("%s, the log ends with %q", st.Phase, clip(strings.Join(st.LastLogLines, "|"), 200))
	}
	log := content(t, LogPath(dir, 0))
	if !strings.HasPrefix(log, "first\n") || !strings.Contains(log, "[ml: the log outgrew 100000 bytes; ") || len(log) > 600_000 {
		t.Errorf("%d bytes", len(log))
	}
}
