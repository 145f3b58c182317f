// Package durable writes files so that a crash or a power cut leaves the old or
// the new content, never a mix, and never a name that points nowhere.
//
// [WriteFile] replaces a file whole, [MkdirAll] makes folders, and [SyncDir] makes
// the names in a folder durable after a rename that somebody else did. It knows
// nothing of what the files hold.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// WriteFile writes data into a temporary file beside path, syncs it, renames it
// to path and syncs the folder. On an error path is as it was.
func WriteFile(path string, data []byte, perm fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, RemoveIfThere(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in folder dir durable.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be synced there; renames are journaled
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	// Some network file systems cannot sync a folder and say so with EINVAL: nothing more can be done.
	if errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// MkdirAll makes folder dir and all above it that are missing, and makes their
// names durable: what is written into a new folder is lost with its name.
func MkdirAll(dir string, perm fs.FileMode) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil {
		// Somebody else may have made it a moment ago, and not have synced it yet.
		if info, serr := os.Stat(dir); serr != nil || !info.IsDir() {
			return err
		}
	}
	return SyncDir(parent)
}

// RemoveIfThere removes a file; one that is gone is no error.
func RemoveIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
