package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrOccupied says that something else than the artifact stands where it was to be checked out.
var ErrOccupied = errors.New("is there and holds something else")

// Checkout puts the files of an artifact, read-only, into the new folder dst, which appears complete or
// not at all. Every file is hashed on its way. A dst that already holds exactly the artifact is left
// alone; any other is an error that matches ErrOccupied, for it may be in use.
func (s *Store) Checkout(digest, dst string) (err error) {
	wrap := func(err error) error { return fmt.Errorf("check out artifact %s: %w", digest, err) }
	unlock, err := s.lock(false)
	if err != nil {
		return wrap(err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	m, err := s.Manifest(digest)
	if err != nil {
		return wrap(err)
	}
	same := func() error {
		if err := s.holds(dst, m); err != nil {
			return fmt.Errorf("%s %w: %w; remove it or choose another folder", dst, ErrOccupied, err)
		}
		return nil
	}
	_, err = os.Lstat(dst)
	switch {
	case err == nil:
		err = same()
	case errors.Is(err, fs.ErrNotExist):
		err = stage(dst, false, func(tmp string) error { return s.materialise(m, tmp) }, same)
	}
	if err != nil {
		return wrap(err)
	}
	return nil
}

func (s *Store) materialise(m Manifest, dst string) (err error) {
	blobs, err := os.OpenRoot(s.blobs())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blobs.Close()) }()
	return parallelErr(len(m.Files), func(i int) error {
		e := m.Files[i]
		to := filepath.Join(dst, filepath.FromSlash(e.Path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		err := s.materialiseFile(blobs, e, to)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: another file of the artifact has that name on this disk, which folds case: %v", e.Path, m.CaseCollisions())
		}
		return err
	})
}

func (s *Store) materialiseFile(blobs *os.Root, e ManifestFile, to string) error {
	c, err := copyFile(blobs, e.Digest, to, e.fileMode(), &s.pool)
	if err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	if c.hex != e.Digest || c.size != e.Size {
		return damaged(e, fmt.Sprintf("%d bytes with content %s", c.size, c.hex))
	}
	return nil
}

// holds returns an error unless folder dst holds exactly the files of m.
func (s *Store) holds(dst string, m Manifest) (err error) {
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	all := pattern{base: ".", all: true}
	paths, err := newTree(root, false, maxFiles).collect([]string{"."}, all.match, all.under)
	if err != nil {
		return err
	}
	if len(paths) != len(m.Files) {
		return fmt.Errorf("%d files, not %d", len(paths), len(m.Files))
	}
	return parallelErr(len(paths), func(i int) (err error) {
		e := m.Files[i]
		if paths[i] != e.Path {
			return fmt.Errorf("%s, not %s", paths[i], e.Path)
		}
		f, err := openRegular(root, e.Path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		var sum [sha256.Size]byte
		if sum, _, err = copyHash(nil, f, e.Size+1, &s.pool); err != nil {
			return explain("read", e.Path, err)
		}
		if got := hex.EncodeToString(sum[:]); got != e.Digest {
			return fmt.Errorf("%s has content %s, not %s", e.Path, got, e.Digest)
		}
		return nil
	})
}
