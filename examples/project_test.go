//go:build examples

package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/proc/proctest"
)

// limit ends a command that hangs; the slowest takes about half a minute.
const limit = 4 * time.Minute

// bin is the program, built once.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "examples-bin")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin = filepath.Join(dir, "ml")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		build := exec.CommandContext(ctx, "go", "build", "-o", bin, "../cmd/ml")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build cmd/ml: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// project is a copy of an example in a folder of its own.
type project struct {
	*testing.T
	dir string
	env []string
}

// open copies an example. At the end it destroys what was applied, and fails if
// a process of the copy is left.
func open(t *testing.T, name string, env ...string) *project {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &project{T: t, dir: dir, env: append(os.Environ(), append(env, "NO_COLOR=1")...)}
	if name != "" {
		if err := os.CopyFS(dir, os.DirFS(name)); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, ".ml")); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if out, err := p.command(context.Background(), bin, "destroy", "-auto-approve"); err != nil {
			t.Errorf("destroy: %v\n%s", err, out)
		}
		if left, err := proctest.In(dir); err != nil || len(left) > 0 {
			t.Errorf("processes of the example are left (%v):\n%s", err, strings.Join(left, "\n"))
		}
	})
	return p
}

// command runs a program in the folder and returns both of its streams.
func (p *project) command(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("%w after %s", ctx.Err(), limit)
	}
	return string(out), err
}

// ml runs the program and fails the test unless it exits with want. It returns
// what it printed.
func (p *project) ml(want int, args ...string) string {
	p.Helper()
	out, err := p.command(p.Context(), bin, args...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		p.Fatalf("ml %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if got != want {
		p.Fatalf("ml %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, want, out)
	}
	return out
}

// json runs the program with -json and decodes what it prints.
func (p *project) json(into any, args ...string) {
	p.Helper()
	out := p.ml(0, append(args, "-json")...)
	if err := json.NewDecoder(strings.NewReader(out)).Decode(into); err != nil {
		p.Fatalf("ml %s -json: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// row is a line of `ml status -json`.
type row struct {
	Address, Phase, Verdict, Endpoint string
	Version                           int
	Signal                            map[string]string
}

// status is the row of an address, which must be there.
func (p *project) status(address string) row {
	p.Helper()
	var rows []row
	p.json(&rows, "status")
	for _, r := range rows {
		if r.Address == address {
			return r
		}
	}
	p.Fatalf("ml status has no row for %s", address)
	return row{}
}

type version struct {
	Version         int
	Digest          string
	Passed, Current bool
	Metrics         map[string]float64
}

func (p *project) versions(address string) []version {
	p.Helper()
	var vs []version
	p.json(&vs, "versions", address)
	return vs
}

// plan maps each address that has something to do, or a reason not to, to
// "action code code…".
func (p *project) plan() map[string]string {
	p.Helper()
	var doc struct {
		Steps []struct {
			Address, Action string
			Reasons         []struct{ Code, By string }
		}
	}
	p.json(&doc, "plan")
	steps := map[string]string{}
	for _, s := range doc.Steps {
		text := s.Action
		for _, r := range s.Reasons {
			text += " " + r.Code
			if r.By != "" {
				text += "<" + r.By
			}
		}
		steps[s.Address] = text
	}
	return steps
}

// replace edits a file of the copy.
func (p *project) replace(name, old, new string) {
	p.Helper()
	file := filepath.Join(p.dir, name)
	raw, err := os.ReadFile(file)
	if err != nil {
		p.Fatal(err)
	}
	if !bytes.Contains(raw, []byte(old)) {
		p.Fatalf("%s does not contain %q", name, old)
	}
	if err := os.WriteFile(file, bytes.Replace(raw, []byte(old), []byte(new), 1), 0o644); err != nil {
		p.Fatal(err)
	}
}

func (p *project) read(name string) string {
	p.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.Fatal(err)
	}
	return string(raw)
}
