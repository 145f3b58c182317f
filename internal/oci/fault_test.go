package oci

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
)

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
			var once sync.Once
			reg.Between(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					if q.Method == http.MethodPost { // the layer was read for its digest, and is not sent before this is done
						once.Do(func() {
							err := errors.Join(os.WriteFile(dir+"/x", []byte(change), 0o600), os.Chtimes(dir+"/x", old.ModTime(), old.ModTime()))
							if err != nil {
								t.Error(err)
							}
						})
					}
					next.ServeHTTP(w, q)
				})
			})
			_, err = c.PushDir(ctx, PushRequest{Dir: dir, Repo: reg.Repo("data"), Tag: "v1"})
			if !errors.Is(err, files.ErrChanged) {
				t.Errorf("%v", err)
			}
		})
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
