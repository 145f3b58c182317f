// Package binaries builds the programs of the e2e cluster from Go modules, each once.
//
// Every folder below build is a module of its own, so that what it needs stays out of the product's; its go.mod names the programs as
// tools. What was built is kept outside the tree under the hash of go.mod and go.sum.
package binaries

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Module is one folder of build.
type Module struct {
	Name    string   // of the folder
	Path    string   // of the Go module whose programs are built
	Tools   []string // names of the programs
	LDFlags string   // beside -s -w
}

// Builder builds modules.
type Builder struct {
	Source string // folder that has a folder for each module
	Cache  string // folder outside the tree
	Log    io.Writer
}

// Key returns the name under which the module's programs are kept: the folder, and the hash of what decides their bytes.
func (b Builder) Key(m Module) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(b.Source, m.Name, name))
		if err != nil {
			return "", fmt.Errorf("build %s: %w", m.Name, err)
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
	}
	fmt.Fprintln(h, m.LDFlags)
	return m.Name + "-" + hex.EncodeToString(h.Sum(nil))[:16], nil
}

// Dir returns the folder with the module's programs, which [Builder.Build] fills.
func (b Builder) Dir(m Module) (string, error) {
	key, err := b.Key(m)
	return filepath.Join(b.Cache, "bin", key), err
}

// Built reports whether there is nothing to build.
func (b Builder) Built(m Module) (bool, error) {
	dir, err := b.Dir(m)
	if err != nil {
		return false, err
	}
	for _, t := range m.Tools {
		if _, err := os.Stat(filepath.Join(dir, t)); err != nil {
			return false, nil
		}
	}
	return true, nil
}

// Build builds the module's programs unless they are there, and returns their folder. Without cgo: they stand in images, too.
func (b Builder) Build(ctx context.Context, m Module) (string, error) {
	dir, err := b.Dir(m)
	if err != nil {
		return "", err
	}
	if built, err := b.Built(m); built || err != nil {
		return dir, err
	}
	tmp := dir + ".tmp"
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o755)); err != nil {
		return "", fmt.Errorf("build %s: %w", m.Name, err)
	}
	if _, err := b.goTool(ctx, m, "build", "-trimpath", "-ldflags", strings.TrimSpace("-s -w "+m.LDFlags), "-o", tmp+"/", "tool"); err != nil {
		return "", err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(tmp, dir)); err != nil {
		return "", fmt.Errorf("build %s: %w", m.Name, err)
	}
	return dir, nil
}

// Files returns the folder of the Go module that is built: its manifests lie there. It downloads the module if that is missing.
func (b Builder) Files(ctx context.Context, m Module) (string, error) {
	out, err := b.goTool(ctx, m, "mod", "download", "-json", m.Path)
	if err != nil {
		return "", err
	}
	var d struct{ Dir string }
	if err := json.Unmarshal(out, &d); err != nil {
		return "", fmt.Errorf("find files of %s: %w", m.Path, err)
	}
	return d.Dir, nil
}

func (b Builder) goTool(ctx context.Context, m Module, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(b.Source, m.Name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, io.MultiWriter(&stderr, b.Log)
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return nil, fmt.Errorf("build %s: go %s: %w: %s", m.Name, args[0], err, lines[len(lines)-1])
	}
	return []byte(stdout.String()), nil
}
