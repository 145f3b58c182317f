package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/continuo-ml/continuo/internal/files"
)

const (
	tarBlock  = 512
	whiteout  = ".wh."         // in front of a name, it removes that name of the layers below
	opaque    = ".wh..wh..opq" // removes all that the layers below have in its folder
	maxLayers = 127            // what overlay file systems and containerd take
)

// Layer is files of one folder that go into an image.
type Layer struct {
	// Dir is the folder. Files are slash paths in it, nil for all that is there, links followed.
	Dir   string
	Files []string
	// Prefix is the folder in the image, such as "/app"; "" or "/" is its root.
	Prefix string
	// Mode, unless 0, is what every file gets; else it is 0755 for one that somebody may execute, and 0644.
	Mode os.FileMode
	// From, unless "", is an image in the same registry that may hold this very layer: then it is not sent, but taken from there.
	From string
}

// tarLayer is a layer whose bytes are made anew from the files at every reading. It holds no folders: one would
// replace what stands in the base image under its name, a link like /lib included, and whoever unpacks makes them.
type tarLayer struct {
	dir     string
	entries []tarEntry
	media   types.MediaType
	size    int64
	digest  v1.Hash
}

type tarEntry struct {
	path   string // in dir, slashes
	header []byte
	size   int64
	mtime  time.Time
}

// newTarLayer reads the files once, for the digest.
func newTarLayer(ctx context.Context, l Layer, media types.MediaType) (_ *tarLayer, err error) {
	paths := slices.Clone(l.Files)
	if l.Files == nil {
		if paths, err = files.ListDir(l.Dir); err != nil {
			return nil, err
		}
	}
	slices.Sort(paths)
	root, err := os.OpenRoot(l.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	t := &tarLayer{dir: l.Dir, media: media, size: 2 * tarBlock}
	for i, p := range paths {
		if i > 0 && paths[i-1] == p {
			return nil, fmt.Errorf("%s: is listed twice", p)
		}
		e, err := newEntry(root, p, l)
		if err != nil {
			return nil, err
		}
		t.size += int64(len(e.header)) + e.size + pad(e.size)
		t.entries = append(t.entries, e)
	}
	r := t.open()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	_, err = io.CopyBuffer(h, contextReader{ctx, r}, buf)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	t.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
	return t, nil
}

func newEntry(root *os.Root, p string, l Layer) (tarEntry, error) {
	if !filepath.IsLocal(filepath.FromSlash(p)) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		return tarEntry{}, fmt.Errorf("file %q: must be a clean path inside %s", p, l.Dir)
	}
	for seg := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(seg, whiteout) {
			return tarEntry{}, fmt.Errorf("file %s: a name in an image cannot begin with %q, which means a removal there; rename it", p, whiteout)
		}
	}
	info, err := root.Stat(filepath.FromSlash(p))
	if err != nil {
		return tarEntry{}, err
	}
	if !info.Mode().IsRegular() {
		return tarEntry{}, fmt.Errorf("file %s: is no regular file", p)
	}
	mode := l.Mode.Perm()
	if mode == 0 {
		mode = 0o644
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
	}
	var b bytes.Buffer
	err = tar.NewWriter(&b).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: path.Join(trimPrefix(l.Prefix), p), Size: info.Size(), Mode: int64(mode), ModTime: time.Unix(0, 0),
	})
	if err != nil {
		return tarEntry{}, fmt.Errorf("file %s: %w", p, err)
	}
	return tarEntry{path: p, header: b.Bytes(), size: info.Size(), mtime: info.ModTime()}, nil
}

// trimPrefix returns a folder of an image as archives name it, "" for the root.
func trimPrefix(prefix string) string { return strings.TrimPrefix(path.Clean("/"+prefix), "/") }

// pad is how many bytes follow n up to a whole block.
func pad(n int64) int64 { return (tarBlock - n%tarBlock) % tarBlock }

// Digest implements v1.Layer.
func (t *tarLayer) Digest() (v1.Hash, error) { return t.digest, nil }

// DiffID implements v1.Layer.
func (t *tarLayer) DiffID() (v1.Hash, error) { return t.digest, nil }

// Size implements v1.Layer.
func (t *tarLayer) Size() (int64, error) { return t.size, nil }

// MediaType implements v1.Layer.
func (t *tarLayer) MediaType() (types.MediaType, error) { return t.media, nil }

// Compressed implements v1.Layer. The layer is not compressed.
func (t *tarLayer) Compressed() (io.ReadCloser, error) {
	return &sameReader{ReadCloser: t.open(), hash: sha256.New(), want: t.digest.Hex, dir: t.dir}, nil
}

// Uncompressed implements v1.Layer.
func (t *tarLayer) Uncompressed() (io.ReadCloser, error) { return t.Compressed() }

func (t *tarLayer) open() *tarReader { return &tarReader{layer: t, next: -1} }

// sameReader errs at the end when the bytes are not those of the digest: a registry would say no more than "digest invalid".
type sameReader struct {
	io.ReadCloser
	hash hash.Hash
	want string
	dir  string
}

// Read implements io.Reader.
func (s *sameReader) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.hash.Write(p[:n]) // a hash never fails
	if errors.Is(err, io.EOF) && hex.EncodeToString(s.hash.Sum(nil)) != s.want {
		return n, fmt.Errorf("a file of %s %w", s.dir, files.ErrChanged)
	}
	return n, err
}

// tarReader yields the bytes of a layer, one file open at a time.
type tarReader struct {
	layer *tarLayer
	next  int // index of the entry that is being read; -1 before the first
	part  io.Reader
	file  *os.File
	left  int64 // of the file
	done  bool
}

// Read implements io.Reader.
func (r *tarReader) Read(p []byte) (int, error) {
	for {
		if r.part != nil {
			n, err := r.part.Read(p)
			if n > 0 || err != nil && !errors.Is(err, io.EOF) {
				return n, dropEOF(err)
			}
		}
		if r.done {
			return 0, io.EOF
		}
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
}

func dropEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// advance opens the next part: a header with its file and padding, or the end.
func (r *tarReader) advance() error {
	if err := r.closeFile(); err != nil {
		return err
	}
	r.next++
	if r.next == len(r.layer.entries) {
		r.part, r.done = bytes.NewReader(make([]byte, 2*tarBlock)), true
		return nil
	}
	e := r.layer.entries[r.next]
	// The folder is opened anew, so that a reader that is never closed holds one file and no more.
	root, err := os.OpenRoot(r.layer.dir)
	if err != nil {
		return err
	}
	f, err := root.Open(filepath.FromSlash(e.path))
	if err := errors.Join(err, root.Close()); err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != e.size || !info.ModTime().Equal(e.mtime)) {
		err = fmt.Errorf("%s %w; wait until its writer is done", filepath.Join(r.layer.dir, e.path), files.ErrChanged)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.file, r.left = f, e.size
	r.part = io.MultiReader(bytes.NewReader(e.header), io.LimitReader(&counted{f, &r.left}, e.size), bytes.NewReader(make([]byte, pad(e.size))))
	return nil
}

func (r *tarReader) closeFile() error {
	if r.file == nil {
		return nil
	}
	name, left, f := r.file.Name(), r.left, r.file
	r.file = nil
	if err := f.Close(); err != nil {
		return err
	}
	if left != 0 {
		return fmt.Errorf("%s %w; wait until its writer is done", name, files.ErrChanged)
	}
	return nil
}

// Close implements io.Closer.
func (r *tarReader) Close() error {
	r.part, r.done, r.left = nil, true, 0
	return r.closeFile()
}

type counted struct {
	r    io.Reader
	left *int64
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.left -= int64(n)
	return n, err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context // a reader has no other way to hear of it
	r   io.Reader
}

// Read implements io.Reader.
func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
