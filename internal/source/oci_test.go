package source

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
)

func TestFilesOfAnImageHaveTheDigestsOfTheSameFilesHere(t *testing.T) {
	reg := ocitest.Start(t, "", "")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	client := oci.New(oci.Options{Attempts: 2, Wait: time.Millisecond})
	push := func() {
		t.Helper()
		if _, err := client.Build(t.Context(), oci.BuildRequest{Layers: []oci.Layer{{Dir: dir, Prefix: "data"}}, Repo: reg.Repo("set"), Tags: []string{"v1"}}); err != nil {
			t.Fatal(err)
		}
	}
	write("a.csv", "1\n")
	write("sub/b.csv", "2\n")
	push()
	cache := t.TempDir()
	probe := func(address string) Version {
		t.Helper()
		r := New(Options{Dir: cache, OCI: client})
		defer r.Close()
		v, err := r.Probe(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	x, err := files.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	at := reg.Repo("set") + ":v1"
	for address, what := range map[string]string{at + "//data": ".", at + "//data/sub/": "sub", at + "//data/a.csv": "a.csv", at + "//data/sub/b.csv": "sub/b.csv"} {
		want, err := x.DigestSource(what)
		if err != nil {
			t.Fatal(err)
		}
		if v := probe(address); v.Hex != want.Hex || v.IsDir != want.IsDir {
			t.Errorf("%s is %+v, the same files here are %s", address, v, want.Hex)
		}
	}
	blobs := func() int { return len(reg.Requests(http.MethodGet + " /v2/ml/set/blobs")) }
	already := blobs()
	before := probe(at + "//data")
	if n := blobs() - already; n > 1 { // its configuration
		t.Errorf("an image that did not move was pulled again: %d blobs", n)
	}
	write("a.csv", "3\n")
	push()
	if probe(at+"//data").Hex == before.Hex {
		t.Error("the tag moved, the data did not")
	}
	r := New(Options{Dir: cache, OCI: client})
	defer r.Close()
	for address, c := range map[string]struct {
		kind error
		text string
	}{
		reg.Repo("none") + ":v1": {ErrNotFound, "does not know it"},
		at + "//other":           {nil, "holds no file below /other"},
		at + "//../x":            {nil, "no clean path"},
		"oci://":                 {nil, "names nothing"},
	} {
		if _, err := r.Probe(t.Context(), address); err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
