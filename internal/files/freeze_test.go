package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// onlyEntry fails unless dir holds name and nothing else: no temporary file stays.
func onlyEntry(t *testing.T, dir string, names ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%s holds %v, want %v", dir, got, names)
	}
}

func TestFreezeKeepsWhatThePlanRead(t *testing.T) {
	big := strings.Repeat("big", 3*bufBytes)
	dir := project(t, map[string]string{"data/a.csv": "A", "data/sub/b.csv": big, "data/skip/c": "C", "data/.mlignore": "skip\n"})
	for _, c := range []struct {
		source string
		want   map[string]string // below dst; "" is dst itself
	}{
		{"data/a.csv", map[string]string{"": "A"}},
		{"data", map[string]string{"a.csv": "A", "sub/b.csv": big}},
		{"data/*/*.csv", map[string]string{"sub/b.csv": big}},
	} {
		x := open(t, dir)
		d, err := x.DigestSource(c.source)
		if err != nil {
			t.Fatal(err)
		}
		cache := t.TempDir()
		dst := filepath.Join(cache, "v1")
		for range 2 { // the second time it is there
			if err := x.Freeze(c.source, "sha256:"+d.Hex, dst); err != nil {
				t.Fatalf("%s: %v", c.source, err)
			}
		}
		onlyEntry(t, cache, "v1")
		for p, text := range c.want {
			f := filepath.Join(dst, p)
			got, err := os.ReadFile(f)
			if err != nil || string(got) != text {
				t.Errorf("%s: %s holds %d bytes, %v", c.source, f, len(got), err)
			}
			if fi, err := os.Stat(f); err != nil || fi.Mode() != readOnly {
				t.Errorf("%s: %v, %v, want a read-only file", f, fi.Mode(), err)
			}
		}
		if have, err := x.frozen(dst); err != nil || have != d.Hex {
			t.Errorf("%s: the frozen copy has %s, %v, want %s", c.source, have, err, d.Hex)
		}
	}
}

// M6: what arrives must be what was asked for.
func TestFreezeRefusesASourceThatMoved(t *testing.T) {
	dir := project(t, map[string]string{"d/a": "old", "d/b": "B"})
	x := open(t, dir)
	for _, source := range []string{"d", "d/a", "d/*"} {
		write(t, filepath.Join(dir, "d/a"), "old")
		x.Refresh()
		d, err := x.DigestSource(source)
		if err != nil {
			t.Fatal(err)
		}
		cache := t.TempDir()
		dst := filepath.Join(cache, "v")
		write(t, filepath.Join(dir, "d/a"), "new")
		err = x.Freeze(source, d.Hex, dst)
		x.Refresh()
		now, err2 := x.DigestSource(source)
		if err2 != nil {
			t.Fatal(err2)
		}
		if !errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), d.Hex) || !strings.Contains(err.Error(), now.Hex) || !strings.Contains(err.Error(), source) {
			t.Errorf("%s: %v, want ErrMoved that names %s and %s", source, err, d.Hex, now.Hex)
		}
		onlyEntry(t, cache)
	}
	// A new file in the folder is a change too, and so is a file that is gone.
	write(t, filepath.Join(dir, "d/a"), "old")
	x.Refresh()
	d, err := x.DigestSource("d")
	if err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "v")
	write(t, filepath.Join(dir, "d/c"), "C")
	if err := x.Freeze("d", d.Hex, dst); !errors.Is(err, ErrMoved) {
		t.Errorf("with a new file: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	if err := x.Freeze("d", d.Hex, dst); !errors.Is(err, ErrMoved) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with no source: %v", err)
	}
	if err := x.Freeze("d", "sha256:xyz", dst); err == nil || errors.Is(err, ErrMoved) {
		t.Errorf("with a bad digest: %v", err)
	}
}

func TestFreezeReplacesADamagedCopy(t *testing.T) {
	dir := project(t, map[string]string{"d/a": "A", "f": "F"})
	x := open(t, dir)
	for _, source := range []string{"d", "f"} {
		d, err := x.DigestSource(source)
		if err != nil {
			t.Fatal(err)
		}
		for name, spoil := range map[string]func(dst string){
			"another file":  func(dst string) { write(t, dst, "wrong") },
			"another files": func(dst string) { write(t, filepath.Join(dst, "a"), "wrong") },
			"one too many": func(dst string) {
				write(t, filepath.Join(dst, "a"), "A")
				write(t, filepath.Join(dst, "b"), "B")
			},
			"an empty folder": func(dst string) {
				if err := os.Mkdir(dst, 0o755); err != nil {
					t.Fatal(err)
				}
			},
		} {
			cache := t.TempDir()
			dst := filepath.Join(cache, "v")
			spoil(dst)
			if err := x.Freeze(source, d.Hex, dst); err != nil {
				t.Errorf("%s over %s: %v", source, name, err)
			}
			if have, err := x.frozen(dst); err != nil || have != d.Hex {
				t.Errorf("%s over %s: holds %s, %v", source, name, have, err)
			}
			onlyEntry(t, cache, "v")
		}
	}
}

func TestAFrozenCopyIsNotReadAgainWhenItDidNotMove(t *testing.T) {
	dir := project(t, map[string]string{"d/a": "A"})
	cache, dst := filepath.Join(t.TempDir(), "stat"), filepath.Join(t.TempDir(), "v")
	hex := ""
	for i, want := range []int64{2, 1, 0} { // source and copy; the copy, now old enough; nothing
		x, err := openIndex(dir, cache, options{now: later(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			d, err := x.DigestSource("d")
			if err != nil {
				t.Fatal(err)
			}
			hex = d.Hex
		}
		if err := x.Freeze("d", hex, dst); err != nil {
			t.Fatal(err)
		}
		got := x.Stats().Hashed
		if i == 0 {
			got++ // the copy is hashed as it is made, which is not counted
		}
		if got != want {
			t.Errorf("run %d hashed %d files, want %d", i, got, want)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Two processes may bring the same folder at once.
func TestAFolderThatAppearsMeanwhileStaysUnlessItIsToBeReplaced(t *testing.T) {
	for _, c := range []struct {
		replace   bool
		same      error
		want      string
		wantError bool
	}{
		{false, nil, "theirs", false},
		{true, nil, "theirs", false},
		{false, errors.New("other"), "theirs", true},
		{true, errors.New("other"), "ours", false},
	} {
		parent := t.TempDir()
		dst := filepath.Join(parent, "v")
		err := stage(dst, c.replace, func(tmp string) error {
			write(t, filepath.Join(tmp, "f"), "ours")
			write(t, filepath.Join(dst, "f"), "theirs")
			return nil
		}, func() error { return c.same })
		got, err2 := os.ReadFile(filepath.Join(dst, "f"))
		if (err != nil) != c.wantError || err2 != nil || string(got) != c.want {
			t.Errorf("%+v: %q, %v, %v", c, got, err, err2)
		}
		onlyEntry(t, parent, "v")
	}
}

// Two blocks with the same data bring the same file at once; one of them may read it already.
func TestAFileThatAppearsMeanwhileStaysTheSameFile(t *testing.T) {
	for _, right := range []bool{true, false} {
		parent := t.TempDir()
		dst := filepath.Join(parent, "v")
		var theirs os.FileInfo
		err := stage(dst, true, func(tmp string) error {
			write(t, tmp, "ours")
			write(t, dst, "theirs")
			var err error
			theirs, err = os.Stat(dst)
			return err
		}, func() error {
			if right {
				return nil
			}
			return errors.New("other")
		})
		now, err2 := os.Stat(dst)
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if os.SameFile(theirs, now) != right {
			t.Errorf("their content is right: %v; their file is there: %v", right, !right)
		}
		onlyEntry(t, parent, "v")
	}
}
