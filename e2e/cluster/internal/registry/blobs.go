package registry

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// blobs are files named by the hexadecimal digits of their digest, in dir, or in also, which is only read.
type blobs struct{ dir, also string }

var (
	_ registry.BlobStatHandler   = blobs{}
	_ registry.BlobPutHandler    = blobs{}
	_ registry.BlobDeleteHandler = blobs{}
)

func (b blobs) open(h v1.Hash) (*os.File, error) {
	if b.also != "" {
		if f, err := os.Open(filepath.Join(b.also, h.Hex)); err == nil {
			return f, nil
		}
	}
	f, err := os.Open(filepath.Join(b.dir, h.Hex))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, registry.ErrNotFound
	}
	return f, err
}

// Stat returns the size of a blob in bytes. It trusts the name: what was pushed was checked then.
func (b blobs) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	f, err := b.open(h)
	if err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Get opens a blob.
func (b blobs) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) { return b.open(h) }

// Put keeps a blob that was pushed; rc fails at its end if the bytes are not those that h names.
func (b blobs) Put(_ context.Context, _ string, h v1.Hash, rc io.ReadCloser) (err error) {
	defer func() { err = errors.Join(err, rc.Close()) }()
	f, err := os.CreateTemp(b.dir, ".upload-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, rc)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), filepath.Join(b.dir, h.Hex))
}

// Delete removes a blob that was pushed.
func (b blobs) Delete(_ context.Context, _ string, h v1.Hash) error {
	err := os.Remove(filepath.Join(b.dir, h.Hex))
	if errors.Is(err, fs.ErrNotExist) {
		return registry.ErrNotFound
	}
	return err
}
