package oci

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/continuo-ml/continuo/internal/oci/ocitest"
	"github.com/continuo-ml/continuo/resource"
)

func TestATagGoesOnlyWhileItPointsToTheImage(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	repo := reg.Repo("x")
	push := func(text string, tags ...string) Image {
		img, err := c.Build(ctx, BuildRequest{Layers: []Layer{{Dir: tree(t, map[string]string{"f": text})}}, Repo: repo, Tags: tags})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	one := push("1", "a", "b")
	two := push("2", "b")
	for _, s := range []struct {
		tag  string
		gone bool
		then resource.Digest
	}{{"a", true, ""}, {"a", false, ""}, {"b", false, two.Digest}, {"none", false, ""}} {
		gone, err := c.Untag(ctx, repo, s.tag, one.Digest)
		if err != nil || gone != s.gone {
			t.Errorf("%s: gone %v, want %v: %v", s.tag, gone, s.gone, err)
		}
		if d, err := c.Tagged(ctx, repo, s.tag); err != nil || d != s.then {
			t.Errorf("%s points to %q, want %q: %v", s.tag, d, s.then, err)
		}
	}
	if _, err := c.Resolve(ctx, one.Ref); err != nil {
		t.Errorf("the image must stay: %v", err)
	}
	if pinned, d, err := c.Pin(ctx, repo+":b"); err != nil || pinned != two.Ref || d != two.Digest {
		t.Errorf("pinned %s %s: %v", pinned, d, err)
	}
	if _, _, err := c.Pin(ctx, repo+":a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
}

func TestARegistryThatRemovesNoTagsSaysSo(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	img, err := c.Build(ctx, BuildRequest{Layers: []Layer{{Dir: tree(t, map[string]string{"f": "1"})}}, Repo: reg.Repo("x"), Tags: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]struct {
		status int
		body   string
		kind   string
	}{
		"405":                   {405, "", "unsupported"},
		"400 UNSUPPORTED":       {400, `{"errors":[{"code":"UNSUPPORTED","message":"x"}]}`, "unsupported"},
		"a tag is no digest":    {400, `{"errors":[{"code":"DIGEST_INVALID","message":"x"}]}`, "unsupported"},
		"403":                   {403, `{"errors":[{"code":"DENIED","message":"x"}]}`, "denied"},
		"somebody was faster":   {404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"x"}]}`, ""},
		"another kind of error": {400, `{"errors":[{"code":"NAME_INVALID","message":"x"}]}`, "other"},
	} {
		t.Run(name, func(t *testing.T) {
			reg.Between(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodDelete {
						http.Error(w, answer.body, answer.status)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			gone, err := c.Untag(ctx, reg.Repo("x"), "a", img.Digest)
			kind := "other"
			switch {
			case err == nil:
				kind = ""
			case errors.Is(err, ErrUnsupported):
				kind = "unsupported"
			case errors.Is(err, ErrDenied):
				kind = "denied"
			}
			if gone || kind != answer.kind {
				t.Errorf("gone %v, error %v is %q, want %q", gone, err, kind, answer.kind)
			}
		})
	}
}

func TestAnArchiveIsABase(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.DockerManifestSchema2), &v1.ConfigFile{
		OS: "linux", Architecture: "arm64", Config: v1.Config{Env: []string{"A=1"}}, RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	tag, err := name.NewTag("x:y")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	req := BuildRequest{Archive: file, Repo: reg.Repo("x"), Labels: map[string]string{"l": "1"}, Layers: []Layer{{Dir: tree(t, map[string]string{"f": "1"})}}}
	if _, err := c.Build(ctx, req); err == nil || !strings.Contains(err.Error(), "is for linux/arm64, and linux/amd64 was asked for") {
		t.Errorf("another platform: %v", err)
	}
	req.Platform = "linux/arm64"
	got, err := c.Build(ctx, req)
	if err != nil || got.Labels["l"] != "1" || strings.Join(got.Env, " ") != "A=1" || got.Platform != "linux/arm64" {
		t.Errorf("%+v: %v", got, err)
	}
	back := filepath.Join(t.TempDir(), "back")
	if err := c.PullDir(ctx, got.Ref, "", back); err != nil || read(t, filepath.Join(back, "f")) != "1" {
		t.Errorf("the layer on top is missing: %v", err)
	}
	req.Archive = filepath.Join(t.TempDir(), "none.tar")
	if _, err := c.Build(ctx, req); err == nil || !strings.Contains(err.Error(), "read the image in") {
		t.Errorf("no archive: %v", err)
	}
}
