//go:build linux

package image

import (
	"archive/tar"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func put(t *testing.T, file, text string, mtime time.Time) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, mtime, mtime); err != nil {
		t.Fatal(err)
	}
}

// contents returns name → text of the layer's tar, with the target for links and the time where it is not Epoch.
func contents(t *testing.T, l *Layer) map[string]string {
	t.Helper()
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b) + h.Linkname
		if h.Typeflag == tar.TypeReg && !h.ModTime.Equal(Epoch) {
			text += " " + h.ModTime.UTC().Format(time.DateOnly)
		}
		all[h.Name] = text
	}
}

func TestASecondLayerHoldsWhatChanged(t *testing.T) {
	root, s := t.TempDir(), Store{t.TempDir()}
	old := time.Date(2022, 1, 2, 0, 0, 0, 0, time.UTC)
	started := time.Now()
	put(t, root+"/usr/kept", "kept", old)
	put(t, root+"/usr/changed", "one", old)
	put(t, root+"/gone/a", "a", old)
	put(t, root+"/usr/removed", "r", old)
	put(t, root+"/usr/made", "m", time.Now())
	if err := os.Link(root+"/usr/kept", root+"/usr/link"); err != nil {
		t.Fatal(err)
	}
	first, err := s.Put("first", func(tw *tar.Writer) error { return addTree(tw, root, nil, started) })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"usr/": "", "gone/": "", "gone/a": "a 2022-01-02", "usr/kept": "kept 2022-01-02", "usr/link": "usr/kept", "usr/changed": "one 2022-01-02",
		"usr/removed": "r 2022-01-02", "usr/made": "m",
	}
	if got := contents(t, first); !reflect.DeepEqual(got, want) {
		t.Errorf("first layer:\n got %q\nwant %q", got, want)
	}
	before, err := listing(root)
	if err != nil {
		t.Fatal(err)
	}
	put(t, root+"/usr/changed", "two", old.AddDate(1, 0, 0))
	put(t, root+"/usr/new", "new", old)
	if err := errors.Join(os.RemoveAll(root+"/gone"), os.Remove(root+"/usr/removed")); err != nil {
		t.Fatal(err)
	}
	second, err := s.Put("second", func(tw *tar.Writer) error { return addTree(tw, root, before, started) })
	if err != nil {
		t.Fatal(err)
	}
	want = map[string]string{"usr/changed": "two 2023-01-02", "usr/new": "new 2022-01-02", ".wh.gone": "", "usr/.wh.removed": ""}
	if got := contents(t, second); !reflect.DeepEqual(got, want) {
		t.Errorf("second layer:\n got %q\nwant %q", got, want)
	}
}

func TestALayerIsMadeOnce(t *testing.T) {
	s := Store{t.TempDir()}
	if s.Find("key") != nil {
		t.Fatal("found before it was made")
	}
	made, err := s.Text("a/b", "text")
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Text("a/b", "text")
	if err != nil || *again != *made {
		t.Errorf("again: %v, %v", again, err)
	}
	other, err := s.Text("a/b", "other")
	if err != nil || other.Sum == made.Sum {
		t.Errorf("another text gives %v, %v", other, err)
	}
	if err := os.Truncate(made.file, 3); err != nil {
		t.Fatal(err)
	}
	mended, err := s.Text("a/b", "text")
	if err != nil || mended.Sum != made.Sum {
		t.Errorf("after the blob was cut: %v, %v", mended, err)
	}
}

func TestTheRecipeDecidesTheKey(t *testing.T) {
	d := Debian{Suite: "bookworm"}
	a := d.keys([]Step{{"first", []string{"x"}}, {"second", []string{"y"}}})
	b := d.keys([]Step{{"first", []string{"x"}}, {"second", []string{"z"}}})
	c := d.keys([]Step{{"first", []string{"w"}}, {"second", []string{"y"}}})
	if a[0] != b[0] {
		t.Error("the first layer depends on the packages of the second")
	}
	if a[1] == b[1] || a[1] == c[1] {
		t.Error("the second layer does not depend on its packages, or not on those below it")
	}
}

func TestAnImageComesBackAsItWasPushed(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	s := Store{t.TempDir()}
	l, err := s.Text("models/model.json", "{}")
	if err != nil {
		t.Fatal(err)
	}
	i := Image{Name: "m:1", Layers: []*Layer{l}, Entrypoint: []string{"/x"}, Env: []string{"A=b"}}
	digest, err := i.Push(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	again, err := i.Push(t.Context(), host)
	if err != nil || again != digest {
		t.Errorf("pushed again: %v, %v", again, err)
	}
	ref, err := name.ParseReference(host + "/m@" + digest.String())
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if file.OS != "linux" || file.Architecture != "amd64" || file.Config.Entrypoint[0] != "/x" || file.Config.Env[1] != "A=b" || len(file.History) != 1 {
		t.Errorf("config: %+v", file)
	}
	if len(file.RootFS.DiffIDs) != 1 || file.RootFS.DiffIDs[0] != l.Diff {
		t.Errorf("layers: %v, want %v", file.RootFS.DiffIDs, l.Diff)
	}
}
