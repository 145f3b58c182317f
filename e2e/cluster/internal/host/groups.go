//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/continuo-ml/continuo/internal/proc"
)

// groups returns the folder of the control group in each hierarchy: one for each controller in version 1, one in version 2.
func (m Machine) groups() ([]string, error) {
	const top = "/sys/fs/cgroup"
	if _, err := os.Stat(top + "/cgroup.controllers"); err == nil {
		return []string{filepath.Join(top, m.Group)}, nil
	}
	entries, err := os.ReadDir(top)
	if err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() { // the links beside them lead to the same hierarchies
			all = append(all, filepath.Join(top, e.Name(), m.Group))
		}
	}
	return all, nil
}

func (m Machine) makeGroups() error {
	groups, err := m.groups()
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := os.MkdirAll(g, 0o755); err != nil {
			return fmt.Errorf("make control group: %w", err)
		}
		have, err := os.ReadFile(filepath.Join(g, "cgroup.controllers"))
		if err != nil {
			continue // version 1
		}
		for _, dir := range []string{filepath.Dir(g), g} {
			for _, c := range strings.Fields(string(have)) {
				// Each is tried: which ones can be passed on differs from machine to machine, and the kubelet names the one that it misses.
				_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
			}
		}
	}
	return nil
}

// killGroups ends every process of every pod.
func (m Machine) killGroups(ctx context.Context) error {
	return m.eachGroup(ctx, "end pods", func(dir string) error {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			return nil
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			id, err := proc.Of(pid)
			if err != nil {
				continue // it ended meanwhile
			}
			if err := proc.Kill(id, unix.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) {
				return err
			}
			return fmt.Errorf("%s still runs in %s", id, dir)
		}
		return nil
	})
}

func (m Machine) removeGroups(ctx context.Context) error {
	return m.eachGroup(ctx, "remove control groups", func(dir string) error {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// eachGroup calls f for the cluster's control group and all below it, the deepest first, again until all calls succeed.
func (m Machine) eachGroup(ctx context.Context, what string, f func(dir string) error) error {
	groups, err := m.groups()
	if err != nil {
		return err
	}
	err = Until(ctx, grace, func(context.Context) error {
		var errs []error
		for _, g := range groups {
			var dirs []string
			err := filepath.WalkDir(g, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil // groups vanish while one walks
			})
			errs = append(errs, err)
			for _, dir := range slices.Backward(dirs) {
				errs = append(errs, f(dir))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
