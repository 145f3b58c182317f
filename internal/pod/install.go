package pod

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Program is the name under which [Install] puts this program.
const Program = "ml"

// Install copies this very program into dir, from where the command's container runs it.
func Install(dir string) (err error) {
	wrap := func(err error) error { return fmt.Errorf("install ml in %s: %w", dir, err) }
	self, err := os.Executable()
	if err != nil {
		return wrap(err)
	}
	in, err := os.Open(self)
	if err != nil {
		return wrap(err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return wrap(err)
	}
	out, err := os.CreateTemp(dir, ".ml-*")
	if err != nil {
		return wrap(err)
	}
	_, err = io.Copy(out, in)
	// The command's container may run as another user.
	if err := errors.Join(err, out.Chmod(0o755), out.Close()); err != nil {
		return wrap(errors.Join(err, os.Remove(out.Name())))
	}
	if err := os.Rename(out.Name(), filepath.Join(dir, Program)); err != nil {
		return wrap(errors.Join(err, os.Remove(out.Name())))
	}
	return nil
}
