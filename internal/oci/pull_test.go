package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/continuo-ml/continuo/internal/oci/ocitest"
)

// archive writes a tar as the headers say, as no honest program would; a file's content is its Linkname.
func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		text := ""
		if h.Typeflag == tar.TypeReg {
			text, h.Linkname = h.Linkname, ""
		}
		h.Size = int64(len(text))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reg(name, text string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: text}
}
func sym(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}
func folder(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }

// image stores layers as they are, and returns the reference.
func image(t *testing.T, r *ocitest.Registry, layers ...[]byte) string {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, l := range layers {
		var err error
		if img, err = mutate.AppendLayers(img, static.NewLayer(l, types.OCILayer)); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := quick().parse(r.Repo("hostile") + ":latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return r.Repo("hostile")
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(b)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sparse is an archive with one file that claims to be 1 TB and stores nothing.
func sparse(t *testing.T) []byte {
	t.Helper()
	b := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "a/x", PAXRecords: map[string]string{"CONTINUO.pad": "x"}})
	return bytes.ReplaceAll(b, []byte("CONTINUO.pad=x"), []byte("GNU.sparse.x=1"))
}

func TestHostileArchivesAreRefusedWhole(t *testing.T) {
	const small = 1 << 20
	many := []tar.Header{}
	for range maxDepth + 2 {
		many = append(many, folder("a/"+strings.Repeat("d/", len(many)+1)))
	}
	for name, c := range map[string]struct {
		layers [][]byte
		says   string
	}{
		"leads out by ..":             {[][]byte{archive(t, reg("a/ok", "1"), reg("a/../../x", "1"))}, "leads out"},
		"leads out elsewhere":         {[][]byte{archive(t, reg("a/ok", "1"), reg("../x", "1"))}, "leads out"},
		"absolute":                    {[][]byte{archive(t, reg("a/ok", "1"), reg("/etc/cron.d/x", "1"))}, "is absolute"},
		"backslash":                   {[][]byte{archive(t, reg(`a/..\x`, "1"))}, "backslash"},
		"absolute link":               {[][]byte{archive(t, reg("a/ok", "1"), sym("a/l", "/etc"))}, "leads out"},
		"link out":                    {[][]byte{archive(t, reg("a/ok", "1"), sym("a/l", "../../etc"))}, "leads out"},
		"link out through a link":     {[][]byte{archive(t, reg("a/s/ok", "1"), sym("a/s/up", ".."), sym("a/l", "s/up/../../etc"))}, "leads out"},
		"link that leads nowhere":     {[][]byte{archive(t, reg("a/ok", "1"), sym("a/l", "none"))}, "leads nowhere"},
		"links in a circle":           {[][]byte{archive(t, reg("a/ok", "1"), sym("a/l", "m"), sym("a/m", "l"))}, "in a circle"},
		"file behind a link":          {[][]byte{archive(t, sym("a/l", "../../tmp"), reg("a/l/x", "1"))}, "is a link and a folder"},
		"file through a link, inside": {[][]byte{archive(t, folder("a/d"), sym("a/l", "d"), reg("a/l/x", "1"))}, "is a link and a folder"},
		"device":                      {[][]byte{archive(t, tar.Header{Typeflag: tar.TypeChar, Name: "a/null", Devmajor: 1, Devminor: 3})}, "is a device"},
		"block device":                {[][]byte{archive(t, tar.Header{Typeflag: tar.TypeBlock, Name: "a/disk"})}, "is a device"},
		"FIFO":                        {[][]byte{archive(t, tar.Header{Typeflag: tar.TypeFifo, Name: "a/pipe"})}, "is a device"},
		"hard link":                   {[][]byte{archive(t, reg("a/ok", "1"), tar.Header{Typeflag: tar.TypeLink, Name: "a/h", Linkname: "a/ok"})}, "is a hard link"},
		"unknown type":                {[][]byte{archive(t, tar.Header{Typeflag: 'Q', Name: "a/q"})}, "unknown type"},
		"same name twice":             {[][]byte{archive(t, reg("a/x", "1"), reg("a/x", "2"))}, "is in it twice"},
		"same name spelled twice":     {[][]byte{archive(t, reg("a/x", "1"), reg("./a//x", "2"))}, "is in it twice"},
		"file and folder":             {[][]byte{archive(t, reg("a/x", "1"), reg("a/x/y", "2"))}, "is a file and a folder"},
		"folder and file":             {[][]byte{archive(t, reg("a/x/y", "1"), reg("a/x", "2"))}, "is a folder and a file"},
		"nested too deep":             {[][]byte{archive(t, many...)}, "deep"},
		"sparse file":                 {[][]byte{sparse(t)}, "is a sparse file"},
		"gzip bomb":                   {[][]byte{zipped(t, archive(t, reg("a/x", strings.Repeat("\x00", small+1))))}, "a bomb"},
		"gzip bomb outside of it":     {[][]byte{zipped(t, archive(t, reg("a/ok", "1"), reg("b/x", strings.Repeat("\x00", small+1))))}, "a bomb"},
		"bomb behind the end":         {[][]byte{zipped(t, append(archive(t, reg("a/ok", "1")), make([]byte, small)...))}, "a bomb"},
		"more than is allowed":        {[][]byte{archive(t, reg("a/x", strings.Repeat("x", 600_000)), reg("a/y", strings.Repeat("x", 600_000)))}, "more bytes than are allowed"},
		"more in two layers":          {[][]byte{archive(t, reg("a/x", strings.Repeat("x", 600_000))), archive(t, reg("a/x", strings.Repeat("x", 600_000)))}, "more bytes than are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := ocitest.Start(t, "", "")
			ref := image(t, r, c.layers...)
			opt := Options{Keychain: none{}, Wait: time.Millisecond, MaxBytes: 1_000_000, Small: small}
			if strings.Contains(name, "bomb") {
				opt.MaxBytes = 0
			}
			at := t.TempDir()
			err := New(opt).PullDir(within(t), ref, "a", filepath.Join(at, "out"))
			if !errors.Is(err, ErrHostile) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "pull "+ref) {
				t.Errorf("%v", err)
			}
			if Retryable(err) {
				t.Error("it is marked as retryable")
			}
			if left, err := os.ReadDir(at); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

func TestADamagedLayerIsRefused(t *testing.T) {
	whole := archive(t, reg("a/x", strings.Repeat("x", 10_000)))
	for name, layer := range map[string][]byte{"no archive": bytes.Repeat([]byte("?"), 2048), "cut": whole[:3000], "cut gzip": zipped(t, whole)[:60], "empty": {}} {
		t.Run(name, func(t *testing.T) {
			c := New(Options{Keychain: none{}, Wait: time.Millisecond, Attempts: 2})
			at := t.TempDir()
			if err := c.PullDir(within(t), image(t, ocitest.Start(t, "", ""), layer), "a", at+"/out"); err == nil {
				t.Error("it was taken")
			}
			if left, err := os.ReadDir(at); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

func TestLayersOfOthersAreUnpackedOneOnTopOfAnother(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bottom := zipped(t, archive(t, folder("./"), folder("./a/"), reg("./a/keep", "1"), reg("a/gone", "1"), reg("a/dir/old", "1"), reg("a/over", "1"), reg("a/was-file", "1"),
		reg("a/was-dir/x", "1"), reg("b/x", "not wanted"), sym("a/link", "keep"), tar.Header{Typeflag: tar.TypeReg, Name: "a/run", Linkname: "1", Mode: 0o4755}))
	top := z.EncodeAll(archive(t, reg("a/.wh.gone", ""), reg("a/dir/new", "2"), reg("a/dir/.wh..wh..opq", ""), reg("a/over", "2"), reg("a/was-file/x", "2"), reg("a/was-dir", "2")), nil)
	ref := image(t, ocitest.Start(t, "", ""), bottom, top)
	out := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(out, 0o700); err != nil { // an empty folder is as good as none
		t.Fatal(err)
	}
	if err := quick().PullDir(within(t), ref, "/a/", out); err != nil {
		t.Fatal(err)
	}
	var got []string
	err = filepath.WalkDir(out, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			info, err := e.Info()
			if err != nil {
				return err
			}
			got = append(got, strings.TrimPrefix(p, out+"/")+" "+read(t, p)+" "+info.Mode().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = "dir/new 2 -rw-r--r--|keep 1 -rw-r--r--|link 1 Lrwxrwxrwx|over 2 -rw-r--r--|run 1 -rwxr-xr-x|was-dir 2 -rw-r--r--|was-file/x 2 -rw-r--r--"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	// A removal above the prefix takes all with it.
	all := image(t, ocitest.Start(t, "", ""), archive(t, reg("a/b/x", "1")), archive(t, reg(".wh.a", ""), reg("a/b/y", "2")))
	two := filepath.Join(t.TempDir(), "out")
	if err := quick().PullDir(within(t), all, "a/b", two); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(two); err != nil || len(list) != 1 || list[0].Name() != "y" {
		t.Errorf("%v %v", list, err)
	}
}

func TestFilesStreamAndAreNotHeldInMemory(t *testing.T) {
	dir := t.TempDir()
	const size = 96 << 20
	f, err := os.Create(dir + "/big")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	host := sink(t) // a real registry in this process would hold the blob itself
	c, ctx := quick(), within(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	img, err := c.PushDir(ctx, PushRequest{Dir: dir, Repo: host + "/ml/models/x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PullDir(ctx, img.Ref, "", filepath.Join(t.TempDir(), "out")); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > size/6 {
		t.Errorf("%d MB were allocated for a file of %d MB", used>>20, size>>20)
	}
}
