package source

import (
	"context"
	"errors"
	"io/fs"

	"github.com/continuo-ml/continuo/config"
)

// repository reads files of a git repository at a tag or a commit. Its identity is the commit.
type repository struct{ local bool }

// resolve implements trees.
func (p repository) resolve(ctx context.Context, a address) (string, error) {
	g, err := config.ParseGitData(a.key, p.local)
	if err != nil {
		return "", &Error{Place: a.text, Err: err}
	}
	commit, err := g.Commit(ctx)
	return commit, explainGit(a, err)
}

// pull implements trees.
func (p repository) pull(ctx context.Context, a address, whole, dir string) (bool, error) {
	g, err := config.ParseGitData(a.key, p.local)
	if err != nil {
		return false, &Error{Place: a.text, Err: err}
	}
	single, err := g.Fetch(ctx, whole, dir)
	return single, explainGit(a, err)
}

// explainGit keeps what is said already, with its next step.
func explainGit(a address, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = kinded{ErrNotFound, err}
	}
	return &Error{Place: a.text, Err: err}
}
