package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func serve(t *testing.T, o Options) string {
	t.Helper()
	o.Dir, o.Log = t.TempDir(), io.Discard
	s := httptest.NewServer(Handler(o))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func ref(t *testing.T, text string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnImageIsKept(t *testing.T) {
	host := serve(t, Options{})
	img, err := random.Image(1<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	r := ref(t, host+"/a/b:1")
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(r)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := got.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(rc); err != nil || len(b) == 0 {
			t.Errorf("layer: %d bytes, %v", len(b), err)
		}
	}
}

func TestBlobsOfTheSecondFolderAreThereFromTheStart(t *testing.T) {
	also := t.TempDir()
	text := []byte("a layer that was made before")
	sum := sha256.Sum256(text)
	if err := os.WriteFile(filepath.Join(also, hex.EncodeToString(sum[:])), text, 0o644); err != nil {
		t.Fatal(err)
	}
	host := serve(t, Options{Also: also})
	repo, err := name.NewRepository(host + "/a")
	if err != nil {
		t.Fatal(err)
	}
	l, err := remote.Layer(repo.Digest("sha256:" + hex.EncodeToString(sum[:])))
	if err != nil {
		t.Fatal(err)
	}
	rc, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(rc); err != nil || !bytes.Equal(b, text) {
		t.Errorf("got %q, %v", b, err)
	}
	if err := remote.WriteLayer(repo, static.NewLayer(text, types.OCILayer)); err != nil {
		t.Error(err)
	}
}

func TestOnlyThoseWithThePasswordComeIn(t *testing.T) {
	host := serve(t, Options{User: "u", Password: "p"})
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := ref(t, host+"/a:1")
	for _, auth := range []authn.Authenticator{authn.Anonymous, &authn.Basic{Username: "u", Password: "q"}, &authn.Basic{Username: "v", Password: "p"}} {
		if err := remote.Write(r, img, remote.WithAuth(auth)); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("%+v: %v", auth, err)
		}
	}
	if err := remote.Write(r, img, remote.WithAuth(&authn.Basic{Username: "u", Password: "p"})); err != nil {
		t.Error(err)
	}
}
