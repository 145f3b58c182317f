//go:build !linux && !darwin

package files

import (
	"io/fs"
	"os"
	"path/filepath"
)

const openFileFlags = os.O_RDONLY

// dirRef is an open folder below the root, as an os.Root of its own.
type dirRef struct{ r *os.Root }

func openDirRef(root *os.Root, dir string) (*dirRef, error) {
	r, err := root.OpenRoot(filepath.FromSlash(dir))
	if err != nil {
		return nil, err
	}
	return &dirRef{r}, nil
}

// openDir opens folder dir for listing.
func openDir(root *os.Root, dir string) (*os.File, error) {
	return root.Open(filepath.FromSlash(dir))
}

func (d *dirRef) lstat(name string) (stamp, fs.FileMode, error) {
	fi, err := d.r.Lstat(name)
	if err != nil {
		return stamp{}, 0, err
	}
	return stampOf(fi), fi.Mode(), nil
}

func (d *dirRef) open(name string) (handle, error) {
	f, err := d.r.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *dirRef) Close() error { return d.r.Close() }

// osFile is a handle over an os.File.
type osFile struct{ *os.File }

func (o osFile) stat() (stamp, fs.FileMode, error) {
	fi, err := o.Stat()
	if err != nil {
		return stamp{}, 0, err
	}
	return stampOf(fi), fi.Mode(), nil
}

// stampOf has no inode and no change time to offer here; the cache then rests on size and mtime.
func stampOf(fi fs.FileInfo) stamp {
	return stamp{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
}
