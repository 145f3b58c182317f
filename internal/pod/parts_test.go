//go:build linux || darwin

package pod

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/internal/runner"
)

func TestLogAndProgressComeApartAgain(t *testing.T) {
	var out bytes.Buffer
	l := &logWriter{w: &out}
	say := func(s string) {
		t.Helper()
		if _, err := l.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	step := func(n float64) {
		t.Helper()
		if err := l.progress(runner.Progress{Step: n, Text: map[string]string{"note": "a\nb\x1eml "}}); err != nil {
			t.Fatal(err)
		}
	}
	step(1)
	say("one\ntw")
	step(2) // waits for the end of the line
	say("o\n\n")
	say("\x1eml {\"step\": 99}\n\x1e\x1e\nin \x1eml line\n")
	step(3)
	say("\x1e")
	say("ml {}\nbar 10%\rbar 20%\r")
	step(4)
	l.since = l.since.Add(-patience) // a second later
	step(5)
	say("end")
	step(6)
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	var text []string
	var steps []float64
	if err := SplitLog(&out, func(s string) { text = append(text, s) }, func(p runner.Progress) { steps = append(steps, p.Step) }); err != nil {
		t.Fatal(err)
	}
	want := []string{"one", "two", "", "\x1eml {\"step\": 99}", "\x1e\x1e", "in \x1eml line", "\x1eml {}", "bar 10%\rbar 20%\r", "end"}
	if d := cmp.Diff(want, text); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]float64{1, 2, 3, 4, 5, 6}, steps); d != "" {
		t.Error(d)
	}
}

func TestALongLineComesInPieces(t *testing.T) {
	var got []string
	if err := SplitLog(strings.NewReader(strings.Repeat("x", maxLine+5)+"\ny"), func(s string) { got = append(got, s) }, nil); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || len(got[0]) != maxLine || got[1] != "xxxxx" || got[2] != "y" {
		t.Errorf("%d pieces", len(got))
	}
}

func TestTheLastWordFits(t *testing.T) {
	nasty := []string{}
	for range 20 {
		nasty = append(nasty, strings.Repeat("\x1b\xff\"é", 200))
	}
	for name, term := range map[string]Termination{
		"much of everything": {Phase: runner.Failed, Message: strings.Repeat("long ", 2000), Tail: nasty, Result: strings.Repeat("r", 200), Model: &Model{Ref: strings.Repeat("m", 200)}},
		"control characters": {Phase: runner.Failed, Message: strings.Repeat("\x01", 5000)},
		"little":             {Phase: runner.Succeeded, Tail: []string{"one", "two"}},
	} {
		b, err := term.encode()
		if err != nil || len(b) > maxMessage {
			t.Errorf("%s: %d bytes: %v", name, len(b), err)
			continue
		}
		back, err := ParseTermination(b)
		if err != nil || back.Phase != term.Phase || back.Result != term.Result {
			t.Errorf("%s: %+v: %v", name, back, err)
		}
		if name == "much of everything" && (len(back.Tail) == 0 || len(b) < maxMessage*3/4) {
			t.Errorf("%s: %d bytes, %d lines: room was left", name, len(b), len(back.Tail))
		}
		if name == "little" && len(back.Tail) != 2 {
			t.Errorf("%s: %q", name, back.Tail)
		}
	}
	for _, bad := range []string{"", " \n", "Traceback (most recent call last)", `{"v":2,"phase":"succeeded"}`, `{"v":1,"phase":"running"}`} {
		if _, err := ParseTermination([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestATaskThatCannotBeMeantIsRefused(t *testing.T) {
	fine := Task{
		V: TaskVersion, ID: "r1", Command: []string{"x"}, Results: "oci://h/r", Code: &Artifact{Ref: "oci://h/c@sha256:0"},
		Params: map[string]any{"n": json.Number("1e400")},
	}
	parse := func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParseTask(func(name string) string { return map[string]string{TaskVar: string(b)}[name] }, os.ReadFile)
		return err
	}
	if err := parse(fine); err != nil {
		t.Fatal(err)
	}
	for says, change := range map[string]func(*Task){
		"is of version 2":              func(t *Task) { t.V = 2 },
		"results: name the repository": func(t *Task) { t.Results = "" },
		`id: "a/b" cannot be a tag`:    func(t *Task) { t.ID = "a/b" },
		`id: ".a" cannot be a tag`:     func(t *Task) { t.ID = ".a" },
		`id: "" cannot be a tag`:       func(t *Task) { t.ID = "" },
		"no repository is named":       func(t *Task) { t.NeedModel = true },
		"code: no reference":           func(t *Task) { t.Code = &Artifact{} },
		"names no fixed content":       func(t *Task) { t.Model = &Artifact{Ref: "oci://h/m:latest"} },
		"cannot be that of a folder":   func(t *Task) { t.Inputs = map[string]Artifact{"../x": *t.Code} },
		`"../x" cannot be the name`:    func(t *Task) { t.Inputs = map[string]Artifact{"x": {Ref: "oci://h/c@sha256:0", File: "../x"}} },
		"must lie in the working":      func(t *Task) { t.Outputs = []string{"../x"} },
		"cannot be that of a file":     func(t *Task) { t.Output = &Output{Name: "a/b"} },
	} {
		bad := fine
		change(&bad)
		if err := parse(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if err := parse(map[string]any{"v": 1, "id": "r1", "surprise": true}); err == nil {
		t.Error("a field that nobody knows was taken")
	}
	if _, err := ParseTask(func(string) string { return "" }, os.ReadFile); err == nil || !strings.Contains(err.Error(), TaskVar) {
		t.Errorf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "task.json")
	b, err := json.Marshal(fine)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ParseTask(func(name string) string { return map[string]string{TaskFileVar: file}[name] }, os.ReadFile)
	if d := cmp.Diff(fine, got); d != "" || err != nil {
		t.Errorf("%v: %s", err, d)
	}
}

func TestNodesAreReadFromTheContainer(t *testing.T) {
	for name, c := range map[string]struct {
		task Task
		env  map[string]string
		want node
		says string
	}{
		"alone":             {Task{}, map[string]string{"JOB_COMPLETION_INDEX": "3"}, node{nodes: 1, port: defaultMasterPort}, ""},
		"indexed Job":       {Task{Nodes: 4, Processes: 2}, map[string]string{"JOB_COMPLETION_INDEX": "3", "MASTER_ADDR": "a"}, node{nodes: 4, rank: 3, processes: 2, addr: "a", port: defaultMasterPort}, ""},
		"too few":           {Task{Nodes: 2}, map[string]string{"JOB_COMPLETION_INDEX": "2"}, node{}, "this is node 2 of 2"},
		"no number":         {Task{Nodes: 2}, map[string]string{"PET_NODE_RANK": "x"}, node{}, "PET_NODE_RANK"},
		"elastic, no count": {Task{}, map[string]string{"PET_NNODES": "1:4"}, node{}, "PET_NNODES"},
	} {
		got, err := nodeOf(c.task, func(name string) string { return c.env[name] })
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%s: %+v: %v", name, got, err)
		}
	}
}

func TestTheProgramInstallsItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	for range 2 { // the second time over the first
		if out, err := exec.Command(os.Args[0], "pod", "install", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	info, err := os.Stat(filepath.Join(dir, Program))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Fatalf("%v %v", info, err)
	}
	out, err := exec.Command(filepath.Join(dir, Program), "pod", "nonsense").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "usage: ml pod install") {
		t.Errorf("%v: %s", err, out)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v %v", list, err)
	}
}

func TestAServerGetsItsCodeAndModel(t *testing.T) {
	k := newCluster(t)
	code, err := PushCode(within(t), k.c, k.Repo("code"), tree(t, map[string]string{"serve.py": "1", "data/big.csv": "not code"}), []string{"serve.py"})
	if err != nil {
		t.Fatal(err)
	}
	model, err := PushModel(within(t), k.c, ModelPlace{Repo: k.Repo("models/x")}, tree(t, map[string]string{"m.bin": "weights"}))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	fetch := func(task FetchTask) (string, error) {
		t.Helper()
		b, err := json.Marshal(task)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "pod", "fetch")
		cmd.Env = []string{FetchVar + "=" + string(b)}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	task := FetchTask{V: TaskVersion, Dir: dir, Code: &code, Model: &Artifact{Ref: model.Ref, Digest: model.Digest}}
	if out, err := fetch(task); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(dir+"/model/m.bin", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/model/m.bin", []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.Forget()
	if out, err := fetch(task); err != nil { // the init container again: what is whole stays, what is not comes anew
		t.Fatalf("%v: %s", err, out)
	}
	if len(k.Requests("GET /v2/ml/code/")) > 0 || len(k.Requests("GET /v2/ml/models/")) == 0 {
		t.Errorf("requests: %v", k.Requests(""))
	}
	if read(t, dir+"/code/serve.py") != "1" || read(t, dir+"/model/m.bin") != "weights" || read(t, dir+"/code/data/big.csv") != "" {
		t.Error("other files came")
	}
	if info, err := os.Stat(dir + "/model/m.bin"); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("%v %v", info, err)
	}
	task.Model.Digest = strings.Repeat("0", 64)
	if out, err := fetch(task); err == nil || !strings.Contains(out, "fetch the model") || !strings.Contains(out, "has other content") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAnImageWithoutCertificateAuthoritiesCanStillReachARegistry(t *testing.T) {
	for mode, says := range map[string]string{"roots": "there are none without ours", "fallback": "ours are trusted"} {
		cmd := exec.Command(os.Args[0], mode)
		cmd.Env = []string{"SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent"}
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "true" {
			t.Errorf("%s: %s %v", says, out, err)
		}
	}
}
