package oci

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzExtract unpacks any bytes as two layers: whatever they are, nothing appears outside of the folder, and no link leads out of it.
func FuzzExtract(f *testing.F) {
	seed := func(headers ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			h.Size = 0
			if err := w.WriteHeader(&h); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	f.Add(seed(reg("a/x", ""), sym("a/l", "x"), folder("a/d/")), seed(reg("a/.wh.x", ""), reg("a/d/.wh..wh..opq", "")), "a")
	f.Add(seed(sym("l", ".."), reg("l/x", "")), seed(reg("../x", "")), "")
	f.Fuzz(func(t *testing.T, one, two []byte, prefix string) {
		at := t.TempDir()
		dir := filepath.Join(at, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		x := newExtractor(root, trimPrefix(prefix), Options{MaxBytes: 1 << 20})
		ok := x.archive(bytes.NewReader(one)) == nil && x.archive(bytes.NewReader(two)) == nil && x.checkLinks() == nil
		if list, err := os.ReadDir(at); err != nil || len(list) != 1 {
			t.Fatalf("outside: %v %v", list, err)
		}
		if !ok {
			return
		}
		files := 0
		err = filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			if e.Type().IsRegular() {
				files++
			}
			real, err := filepath.EvalSymlinks(p)
			if err != nil || !strings.HasPrefix(real, dir) {
				t.Errorf("%s leads to %s: %v", p, real, err)
			}
			return nil
		})
		if err != nil || files != x.files {
			t.Errorf("%d files, counted %d: %v", files, x.files, err)
		}
	})
}
