package runs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/resource"
)

func (e *Workspace) cachePath() string { return filepath.Join(e.Dir, "cache", "digests") }

// sourcesDir is the cache of data that lies elsewhere.
func (e *Workspace) sourcesDir() string { return filepath.Join(e.Dir, "cache", "sources") }

func (e *Workspace) dataDir() string { return filepath.Join(e.Dir, "data") }

// version is the folder of one version of data.
func (e *Workspace) version(d resource.Digest) string { return filepath.Join(e.dataDir(), d.Hex()) }

// checkedOut is where a model's files stand for commands to read.
func (e *Workspace) checkedOut(d resource.Digest) string {
	return filepath.Join(e.Dir, "cache", "models", d.Hex())
}

// kept is a folder that survives attempts at the same inputs: what ("checkpoints", "parts"), then address and inputs.
func (e *Workspace) kept(what string, addr resource.Address, inputs resource.Digest) string {
	h := inputs.Hex()
	return filepath.Join(e.keptAll(what, addr), h[:min(len(h), 12)])
}

// keptAll holds what is kept of an address for any inputs.
func (e *Workspace) keptAll(what string, addr resource.Address) string {
	return filepath.Join(e.Dir, what, addr.Slug())
}

// artifactsDir is the folder of the artifact store.
func (e *Workspace) artifactsDir() (string, error) {
	a := e.Artifacts
	switch {
	case a == "":
		return filepath.Join(e.Dir, "artifacts"), nil
	case strings.Contains(a, "://"):
		return "", fmt.Errorf("artifacts %q: models of this machine are kept in a folder, and those of a cluster in a registry; set ml { artifacts } to a path such as \".ml/artifacts\", or to oci://HOST/NAME with a cluster provider (buckets hold datasets, not models)", a)
	case filepath.IsAbs(a):
		return filepath.Clean(a), nil
	}
	return filepath.Join(e.Root, filepath.FromSlash(a)), nil
}

// modelURI is where a model's files are on this machine.
func (e *Workspace) modelURI(hex string) (string, error) {
	dir, err := e.artifactsDir()
	return e.Rel(filepath.Join(dir, "manifests", hex+".json")), err
}

// Rel is how a path stands in records: relative to the project with slashes, so that a project may move.
func (e *Workspace) Rel(path string) string {
	r, err := filepath.Rel(e.Root, path)
	if err != nil || !filepath.IsLocal(r) {
		return path
	}
	return filepath.ToSlash(r)
}

// Abs is the reverse of rel.
func (e *Workspace) Abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(e.Root, filepath.FromSlash(path))
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func mkdir(dir string) error { return durable.MkdirAll(dir, 0o755) }

// place moves a finished file to its place in one step. One of the same content that stands there stays as it is, since a command
// that survived us, or runs beside us, may be reading it.
func place(from, to string) error {
	same, err := sameContent(from, to)
	if err != nil {
		return err
	}
	if same {
		return os.Remove(from)
	}
	return os.Rename(from, to)
}

// settle places a finished file read-only and durable.
func settle(from, to string) error {
	if err := mkdir(filepath.Dir(to)); err != nil {
		return err
	}
	if err := os.Chmod(from, 0o444); err != nil {
		return err
	}
	if err := place(from, to); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(filepath.Dir(to)))
}

// sameContent compares two files byte by byte; one that is not there is like none.
func sameContent(a, b string) (_ bool, err error) {
	f, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	g, err := os.Open(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	var p, q [64 << 10]byte
	for {
		n, perr := io.ReadFull(f, p[:])
		m, qerr := io.ReadFull(g, q[:])
		if !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		switch {
		case perr == nil && qerr == nil:
		case atEnd(perr) && atEnd(qerr):
			return true, nil
		default:
			return false, errors.Join(perr, qerr)
		}
	}
}

// atEnd reports whether io.ReadFull came to the end of its file.
func atEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// syncFile makes the bytes of a file that someone else wrote durable.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// sum digests what is written through it.
type sum struct {
	to   io.Writer
	hash hash.Hash
}

func newSum(to io.Writer) *sum { return &sum{to, sha256.New()} }

// Write implements io.Writer.
func (s *sum) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	s.hash.Write(p[:n]) // A hash never errors.
	return n, err
}

func (s *sum) digest() resource.Digest {
	return resource.DigestOfHex(hex.EncodeToString(s.hash.Sum(nil)))
}
