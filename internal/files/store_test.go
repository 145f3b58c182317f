package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "artifacts"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// verify reads every byte of an artifact and returns an error for each damaged or missing file.
func (s *Store) verify(digest string) error {
	m, err := s.Manifest(digest)
	if err != nil {
		return err
	}
	return parallelErr(len(m.Files), func(i int) error { return s.checkBlob(m.Files[i]) })
}

func put(t *testing.T, s *Store, files map[string]string) string {
	t.Helper()
	d, _, err := s.PutDir(project(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// blobsOf returns the names of all blobs.
func blobsOf(t *testing.T, s *Store) []string {
	t.Helper()
	list, err := os.ReadDir(s.blobs())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestWhatIsPutComesBackReadOnly(t *testing.T) {
	s := newStore(t)
	in := map[string]string{"model.bin": strings.Repeat("m", 2*bufBytes), "run.sh": "#!", "sub/a": "same", "sub/b": "same", "zero": ""}
	dir := project(t, in)
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	link(t, "model.bin", filepath.Join(dir, "best"))
	in["best"] = in["model.bin"]
	digest, m, err := s.PutDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := s.PutDir(dir)
	if err != nil || again != digest {
		t.Errorf("the second put gave %s, %v, want %s", again, err, digest)
	}
	if data, err := m.Encode(); err != nil || hexOf(string(data)) != digest {
		t.Errorf("the digest is not that of the manifest: %v", err)
	}
	if got := blobsOf(t, s); len(got) != 4 {
		t.Errorf("%d blobs, want 4: equal files share one", len(got))
	}
	onlyEntry(t, filepath.Join(s.dir, "tmp"))
	if err := s.verify(digest); err != nil {
		t.Error(err)
	}
	parent := t.TempDir()
	dst := filepath.Join(parent, "model")
	for range 2 {
		if err := s.Checkout("sha256:"+digest, dst); err != nil {
			t.Fatal(err)
		}
	}
	onlyEntry(t, parent, "model")
	for p, text := range in {
		got, err := os.ReadFile(filepath.Join(dst, p))
		fi, err2 := os.Lstat(filepath.Join(dst, p))
		want := fs.FileMode(readOnly)
		if p == "run.sh" {
			want = readOnlyExec
		}
		if err != nil || err2 != nil || string(got) != text || fi.Mode() != want {
			t.Errorf("%s: %d bytes, %v, %v %v", p, len(got), fi.Mode(), err, err2)
		}
	}
	if err := s.verify(digest); err != nil {
		t.Errorf("after the checkout: %v", err)
	}
}

func TestTheDigestCoversPathsContentsAndTheExecutableBitOnly(t *testing.T) {
	s := newStore(t)
	base := put(t, s, map[string]string{"a": "1", "b": "2"})
	if got := put(t, s, map[string]string{"a": "2", "b": "1"}); got == base {
		t.Error("exchanged contents kept the digest")
	}
	dir := project(t, map[string]string{"a": "1", "b": "2"})
	for _, p := range []string{"a", "b"} {
		if err := errors.Join(os.Chmod(filepath.Join(dir, p), 0o600), os.Chtimes(filepath.Join(dir, p), time.Time{}, time.Unix(9, 0))); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err := s.PutDir(dir); err != nil || got != base {
		t.Errorf("times and umask moved the digest: %s, %v", got, err)
	}
	if err := os.Chmod(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.PutDir(dir); err != nil || got == base {
		t.Errorf("the executable bit kept the digest: %v", err)
	}
}

func TestPutDirRefusesWhatIsNoModel(t *testing.T) {
	s := newStore(t)
	outside := filepath.Join(t.TempDir(), "secret")
	write(t, outside, "secret")
	for name, c := range map[string]struct {
		make func(dir string)
		want error
	}{
		"empty":          {func(string) {}, nil},
		"link out":       {func(dir string) { link(t, outside, filepath.Join(dir, "m")) }, ErrOutside},
		"loop":           {func(dir string) { link(t, ".", filepath.Join(dir, "m")) }, nil},
		"backslash":      {func(dir string) { write(t, filepath.Join(dir, `a\b`), ""); write(t, filepath.Join(dir, "a/b"), "") }, nil},
		"line break":     {func(dir string) { write(t, filepath.Join(dir, "a\nb"), "") }, nil},
		"not UTF-8":      {func(dir string) { write(t, filepath.Join(dir, "a\xff"), "") }, nil},
		"folder missing": {func(dir string) { _ = os.Remove(dir) }, fs.ErrNotExist},
	} {
		dir := t.TempDir()
		c.make(dir)
		if d, _, err := s.PutDir(dir); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %s, %v", name, d, err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 0 || len(blobsOf(t, s)) != 0 {
		t.Errorf("refused folders left %v, %v, %v", list, blobsOf(t, s), err)
	}
	onlyEntry(t, filepath.Join(s.dir, "tmp"))
}

// spoil changes a stored file.
func spoil(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(text), 0o444)); err != nil {
		t.Fatal(err)
	}
}

// M6.
func TestADamagedStoreIsNoticedAndMendedByPuttingAgain(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(s *Store, digest string)
		want   error
	}{
		"other bytes":      {func(s *Store, _ string) { spoil(t, s.blob(hexOf("AAA")), "AAB") }, ErrDamaged},
		"cut":              {func(s *Store, _ string) { spoil(t, s.blob(hexOf("AAA")), "AA") }, ErrDamaged},
		"longer":           {func(s *Store, _ string) { spoil(t, s.blob(hexOf("AAA")), "AAAA") }, ErrDamaged},
		"blob gone":        {func(s *Store, _ string) { _ = os.Remove(s.blob(hexOf("AAA"))) }, fs.ErrNotExist},
		"manifest changed": {func(s *Store, d string) { spoil(t, s.manifestPath(d), "{}") }, ErrDamaged},
		"manifest gone":    {func(s *Store, d string) { _ = os.Remove(s.manifestPath(d)) }, fs.ErrNotExist},
	} {
		s := newStore(t)
		in := map[string]string{"a": "AAA", "b": "B"}
		digest := put(t, s, in)
		c.damage(s, digest)
		if err := s.verify(digest); !errors.Is(err, c.want) {
			t.Errorf("%s: verify = %v", name, err)
		}
		parent := t.TempDir()
		if err := s.Checkout(digest, filepath.Join(parent, "m")); !errors.Is(err, c.want) {
			t.Errorf("%s: Checkout = %v", name, err)
		}
		onlyEntry(t, parent)
		if got := put(t, s, in); got != digest {
			t.Errorf("%s: put again gave %s", name, got)
		}
		if err := s.verify(digest); err != nil {
			t.Errorf("%s: after putting again: %v", name, err)
		}
	}
}

func TestCheckoutNeverOverwrites(t *testing.T) {
	s := newStore(t)
	digest := put(t, s, map[string]string{"a": "A"})
	for name, in := range map[string]map[string]string{
		"other bytes": {"a": "B"}, "one more": {"a": "A", "b": ""}, "another name": {"c": "A"}, "longer": {"a": "AA"},
	} {
		dst := project(t, in)
		if err := s.Checkout(digest, dst); err == nil || !strings.Contains(err.Error(), "holds something else") {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadDir(dst); err != nil || len(got) != len(in) {
			t.Errorf("%s: the folder was touched: %v, %v", name, got, err)
		}
	}
	if err := s.Checkout(strings.Repeat("0", 64), filepath.Join(t.TempDir(), "m")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown digest: %v", err)
	}
	for _, bad := range []string{"", "../../x", "sha256:", strings.Repeat("A", 64)} {
		if err := s.Checkout(bad, filepath.Join(t.TempDir(), "m")); err == nil || !strings.Contains(err.Error(), "not a digest") {
			t.Errorf("digest %q: %v", bad, err)
		}
	}
}

func TestPruneKeepsWhatIsKept(t *testing.T) {
	s := newStore(t)
	a := put(t, s, map[string]string{"x": "shared", "y": "only a"})
	b := put(t, s, map[string]string{"x": "shared", "y": "only b"})
	c := put(t, s, map[string]string{"z": "only c"})
	write(t, filepath.Join(s.dir, "tmp", "put-dead", "0"), "12345")
	write(t, s.blob(hexOf("orphan")), "orphan")

	spoil(t, s.manifestPath(b), "damaged")
	if freed, removed, err := s.Prune(map[string]bool{b: true}); !errors.Is(err, ErrDamaged) || freed != 0 || removed != nil {
		t.Errorf("with a damaged manifest: %d, %v, %v", freed, removed, err)
	}
	b = put(t, s, map[string]string{"x": "shared", "y": "only b"})

	manifest, err := os.Stat(s.manifestPath(c))
	if err != nil {
		t.Fatal(err)
	}
	freed, removed, err := s.Prune(map[string]bool{"sha256:" + a: true, b: true, c: false})
	if err != nil || !slices.Equal(removed, []string{c}) || freed != int64(len("only c")+len("orphan")+5)+manifest.Size() {
		t.Errorf("Prune = %d, %v, %v", freed, removed, err)
	}
	if err := errors.Join(s.verify(a), s.verify(b)); err != nil {
		t.Error(err)
	}
	if got := blobsOf(t, s); len(got) != 3 {
		t.Errorf("%d blobs are left, want 3", len(got))
	}
	onlyEntry(t, filepath.Join(s.dir, "tmp"))

	if _, removed, err := s.Prune(map[string]bool{b: true}); err != nil || !slices.Equal(removed, []string{a}) {
		t.Errorf("Prune = %v, %v", removed, err)
	}
	if err := s.verify(b); err != nil {
		t.Errorf("Prune took a shared blob: %v", err)
	}
	if got := blobsOf(t, s); len(got) != 2 {
		t.Errorf("%d blobs are left, want 2", len(got))
	}
	if _, _, err := s.Prune(map[string]bool{"x": true}); err == nil {
		t.Error("a keep that is no digest was accepted")
	}
}

func TestManyPutsCheckOutsAndPrunesAtOnce(t *testing.T) {
	s := newStore(t)
	kept := map[string]string{"x": "kept", "y": "also"}
	keep := put(t, s, kept)
	dirs := make([]string, 4)
	for i := range dirs {
		dirs[i] = project(t, map[string]string{"x": "kept", "z": fmt.Sprint(i % 2)})
	}
	parent := t.TempDir()
	var wg sync.WaitGroup
	for i, dir := range dirs {
		wg.Go(func() {
			for range 10 {
				if _, _, err := s.PutDir(dir); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for n := range 5 {
				if err := s.Checkout(keep, filepath.Join(parent, fmt.Sprint(i%2, n))); err != nil {
					t.Error(err)
				}
				if _, _, err := s.Prune(map[string]bool{keep: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if err := s.verify(d); err != nil {
			t.Errorf("an artifact that is listed is not whole: %v", err)
		}
	}
}

func TestALockThatIsHeldIsAnErrorAfterItsTime(t *testing.T) {
	s := newStore(t)
	s.wait = 50 * time.Millisecond
	unlock, err := s.lock(true)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutDir(project(t, map[string]string{"a": ""})); err == nil || !strings.Contains(err.Error(), "another process holds it") {
		t.Errorf("got %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	put(t, s, map[string]string{"a": ""})
}

// M8: no manifest names a path outside of its folder, or two names for one place.
func TestManifestsWithPathsThatLieAreRefused(t *testing.T) {
	encode := func(files ...ManifestFile) string {
		data, err := Manifest{Format: manifestFormat, Files: files}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	file := func(p string) ManifestFile {
		return ManifestFile{Path: p, Mode: modeFile, Size: 1, Digest: hexOf("x")}
	}
	if _, err := DecodeManifest([]byte(encode(file("a"), file("a.b"), file("b/c")))); err != nil {
		t.Fatalf("a good manifest: %v", err)
	}
	for _, p := range []string{"", ".", "..", "../b", "a/../../b", "a/../b", "/etc/passwd", "a//b", "./a", "a/", `a\b`, `C:\x`, "a\nb", "a\x00b"} {
		if _, err := DecodeManifest([]byte(encode(file(p)))); err == nil || !strings.Contains(err.Error(), "path") {
			t.Errorf("path %q: %v", p, err)
		}
	}
	with := func(change func(*ManifestFile)) string {
		f := file("a")
		change(&f)
		return encode(f)
	}
	for name, text := range map[string]string{
		"backslash beside slash": encode(file("a/b"), file(`a\b`)),
		"twice":                  encode(file("a"), file("a")),
		"not sorted":             encode(file("b"), file("a")),
		"file and folder":        encode(file("a"), file("a-b"), file("a/b")),
		"no file":                encode(),
		"negative size":          with(func(f *ManifestFile) { f.Size = -1 }),
		"mode":                   with(func(f *ManifestFile) { f.Mode = "4755" }),
		"digest":                 with(func(f *ManifestFile) { f.Digest = "../../x" }),
		"digest with algorithm":  with(func(f *ManifestFile) { f.Digest = "sha256:" + f.Digest }),
		"format":                 strings.Replace(encode(file("a")), `"1"`, `"2"`, 1),
		"unknown field":          strings.Replace(encode(file("a")), `{"path"`, `{"link":"x","path"`, 1),
		"field twice":            strings.Replace(encode(file("a")), `{"path"`, `{"path":"../x","path"`, 1),
		"field in other case":    strings.Replace(encode(file("a")), `"path"`, `"PATH"`, 1),
		"text behind":            encode(file("a")) + "{}",
		"not JSON":               "a",
	} {
		if m, err := DecodeManifest([]byte(text)); err == nil {
			t.Errorf("%s was accepted: %+v", name, m)
		}
	}
	m := Manifest{Files: []ManifestFile{file("A"), file("a")}}
	if got := fmt.Sprint(m.CaseCollisions()); got != "[[A a]]" {
		t.Errorf("case collisions: %s", got)
	}
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add([]byte(`{"format":"1","files":[{"path":"a","mode":"0644","size":1,"digest":"` + hexOf("x") + `"}]}` + "\n"))
	f.Add([]byte(`{"format":"1","files":[{"path":"a/../../b","mode":"0644","size":1,"digest":"` + hexOf("x") + `"}]}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeManifest(data)
		if err != nil {
			return
		}
		for _, e := range m.Files {
			if !filepath.IsLocal(e.Path) || path.Clean(e.Path) != e.Path || strings.Contains(e.Path, `\`) || len(e.Digest) != 64 {
				t.Errorf("accepted %+v", e)
			}
		}
	})
}

// D18.
func TestAModelThatIsStillBeingWrittenIsNotStored(t *testing.T) {
	s := newStore(t)
	dir := project(t, map[string]string{"model": strings.Repeat("m", 8*bufBytes)})
	f, err := os.OpenFile(filepath.Join(dir, "model"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stop, writes := make(chan struct{}), make(chan error)
	go func() {
		for {
			_, err := f.WriteString("+")
			select {
			case writes <- err:
			case <-stop:
				close(writes)
				return
			default:
			}
		}
	}()
	if err := <-writes; err != nil {
		t.Fatal(err)
	}
	if d, _, err := s.PutDir(dir); !errors.Is(err, ErrChanged) {
		t.Errorf("stored as %s, %v", d, err)
	}
	close(stop)
	for err := range writes {
		if err != nil {
			t.Error(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got := blobsOf(t, s); len(got) != 0 {
		t.Errorf("it left %v", got)
	}
}
