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

// Debian is the recipe of the Python layers.
type Debian struct {
	Suite  string
	Mirror string   // http://HOST/PATH of the archive
	Base   []string // packages of the first layer, beside the minimal system
	Torch  []string // packages of the second layer, on top of the first
}

// recipe is raised when the steps below change what they make.
const recipe = "1"

func (d Debian) key(layer string, packages ...[]string) string {
	h := sha256.New()
	fmt.Fprintln(h, recipe, d.Suite, layer, slices.Concat(packages...))
	return layer + "-" + hex.EncodeToString(h.Sum(nil))[:16]
}

// Layers returns the two layers: the minimal system with Base, and Torch on top. What is not in the store is made in a folder
// beside it with debootstrap and apt-get, as root, in a few minutes; their output goes to log.
func (d Debian) Layers(ctx context.Context, s Store, log io.Writer) (base, torch *Layer, err error) {
	baseKey, torchKey := d.key("python-sklearn", d.Base), d.key("python-torch", d.Base, d.Torch)
	if base, torch = s.Find(baseKey), s.Find(torchKey); base != nil && torch != nil {
		return base, torch, nil
	}
	started := time.Now()
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("make the Python layers: %w", err)
	}
	root, err := os.MkdirTemp(s.Dir, "rootfs-")
	if err != nil {
		return nil, nil, fmt.Errorf("make the Python layers: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if err := d.bootstrap(ctx, root, log); err != nil {
		return nil, nil, err
	}
	before, err := listing(root)
	if err != nil {
		return nil, nil, err
	}
	base, err = s.Put(baseKey, func(tw *tar.Writer) error { return addTree(tw, root, nil, started) })
	if err != nil {
		return nil, nil, err
	}
	if err := d.install(ctx, root, d.Torch, log); err != nil {
		return nil, nil, err
	}
	torch, err = s.Put(torchKey, func(tw *tar.Writer) error { return addTree(tw, root, before, started) })
	return base, torch, err
}

func (d Debian) bootstrap(ctx context.Context, root string, log io.Writer) error {
	// --include cannot follow the dependencies of scientific packages, apt-get can.
	if err := tool(ctx, log, "debootstrap", "--variant=minbase", d.Suite, root, d.Mirror); err != nil {
		return err
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return fmt.Errorf("make the Python layers: %w", err)
	}
	for name, text := range map[string]string{
		"etc/resolv.conf":             string(resolv),
		"usr/sbin/policy-rc.d":        "#!/bin/sh\nexit 101\n",
		"etc/dpkg/dpkg.cfg.d/nodocs":  "path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n",
		"etc/apt/apt.conf.d/99slim":   "APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\n",
		"etc/apt/apt.conf.d/99keepno": "Binary::apt::APT::Keep-Downloaded-Packages \"false\";\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			return fmt.Errorf("make the Python layers: %w", err)
		}
	}
	return d.install(ctx, root, d.Base, log)
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
