package oci

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tidy{m}) }

// tidy lets go of idle connections before goleak looks.
type tidy struct{ m *testing.M }

func (t tidy) Run() int {
	code := t.m.Run()
	if tr, ok := remote.DefaultTransport.(*http.Transport); ok {
		tr.CloseIdleConnections()
	}
	return code
}

// none is a keychain without credentials: what lies in the home of whoever runs the tests must not matter.
type none struct{}

func (none) Resolve(authn.Resource) (authn.Authenticator, error) { return authn.Anonymous, nil }

// quick is a client that does not wait long between its attempts.
func quick() *Client {
	return New(Options{Keychain: none{}, Wait: time.Millisecond, MaxWait: 2 * time.Second})
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// tree makes a folder with files.
func tree(t *testing.T, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range contents {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
