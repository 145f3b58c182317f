package files

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// project makes a folder that holds files, path to content.
func project(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for p, text := range files {
		write(t, filepath.Join(dir, p), text)
	}
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, target, at string) {
	t.Helper()
	if err := os.Symlink(target, at); err != nil {
		t.Fatal(err)
	}
}

// open opens an Index without a cache file; it is closed with the test.
func open(t testing.TB, dir string) *Index {
	t.Helper()
	return openWith(t, dir, "", options{})
}

func openWith(t testing.TB, dir, cache string, opt options) *Index {
	t.Helper()
	x, err := openIndex(dir, cache, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.root.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// later is a clock that runs d ahead: what was just written is then old enough to be cached.
func later(d time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(d) }
}

func hexOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// DigestFile returns the digest of the regular file p of the project. Links inside the project are
// followed. A file that is written to while it is read is read once more, then it is an error that
// matches ErrChanged.
func (x *Index) DigestFile(p string) (Digest, error) {
	clean, err := cleanPath(p)
	if err != nil {
		return Digest{}, fmt.Errorf("digest %w", err)
	}
	out, err := x.view().digestAll([]string{clean})
	if err != nil {
		return Digest{}, err
	}
	return out[0].Digest, nil
}
