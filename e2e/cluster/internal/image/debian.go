//go:build linux

package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Debian is where the packages of layers come from.
type Debian struct {
	Suite  string
	Mirror string // http://HOST/PATH of the archive
}

// Step is one layer: packages on top of the steps before it. The first also holds the minimal system.
type Step struct {
	Name     string
	Packages []string
}

// recipe is raised when the steps below change what they make.
const recipe = "1"

// keys returns the name of each step's layer in the store: it holds all that decides its bytes.
func (d Debian) keys(steps []Step) []string {
	var keys, packages []string
	for _, st := range steps {
		packages = append(packages, st.Packages...)
		h := sha256.New()
		fmt.Fprintln(h, recipe, d.Suite, st.Name, packages)
		keys = append(keys, st.Name+"-"+hex.EncodeToString(h.Sum(nil))[:16])
	}
	return keys
}

// Layers returns one layer for each step. What is not in the store is made in a folder beside it with debootstrap and apt-get, as root, in a
// few minutes; their output goes to log.
func (d Debian) Layers(ctx context.Context, s Store, log io.Writer, steps ...Step) (layers []*Layer, err error) {
	keys := d.keys(steps)
	for _, key := range keys {
		layers = append(layers, s.Find(key))
	}
	if !slices.Contains(layers, nil) {
		return layers, nil
	}
	started := time.Now()
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make layers of Debian: %w", err)
	}
	root, err := os.MkdirTemp(s.Dir, "rootfs-")
	if err != nil {
		return nil, fmt.Errorf("make layers of Debian: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if err := d.bootstrap(ctx, root, log); err != nil {
		return nil, err
	}
	var before map[string]entry
	for i, st := range steps {
		if i > 0 {
			if before, err = listing(root); err != nil {
				return nil, err
			}
		}
		if err := d.install(ctx, root, st.Packages, log); err != nil {
			return nil, err
		}
		if layers[i], err = s.Put(keys[i], func(tw *tar.Writer) error { return addTree(tw, root, before, started) }); err != nil {
			return nil, err
		}
	}
	return layers, nil
}

func (d Debian) bootstrap(ctx context.Context, root string, log io.Writer) error {
	// --include cannot follow the dependencies of scientific packages, apt-get can.
	if err := tool(ctx, log, "debootstrap", "--variant=minbase", d.Suite, root, d.Mirror); err != nil {
		return err
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return fmt.Errorf("make layers of Debian: %w", err)
	}
	for name, text := range map[string]string{
		"etc/resolv.conf":             string(resolv),
		"usr/sbin/policy-rc.d":        "#!/bin/sh\nexit 101\n",
		"etc/dpkg/dpkg.cfg.d/nodocs":  "path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n",
		"etc/apt/apt.conf.d/99slim":   "APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\n",
		"etc/apt/apt.conf.d/99keepno": "Binary::apt::APT::Keep-Downloaded-Packages \"false\";\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			return fmt.Errorf("make layers of Debian: %w", err)
		}
	}
	return nil
}

func (d Debian) install(ctx context.Context, root string, packages []string, log io.Writer) error {
	if err := chroot(ctx, log, root, "apt-get", "update"); err != nil {
		return err
	}
	if err := chroot(ctx, log, root, append([]string{"apt-get", "install", "-y", "--no-install-recommends"}, packages...)...); err != nil {
		return err
	}
	return clean(root)
}

// clean takes away what no container needs and what differs from run to run.
func clean(root string) error {
	for _, pattern := range []string{
		"var/lib/apt/lists/*", "var/cache/apt/*", "var/cache/debconf/*-old", "var/cache/ldconfig/*", "var/log/*", "var/lib/dpkg/*-old",
		"usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*", "tmp/*", "dev/*", "debootstrap", "var/log/apt/*",
		"etc/machine-id",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return fmt.Errorf("clean %s: %w", root, err)
		}
		for _, f := range found {
			if err := os.RemoveAll(f); err != nil {
				return fmt.Errorf("clean %s: %w", root, err)
			}
		}
	}
	return nil
}

func chroot(ctx context.Context, log io.Writer, root string, args ...string) error {
	return tool(ctx, log, "chroot", append([]string{root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive",
		"LC_ALL=C.UTF-8", "PYTHONHASHSEED=0"}, args...)...)
}

// tool runs one command; its error ends with the last line that the command wrote.
func tool(ctx context.Context, log io.Writer, name string, args ...string) error {
	var last lastLine
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(log, &last), io.MultiWriter(log, &last)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, last.text)
	}
	return nil
}

// lastLine keeps the last line with text of what is written to it.
type lastLine struct{ text string }

// Write implements io.Writer.
func (l *lastLine) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if line = strings.TrimSpace(line); line != "" {
			l.text = line
		}
	}
	return len(p), nil
}
