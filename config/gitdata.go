package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/memory"
)

// GitData is a git address that stands for data, such as git::https://host/repo.git//folder?ref=v1: files of a repository at a tag
// or a full commit, under the limits and with the credentials of a git module.
type GitData struct{ source gitSource }

// ParseGitData reads a git address. local allows file:// addresses, for tests.
func ParseGitData(source string, local bool) (GitData, error) {
	g, problem := parseGit(source, local)
	if problem != "" {
		return GitData{}, errors.New(problem)
	}
	return GitData{g}, nil
}

// Commit returns the commit that the address stands for now: 40 hex digits. It asks the repository only for a tag.
func (d GitData) Commit(ctx context.Context) (string, error) {
	if isCommit(d.source.ref) {
		return d.source.ref, nil
	}
	commit, err := impatient(ctx, fetchPatience, d.commit)
	return commit, d.explain(err)
}

func (d GitData) commit(ctx context.Context) (string, error) {
	auth, err := sshAuth(d.source.repo)
	if err != nil {
		return "", err
	}
	remote := git.NewRemote(memory.NewStorage(), &gitconfig.RemoteConfig{Name: "origin", URLs: []string{d.source.repo}})
	refs, err := remote.ListContext(ctx, &git.ListOptions{Auth: auth, PeelingOption: git.AppendPeeled})
	if err != nil {
		return "", err
	}
	tag := plumbing.NewTagReferenceName(d.source.ref)
	commit := ""
	for _, r := range refs {
		switch r.Name() { //nolint:exhaustive // only the tag that was asked for
		case tag:
			if commit == "" {
				commit = r.Hash().String()
			}
		case tag + "^{}": // what an annotated tag is of
			commit = r.Hash().String()
		}
	}
	if commit == "" {
		return "", noTag(ctx, d.source, auth)
	}
	return commit, nil
}

// Fetch puts what the address stands for, which must still be that commit, into the new folder dir: the files of a folder, or one
// file, and then single is true.
func (d GitData) Fetch(ctx context.Context, commit, dir string) (single bool, err error) {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".git-*")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	_, err = impatient(ctx, fetchPatience, func(ctx context.Context) (string, error) { return clone(ctx, d.source, tmp, commit) })
	if err != nil {
		return false, d.explain(err)
	}
	from := filepath.Join(tmp, d.source.key(), filepath.FromSlash(d.source.sub))
	info, err := os.Lstat(from)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, fmt.Errorf("%s at %s has no %s: %w", d.source.repo, d.source.ref, d.source.sub, os.ErrNotExist)
	case err != nil:
		return false, err
	case info.IsDir():
		return false, os.Rename(from, dir)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return false, err
	}
	return true, os.Rename(from, filepath.Join(dir, info.Name()))
}

func (d GitData) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %s", err, fetchRemedy(err))
}

// File returns the name of the file or folder that the address stands for.
func (d GitData) File() string { return filepath.Base(filepath.FromSlash(d.source.sub)) }
