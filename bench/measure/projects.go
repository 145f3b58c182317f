package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/continuo-ml/continuo/state"
)

// applied returns a contender that plans an applied project with nothing to
// do. The project is kept in the cache under the digest of its files, and
// applied again when its plan is no longer empty.
func (b *bench) applied(ctx context.Context, tool, shape string, n int) (contender, error) {
	dir, err := b.project(ctx, tool, shape, n)
	if err != nil {
		return contender{}, err
	}
	program, env := b.ml, []string(nil)
	if tool == "tofu" {
		// No call home, and nobody's own settings.
		program, env = b.tofu, []string{"CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE=" + os.DevNull}
	}
	command := func(args ...string) contender {
		return contender{name: tool, dir: dir, env: env, argv: append([]string{program}, args...)}
	}
	plan := command("plan", "-detailed-exitcode")
	if tool == "tofu" {
		if _, err := os.Stat(filepath.Join(dir, ".terraform")); errors.Is(err, fs.ErrNotExist) {
			if _, err := command("init", "-input=false").run(ctx); err != nil {
				return contender{}, err
			}
		}
	}
	if _, err := plan.run(ctx); err == nil {
		return plan, nil
	} else if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		return contender{}, err
	}
	b.log("apply %s %s %d, once", tool, shape, n)
	if _, err := command("apply", "-auto-approve").run(ctx); err != nil {
		return contender{}, err
	}
	return plan, nil
}

// project writes a project into the cache and returns its folder, or returns
// the one that is there already.
func (b *bench) project(ctx context.Context, tool, shape string, n int) (string, error) {
	fresh, err := os.MkdirTemp(b.cache, ".new-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(fresh) }() // what is left in the cache is only space
	gen := contender{dir: b.cache, argv: []string{b.gen, "-tool", tool, "-shape", shape, "-n", fmt.Sprint(n), fresh}}
	if _, err := gen.run(ctx); err != nil {
		return "", err
	}
	key, err := digestTree(fresh)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.cache, fmt.Sprintf("%s-%s-%d-%s", tool, shape, n, key[:12]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, os.Rename(fresh, dir)
}

// digestTree returns the digest of the files below dir with their paths, and
// of the form in which ml stores its state: an older store is not measured.
func digestTree(dir string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "state format %d\n", state.Format)
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s\n", filepath.ToSlash(rel))
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // read only
		_, err = io.Copy(h, f)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
