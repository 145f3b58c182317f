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
	return func() string {
		w.Helper()
		defer cancel()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			w.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			w.Fatalf("a request failed meanwhile: %v\n%s", err, out.String())
		}
		return out.String()
	}
}
