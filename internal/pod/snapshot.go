package pod

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// snapshots is how often a snapshot is begun again because the command wrote meanwhile.
const snapshots = 5

// mark says what a folder holds, by names, sizes and times. The zero value means no file at all.
type mark struct {
	sum    uint64
	newest time.Time // of a file
}

func markOf(dir string) (mark, error) {
	h := fnv.New64a()
	var m mark
	some := false
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone between listing and look, or no folder at all
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		some = true
		if at := info.ModTime(); at.After(m.newest) {
			m.newest = at
		}
		_, err = fmt.Fprintf(h, "%q %d %d %v\n", p, info.Size(), info.ModTime().UnixNano(), info.Mode())
		return err
	})
	if err != nil || !some {
		return mark{}, err
	}
	m.sum = max(h.Sum64(), 1)
	return m, nil
}

// snapshot makes the folder to hold what from holds at one moment, and returns the mark of it: the zero one if no such moment was found,
// and without a snapshot the one whose sum is known.
func snapshot(from, to string, copies bool, known uint64) (mark, error) {
	for range snapshots {
		before, err := markOf(from)
		if err != nil || before.sum == 0 || before.sum == known {
			return before, err
		}
		if err := os.RemoveAll(to); err != nil {
			return mark{}, err
		}
		err = clone(from, to, copies)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return mark{}, err
		}
		after, merr := markOf(from)
		if merr != nil {
			return mark{}, merr
		}
		if err == nil && after == before {
			return before, nil
		}
	}
	return mark{}, nil
}

// clone makes the folder to with the files of from, which are shared between them where that is possible, unless they are to be copied.
func clone(from, to string, copies bool) error {
	return filepath.WalkDir(from, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			return os.Mkdir(at, 0o755)
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return os.Symlink(target, at)
		case !e.Type().IsRegular():
			return fmt.Errorf("%s is no regular file", p)
		case !copies && os.Link(p, at) == nil:
			return nil
		}
		return copyFile(p, at)
	})
}
