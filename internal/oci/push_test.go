package oci

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
)

func TestAFolderComesBackAsItWasPushed(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	dir := tree(t, map[string]string{"model.bin": strings.Repeat("weights", 100_000), "empty": "", "deep/er/ä.txt": "x", "bin/run": "#!/bin/sh\n", strings.Repeat("long", 30) + "/" + strings.Repeat("n", 120): "y"})
	if err := os.Chmod(filepath.Join(dir, "bin/run"), 0o700); err != nil {
		t.Fatal(err)
	}
	want, _, err := files.DigestDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := c.PushDir(ctx, PushRequest{Dir: dir, Prefix: "/models", Repo: reg.Repo("models/x"), Tag: ContentTag(want), Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(img.Ref, reg.Repo("models/x")+"@sha256:") || img.Labels["a"] != "b" || img.Bytes < 700_000 {
		t.Errorf("%+v", img)
	}
	for _, ref := range []string{img.Ref, strings.TrimPrefix(img.Ref, Scheme), reg.Repo("models/x") + ":" + ContentTag(want)} {
		back := filepath.Join(t.TempDir(), "a", "b")
		if err := c.PullDir(ctx, ref, "/models", back); err != nil {
			t.Fatal(err)
		}
		got, _, err := files.DigestDir(back)
		if err != nil || got != want {
			t.Errorf("%s: digest %s, want %s: %v", ref, got, want, err)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(back), ".pull-*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
		same, err := c.Resolve(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(img, same); d != "" {
			t.Error(d)
		}
	}
	if err := c.PullDir(ctx, img.Ref, "/other", filepath.Join(t.TempDir(), "x")); err == nil || !strings.Contains(err.Error(), "no file below /other") {
		t.Errorf("a prefix without files: %v", err)
	}
	if err := c.PullDir(ctx, img.Ref, "/models", dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("into a folder with files: %v", err)
	}
}

func TestTheSameInputsMakeTheSameDigest(t *testing.T) {
	contents := map[string]string{"b": "2", "a/x": "1", "c": "3"}
	var digests []string
	for i := range 3 {
		reg, c := ocitest.Start(t, "", ""), quick()
		dir := tree(t, contents)
		old := time.Date(2001, 2, 3, i, 0, 0, 0, time.UTC)
		if err := os.Chtimes(filepath.Join(dir, "b"), old, old); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, "c"), 0o604); err != nil { // who may read it is no part of the content
			t.Fatal(err)
		}
		req := BuildRequest{
			Layers: []Layer{{Dir: dir, Prefix: "app"}, {Dir: dir, Files: []string{"c", "a/x"}, Prefix: "/other", Mode: 0o755}},
			Env:    map[string]string{"B": "1", "A": "2"}, Labels: map[string]string{"l": "1", "k": "2"}, Entrypoint: []string{"/app/b"},
			Repo: reg.Repo("packages/p"), Tags: []string{"latest"},
		}
		img, err := c.Build(within(t), req)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, string(img.Digest))
		req.Layers[0].Dir = tree(t, map[string]string{"b": "2", "a/x": "1", "c": "4"})
		if other, err := c.Build(within(t), req); err != nil || other.Digest == img.Digest {
			t.Errorf("other content has the same digest: %v", err)
		}
	}
	// The digest itself is fixed, too: a version that makes another would push and retrain everything anew.
	const want = "sha256:6f27a05dd9a24f68a869aad0505cb1e458f04b71fc649ae75238d64620ea9aa2"
	if got := slices.Compact(digests); len(got) != 1 || got[0] != want {
		t.Errorf("digests %v, want %s", got, want)
	}
}

func TestABuildStandsOnItsBase(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	base, err := c.Build(ctx, BuildRequest{
		Layers: []Layer{{Dir: tree(t, map[string]string{"etc/conf": "base", "etc/old": "base"})}}, Repo: reg.Repo("base"), Tags: []string{"v1"},
		Env: map[string]string{"PATH": "/bin", "X": "base"}, Entrypoint: []string{"/bin/sh"}, Cmd: []string{"-c"}, Labels: map[string]string{"from": "base"}, WorkDir: "/base", User: "nobody",
	})
	if err != nil {
		t.Fatal(err)
	}
	reg.Forget()
	img, err := c.Build(ctx, BuildRequest{
		Base: base.Ref, Layers: []Layer{{Dir: tree(t, map[string]string{"conf": "new", "more/x": "y"}), Prefix: "/etc"}}, Repo: reg.Repo("packages/p"),
		Env: map[string]string{"X": "new", "Y": "z"}, Entrypoint: []string{"/ml"}, Labels: map[string]string{"top": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Image{
		Ref: img.Ref, Digest: img.Digest, Labels: map[string]string{"from": "base", "top": "1"}, Env: []string{"PATH=/bin", "X=new", "Y=z"},
		Entrypoint: []string{"/ml"}, WorkDir: "/base", User: "nobody", Platform: DefaultPlatform, Bytes: img.Bytes,
	}
	if d := cmp.Diff(want, img); d != "" {
		t.Error(d)
	}
	back := filepath.Join(t.TempDir(), "x")
	if err := c.PullDir(ctx, img.Ref, "etc/", back); err != nil {
		t.Fatal(err)
	}
	if got := read(t, back+"/conf") + read(t, back+"/old") + read(t, back+"/more/x"); got != "newbasey" {
		t.Errorf("%q", got)
	}
	if _, err := c.Build(ctx, BuildRequest{Base: reg.Repo("none") + ":v1", Repo: reg.Repo("p")}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no base: %v", err)
	}
}

func TestOnlyWhatTheRegistryLacksIsSent(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	dir := tree(t, map[string]string{"x": "1"})
	repo := reg.Repo("data")
	digest, _, err := files.DigestDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.PushDir(ctx, PushRequest{Dir: dir, Repo: repo, Tag: "any"})
	if err != nil {
		t.Fatal(err)
	}
	reg.Forget()
	req := PushRequest{Dir: dir, Repo: repo, Tag: ContentTag(digest)}
	if again, err := c.PushDir(ctx, req); err != nil || again.Ref != first.Ref {
		t.Fatalf("%+v: %v", again, err)
	}
	if sent := reg.Requests("POST"); len(sent) > 0 {
		t.Errorf("blobs were sent again: %v", sent)
	}
	reg.Forget()
	if again, err := c.PushDir(ctx, req); err != nil || again.Ref != first.Ref {
		t.Fatalf("%+v: %v", again, err)
	}
	if sent := append(reg.Requests("POST"), reg.Requests("PUT")...); len(sent) > 0 {
		t.Errorf("a content tag that is there: %v", sent)
	}
	// A tag that is no content tag moves.
	if err := os.WriteFile(dir+"/x", []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	moved, err := c.PushDir(ctx, PushRequest{Dir: dir, Repo: repo, Tag: "any"})
	if err != nil {
		t.Fatal(err)
	}
	if now, err := c.Resolve(ctx, repo+":any"); err != nil || now.Ref != moved.Ref || now.Ref == first.Ref {
		t.Errorf("%+v: %v", now, err)
	}
}

func TestATagMovesOnlyAfterTheDigestWasReadBack(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	reg.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Method == http.MethodGet && strings.Contains(q.URL.Path, "/manifests/sha256:") {
				http.Error(w, "", http.StatusNotFound) // it took the image and has lost it
				return
			}
			next.ServeHTTP(w, q)
		})
	})
	_, err := c.PushDir(ctx, PushRequest{Dir: tree(t, map[string]string{"x": "1"}), Repo: reg.Repo("data"), Tag: "v1"})
	if err == nil || !strings.Contains(err.Error(), "read back") {
		t.Errorf("%v", err)
	}
	if _, err := c.Resolve(ctx, reg.Repo("data")+":v1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the tag was set: %v", err)
	}
}

func TestWhatAnImageCannotHoldIsRefused(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	push := func(l Layer) error {
		_, err := c.Build(ctx, BuildRequest{Layers: []Layer{l}, Repo: reg.Repo("p")})
		return err
	}
	out := tree(t, map[string]string{"x": "1"})
	if err := os.Symlink("/etc/passwd", out+"/link"); err != nil {
		t.Fatal(err)
	}
	for says, l := range map[string]Layer{
		"which means a removal": {Dir: tree(t, map[string]string{"a/.wh.x": ""})},
		"must be a clean path":  {Dir: tree(t, map[string]string{"x": ""}), Files: []string{"../x"}},
		"is listed twice":       {Dir: tree(t, map[string]string{"x": ""}), Files: []string{"x", "x"}},
		"no such file":          {Dir: tree(t, map[string]string{"x": ""}), Files: []string{"y"}},
		"holds no file":         {Dir: t.TempDir()},
		"outside of the folder": {Dir: out},
	} {
		if err := push(l); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	for _, bad := range []string{"", "UPPER/x", "host/x y"} {
		if _, err := c.PushDir(ctx, PushRequest{Dir: out, Repo: bad}); err == nil {
			t.Errorf("repository %q", bad)
		}
	}
}

func TestAnIndexIsResolvedToOneOfItsImages(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	build := func(platform string) v1.Image {
		t.Helper()
		img, err := c.assemble(ctx, BuildRequest{Platform: platform, Layers: []Layer{{Dir: tree(t, map[string]string{"x": platform})}}})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	add := func(platform string) mutate.IndexAddendum {
		p, err := parsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		return mutate.IndexAddendum{Add: build(platform), Descriptor: v1.Descriptor{Platform: &p}}
	}
	for name, c2 := range map[string]struct {
		platforms []string
		want      string
	}{"both": {[]string{"linux/arm64", "linux/amd64"}, "linux/amd64"}, "other": {[]string{"linux/arm64/v8"}, "linux/arm64"}} {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, p := range c2.platforms {
			index = mutate.AppendManifests(index, add(p))
		}
		ref, err := c.parse(reg.Repo(name) + ":v1")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(ref, index); err != nil {
			t.Fatal(err)
		}
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		img, err := c.Resolve(ctx, reg.Repo(name)+":v1")
		if err != nil || img.Platform != c2.want || string(img.Digest) != digest.String() {
			t.Errorf("%s: %+v: %v", name, img, err)
		}
		back := filepath.Join(t.TempDir(), "x")
		if err := c.PullDir(ctx, img.Ref, "", back); err != nil || !strings.HasPrefix(read(t, back+"/x"), c2.want) {
			t.Errorf("%s: %v", name, err)
		}
		_, err = c.Build(ctx, BuildRequest{Base: img.Ref, Platform: "linux/arm64", Repo: reg.Repo("top")})
		if err != nil {
			t.Errorf("%s: a base for another platform: %v", name, err)
		}
		if _, err = c.Build(ctx, BuildRequest{Base: img.Ref, Platform: "linux/s390x", Repo: reg.Repo("top")}); err == nil {
			t.Errorf("%s: a base that there is none of was taken", name)
		}
	}
}
