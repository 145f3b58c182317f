package crash

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const slow = `
training "t" {
  command = ["sh", "slow.sh"]
  sources = ["slow.sh"]
}
check "after" {
  depends_on = [training.t]
  command    = ["sh", "-c", "echo after >> after.log"]
}
`

// slowScript waits for a file, so that the test decides how long it takes.
const slowScript = `echo started >> started.log
while [ ! -e go.flag ]; do sleep 0.05; done
echo m > "$ML_MODEL_DIR/model"
echo done >> done.log
`

// interrupted starts an apply and sends SIGINT n times once the training runs.
func interrupted(t *testing.T, p *project, n int) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-chdir", p.dir, "apply", "-auto-approve", "-no-color")
	log := filepath.Join(p.dir, "apply.log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.await("started.log", "")
	for i := range n {
		if i > 0 {
			p.await("apply.log", "Stopping") // the first one was understood
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// await waits until a file is there and holds text.
func (p *project) await(name, text string) {
	p.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		if raw, err := os.ReadFile(filepath.Join(p.dir, name)); err == nil && strings.Contains(string(raw), text) {
			return
		}
		select {
		case <-deadline:
			p.t.Fatalf("%s did not appear", name)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *project) lines(name string) int {
	p.t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Count(string(raw), "\n")
}

func slowProject(t *testing.T) *project {
	t.Helper()
	p := &project{t: t, dir: t.TempDir()}
	p.write("main.ml.hcl", slow)
	p.write("slow.sh", slowScript)
	p.write(".mlignore", "*.log\n*.flag\n")
	t.Cleanup(func() { p.write("go.flag", "") }) // a test that failed leaves nothing waiting
	return p
}

// TestTheFirstInterruptLeavesTheRunAndTheNextApplyCollectsIt is what Ctrl-C once means.
func TestTheFirstInterruptLeavesTheRunAndTheNextApplyCollectsIt(t *testing.T) {
	p := slowProject(t)
	out, code := interrupted(t, p, 1)
	if code != 1 || !strings.Contains(out, "ml apply") {
		t.Fatalf("exit %d; the way to go on must be printed:\n%s", code, out)
	}
	if len(p.processes()) == 0 {
		t.Fatal("the run must go on without ml")
	}
	p.write("go.flag", "")
	p.recover()
	if p.lines("started.log") != 1 || p.lines("done.log") != 1 || p.lines("after.log") != 1 {
		t.Fatalf("started %d, done %d, after %d; want once each", p.lines("started.log"), p.lines("done.log"), p.lines("after.log"))
	}
	p.checkProcesses()
}

// TestTheSecondInterruptCancelsWhatRuns is what Ctrl-C twice means.
func TestTheSecondInterruptCancelsWhatRuns(t *testing.T) {
	p := slowProject(t)
	out, code := interrupted(t, p, 2)
	if code != 1 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	p.checkProcesses()
	if p.lines("done.log") != 0 || p.lines("after.log") != 0 {
		t.Fatal("what was cancelled went on")
	}
	out, err := p.ml("ML_NOTHING=", 0, "apply", "-auto-approve", "-no-color")
	if err == nil || !strings.Contains(out, "cancelled") {
		t.Fatalf("the next apply says that the run was cancelled: %v\n%s", err, out)
	}
}
