// Package binaries builds the programs that the end-to-end tests run from Go modules, each once.
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
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Module is one folder of build.
type Module struct {
	Name  string   // of the folder
	Path  string   // of the Go module whose programs are built
	Tools []string // names of the programs
	// From are the packages of programs whose path does not end in their name, by name, below Path; all of Tools are in it, or none is.
	From    map[string]string
	LDFlags string // beside -s -w
	Tags    string // build tags
	Cgo     bool   // it is linked with C, and needs a compiler
	// Adds are files that the module needs and its published archive lacks, by name, with what stands in them.
	Adds map[string]string
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
	if m.Tags != "" || m.Cgo {
		fmt.Fprintln(h, m.Tags, m.Cgo)
	}
	for _, name := range slices.Sorted(maps.Keys(m.From)) {
		fmt.Fprintf(h, "%s=%s\n", name, m.From[name])
	}
	for _, name := range slices.Sorted(maps.Keys(m.Adds)) {
		fmt.Fprintf(h, "%s\n%s\n", name, m.Adds[name])
	}
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

// Build builds the module's programs unless they are there, and returns their folder. Without cgo, unless the module asks for it: they
// stand in images, too.
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
	args := []string{"build", "-trimpath", "-ldflags", strings.TrimSpace("-s -w " + m.LDFlags)}
	if m.Tags != "" {
		args = append(args, "-tags", m.Tags)
	}
	if len(m.Adds) > 0 {
		from, err := b.Files(ctx, m)
		if err != nil {
			return "", err
		}
		modfile, err := b.completed(m, from, dir+".src")
		if err != nil {
			return "", err
		}
		args = append(args, "-modfile="+modfile)
	}
	if err := b.programs(ctx, m, args, tmp); err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir + ".src"); err != nil {
		return "", fmt.Errorf("build %s: %w", m.Name, err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(tmp, dir)); err != nil {
		return "", fmt.Errorf("build %s: %w", m.Name, err)
	}
	return dir, nil
}

// programs builds all tools into a folder, each under its name.
func (b Builder) programs(ctx context.Context, m Module, args []string, to string) error {
	if m.From == nil {
		_, err := b.goTool(ctx, m, append(args, "-o", to+"/", "tool")...)
		return err
	}
	for _, t := range m.Tools {
		if _, err := b.goTool(ctx, m, append(slices.Clone(args), "-o", filepath.Join(to, t), m.Path+"/"+m.From[t])...); err != nil {
			return err
		}
	}
	return nil
}

// completed copies the source of the module that is built to a folder, with what it lacks, and returns a go.mod that builds from there.
func (b Builder) completed(m Module, from, to string) (string, error) {
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(to, 0o755)); err != nil {
		return "", fmt.Errorf("build %s: %w", m.Name, err)
	}
	src, modfile := filepath.Join(to, "src"), filepath.Join(to, "go.mod")
	if err := os.CopyFS(src, os.DirFS(from)); err != nil {
		return "", fmt.Errorf("build %s: copy its source: %w", m.Name, err)
	}
	for name, text := range m.Adds {
		at := filepath.Join(src, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
			return "", fmt.Errorf("build %s: %w", m.Name, err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(b.Source, m.Name, name))
		if err != nil {
			return "", fmt.Errorf("build %s: %w", m.Name, err)
		}
		if name == "go.mod" {
			text = append(text, []byte("\nreplace "+m.Path+" => "+src+"\n")...)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return "", fmt.Errorf("build %s: %w", m.Name, err)
		}
	}
	return modfile, nil
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
	cmd.Env = append(os.Environ(), map[bool]string{false: "CGO_ENABLED=0", true: "CGO_ENABLED=1"}[m.Cgo], "GOFLAGS=-mod=readonly", "GOWORK=off")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, io.MultiWriter(&stderr, b.Log)
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return nil, fmt.Errorf("build %s: go %s: %w: %s", m.Name, args[0], err, lines[len(lines)-1])
	}
	return []byte(stdout.String()), nil
}
