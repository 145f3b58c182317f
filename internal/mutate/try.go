package main

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
	"time"
)

// runner tries mutations in the module that it is started in.
type runner struct {
	dir     string // for mutated files and overlays
	timeout time.Duration
	sound   map[string]error // by package and test: nil when they pass as things are
}

// try makes one mutation and runs its tests.
func (r *runner) try(ctx context.Context, m mutation) (outcome, string) {
	overlay, err := r.overlay(m)
	if err != nil {
		return mistake, err.Error()
	}
	if err := r.isSound(ctx, m); err != nil {
		return mistake, err.Error()
	}
	out, err := r.test(ctx, m, overlay)
	switch {
	case err == nil:
		return survived, m.Package + " " + m.Test
	case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
		return mistake, "the mutant does not compile: " + firstLines(out, 3)
	}
	return killed, ""
}

// overlay writes the mutated file and the overlay that puts it in place.
func (r *runner) overlay(m mutation) (string, error) {
	raw, err := os.ReadFile(m.File)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(raw, []byte(m.Old)); n != 1 {
		return "", fmt.Errorf("%s holds the text %d times, want once", m.File, n)
	}
	abs, err := filepath.Abs(m.File)
	if err != nil {
		return "", err
	}
	mutant := filepath.Join(r.dir, "mutant.go")
	if err := os.WriteFile(mutant, bytes.Replace(raw, []byte(m.Old), []byte(m.New), 1), 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {abs: mutant}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(r.dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// isSound wants the tests to exist and to pass without the mutation: only then
// does their failure say anything about it.
func (r *runner) isSound(ctx context.Context, m mutation) error {
	key := m.Package + " " + m.Test
	if err, ok := r.sound[key]; ok {
		return err
	}
	out, err := r.test(ctx, m, "")
	switch {
	case err != nil:
		err = fmt.Errorf("%s fails without a mutation: %s", key, firstLines(out, 3))
	case strings.Contains(out, "no tests to run"):
		err = fmt.Errorf("%s: there is no such test", key)
	}
	r.sound[key] = err
	return err
}

// test runs the tests of a mutation, with the overlay unless it is "".
func (r *runner) test(ctx context.Context, m mutation, overlay string) (string, error) {
	pattern := "^(" + m.Test + ")$"
	if strings.Contains(m.Test, "/") {
		pattern = m.Test // a path of subtests, which parentheses would cut
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-timeout", r.timeout.String(), "-run", pattern, m.Package)
	if overlay != "" {
		// As a variable it also reaches the tests that build the program themselves. What they found
		// without the mutation must not be taken for what they would find with it.
		cmd.Args = append(cmd.Args, "-count=1")
		cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	}
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return err.Error(), err
	}
	return string(out), err
}

// firstLines are the beginnings of an output, on one line.
func firstLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > n {
		lines = lines[:n]
	}
	return strings.Join(lines, " | ")
}
