package source

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/internal/files"
)

// lookTree is look for a place with one identity for all files.
func (r *Reader) lookTree(ctx context.Context, a address, t trees) (*listing, error) {
	var whole string
	err := r.retry(ctx, func() (err error) {
		whole, err = t.resolve(ctx, a)
		return err
	})
	if err != nil {
		return nil, err
	}
	if l := r.store.recall(a); l != nil && l.Whole == whole && whole != "" {
		return l, nil
	}
	l, err := r.pullTree(ctx, a, t, whole)
	if err != nil {
		return nil, err
	}
	return l, r.store.remember(a, l)
}

// pullTree has the files of a in the cache.
func (r *Reader) pullTree(ctx context.Context, a address, t trees, whole string) (_ *listing, err error) {
	tmp, err := r.store.scratch()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(tmp, "tree-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	at := filepath.Join(dir, "files")
	single := false
	err = r.retry(ctx, func() (err error) {
		if err := os.RemoveAll(at); err != nil {
			return err
		}
		single, err = t.pull(ctx, a, whole, at)
		return err
	})
	if err != nil {
		return nil, err
	}
	_, m, err := files.DigestDir(at)
	if err != nil {
		return nil, err
	}
	l := &listing{IsDir: !single, Whole: whole}
	for _, f := range m.Files {
		if !single && ignored(f.Path) {
			continue
		}
		l.Objects = append(l.Objects, object{Path: f.Path, Key: f.Path, Size: f.Size, Sum: f.Digest})
		if err := r.store.keep(filepath.Join(at, filepath.FromSlash(f.Path)), f.Digest); err != nil {
			return nil, err
		}
	}
	if len(l.Objects) == 0 {
		return nil, kinded{ErrNotFound, errors.New("nothing is there")}
	}
	return l, r.within(l)
}
