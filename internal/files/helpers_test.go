package files

import (
	"crypto/sha256"
	"encoding/hex"
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
	return openWith(t, dir, "", Options{})
}

func openWith(t testing.TB, dir, cache string, opt Options) *Index {
	t.Helper()
	x, err := OpenWith(dir, cache, opt)
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
