package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDigestsAreThoseOfSha256sum(t *testing.T) {
	// printf abc | sha256sum
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	sizes := []int{0, 1, bufBytes - 1, bufBytes, bufBytes + 1, pipelineBytes - 1, pipelineBytes, pipelineBytes + 1, 3*pipelineBytes + 17}
	in := map[string]string{"abc": "abc", "deep/er/abc": "abc"}
	for _, n := range sizes {
		in[fmt.Sprint("s", n)] = strings.Repeat("0123456789abcdef!", n/17+1)[:n]
	}
	x := open(t, project(t, in))
	for p, text := range in {
		d, err := x.DigestFile(p)
		if err != nil || d.Hex != hexOf(text) || d.Size != int64(len(text)) {
			t.Errorf("%s of %d bytes: %v, %v", p, len(text), d, err)
		}
	}
	if d, err := x.DigestFile("abc"); err != nil || d.Hex != abc {
		t.Errorf("abc: %v, %v", d, err)
	}
	// The same, all at once and in parallel.
	s, err := x.DigestSource(".")
	if err != nil || len(s.Files) != len(in) {
		t.Fatalf("%d files, %v", len(s.Files), err)
	}
	for _, f := range s.Files {
		if f.Hex != hexOf(in[f.Path]) {
			t.Errorf("%s has %s", f.Path, f.Hex)
		}
	}
}

func TestASourceIsAFileAFolderOrAGlob(t *testing.T) {
	x := open(t, project(t, map[string]string{
		"data/a.csv": "A", "data/b.csv": "B", "data/sub/c.csv": "C", "data/notes.txt": "N", "copy/sub/c.csv": "C",
		"copy/a.csv": "A", "copy/b.csv": "B", "copy/notes.txt": "N", "odd[1].csv": "O", "empty/.mlignore": "",
	}))
	set := func(lines ...string) string { return hexOf(strings.Join(lines, "")) }
	line := func(text, path string) string { return hexOf(text) + "  " + path + "\n" }
	for _, c := range []struct {
		source, hex, base string
		files             int
		bytes             int64
		isDir             bool
	}{
		{"data/a.csv", hexOf("A"), ".", 1, 1, false},
		{"./data//a.csv", hexOf("A"), ".", 1, 1, false},
		{"data", set(line("A", "a.csv"), line("B", "b.csv"), line("N", "notes.txt"), line("C", "sub/c.csv")), "data", 4, 4, true},
		{"copy/", set(line("A", "a.csv"), line("B", "b.csv"), line("N", "notes.txt"), line("C", "sub/c.csv")), "copy", 4, 4, true},
		{"data/*.csv", set(line("A", "a.csv"), line("B", "b.csv")), "data", 2, 2, true},
		{"data/**/c.csv", set(line("C", "sub/c.csv")), "data", 1, 1, true},
		{"odd[1].csv", hexOf("O"), ".", 1, 1, false},
	} {
		d, err := x.DigestSource(c.source)
		if err != nil || d.Hex != c.hex || len(d.Files) != c.files || d.Bytes != c.bytes || d.IsDir != c.isDir || d.Base != c.base {
			t.Errorf("DigestSource(%q) = %+v, %v, want %+v", c.source, d, err, c)
		}
	}
	for _, source := range []string{"nothing.csv", "data/*.parquet", "nothing/**", "empty"} {
		if d, err := x.DigestSource(source); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("DigestSource(%q) = %v, %v, want fs.ErrNotExist", source, d, err)
		}
	}
}

func TestASetsDigestCoversPathsAndContents(t *testing.T) {
	in := map[string]string{"train.py": "T", "lib/a.py": "A"}
	sum := func(files map[string]string, patterns ...string) string {
		t.Helper()
		hex, _, err := open(t, project(t, files)).DigestSet(patterns)
		if err != nil {
			t.Fatal(err)
		}
		return hex
	}
	want := hexOf(hexOf("A") + "  lib/a.py\n" + hexOf("T") + "  train.py\n")
	for _, patterns := range [][]string{{"**"}, {"lib/*", "train.py"}, {"train.py", "lib"}, {"train.py", "train.py", "**/*.py"}} {
		if got := sum(in, patterns...); got != want {
			t.Errorf("%v: %s, want %s", patterns, got, want)
		}
	}
	if got := sum(map[string]string{"train.py": "T", "lib/b.py": "A"}, "**"); got == want {
		t.Error("a renamed file kept the digest")
	}
	if got := sum(map[string]string{"train.py": "A", "lib/a.py": "T"}, "**"); got == want {
		t.Error("exchanged contents kept the digest")
	}
	x := open(t, project(t, in))
	if _, _, err := x.DigestSet([]string{"*.py", "trian.py"}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "trian.py") {
		t.Errorf("a misspelt source gave %v", err)
	}
	if hex, files, err := x.DigestSet([]string{"*.rs"}); err != nil || len(files) != 0 || hex != hexOf("") {
		t.Errorf("a pattern without a match gave %s %v %v", hex, files, err)
	}
}

// Paths are sorted as bytes, where "a-b/" comes before "a.txt" and that before "a/".
func TestAFolderIsDigestedInTheOrderOfItsPaths(t *testing.T) {
	x := open(t, project(t, map[string]string{"a-b/c": "1", "a.txt": "2", "a/b": "3", "a0": "4", "ab": "5"}))
	s, err := x.DigestSource(".")
	if err != nil {
		t.Fatal(err)
	}
	lines := ""
	for i, p := range []string{"a-b/c", "a.txt", "a/b", "a0", "ab"} {
		lines += hexOf(fmt.Sprint(i+1)) + "  " + p + "\n"
	}
	if s.Hex != hexOf(lines) {
		t.Errorf("%v are not in order", s.Files)
	}
}

func TestALineBreakInANameIsAnError(t *testing.T) {
	x := open(t, project(t, map[string]string{"a\nb": ""}))
	if _, err := x.DigestSource("."); err == nil || !strings.Contains(err.Error(), `a\nb`) {
		t.Errorf("got %v", err)
	}
}

// D18.
func TestAFileThatGrowsWhileItIsHashedIsReadOnceMoreThenRefused(t *testing.T) {
	for _, size := range []int{10, bufBytes + 10, pipelineBytes + 10} {
		dir := project(t, map[string]string{"log": strings.Repeat("x", size)})
		grow := func() {
			f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("y")
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}
		x := open(t, dir)
		x.onRead = func(string) { grow() }
		if d, err := x.DigestFile("log"); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "log: changed while it was read") {
			t.Errorf("size %d: a file that grows for ever: %v, %v", size, d, err)
		}
		x = open(t, dir)
		var once sync.Once
		x.onRead = func(string) { once.Do(grow) }
		d, err := x.DigestFile("log")
		if want := strings.Repeat("x", size) + "yyy"; err != nil || d.Hex != hexOf(want) {
			t.Errorf("size %d: a file that grew once: %v, %v", size, d, err)
		}
	}
}

// D18.
func TestAFileThatIsRewrittenOrCutWhileItIsHashedIsRefused(t *testing.T) {
	for name, change := range map[string]func(p string) error{
		"cut":       func(p string) error { return os.Truncate(p, 3) },
		"rewritten": func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("z", 100)), 0o644) },
	} {
		dir := project(t, map[string]string{"f": strings.Repeat("x", 100)})
		x := open(t, dir)
		n := 0
		x.onRead = func(string) {
			n++
			if err := errors.Join(os.WriteFile(filepath.Join(dir, "f"), []byte(strings.Repeat("x", 100+n)), 0o644), change(filepath.Join(dir, "f"))); err != nil {
				t.Error(err)
			}
		}
		if d, err := x.DigestFile("f"); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v, %v, want ErrChanged", name, d, err)
		}
	}
}

func TestOneRunSeesOneVersionOfAFileUntilRefresh(t *testing.T) {
	dir := project(t, map[string]string{"f": "1"})
	x := open(t, dir)
	digest := func() string {
		t.Helper()
		d, err := x.DigestFile("f")
		if err != nil {
			t.Fatal(err)
		}
		return d.Hex
	}
	first := digest()
	write(t, filepath.Join(dir, "f"), "22")
	write(t, filepath.Join(dir, "g"), "3")
	if got := digest(); got != first {
		t.Error("the second call saw another version")
	}
	x.Refresh()
	if got := digest(); got != hexOf("22") {
		t.Error("after Refresh the old version was seen")
	}
	if got, err := x.Glob([]string{"*"}); err != nil || !cmp.Equal(got, []string{"f", "g"}) {
		t.Errorf("after Refresh: %v, %v", got, err)
	}
}

func TestManyBlocksCostOneWalkAndOneReading(t *testing.T) {
	in := map[string]string{}
	for i := range 300 {
		in[fmt.Sprintf("d%d/f%d", i%7, i)] = fmt.Sprint(i)
	}
	x := open(t, project(t, in))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1250 {
				if _, err := x.Glob([]string{"**"}); err != nil {
					t.Error(err)
				}
				if _, _, err := x.DigestSet([]string{"d1/*", fmt.Sprintf("d%d/**", i%3)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := x.DigestSource("."); err != nil {
		t.Error(err)
	}
	if s := x.Stats(); s.Folders != 8 || s.Hashed != 300 {
		t.Errorf("%d folders were listed and %d files read, want 8 and 300", s.Folders, s.Hashed)
	}
}
