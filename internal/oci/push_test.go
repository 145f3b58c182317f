package oci

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"

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

// faults answers the first requests that match otherwise, and counts.
func faults(reg *ocitest.Registry, method, part string, answer ...http.HandlerFunc) *atomic.Int32 {
	var n atomic.Int32
	reg.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Method == method && strings.Contains(q.URL.Path, part) {
				if i := int(n.Add(1)); i <= len(answer) {
					answer[i-1](w, q)
					return
				}
			}
			next.ServeHTTP(w, q)
		})
	})
	return &n
}

func busy(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "restarting", http.StatusServiceUnavailable)
}

// cut closes the connection in the middle of what is read or written.
func cut(w http.ResponseWriter, q *http.Request) {
	if q.Body != nil {
		_, _ = io.CopyN(io.Discard, q.Body, 64<<10)
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	if q.Method == http.MethodGet {
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"))
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, not an end
	}
	_ = conn.Close()
}

func TestFaultsThatPassAreNotSeen(t *testing.T) {
	slow := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "slowly", http.StatusTooManyRequests)
	}
	dir := tree(t, map[string]string{"big": strings.Repeat("0123456789", 100_000)})
	for name, f := range map[string]struct {
		method, part string
		answer       []http.HandlerFunc
		atLeast      time.Duration
	}{
		"503 twice at the manifest":  {http.MethodPut, "/manifests/", []http.HandlerFunc{busy, busy}, 0},
		"503 twice at the ping":      {http.MethodGet, "/v2/", []http.HandlerFunc{busy, busy}, 0},
		"429 with Retry-After":       {http.MethodPost, "/blobs/uploads/", []http.HandlerFunc{slow}, time.Second},
		"reset while a blob is sent": {http.MethodPatch, "/blobs/uploads/", []http.HandlerFunc{cut, cut}, 0},
		"reset at the commit":        {http.MethodPut, "/blobs/uploads/", []http.HandlerFunc{cut}, 0},
		"reset while a blob comes":   {http.MethodGet, "/blobs/sha256:", []http.HandlerFunc{cut, cut}, 0},
		"500 while a blob is read":   {http.MethodGet, "/blobs/sha256:", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", 500) }}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
			n := faults(reg, f.method, f.part, f.answer...)
			began := time.Now()
			img, err := c.PushDir(ctx, PushRequest{Dir: dir, Repo: reg.Repo("data")})
			if err != nil {
				t.Fatal(err)
			}
			back := filepath.Join(t.TempDir(), "x")
			if err := c.PullDir(ctx, img.Ref, "", back); err != nil {
				t.Fatal(err)
			}
			if int(n.Load()) <= len(f.answer) {
				t.Errorf("%d requests met the %d faults", n.Load(), len(f.answer))
			}
			if took := time.Since(began); took < f.atLeast {
				t.Errorf("it waited %s, and was asked to wait %s", took, f.atLeast)
			}
			if read(t, back+"/big") != read(t, dir+"/big") {
				t.Error("other bytes came back")
			}
		})
	}
}

func TestFaultsThatStayAreToldAndMarked(t *testing.T) {
	dir := tree(t, map[string]string{"x": "1"})
	push := func(t *testing.T, host string, c *Client) error {
		t.Helper()
		_, err := c.PushDir(within(t), PushRequest{Dir: dir, Repo: host + "/ml/data"})
		return err
	}
	always := func(t *testing.T, f http.HandlerFunc) string {
		t.Helper()
		reg := ocitest.Start(t, "", "")
		reg.Between(func(http.Handler) http.Handler { return f })
		return reg.Host
	}
	gone := ocitest.Start(t, "", "").Host
	gone = gone[:strings.LastIndex(gone, ":")] + ":1"
	for name, f := range map[string]struct {
		host  string
		says  string
		later bool
	}{
		"busy for good":       {always(t, busy), "503 Service Unavailable: restarting (tried 6 times)", true},
		"wants a long wait":   {always(t, func(w http.ResponseWriter, q *http.Request) { w.Header().Set("Retry-After", "3600"); busy(w, q) }), "asks to wait 1h0m0s", true},
		"nothing listens":     {gone, "nothing listens at 127.0.0.1:1", true},
		"no rights":           {always(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }), "the registry refuses (403)", false},
		"no room":             {always(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(413) }), "no room for it (413)", false},
		"no such host at all": {"registry.invalid", "there is no host registry.invalid", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := push(t, f.host, quick())
			if err == nil || !strings.Contains(err.Error(), f.says) || !strings.Contains(err.Error(), "push oci://"+f.host+"/ml/data") {
				t.Errorf("%v", err)
			}
			if Retryable(err) != f.later {
				t.Errorf("retryable: %v", Retryable(err))
			}
		})
	}
}

func TestARequestThatMovesNothingEnds(t *testing.T) {
	reg, ctx := ocitest.Start(t, "", ""), within(t)
	stop := make(chan struct{})
	defer close(stop)
	faults(reg, http.MethodPut, "/manifests/", func(_ http.ResponseWriter, q *http.Request) {
		select {
		case <-q.Context().Done():
		case <-stop:
		}
	})
	c := New(Options{Keychain: none{}, Wait: time.Millisecond, Stall: 200 * time.Millisecond})
	if _, err := c.PushDir(ctx, PushRequest{Dir: tree(t, map[string]string{"x": "1"}), Repo: reg.Repo("data")}); err != nil {
		t.Error(err)
	}
}

func TestCredentialsComeFromDockersConfiguration(t *testing.T) {
	reg, ctx := ocitest.Start(t, "me", "s3cr3t"), within(t)
	dir := tree(t, map[string]string{"x": "1"})
	req := PushRequest{Dir: dir, Repo: reg.Repo("data"), Tag: "v1"}
	_, err := quick().PushDir(ctx, req)
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "the registry refuses (401)") || !strings.Contains(err.Error(), "docker login "+reg.Host) {
		t.Errorf("%v", err)
	}
	if Retryable(err) {
		t.Error("a refusal is not retryable")
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	auth := base64.StdEncoding.EncodeToString([]byte("me:s3cr3t"))
	for name, conf := range map[string]string{
		"in the file":         `{"auths": {"` + reg.Host + `": {"auth": "` + auth + `"}}}`,
		"credential helper":   `{"credHelpers": {"` + reg.Host + `": "continuo-test"}}`,
		"store for all hosts": `{"credsStore": "continuo-test"}`,
	} {
		t.Run(name, func(t *testing.T) {
			helper := "#!/bin/sh\ncat >/dev/null\necho '{\"Username\": \"me\", \"Secret\": \"s3cr3t\"}'\n"
			if err := os.WriteFile(home+"/docker-credential-continuo-test", []byte(helper), 0o700); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", home+":"+os.Getenv("PATH"))
			if err := os.WriteFile(home+"/config.json", []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			c := New(Options{Wait: time.Millisecond, Keychain: authn.DefaultKeychain})
			img, err := c.PushDir(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.PullDir(ctx, img.Ref, "", filepath.Join(t.TempDir(), "x")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWithoutTLSOnlyWhereItIsMeantToBe(t *testing.T) {
	c := New(Options{Insecure: []string{"registry.lan", "other.lan:5000"}})
	for host, want := range map[string]bool{
		"127.0.0.1:5000": true, "127.8.8.8": true, "localhost:1": true, "a.localhost": true, "[::1]:5000": true, "10.1.2.3:5000": true, "192.168.0.9": true,
		"172.20.0.1:80": true, "169.254.20.10:5000": true, "registry.lan": true, "registry.lan:99": true, "other.lan:5000": true,
		"other.lan:5001": false, "ghcr.io": false, "8.8.8.8:5000": false, "127.0.0.1.example.com": false, "localhost.example.com": false,
	} {
		if got := c.plain(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestAFileThatChangesWhileItIsPushedIsNoticed(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	for name, change := range map[string]string{"same size": "2", "longer": "22", "shorter": ""} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"x": "1", "y": name})
			old, err := os.Stat(dir + "/x")
			if err != nil {
				t.Fatal(err)
			}
			faults(reg, http.MethodPost, "/blobs/uploads/", func(w http.ResponseWriter, q *http.Request) {
				err := errors.Join(os.WriteFile(dir+"/x", []byte(change), 0o600), os.Chtimes(dir+"/x", old.ModTime(), old.ModTime()))
				if err != nil {
					t.Error(err)
				}
				busy(w, q)
			})
			_, err = c.PushDir(ctx, PushRequest{Dir: dir, Repo: reg.Repo("data"), Tag: "v1"})
			if !errors.Is(err, files.ErrChanged) {
				t.Errorf("%v", err)
			}
		})
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

func TestARegistryThatHasSomethingElseUnderTheTagIsNoticed(t *testing.T) {
	reg, c, ctx := ocitest.Start(t, "", ""), quick(), within(t)
	if _, err := c.PushDir(ctx, PushRequest{Dir: tree(t, map[string]string{"x": "old"}), Repo: reg.Repo("data"), Tag: "old"}); err != nil {
		t.Fatal(err)
	}
	reg.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Method == http.MethodGet {
				q.URL.Path = strings.Replace(q.URL.Path, "/manifests/new", "/manifests/old", 1)
			}
			next.ServeHTTP(w, q)
		})
	})
	_, err := c.PushDir(ctx, PushRequest{Dir: tree(t, map[string]string{"x": "new"}), Repo: reg.Repo("data"), Tag: "new"})
	if err == nil || !strings.Contains(err.Error(), "somebody else pushes there too") {
		t.Errorf("%v", err)
	}
}
