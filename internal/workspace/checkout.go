package workspace

import (
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// checkout is the git checkout that a project folder is in.
type checkout struct {
	repo *git.Repository
	head plumbing.Hash
	dir  string // the project folder, absolute
}

// openCheckout opens it; nil outside of one, or before its first commit.
func openCheckout(dir string) *checkout {
	repo, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if err != nil {
		return nil
	}
	head, err := repo.Head()
	if err != nil {
		return nil
	}
	return &checkout{repo: repo, head: head.Hash(), dir: dir}
}

// commit is the commit that the checkout is at, or "".
func (c *checkout) commit() string {
	if c == nil {
		return ""
	}
	return c.head.String()
}

// dirty says whether the project folder differs from the commit: a tracked file
// was changed, staged or deleted, or a configuration file is not tracked. What
// cannot be read counts as different. As git does, it trusts size and time of a
// file, and hashes only where they moved.
func (c *checkout) dirty(configFiles []string) bool {
	clean, err := c.clean(configFiles)
	return err != nil || !clean
}

func (c *checkout) clean(configFiles []string) (bool, error) {
	wt, err := c.repo.Worktree()
	if err != nil {
		return false, err
	}
	top := wt.Filesystem.Root()
	below, err := relativeTo(top, c.dir)
	if err != nil {
		return false, err
	}
	idx, err := c.repo.Storer.Index()
	if err != nil {
		return false, err
	}
	committed, err := c.committed(below)
	if err != nil {
		return false, err
	}
	written := c.indexWritten()
	tracked := map[string]bool{}
	for _, e := range idx.Entries {
		name, inside := strings.CutPrefix(e.Name, below)
		if !inside || e.Mode == filemode.Submodule {
			continue
		}
		tracked[name] = true
		if committed[name] != e.Hash {
			return false, nil
		}
		if same, err := unchanged(filepath.Join(top, filepath.FromSlash(e.Name)), e, written); err != nil || !same {
			return false, err
		}
	}
	for _, f := range configFiles {
		if !tracked[f] && !strings.HasPrefix(f, DotML+"/") {
			return false, nil
		}
	}
	return len(committed) == len(tracked), nil
}

// relativeTo is dir below top as git writes it, "" or with a slash at its end.
func relativeTo(top, dir string) (string, error) {
	top, err := filepath.EvalSymlinks(top)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	rel, err := filepath.Rel(top, dir)
	if rel == "." || err != nil {
		return "", err
	}
	return filepath.ToSlash(rel) + "/", nil
}

// committed are the files of the project folder in the commit, by name in it.
func (c *checkout) committed(below string) (map[string]plumbing.Hash, error) {
	commit, err := c.repo.CommitObject(c.head)
	if err != nil {
		return nil, err
	}
	tree, err := commit.Tree()
	if err == nil && below != "" {
		tree, err = tree.Tree(path.Clean(below))
	}
	out := map[string]plumbing.Hash{}
	if errors.Is(err, object.ErrDirectoryNotFound) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	w := object.NewTreeWalker(tree, true, nil)
	defer w.Close()
	for {
		name, e, err := w.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if e.Mode != filemode.Dir && e.Mode != filemode.Submodule {
			out[name] = e.Hash
		}
	}
}

// indexWritten is when git wrote what it knows of the files; a file as young as
// that may have been changed since with the same size and time.
func (c *checkout) indexWritten() time.Time {
	if s, ok := c.repo.Storer.(*filesystem.Storage); ok {
		if st, err := s.Filesystem().Stat("index"); err == nil {
			return st.ModTime()
		}
	}
	return time.Time{}
}

func unchanged(file string, e *index.Entry, written time.Time) (bool, error) {
	if e.SkipWorktree {
		return true, nil
	}
	st, err := os.Lstat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case st.ModTime().Equal(e.ModifiedAt) && uint32(st.Size()) == e.Size && st.ModTime().Before(written):
		return true, nil
	case uint32(st.Size()) != e.Size && e.Size != 0: // 0: git did not look
		return false, nil
	case st.Mode()&os.ModeSymlink != 0:
		to, err := os.Readlink(file)
		return plumbing.ComputeHash(plumbing.BlobObject, []byte(to)) == e.Hash, err
	case !st.Mode().IsRegular():
		return false, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	h := plumbing.NewHasher(plumbing.BlobObject, st.Size())
	_, err = io.Copy(h, f)
	return h.Sum() == e.Hash, errors.Join(err, f.Close())
}
