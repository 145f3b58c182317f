package files

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDigestDirIsWhatPutDirAndDigestSourceSay(t *testing.T) {
	dir := project(t, map[string]string{"data/a.csv": "1", "data/deep/b.csv": "2", "data/run.sh": "3", "one/x.csv": "4"})
	if err := os.Chmod(filepath.Join(dir, "data/run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, "deep/b.csv", filepath.Join(dir, "data/link.csv"))
	s, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want, wantM, err := s.PutDir(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	got, m, err := DigestDir(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(wantM, m); d != "" || got != want {
		t.Errorf("digest %s, want %s: %s", got, want, d)
	}
	x := open(t, dir)
	for source, isDir := range map[string]bool{"data": true, "one/x.csv": false, "one": true} {
		at := filepath.Join(dir, source)
		if !isDir {
			at = filepath.Dir(at)
		}
		if _, m, err = DigestDir(at); err != nil {
			t.Fatal(err)
		}
		src, err := x.DigestSource(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.SourceDigest(isDir); err != nil || got != src.Hex {
			t.Errorf("%s: %s, want %s: %v", source, got, src.Hex, err)
		}
	}
	if _, err := wantM.SourceDigest(false); err == nil {
		t.Error("four files were taken for one")
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "one/out")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := DigestDir(filepath.Join(dir, "one")); !errors.Is(err, ErrOutside) {
		t.Errorf("a link out: %v", err)
	}
	if _, err := ListDir(t.TempDir()); err == nil {
		t.Error("an empty folder was listed")
	}
}
