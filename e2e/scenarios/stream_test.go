//go:build e2e

package scenarios

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// stream asks the service steadily until the function that it returns is called, which gives back how it went; a request that
// failed fails the test.
func (w *world) stream(args ...string) func() string {
	w.Helper()
	end := w.send(args...)
	return func() string {
		w.Helper()
		out, err := end()
		if err != nil {
			w.Fatalf("a request failed meanwhile: %v\n%s", err, out)
		}
		return out
	}
}

// streamFailing asks as clients do who know nothing of a new column; that some requests fail is what the scenario is about.
func (w *world) streamFailing(url string) func() {
	w.Helper()
	end := w.send(url, "clients.csv", "--seed", "6")
	return func() {
		w.Helper()
		out, err := end()
		if err == nil {
			w.Fatalf("no request failed: the canary had none\n%s", out)
		}
	}
}

func (w *world) send(args ...string) func() (string, error) {
	w.Helper()
	script, err := filepath.Abs(filepath.Join("..", "..", "examples", "traffic.py"))
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.Context(), limit)
	cmd := exec.CommandContext(ctx, "python3", append([]string{script, "send"}, args...)...)
	cmd.Dir = w.dir
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		cancel()
		w.Fatal(err)
	}
	w.Cleanup(cancel) // also ends it when the test fails meanwhile
	return func() (string, error) {
		w.Helper()
		defer cancel()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			w.Fatal(err)
		}
		err := cmd.Wait()
		return out.String(), err
	}
}
