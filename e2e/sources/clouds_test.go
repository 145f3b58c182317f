//go:build e2e

package sources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"github.com/continuo-ml/continuo/e2e/cluster/stores"
	"github.com/continuo-ml/continuo/internal/source"
)

// cloud is a bucket of some cloud, by what one does to it.
type cloud struct {
	scheme string
	put    func(key, content string) error
	remove func(key string) error
	// wrong breaks the credentials.
	wrong func(t *testing.T)
}

func newGCS(t *testing.T) cloud {
	s, err := stores.GCS(t.Context(), t.TempDir())
	started(t, s, err)
	do := func(method, path, kind string, body io.Reader) error {
		req, err := http.NewRequestWithContext(t.Context(), method, s.Endpoint+path, body)
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			return fmt.Errorf("%s %s: %s", method, path, resp.Status)
		}
		return nil
	}
	if err := do(http.MethodPost, "/storage/v1/b", "application/json", strings.NewReader(`{"name":"data"}`)); err != nil {
		t.Fatal(err)
	}
	return cloud{
		scheme: "gs://",
		put: func(key, content string) error {
			return do(http.MethodPost, "/upload/storage/v1/b/data/o?uploadType=media&name="+url.QueryEscape(key), "text/csv", strings.NewReader(content))
		},
		remove: func(key string) error {
			return do(http.MethodDelete, "/storage/v1/b/data/o/"+url.PathEscape(key), "text/plain", nil)
		},
	}
}

func newAzure(t *testing.T) cloud {
	s, err := stores.Azure(t.Context(), t.TempDir())
	started(t, s, err)
	key, err := azblob.NewSharedKeyCredential(stores.AzureAccount, stores.AzureKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := azblob.NewClientWithSharedKeyCredential(s.Env["AZURE_STORAGE_BLOB_ENDPOINT"], key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateContainer(t.Context(), "data", nil); err != nil {
		t.Fatal(err)
	}
	return cloud{
		scheme: "azure://",
		put: func(key, content string) error {
			_, err := c.UploadBuffer(t.Context(), "data", key, []byte(content), nil)
			return err
		},
		remove: func(key string) error {
			_, err := c.DeleteBlob(t.Context(), "data", key, nil)
			return err
		},
		wrong: func(t *testing.T) { t.Setenv("AZURE_STORAGE_KEY", "b3RoZXI=") },
	}
}

// started wants a server to run, until the end of the test.
func started(t *testing.T, s *stores.Server, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	setenv(t, s.Env)
}

func TestTheCloudsAreReadAlike(t *testing.T) {
	for name, start := range map[string]func(*testing.T) cloud{"Google": newGCS, "Azure": newAzure} {
		t.Run(name, func(t *testing.T) {
			c, p := start(t), newPlace(t)
			contents := map[string]string{"x/a.csv": "1\n", "x/b c.csv": "2\n", "x/sub/c#1.csv": "3\n", "x/d.txt": strings.Repeat("0123456789", 50_000), "xy/f.csv": "6\n"}
			for key, text := range contents {
				if err := c.put(key, text); err != nil {
					t.Fatal(err)
				}
			}
			for address, what := range map[string]string{"data/x/a.csv": "x/a.csv", "data/x/sub/c#1.csv": "x/sub/c#1.csv", "data/x/": "x", "data/x": "x", "data/x/*.csv": "x/*.csv", "data/x*/**/*.csv": "x*/**/*.csv"} {
				v := p.probe(c.scheme + address)
				if want := p.local(contents, what); v.Hex != want {
					t.Errorf("%s is %+v, the same files here are %s", address, v, want)
				}
			}
			gets := p.got.gets.Load()
			bytes := p.got.bytes.Load()
			v := p.probe(c.scheme + "data/x/")
			if n := p.got.bytes.Load() - bytes; n > 100_000 {
				t.Errorf("%d bytes for what did not move (%d requests)", n, p.got.gets.Load()-gets)
			}
			// Cut in the middle, it goes on.
			p.got.cut.Store(100_000)
			if got := newPlaceOver(t, p).probe(c.scheme + "data/x/"); got.Hex != v.Hex {
				t.Errorf("cut, it is %s, not %s", got.Hex, v.Hex)
			}
			p.got.cut.Store(0)
			must(t, c.put("x/a.csv", "1\n"))
			if p.probe(c.scheme+"data/x/").Hex != v.Hex {
				t.Error("the same bytes written again are a change")
			}
			must(t, c.put("x/a.csv", "9\n"))
			if p.probe(c.scheme+"data/x/").Hex == v.Hex {
				t.Error("other bytes of the same length are none")
			}
			at, err := p.freeze(p.reader(), c.scheme+"data/x/a.csv", "")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(at); string(got) != "9\n" || err != nil {
				t.Errorf("it holds %q, %v", got, err)
			}
			must(t, c.remove("x/a.csv"))
			refuse := func(address string, kind error, text string) {
				t.Helper()
				_, err := p.reader().Probe(context.Background(), address)
				if !errors.Is(err, kind) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v", address, err)
				}
				t.Log(err)
			}
			refuse(c.scheme+"data/x/a.csv", source.ErrNotFound, "no such object; check the key")
			refuse(c.scheme+"nobody/x/a.csv", source.ErrNotFound, "there is no ")
			if c.wrong != nil {
				c.wrong(t)
				refuse(c.scheme+"data/x/d.txt", source.ErrDenied, "answers 403")
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newPlaceOver is another machine whose connections are those of p.
func newPlaceOver(t *testing.T, p *place) *place {
	return &place{T: t, root: filepath.Join(t.TempDir()), got: p.got}
}
