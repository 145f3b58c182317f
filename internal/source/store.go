package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/durable"
)

// store is the cache of one project.
//
//	blobs/<hex>         one object, read-only, by its SHA-256
//	lists/<hex>         what an address held when it was last read, by the SHA-256 of the address
//	tmp/<name>/         what a process is downloading; its lock says that it lives
//
// Nothing in it is trusted: what is placed is digested again.
type store struct {
	dir string

	mu   sync.Mutex
	tmp  string
	lock *flock.Flock
}

// listing is what an address holds.
type listing struct {
	IsDir   bool     `json:"dir"`
	Objects []object `json:"objects"` // sorted by path
	// Whole is the identity of all of it, for places that give no other: a manifest's digest, a commit.
	Whole string `json:"whole,omitempty"`
}

// object is one object of a place.
type object struct {
	Path string `json:"path"`          // slash path below the source's folder, or the file's name
	Key  string `json:"key,omitempty"` // what the place calls it
	ID   string `json:"id,omitempty"`  // ETag, generation or the like: other bytes have another; "" when the place gives none
	Size int64  `json:"size"`          // bytes; -1 = not told
	Sum  string `json:"sum,omitempty"` // SHA-256 of the content, 64 hex digits; "" = not read yet

	md5 string // what the place says, in hex; "" = nothing
}

// errNoBlob is content that the cache does not have.
var errNoBlob = errors.New("not in the cache")

func (s *store) blob(sum string) string { return filepath.Join(s.dir, "blobs", sum) }

func (s *store) has(sum string, size int64) bool {
	info, err := os.Lstat(s.blob(sum))
	return isHex(sum) && err == nil && info.Mode().IsRegular() && info.Size() == size
}

// listFile is where the list of an address stands. Two projects never share it, but two endpoints of one bucket must not either.
func (s *store) listFile(a address) string {
	sum := sha256.Sum256([]byte(a.scheme + "\x00" + a.host + "\x00" + a.key + "\x00" + a.query.Encode() + "\x00" + a.where()))
	return filepath.Join(s.dir, "lists", hex.EncodeToString(sum[:]))
}

// where is what the environment says of the place that an address means.
func (a address) where() string {
	switch a.scheme {
	case schemeS3:
		return firstEnv("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
	case schemeGS:
		return os.Getenv("STORAGE_EMULATOR_HOST")
	case schemeAzure:
		return firstEnv("AZURE_STORAGE_BLOB_ENDPOINT", "AZURE_STORAGE_ACCOUNT")
	}
	return ""
}

func firstEnv(names ...string) string {
	for _, n := range names {
		if v := os.Getenv(n); v != "" {
			return v
		}
	}
	return ""
}

// recall returns the list of an address, or nil. A damaged one is none.
func (s *store) recall(a address) *listing {
	data, err := os.ReadFile(s.listFile(a))
	if err != nil {
		return nil
	}
	sum, body, ok := bytes.Cut(data, []byte("\n"))
	if want := sha256.Sum256(body); !ok || string(sum) != hex.EncodeToString(want[:]) {
		return nil
	}
	var l listing
	if json.Unmarshal(body, &l) != nil || len(l.Objects) == 0 {
		return nil
	}
	return &l
}

// remember writes the list of an address.
func (s *store) remember(a address, l *listing) error {
	body, err := json.Marshal(l)
	if err != nil {
		return err
	}
	at := s.listFile(a)
	if err := durable.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	if err := durable.WriteFile(at, append([]byte(hex.EncodeToString(sum[:])+"\n"), body...), 0o600); err != nil {
		return fmt.Errorf("remember what was read: %w", err)
	}
	return nil
}

// put makes the content sum stand at to: by a link where the file system can, or else as a copy.
func (s *store) put(sum, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	err := os.Link(s.blob(sum), to)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is %w", sum, errNoBlob)
	}
	return copyFile(s.blob(sum), to)
}

func copyFile(from, to string) (err error) {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	g, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(g, f)
	return errors.Join(err, g.Close())
}

// keep moves a finished file into the cache.
func (s *store) keep(from, sum string) error {
	if err := os.Chmod(from, 0o444); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "blobs"), 0o755); err != nil {
		return err
	}
	return os.Rename(from, s.blob(sum))
}

// drop removes the blobs of a list, so that they are fetched anew.
func (s *store) drop(l *listing) error {
	var errs []error
	for _, o := range l.Objects {
		if isHex(o.Sum) {
			errs = append(errs, durable.RemoveIfThere(s.blob(o.Sum)))
		}
	}
	return errors.Join(errs...)
}

// scratch is a folder for what this process is downloading. Those of processes that died are removed first.
func (s *store) scratch() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tmp != "" {
		return s.tmp, nil
	}
	all := filepath.Join(s.dir, "tmp")
	if err := os.MkdirAll(all, 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	// One process at a time: a folder that was made a moment ago is not locked yet.
	door := flock.New(filepath.Join(all, "lock"))
	if err := door.Lock(); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	defer door.Close() //nolint:errcheck // the kernel frees it with the file
	if err := sweep(all); err != nil {
		return "", fmt.Errorf("tidy the cache: %w", err)
	}
	dir, err := os.MkdirTemp(all, "get-*")
	if err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	if _, err := lock.TryLock(); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	s.tmp, s.lock = dir, lock
	return dir, nil
}

// sweep removes the folders below all whose owners are gone.
func sweep(all string) error {
	entries, err := os.ReadDir(all)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(all, e.Name())
		lock := flock.New(filepath.Join(dir, "lock"))
		free, err := lock.TryLock()
		if err == nil && free {
			err = os.RemoveAll(dir)
		}
		errs = append(errs, err, lock.Close())
	}
	return errors.Join(errs...)
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tmp == "" {
		return nil
	}
	err := errors.Join(os.RemoveAll(s.tmp), s.lock.Close())
	s.tmp, s.lock = "", nil
	return err
}
