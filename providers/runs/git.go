package runs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/continuo-ml/continuo/config"
)

// commit is the git commit of the code, "+dirty" when a source differs from it; "" outside of a checkout. It is a note for
// people: the version of the code is its digest, so a repository that cannot be read fails no training.
func (e *Workspace) commit(o *op, x config.Exec) string {
	c, err := e.findCommit(x)
	if err != nil {
		o.log("the git commit is not recorded: %v", err)
	}
	return c
}

func (e *Workspace) findCommit(x config.Exec) (string, error) {
	repo, err := git.PlainOpenWithOptions(e.Root, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open the repository: %w", err)
	}
	head, err := repo.Head()
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read HEAD: %w", err)
	}
	hash := head.Hash().String()
	clean, err := e.committed(repo, head.Hash(), x)
	if err != nil {
		return "", err
	}
	if !clean {
		hash += "+dirty"
	}
	return hash, nil
}

// committed reports whether every source of the command is in the commit as it is on disk. Only they are looked at: a status of
// the whole checkout would take long, and other files do not matter to the run.
func (e *Workspace) committed(repo *git.Repository, hash plumbing.Hash, x config.Exec) (bool, error) {
	c, err := repo.CommitObject(hash)
	if err != nil {
		return false, fmt.Errorf("read commit %s: %w", hash, err)
	}
	tree, err := c.Tree()
	if err != nil {
		return false, fmt.Errorf("read commit %s: %w", hash, err)
	}
	wt, err := repo.Worktree()
	if err != nil {
		return false, fmt.Errorf("find the working tree: %w", err)
	}
	top, err := filepath.EvalSymlinks(wt.Filesystem.Root())
	if err != nil {
		return false, err
	}
	root, err := filepath.EvalSymlinks(e.Root)
	if err != nil {
		return false, err
	}
	idx, err := e.now()
	if err != nil {
		return false, err
	}
	globs := x.Sources
	if len(globs) == 0 {
		if globs, err = defaultSources(idx, x.Command); err != nil {
			return false, err
		}
	}
	_, list, err := idx.DigestSet(globs)
	if err != nil {
		return false, err
	}
	for _, f := range list {
		at := filepath.Join(root, filepath.FromSlash(f.Path))
		name, err := filepath.Rel(top, at)
		if err != nil {
			return false, err
		}
		if same, err := inTree(tree, filepath.ToSlash(name), at, f.Size); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func inTree(tree *object.Tree, name, at string, size int64) (same bool, err error) {
	entry, err := tree.FindEntry(name)
	if errors.Is(err, object.ErrEntryNotFound) || errors.Is(err, object.ErrDirectoryNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	f, err := os.Open(at)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := plumbing.NewHasher(plumbing.BlobObject, size)
	if _, err := io.Copy(h, f); err != nil {
		return false, err
	}
	return h.Sum() == entry.Hash, nil
}
