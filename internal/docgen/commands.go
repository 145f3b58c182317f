package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// commandsPage asks the program itself for its help texts: what is printed is
// what is documented.
func commandsPage(root string) (string, error) {
	dir, err := os.MkdirTemp("", "docgen")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary folder harms nobody
	ml := filepath.Join(dir, "ml")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", ml, "./cmd/ml")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cmd/ml for its help texts: %w\n%s", err, out)
	}
	var b strings.Builder
	b.WriteString("# Commands\n\nLong flags take one dash or two. Exit codes: `ml help exit-codes`. The same program is installed as `continuo`.\n")
	if err := help(ctx, ml, nil, &b); err != nil {
		return "", err
	}
	return b.String(), nil
}

// help writes a command's help and then that of its subcommands, in the order
// in which the help names them.
func help(ctx context.Context, ml string, path []string, b *strings.Builder) error {
	cmd := exec.CommandContext(ctx, ml, append([]string{"help"}, path...)...)
	cmd.Env = []string{"NO_COLOR=1", "HOME=" + os.TempDir()}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("ml help %s: %w", strings.Join(path, " "), err)
	}
	text := string(out)
	title := strings.Join(append([]string{"ml"}, path...), " ")
	fmt.Fprintf(b, "\n## %s\n\n```text\n%s\n```\n", title, strings.TrimSpace(withoutGlobals(text, len(path) > 0)))
	for _, sub := range subcommands(text) {
		if err := help(ctx, ml, append(path[:len(path):len(path)], sub), b); err != nil {
			return err
		}
	}
	return nil
}

// withoutGlobals leaves out the flags that every command takes: they stand once,
// under ml.
func withoutGlobals(text string, cut bool) string {
	if i := strings.Index(text, "\nGlobal Flags:"); cut && i >= 0 {
		return text[:i]
	}
	return text
}

// subcommands reads the names under "Available Commands:" and the topics under
// "Additional help topics:" of a help text.
func subcommands(text string) []string {
	var names []string
	section := ""
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || !strings.HasPrefix(line, "  "):
			section = strings.TrimSpace(line)
		case section == "Available Commands:" && fields[0] != "help":
			names = append(names, fields[0])
		case section == "Additional help topics:" && len(fields) > 1:
			names = append(names, fields[1])
		}
	}
	return names
}
