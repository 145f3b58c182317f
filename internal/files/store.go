package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/durable"
)

// Store keeps artifacts by content in a folder:
//
//	blobs/sha256/<hex>     one file, read-only, named by its digest
//	manifests/<hex>.json   one artifact, named by the digest of the manifest's bytes
//	tmp/                   what is being put
//	lock                   shared by readers and writers, exclusive for removal
//
// A manifest appears after all of its blobs are durable. It is safe for concurrent use, also by several
// processes.
type Store struct {
	dir  string
	wait time.Duration // longest for other processes
	pool buffers
}

// OpenStore opens the store in folder dir, and makes it if it is not there.
func OpenStore(dir string) (*Store, error) {
	s := &Store{dir: dir, wait: 5 * time.Minute}
	for _, sub := range []string{"blobs/sha256", "manifests", "tmp"} {
		if err := durable.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open the artifact store: %w", err)
		}
	}
	return s, nil
}

func (s *Store) blobs() string                { return filepath.Join(s.dir, "blobs", "sha256") }
func (s *Store) blob(hex string) string       { return filepath.Join(s.blobs(), hex) }
func (s *Store) manifests() string            { return filepath.Join(s.dir, "manifests") }
func (s *Store) manifestPath(h string) string { return filepath.Join(s.manifests(), h+".json") }

// lock takes the store's lock and returns what gives it back.
func (s *Store) lock(exclusive bool) (func() error, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.wait)
	defer cancel()
	l := flock.New(filepath.Join(s.dir, "lock"))
	try := l.TryRLockContext
	if exclusive {
		try = l.TryLockContext
	}
	if ok, err := try(ctx, 20*time.Millisecond); err != nil || !ok {
		return nil, fmt.Errorf("lock the artifact store %s: another process holds it (waited %s): %w", s.dir, s.wait, err)
	}
	return l.Close, nil
}

// PutDir stores all files below dir, without ignore rules, and returns the artifact's digest (64 hex
// digits). It is durable when PutDir returns. Links inside dir are stored as what they lead to; links
// out, devices and the like are refused. Putting the same files again changes nothing, but replaces
// blobs that were damaged since.
func (s *Store) PutDir(dir string) (digest string, m Manifest, err error) {
	wrap := func(err error) error { return fmt.Errorf("store %s: %w", dir, err) }
	unlock, err := s.lock(false)
	if err != nil {
		return "", Manifest{}, wrap(err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", Manifest{}, wrap(err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	paths, err := listAll(root)
	if err != nil {
		return "", Manifest{}, wrap(err)
	}
	m = Manifest{Format: manifestFormat, Files: make([]ManifestFile, len(paths))}
	if err := s.putFiles(root, paths, m.Files); err != nil {
		return "", Manifest{}, wrap(err)
	}
	digest, err = s.putManifest(m)
	if err != nil {
		return "", Manifest{}, wrap(err)
	}
	return digest, m, nil
}

// putFiles stores the blobs of paths and fills entries.
func (s *Store) putFiles(root *os.Root, paths []string, entries []ManifestFile) (err error) {
	tmp, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), "put-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	staged := func(i int) string { return filepath.Join(tmp, strconv.Itoa(i)) }
	present := make([]bool, len(paths))
	err = parallelErr(len(paths), func(i int) error {
		c, err := copyFile(root, paths[i], staged(i), readOnly, &s.pool)
		if err != nil {
			return err
		}
		entries[i] = ManifestFile{Path: paths[i], Mode: modeFile, Size: c.size, Digest: c.hex}
		if c.mode&0o111 != 0 {
			entries[i].Mode = modeExec
		}
		// What is stored already and whole is not written again.
		if s.checkBlob(entries[i]) == nil {
			present[i] = true
			return os.Remove(staged(i))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if slices.Contains(present, false) {
		if err := syncTree(tmp); err != nil {
			return err
		}
	}
	for i, e := range entries {
		if present[i] {
			continue
		}
		if err := os.Rename(staged(i), s.blob(e.Digest)); err != nil {
			return err
		}
	}
	// Also when all were present: another process may have renamed them a moment ago.
	return durable.SyncDir(s.blobs())
}

func (s *Store) putManifest(m Manifest) (string, error) {
	data, digest, err := encodeManifest(m)
	if err != nil {
		return "", err
	}
	if old, err := os.ReadFile(s.manifestPath(digest)); err == nil && string(old) == string(data) {
		return digest, durable.SyncDir(s.manifests())
	}
	return digest, durable.WriteFile(s.manifestPath(digest), data, readOnly)
}

// checkBlob reads the blob of e and returns an error unless it is whole.
func (s *Store) checkBlob(e ManifestFile) (err error) {
	path := s.blob(e.Digest)
	fi, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("blob of %s: %w", e.Path, err)
	}
	if !fi.Mode().IsRegular() {
		return notRegular("read blob", path, fi.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("blob of %s: %w", e.Path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if fi.Size() != e.Size {
		return damaged(e, fmt.Sprintf("%d bytes, not %d", fi.Size(), e.Size))
	}
	sum, _, err := copyHash(nil, f, e.Size+1, &s.pool)
	if err != nil {
		return fmt.Errorf("blob of %s: %w", e.Path, err)
	}
	if got := hex.EncodeToString(sum[:]); got != e.Digest {
		return damaged(e, "content "+got)
	}
	return nil
}

// ErrDamaged is what an artifact matches whose stored bytes are not what its digest says.
var ErrDamaged = errors.New("the artifact store is damaged")

func damaged(e ManifestFile, what string) error {
	return fmt.Errorf("%w: blob %s of %s has %s; put the same files again, or restore the blob from a backup", ErrDamaged, e.Digest, e.Path, what)
}

// Manifest returns the manifest of an artifact, checked against its digest. An unknown digest is an
// error that matches fs.ErrNotExist.
func (s *Store) Manifest(digest string) (Manifest, error) {
	h, err := parseHex(digest)
	if err != nil {
		return Manifest{}, err
	}
	fi, err := os.Stat(s.manifestPath(h))
	if err != nil {
		return Manifest{}, fmt.Errorf("artifact %s: %w", h, err)
	}
	if fi.Size() > maxManifestBytes {
		return Manifest{}, fmt.Errorf("artifact %s: manifest: %w", h, ErrTooLarge)
	}
	data, err := os.ReadFile(s.manifestPath(h))
	if err != nil {
		return Manifest{}, fmt.Errorf("artifact %s: %w", h, err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != h {
		return Manifest{}, fmt.Errorf("artifact %s: %w: its manifest has digest %x; put the same files again, or restore it from a backup", h, ErrDamaged, sum)
	}
	m, err := DecodeManifest(data)
	if err != nil {
		return Manifest{}, fmt.Errorf("artifact %s: %w", h, err)
	}
	return m, nil
}

// List returns the digests of all artifacts, sorted.
func (s *Store) List() ([]string, error) {
	list, err := os.ReadDir(s.manifests())
	if err != nil {
		return nil, fmt.Errorf("list artifacts: %w", err)
	}
	var out []string
	for _, e := range list {
		h, isJSON := strings.CutSuffix(e.Name(), ".json")
		if _, err := parseHex(h); isJSON && err == nil && e.Type().IsRegular() {
			out = append(out, h)
		}
	}
	slices.Sort(out)
	return out, nil
}

// fileMode returns the permissions of a checked-out file.
func (f ManifestFile) fileMode() fs.FileMode {
	if f.Mode == modeExec {
		return readOnlyExec
	}
	return readOnly
}
