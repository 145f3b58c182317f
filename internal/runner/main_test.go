//go:build linux || darwin

package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/internal/proc"
)

// TestMain lets this test binary be the detached runner, and two other programs that tests start and kill.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == Subcommand {
		os.Exit(Main(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == "start-and-stay" {
		os.Exit(startAndStay(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == "cancel" {
		os.Exit(report(Cancel(context.Background(), os.Args[2], 5*time.Second)))
	}
	goleak.VerifyTestMain(patient{m})
}

// patient lets the last runners end before goleak looks: a program built with -race takes a second to exit.
type patient struct{ m *testing.M }

func (p patient) Run() int {
	code := p.m.Run()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); ; {
		all, err := proc.List()
		if err != nil {
			return max(code, report(err))
		}
		if !slices.ContainsFunc(all, func(q proc.Process) bool { return q.Parent == os.Getpid() }) {
			return code
		}
		select {
		case <-tick.C:
		case <-late:
			return max(code, report(errors.New("children of the tests do not end")))
		}
	}
}

func report(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startAndStay reads a Spec from stdin, starts it, says so, and stays until it is killed.
func startAndStay(dir string) int {
	var spec Spec
	r := bufio.NewReader(os.Stdin)
	line, err := r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &spec)
	}
	if err == nil {
		err = Start(context.Background(), dir, spec)
	}
	if err != nil {
		return report(err)
	}
	fmt.Println("started")
	_, err = io.Copy(io.Discard, r)
	return report(err)
}

// within is a context that ends before the test framework would.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// folderFor returns a run folder; whatever is left of its run at the end of the test is cancelled.
func folderFor(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "runs", "r1")
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Cancel(context.Background(), dir, time.Second); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}

// shell is a spec for a script in an empty working folder.
func shell(t *testing.T, script string) Spec {
	t.Helper()
	return Spec{ID: "r1", Address: "training.x", Command: []string{"sh", "-c", script}, Dir: t.TempDir(), Grace: 2 * time.Second}
}

func mustStart(t *testing.T, dir string, spec Spec) {
	t.Helper()
	if err := Start(within(t), dir, spec); err != nil {
		t.Fatal(err)
	}
}

func mustWait(t *testing.T, dir string) Status {
	t.Helper()
	st, err := Wait(within(t), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// outcome runs spec to its end.
func outcome(t *testing.T, dir string, spec Spec) Status {
	t.Helper()
	mustStart(t, dir, spec)
	return mustWait(t, dir)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// other starts this test binary as another program.
func other(t *testing.T, args ...string) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in, bufio.NewReader(out)
}
