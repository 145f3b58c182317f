package workspace

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// A checkout is dirty when what git tracks below the project folder differs
// from the commit, or a configuration file is not tracked; nothing else counts.
func TestWhatMakesAProjectDirty(t *testing.T) {
	write := func(t *testing.T, file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string, wt *git.Worktree)
		dirty  bool
	}{
		"nothing": {func(*testing.T, string, *git.Worktree) {}, false},
		"the same content, written again": {func(t *testing.T, dir string, _ *git.Worktree) {
			write(t, filepath.Join(dir, "train.py"), "print(1)\n")
			if err := os.Chtimes(filepath.Join(dir, "train.py"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}, false},
		"a file outside of the project": {func(t *testing.T, dir string, _ *git.Worktree) {
			write(t, filepath.Join(dir, "..", "README"), "other")
		}, false},
		"an untracked output": {func(t *testing.T, dir string, _ *git.Worktree) { write(t, filepath.Join(dir, "out.txt"), "x") }, false},
		"code of the same size": {func(t *testing.T, dir string, _ *git.Worktree) {
			write(t, filepath.Join(dir, "train.py"), "print(2)\n")
		}, true},
		"a longer file": {func(t *testing.T, dir string, _ *git.Worktree) { write(t, filepath.Join(dir, "lib", "a.py"), "longer") }, true},
		"a deleted file": {func(t *testing.T, dir string, _ *git.Worktree) {
			if err := os.Remove(filepath.Join(dir, "lib", "a.py")); err != nil {
				t.Fatal(err)
			}
		}, true},
		"a staged change": {func(t *testing.T, dir string, wt *git.Worktree) {
			write(t, filepath.Join(dir, "train.py"), "print(3)\n")
			if _, err := wt.Add("p/train.py"); err != nil {
				t.Fatal(err)
			}
		}, true},
		"a staged deletion": {func(t *testing.T, _ string, wt *git.Worktree) {
			if _, err := wt.Remove("p/lib/a.py"); err != nil {
				t.Fatal(err)
			}
		}, true},
		"an untracked configuration file": {func(t *testing.T, dir string, _ *git.Worktree) { write(t, filepath.Join(dir, "more.ml.hcl"), "") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			repo, err := git.PlainInit(top, false)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(top, "p")
			write(t, filepath.Join(top, "README"), "text")
			write(t, filepath.Join(dir, "main.ml.hcl"), "locals {}\n")
			write(t, filepath.Join(dir, "train.py"), "print(1)\n")
			write(t, filepath.Join(dir, "lib", "a.py"), "a")
			wt, err := repo.Worktree()
			if err != nil {
				t.Fatal(err)
			}
			if err := wt.AddGlob("."); err != nil {
				t.Fatal(err)
			}
			hash, err := wt.Commit("x", &git.CommitOptions{Author: &object.Signature{Name: "a", Email: "a@example.com"}})
			if err != nil {
				t.Fatal(err)
			}
			c.change(t, dir, wt)
			files, err := filepath.Glob(filepath.Join(dir, "*.ml.hcl"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range files {
				files[i] = filepath.Base(files[i])
			}
			at := openCheckout(dir)
			if at.commit() != hash.String() {
				t.Fatalf("commit %q, want %s", at.commit(), hash)
			}
			if clean, err := at.clean(files); err != nil || clean == c.dirty || at.dirty(files) != c.dirty {
				t.Errorf("clean = %v, %v; dirty = %v", clean, err, at.dirty(files))
			}
		})
	}
	if openCheckout(t.TempDir()).commit() != "" {
		t.Error("a folder outside of a checkout has a commit")
	}
}
