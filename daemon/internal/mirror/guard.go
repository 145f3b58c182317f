package mirror

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport/client"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/continuo-ml/continuo/internal/durable"
)

// What a server may send at once. The history is bounded by Depth; a repository
// beyond these is no place for code and configuration.
const (
	maxPackBytes   = 4 << 30
	maxPackObjects = 1_000_000
	maxRefsBytes   = 64 << 20 // of the list of all refs
	maxWordsBytes  = 64 << 10 // of what it says when it refuses
)

// ErrTooMuch says that a server sends more than a copy takes. What was there
// before stays.
var ErrTooMuch = errors.New("the server sends more than the daemon takes")

// guarded is the storage of a copy, which takes packs within the limits only.
type guarded struct{ *filesystem.Storage }

// guard has a copy take packs within the limits only.
func guard(repo *git.Repository) *git.Repository {
	if s, ok := repo.Storer.(*filesystem.Storage); ok {
		repo.Storer = guarded{s}
	}
	return repo
}

// PackfileWriter implements storer.PackfileWriter.
func (g guarded) PackfileWriter() (io.WriteCloser, error) {
	w, err := g.Storage.PackfileWriter()
	if err != nil {
		return nil, err
	}
	return &packGuard{WriteCloser: w, bytes: maxPackBytes, objects: maxPackObjects}, nil
}

// packGuard looks at a pack before anything is made of it: whoever reads one
// keeps a note of every object that it announces.
type packGuard struct {
	io.WriteCloser
	head    []byte // the first bytes, until they are whole
	passed  bool
	bytes   int64 // that may still come
	objects uint32
}

// packHeader is "PACK", a version and the number of objects.
const packHeader = 12

// Write implements io.Writer.
func (p *packGuard) Write(b []byte) (int, error) {
	if p.bytes -= int64(len(b)); p.bytes < 0 {
		return 0, fmt.Errorf("%w: a pack of more than %d bytes", ErrTooMuch, int64(maxPackBytes))
	}
	if p.passed {
		return p.WriteCloser.Write(b)
	}
	if p.head = append(p.head, b...); len(p.head) < packHeader {
		return len(b), nil
	}
	if !bytes.HasPrefix(p.head, []byte("PACK")) {
		return 0, errors.New("the server sends what is no pack")
	}
	if n := binary.BigEndian.Uint32(p.head[8:packHeader]); n > p.objects {
		return 0, fmt.Errorf("%w: a pack of %d objects, more than %d", ErrTooMuch, n, p.objects)
	}
	p.passed = true
	if _, err := p.WriteCloser.Write(p.head); err != nil {
		return 0, err
	}
	return len(b), nil
}

// transports bounds what is read of a server over HTTP beside packs, and how long
// it may be silent before its answer. The table that it changes is the library's, one for the program.
var transports = sync.OnceFunc(func() {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return // somebody's own, which bounds what it wants
	}
	t = t.Clone()
	t.ResponseHeaderTimeout = time.Minute
	t.DialContext = (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	c := githttp.NewClient(&http.Client{Transport: boundedRefs{t}})
	client.InstallProtocol("http", c)
	client.InstallProtocol("https", c)
})

// boundedRefs bounds the answers that the library reads whole.
type boundedRefs struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b boundedRefs) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode >= http.StatusMultipleChoices: // all of it is read, for the error
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxWordsBytes}
	case strings.HasSuffix(req.URL.Path, "/info/refs"):
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxRefsBytes}
	}
	return resp, nil
}

// boundedBody fails, rather than ends, when it is too long.
type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: an answer that does not end", ErrTooMuch)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// sound gives the copy back, or a new and empty one in place of a copy that is
// damaged: a fetch brings what the copy says it lacks, and no more.
func (m *Mirror) sound(repo *git.Repository, refs []string) (*git.Repository, error) {
	err := m.damage(repo, refs)
	if err == nil {
		return repo, nil
	}
	if rerr := os.RemoveAll(m.dir); rerr != nil {
		return nil, fmt.Errorf("copy of %s: %w", m.Address(), errors.Join(err, rerr))
	}
	m.doubt.Store(false)
	return m.open()
}

// damage says what is wrong with the copy, as far as these refs tell. A commit that
// a ref names and the copy does not have is nothing that a fetch would not bring.
func (m *Mirror) damage(repo *git.Repository, refs []string) error {
	if m.doubt.Load() {
		return errors.New("a commit's files were not whole")
	}
	for _, name := range refs {
		ref, err := repo.Reference(plumbing.ReferenceName(name), true)
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		c, err := repo.CommitObject(ref.Hash())
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			continue
		}
		if err == nil {
			_, err = c.Tree()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep removes what transfers that broke off have left in the copy.
func (m *Mirror) sweep() {
	left, err := filepath.Glob(filepath.Join(m.dir, "objects", "pack", "tmp_pack_*"))
	for _, f := range left {
		err = errors.Join(err, durable.RemoveIfThere(f))
	}
	if err != nil {
		m.doubt.Store(true) // the next fetch begins anew, and says what is wrong with the disk
	}
}

// saidError is what a server said, fit to be shown.
type saidError struct {
	text string
	err  error
}

// Error implements error.
func (e *saidError) Error() string { return e.text }

// Unwrap returns the cause.
func (e *saidError) Unwrap() error { return e.err }

// maxSaid is more than people read of what a server says.
const maxSaid = 500

// readable makes an error that may hold what a server sent fit to be shown: without what it was told in confidence, on one line, and short.
func (m *Mirror) readable(err error) error {
	text := err.Error()
	if strings.Contains(text, "object-format=sha256") {
		return &saidError{"the repository names its objects by SHA-256, which is not read; use one with SHA-1", err}
	}
	if m.cred.Password != nil {
		if password, perr := m.cred.Password(); perr == nil && password != "" {
			name := cmp.Or(m.cred.Username, anyUser)
			for _, secret := range []string{base64.StdEncoding.EncodeToString([]byte(name + ":" + password)), url.QueryEscape(password), password} {
				text = strings.ReplaceAll(text, secret, "***")
			}
		}
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	if runes := []rune(text); len(runes) > maxSaid {
		text = string(runes[:maxSaid]) + "…"
	}
	if text == err.Error() {
		return err
	}
	return &saidError{text, err}
}
