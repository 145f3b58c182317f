//go:build e2e

package sources

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/e2e/cluster/stores"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/source"
)

// bucket is a bucket of a server of its own.
type bucket struct {
	*testing.T
	*s3.Client
	server *stores.Server
	name   string
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	s, err := stores.S3(t.Context(), t.TempDir(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	setenv(t, s.Env)
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &bucket{T: t, Client: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }), server: s, name: "data"}
	if _, err := b.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &b.name}); err != nil {
		t.Fatal(err)
	}
	return b
}

// setenv gives a test an environment without anybody's credentials but these.
func setenv(t *testing.T, env map[string]string) {
	t.Helper()
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "AZURE_") || name == "STORAGE_EMULATOR_HOST" || name == "GOOGLE_APPLICATION_CREDENTIALS" {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for name, value := range env {
		t.Setenv(name, value)
	}
}

func (b *bucket) put(key string, content []byte) {
	b.Helper()
	if _, err := b.PutObject(b.Context(), &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: bytes.NewReader(content)}); err != nil {
		b.Fatal(err)
	}
}

// place is where a test's reader keeps what it reads.
type place struct {
	*testing.T
	root string
	got  *meter
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return &place{T: t, root: t.TempDir(), got: &meter{inner: http.DefaultTransport}}
}

// reader makes a reader as a new process has it, over the same cache.
func (p *place) reader() *source.Reader {
	r := source.New(source.Options{Dir: filepath.Join(p.root, "cache"), Transport: p.got, Wait: 20 * time.Millisecond, Attempts: 4, Stall: 5 * time.Second})
	p.Cleanup(func() {
		if err := r.Close(); err != nil {
			p.Error(err)
		}
	})
	return r
}

func (p *place) probe(address string) source.Version {
	p.Helper()
	v, err := p.reader().Probe(p.Context(), address)
	if err != nil {
		p.Fatal(err)
	}
	return v
}

// local is the digest of the same files in a folder of the project.
func (p *place) local(contents map[string]string, what string) string {
	p.Helper()
	dir := p.TempDir()
	for name, text := range contents {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
			p.Fatal(err)
		}
	}
	x, err := files.Open(dir, "")
	if err != nil {
		p.Fatal(err)
	}
	defer x.Close()
	d, err := x.DigestSource(what)
	if err != nil {
		p.Fatal(err)
	}
	return d.Hex
}

// freeze puts the content of an address at a path and returns that.
func (p *place) freeze(r *source.Reader, address, want string) (string, error) {
	p.Helper()
	x, err := files.Open(p.root, "")
	if err != nil {
		p.Fatal(err)
	}
	defer x.Close()
	at := filepath.Join(p.root, fmt.Sprintf("frozen-%d", time.Now().UnixNano()))
	_, err = r.Freeze(p.Context(), x, address, want, func(bool) string { return at })
	if _, serr := os.Lstat(at); err != nil && serr == nil {
		p.Errorf("%v, and yet something stands at %s", err, at)
	}
	return at, err
}

// meter counts requests and the bytes of answers.
type meter struct {
	inner    http.RoundTripper
	requests atomic.Int64
	bytes    atomic.Int64
	gets     atomic.Int64
	cut      atomic.Int64 // a body ends with an error after so many bytes; 0 = never
}

func (m *meter) RoundTrip(req *http.Request) (*http.Response, error) {
	m.requests.Add(1)
	resp, err := m.inner.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if req.Method == http.MethodGet && !strings.Contains(req.URL.RawQuery, "list-type") {
		m.gets.Add(1)
	}
	resp.Body = &counted{ReadCloser: resp.Body, m: m, left: m.cut.Load()}
	return resp, nil
}

type counted struct {
	io.ReadCloser
	m    *meter
	left int64
}

func (c *counted) Read(p []byte) (int, error) {
	if c.left > 0 && int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.ReadCloser.Read(p)
	c.m.bytes.Add(int64(n))
	if c.left > 0 {
		if c.left -= int64(n); c.left <= 0 && err == nil {
			return n, &net.OpError{Op: "read", Err: errReset}
		}
	}
	return n, err
}

func TestAnObjectInS3HasTheDigestOfTheSameFileHere(t *testing.T) {
	b, p := newBucket(t), newPlace(t)
	text := "a,b\n1,2\n"
	b.put("in/t.csv", []byte(text))
	if got, want := p.probe("s3://data/in/t.csv").Hex, p.local(map[string]string{"t.csv": text}, "t.csv"); got != want {
		t.Errorf("in S3 %s, here %s", got, want)
	}
	again := p.got.gets.Load()
	p.probe("s3://data/in/t.csv")
	if p.got.gets.Load() != again {
		t.Error("an object that did not move was downloaded again")
	}
	b.put("in/t.csv", []byte(text))
	if got, want := p.probe("s3://data/in/t.csv").Hex, p.local(map[string]string{"t.csv": text}, "t.csv"); got != want {
		t.Errorf("the same bytes written again are %s, want %s", got, want)
	}
	other := "a,b\n1,3\n"
	b.put("in/t.csv", []byte(other))
	if got, want := p.probe("s3://data/in/t.csv").Hex, p.local(map[string]string{"t.csv": other}, "t.csv"); got != want {
		t.Errorf("other bytes of the same length are %s, want %s", got, want)
	}
}

func TestAFolderAndAGlobInS3HaveTheDigestsOfTheSameFilesHere(t *testing.T) {
	b, p := newBucket(t), newPlace(t)
	contents := map[string]string{"x/a.csv": "1\n", "x/b.csv": "2\n", "x/sub/c.csv": "3\n", "x/d.txt": "4\n", "x/__pycache__/e.csv": "5\n", "xy/f.csv": "6\n"}
	for key, text := range contents {
		b.put(key, []byte(text))
	}
	for address, what := range map[string]string{"s3://data/x/": "x", "s3://data/x": "x", "s3://data/x/*.csv": "x/*.csv", "s3://data/x/**/*.csv": "x/**/*.csv", "s3://data/x*/*.{csv,txt}": "x*/*.{csv,txt}"} {
		v := p.probe(address)
		if want := p.local(contents, what); v.Hex != want || !v.IsDir {
			t.Errorf("%s is %s, the same files here are %s", address, v.Hex, want)
		}
	}
	at, err := p.freeze(p.reader(), "s3://data/x/", "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(at, "sub", "c.csv")); string(got) != "3\n" || err != nil {
		t.Errorf("x/sub/c.csv holds %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(at, "__pycache__")); err == nil {
		t.Error("what a folder of the project leaves out was fetched")
	}
	before := p.probe("s3://data/x/").Hex
	key := "x/b.csv"
	if _, err := b.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &b.name, Key: &key}); err != nil {
		t.Fatal(err)
	}
	if p.probe("s3://data/x/").Hex == before {
		t.Error("a file that was deleted changes nothing")
	}
}

func TestWhatAPlanReadIsWhatItsApplyGets(t *testing.T) {
	b, p := newBucket(t), newPlace(t)
	b.put("t.csv", []byte("old\n"))
	v := p.probe("s3://data/t.csv")
	b.put("t.csv", []byte("new\n"))
	at, err := p.freeze(p.reader(), "s3://data/t.csv", v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(at); string(got) != "old\n" || err != nil {
		t.Errorf("the apply got %q, %v", got, err)
	}
	// On a machine that never read it, the old bytes cannot be had.
	if _, err := newPlace(t).freeze(newPlace(t).reader(), "s3://data/t.csv", v.Hex); !errors.Is(err, files.ErrMoved) {
		t.Errorf("elsewhere: %v", err)
	}
	// Deleted: the frozen bytes are still there.
	key := "t.csv"
	if _, err := b.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &b.name, Key: &key}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.freeze(p.reader(), "s3://data/t.csv", v.Hex); err != nil {
		t.Error(err)
	}
	if _, err := p.reader().Probe(t.Context(), "s3://data/t.csv"); !errors.Is(err, source.ErrNotFound) {
		t.Errorf("a deleted object: %v", err)
	}
}

func TestADamagedCacheIsFetchedAnew(t *testing.T) {
	b, p := newBucket(t), newPlace(t)
	b.put("t.csv", []byte("right\n"))
	v := p.probe("s3://data/t.csv")
	blob := filepath.Join(p.root, "cache", "blobs", v.Hex)
	if err := errors.Join(os.Chmod(blob, 0o644), os.WriteFile(blob, []byte("wrong\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	at, err := p.freeze(p.reader(), "s3://data/t.csv", v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(at); string(got) != "right\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.RemoveAll(filepath.Join(p.root, "cache", "blobs")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.freeze(p.reader(), "s3://data/t.csv", v.Hex); err != nil {
		t.Errorf("without its blobs: %v", err)
	}
}

func TestRefusalsOfS3SayWhatToDo(t *testing.T) {
	b, p := newBucket(t), newPlace(t)
	b.put("t.csv", []byte("x\n"))
	refused := func(address string, kind error, texts ...string) {
		t.Helper()
		_, err := p.reader().Probe(t.Context(), address)
		if err == nil || kind != nil && !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %v", address, err, kind)
			return
		}
		shown, _, _ := strings.Cut(address, "?")
		for _, text := range append(texts, shown) {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %q", address, err, text)
			}
		}
		if strings.Contains(err.Error(), stores.SecretKey) || strings.Contains(err.Error(), "operation error") {
			t.Errorf("%s: %q says too much", address, err)
		}
		t.Log(err)
	}
	refused("s3://data/missing.csv", source.ErrNotFound, "no such object", "check the key")
	refused("s3://data/missing/", source.ErrNotFound, "nothing is there")
	refused("s3://nobody/t.csv", source.ErrNotFound, "there is no bucket nobody", "AWS_ENDPOINT_URL")
	refused("s3://data/t.csv?anonymous=true", source.ErrDenied, "not signed")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "other")
	refused("s3://data/t.csv", source.ErrDenied, "AWS_SECRET_ACCESS_KEY")
	t.Setenv("AWS_ACCESS_KEY_ID", "nobody")
	refused("s3://data/t.csv", source.ErrDenied, "AWS_ACCESS_KEY_ID")
	setenv(t, b.server.Env)
	t.Setenv("AWS_REGION", "us-west-2")
	refused("s3://data/t.csv", nil, "region")
	t.Setenv("AWS_REGION", stores.Region)
	if err := b.server.Stop(); err != nil {
		t.Fatal(err)
	}
	refused("s3://data/t.csv", nil, "is the server running?")
}

func TestADownloadThatBreaksOffGoesOnWhereItWas(t *testing.T) {
	b, p := newBucket(t), newPlace(t)
	content := random(t, 40<<20)
	b.put("big.bin", content)
	p.got.cut.Store(3 << 20)
	v := p.probe("s3://data/big.bin")
	if want := p.local(map[string]string{"big.bin": string(content)}, "big.bin"); v.Hex != want {
		t.Errorf("it is %s, want %s", v.Hex, want)
	}
	if n := p.got.bytes.Load(); n > 42<<20 {
		t.Errorf("%d bytes were moved for %d", n, len(content))
	}
	if n := p.got.gets.Load(); n < 13 {
		t.Errorf("%d requests: nothing was cut", n)
	}
}

func TestAFetchThatDiesLeavesNothing(t *testing.T) {
	b, p := newBucket(t), newPlace(t)
	b.put("big.bin", random(t, 20<<20))
	ctx, cancel := context.WithCancel(t.Context())
	p.got.inner = stopAfter(5, cancel)
	r := p.reader()
	if _, err := r.Probe(ctx, "s3://data/big.bin"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	left, err := filepath.Glob(filepath.Join(p.root, "cache", "*", "*", "part-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if blobs, _ := filepath.Glob(filepath.Join(p.root, "cache", "blobs", "*")); len(blobs) > 0 {
		t.Errorf("in the cache: %v", blobs)
	}
}

func TestAGigabyteInPartsAndTenThousandKeys(t *testing.T) {
	b, p := newBucket(t), newPlace(t)
	const parts, size = 16, 64 << 20
	big := "big.bin"
	up, err := b.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &b.name, Key: &big})
	if err != nil {
		t.Fatal(err)
	}
	part := random(t, size)
	var done types.CompletedMultipartUpload
	for n := int32(1); n <= parts; n++ {
		part[0] = byte(n)
		out, err := b.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &b.name, Key: &big, UploadId: up.UploadId, PartNumber: aws.Int32(n), Body: bytes.NewReader(part)})
		if err != nil {
			t.Fatal(err)
		}
		done.Parts = append(done.Parts, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(n)})
	}
	if _, err := b.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: &b.name, Key: &big, UploadId: up.UploadId, MultipartUpload: &done}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if v := p.probe("s3://data/big.bin"); v.Bytes != parts*size {
		t.Errorf("it has %d bytes", v.Bytes)
	}
	t.Logf("1 GiB read in %.1f s", time.Since(began).Seconds())
	began = time.Now()
	if _, err := p.freeze(p.reader(), "s3://data/big.bin", ""); err != nil {
		t.Fatal(err)
	}
	t.Logf("and frozen in %.1f s", time.Since(began).Seconds())

	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(16)
	for i := range 10_000 {
		g.Go(func() error {
			key := fmt.Sprintf("many/%02d/%05d.csv", i%100, i)
			_, err := b.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: strings.NewReader(fmt.Sprintf("n\n%d\n", i))})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	v := p.probe("s3://data/many/")
	t.Logf("10,000 objects read in %.1f s", time.Since(began).Seconds())
	if v.Files != 10_000 {
		t.Errorf("it has %d files", v.Files)
	}
	began, requests := time.Now(), p.got.requests.Load()
	if again := p.probe("s3://data/many/"); again != v {
		t.Errorf("read again it is %v, was %v", again, v)
	}
	n := p.got.requests.Load() - requests
	t.Logf("and looked at again in %.2f s with %d requests", time.Since(began).Seconds(), n)
	if n > 12 {
		t.Errorf("%d requests for 10,000 keys that did not move", n)
	}
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}
