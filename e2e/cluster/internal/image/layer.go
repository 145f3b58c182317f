//go:build linux

// Package image makes the images of the e2e cluster without a container engine: layers from Debian packages and static Go
// programs, kept in a folder by digest, and pushed to a registry.
//
// A layer that was made once is found again by the key of its recipe; what is pushed is then only asked for, because the cluster's
// registry serves the same folder.
package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// Epoch is the time of everything that has no time of its own in a layer.
var Epoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// Store keeps layers: blobs/sha256/HEX holds the compressed bytes, keys/KEY.json says which layer a recipe gave.
type Store struct{ Dir string }

// Layer is one compressed layer of a store. It is a v1.Layer.
type Layer struct {
	Sum  v1.Hash // of the compressed bytes
	Diff v1.Hash // of the tar
	Len  int64   // compressed, in bytes

	file string
}

var _ v1.Layer = (*Layer)(nil)

// Digest, DiffID, Size and MediaType describe the layer.
func (l *Layer) Digest() (v1.Hash, error) { return l.Sum, nil }

// DiffID is the digest of the tar.
func (l *Layer) DiffID() (v1.Hash, error) { return l.Diff, nil }

// Size is the number of compressed bytes.
func (l *Layer) Size() (int64, error) { return l.Len, nil }

// MediaType is zstd: unpacking half a gigabyte takes a second, not eight.
func (l *Layer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }

// Compressed opens the layer as it is stored.
func (l *Layer) Compressed() (io.ReadCloser, error) { return os.Open(l.file) }

// Uncompressed opens the tar.
func (l *Layer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{z, closer(func() error { z.Close(); return f.Close() })}, nil
}

type closer func() error

func (c closer) Close() error { return c() }

// Blobs is the folder that holds each blob under the hexadecimal digits of its SHA-256.
func (s Store) Blobs() string { return filepath.Join(s.Dir, "blobs", "sha256") }

// Find returns the layer that the recipe with this key gave before, or nil.
func (s Store) Find(key string) *Layer {
	b, err := os.ReadFile(s.keyFile(key))
	if err != nil {
		return nil
	}
	var l Layer
	if json.Unmarshal(b, &l) != nil {
		return nil
	}
	l.file = filepath.Join(s.Blobs(), l.Sum.Hex)
	if st, err := os.Stat(l.file); err != nil || st.Size() != l.Len {
		return nil
	}
	return &l
}

func (s Store) keyFile(key string) string { return filepath.Join(s.Dir, "keys", key+".json") }

// Put writes what fill puts into the tar as one layer and remembers it under key.
func (s Store) Put(key string, fill func(*tar.Writer) error) (_ *Layer, err error) {
	for _, dir := range []string{s.Blobs(), filepath.Dir(s.keyFile(key))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("store layer %s: %w", key, err)
		}
	}
	tmp, err := os.CreateTemp(s.Blobs(), ".layer-*")
	if err != nil {
		return nil, fmt.Errorf("store layer %s: %w", key, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("store layer %s: %w", key, err), os.Remove(tmp.Name()))
		}
	}()
	sum, diff := sha256.New(), sha256.New()
	if err := compress(io.MultiWriter(tmp, sum), diff, fill); err != nil {
		return nil, errors.Join(err, tmp.Close())
	}
	size, err := tmp.Seek(0, io.SeekEnd)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return nil, err
	}
	l := &Layer{Sum: hashOf(sum), Diff: hashOf(diff), Len: size}
	l.file = filepath.Join(s.Blobs(), l.Sum.Hex)
	if err := os.Rename(tmp.Name(), l.file); err != nil {
		return nil, err
	}
	b, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return l, os.WriteFile(s.keyFile(key), b, 0o644)
}

func compress(out io.Writer, diff hash.Hash, fill func(*tar.Writer) error) error {
	z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	tw := tar.NewWriter(io.MultiWriter(z, diff))
	if err := fill(tw); err != nil {
		return errors.Join(err, z.Close())
	}
	return errors.Join(tw.Close(), z.Close())
}

func hashOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// addFile writes one file with its folders.
func addFile(tw *tar.Writer, name string, b []byte, mode int64) error {
	for i, r := range name {
		if r == '/' {
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name[:i+1], Mode: 0o755, ModTime: Epoch}); err != nil {
				return err
			}
		}
	}
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(b)), ModTime: Epoch}); err != nil {
		return err
	}
	_, err := tw.Write(b)
	return err
}

// entry is what tells a changed file from an unchanged one, as a package manager leaves them: it never writes in place.
type entry struct {
	inode uint64
	mtime int64
	size  int64
	mode  fs.FileMode
}

// listing returns every path under root.
func listing(root string) (map[string]entry, error) {
	all := map[string]entry{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{mode: st.Mode()}
		if !d.IsDir() {
			e.mtime, e.size = st.ModTime().UnixNano(), st.Size()
			if sys, ok := st.Sys().(*syscall.Stat_t); ok {
				e.inode = sys.Ino
			}
		}
		all[strings.TrimPrefix(path, root+"/")] = e
		return nil
	})
	return all, err
}

// addTree writes what lies under root and is not in before, sorted by path, and a whiteout for what is in before and is gone. What was
// written after started gets [Epoch] as its time: two runs then give the same bytes, while files from packages keep the times that
// compiled Python code names.
func addTree(tw *tar.Writer, root string, before map[string]entry, started time.Time) error {
	now, err := listing(root)
	if err != nil {
		return err
	}
	links := map[uint64]string{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel := strings.TrimPrefix(path, root+"/")
		if old, ok := before[rel]; ok && old == now[rel] {
			return nil
		}
		return addEntry(tw, path, rel, d, started, links)
	})
	if err != nil {
		return err
	}
	return addWhiteouts(tw, before, now)
}

func addEntry(tw *tar.Writer, path, rel string, d fs.DirEntry, started time.Time, links map[uint64]string) error {
	st, err := d.Info()
	if err != nil {
		return err
	}
	target := ""
	switch {
	case st.Mode()&(fs.ModeSocket|fs.ModeNamedPipe|fs.ModeDevice) != 0:
		return nil
	case st.Mode()&fs.ModeSymlink != 0:
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(st, target)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname, h.Format = rel, "", "", tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	h.ModTime = st.ModTime().Truncate(time.Second)
	if h.ModTime.After(started.Add(-time.Minute)) {
		h.ModTime = Epoch
	}
	if d.IsDir() {
		h.Name += "/"
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink > 1 && st.Mode().IsRegular() {
		if first, seen := links[sys.Ino]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			links[sys.Ino] = rel
		}
	}
	if err := tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return errors.Join(err, f.Close())
}
