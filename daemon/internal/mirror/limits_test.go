package mirror

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// R6: a chain of deltas that each need the one before. The commit is there as well, so that only the chain is what is wrong.
func TestR6AChainOfAHundredThousandDeltas(t *testing.T) {
	o := newOrigin(t)
	s := serve(t, o)
	m := s.mirror()
	commit := o.commit(o.raw(o.file("a", "x")))
	answer := answerWith(chain(100_000))
	s.breaks(func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.Write(answer) }) //nolint:errcheck // the client may be gone
	began := time.Now()
	err := m.Fetch(t.Context(), branch)
	t.Logf("%v after %s", err, time.Since(began))
	if took := time.Since(began); err == nil || took > 30*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	s.mends()
	if err := m.Fetch(t.Context(), branch); err != nil {
		t.Fatal(err)
	}
	whole(t, m, commit, "a", "x")
}

// chain is a pack of a blob and n deltas, each of the one before it.
func chain(n int) []byte {
	var b bytes.Buffer
	b.WriteString("PACK\x00\x00\x00\x02")
	_ = binary.Write(&b, binary.BigEndian, uint32(n+1)) // a buffer takes all
	z := zlib.NewWriter(&b)
	pressed := func(data []byte) {
		z.Reset(&b)
		_, _ = z.Write(data) // a buffer takes all
		_ = z.Close()
	}
	last := b.Len()
	b.WriteByte(3<<4 | 4) // a blob of four bytes
	pressed([]byte("\x00\x00\x00\x00"))
	for i := range n {
		at := b.Len()
		var text [4]byte
		binary.BigEndian.PutUint32(text[:], uint32(i+1))
		delta := append([]byte{4, 4, 4}, text[:]...) // from four bytes, to four bytes, of which all are new
		b.WriteByte(6<<4 | byte(len(delta)))         // a delta of what stands so many bytes before
		back := at - last
		if back < 128 {
			b.WriteByte(byte(back))
		} else {
			b.WriteByte(byte((back>>7)-1) | 0x80)
			b.WriteByte(byte(back & 0x7f))
		}
		pressed(delta)
		last = at
	}
	sum := sha1.Sum(b.Bytes()) //nolint:gosec // what git sums packs with
	b.Write(sum[:])
	return b.Bytes()
}

func TestR7AndR8APackThatClaimsTooManyObjects(t *testing.T) {
	o := newOrigin(t)
	s := serve(t, o)
	m := s.mirror()
	commit := o.commit(o.raw(o.file("a", "x")))
	for name, n := range map[string]uint32{"R7 2^32-1": 1<<32 - 1, "R8 5,000,000": 5_000_000} {
		s.breaks(inPack(func(pack []byte) { binary.BigEndian.PutUint32(pack[8:], n) }))
		if err := m.Fetch(t.Context(), branch); !errors.Is(err, ErrTooMuch) {
			t.Errorf("%s: %v", name, err)
		}
		if m.has(commit) {
			t.Errorf("%s: it is taken", name)
		}
	}
	s.breaks(inPack(func(pack []byte) { binary.BigEndian.PutUint32(pack[8:], 1000) })) // more than there are
	if err := m.Fetch(t.Context(), branch); err == nil || m.has(commit) {
		t.Errorf("a thousand that are not there: %v", err)
	}
	s.mends()
	if err := m.Fetch(t.Context(), branch); err != nil {
		t.Fatal(err)
	}
	whole(t, m, commit, "a", "x")
	// An index of the copy's own that claims as much, by a disk that went bad: the copy is made anew.
	packs, err := filepath.Glob(filepath.Join(m.dir, "objects", "pack", "*.idx"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("no index: %v, %v", packs, err)
	}
	raw, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 8; i < 8+256*4; i++ { // how many objects begin with each byte
		raw[i] = 0xff
	}
	if err := errors.Join(os.Chmod(packs[0], 0o600), os.WriteFile(packs[0], raw, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := m.Fetch(t.Context(), branch); err != nil {
		t.Fatalf("R7 a damaged index: %v", err)
	}
	whole(t, m, commit, "a", "x")
}

func TestR14AnEndlessTransferIsCut(t *testing.T) {
	o := newOrigin(t)
	s := serve(t, o)
	m := s.mirror()
	commit := o.commit(o.raw(o.file("a", "x")))
	for name, piece := range map[string]string{
		"talk without end":  "0025\x02remote: counting objects, wait...\n",
		"a pack of nothing": "fff0\x01" + strings.Repeat("\x00", 0xfff0-5),
	} {
		t.Run(name, func(t *testing.T) {
			piece := piece
			if piece[4] == 2 {
				piece = fmt.Sprintf("%04x%s", len(piece[4:])+4, piece[4:])
			}
			s.breaks(func(w http.ResponseWriter, r *http.Request, answer []byte) {
				at := bytes.Index(answer, []byte("PACK"))
				w.Write(answer[:at-5]) //nolint:errcheck // the client may be gone
				for r.Context().Err() == nil {
					if _, err := w.Write([]byte(piece)); err != nil {
						return
					}
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			if err := m.Fetch(ctx, branch); err == nil || time.Since(began) > 30*time.Second || m.has(commit) {
				t.Errorf("%v after %s", err, time.Since(began))
			}
		})
	}
	// One that is a pack, and longer than the limit.
	var b bytes.Buffer
	g := &packGuard{WriteCloser: nopCloser{&b}, bytes: 100, objects: 10}
	for _, part := range []string{"PACK", "\x00\x00\x00\x02\x00\x00\x00\x05", strings.Repeat("x", 50)} {
		if _, err := g.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.Write(make([]byte, 60)); !errors.Is(err, ErrTooMuch) || b.Len() != 62 {
		t.Errorf("%v, %d bytes passed", err, b.Len())
	}
	s.mends()
	if err := m.Fetch(t.Context(), branch); err != nil {
		t.Fatal(err)
	}
	whole(t, m, commit, "a", "x")
}

type nopCloser struct{ *bytes.Buffer }

// Close implements io.Closer.
func (nopCloser) Close() error { return nil }

// A list of refs without an end does not fill the memory.
func TestR8AListOfRefsWithoutEnd(t *testing.T) {
	line := "003d" + strings.Repeat("1", 40) + " refs/heads/abcdef\n"
	line = fmt.Sprintf("%04x%s", len(line), line[4:])
	var sent atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		fmt.Fprint(w, "001e# service=git-upload-pack\n0000")
		first := strings.Repeat("1", 40) + " refs/heads/a\x00side-band-64k shallow\n"
		fmt.Fprintf(w, "%04x%s", len(first)+4, first)
		many := []byte(strings.Repeat(line, 1000))
		for r.Context().Err() == nil && sent.Load() < 1<<30 {
			n, err := w.Write(many)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	m, err := New(srv.URL+"/x.git", filepath.Join(t.TempDir(), "git"), Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Fetch(t.Context(), branch); !errors.Is(err, ErrTooMuch) {
		t.Errorf("%v", err)
	}
	if n := sent.Load(); n > maxRefsBytes+16<<20 {
		t.Errorf("%d bytes were read", n)
	}
}

func TestR8ARefusalWithoutEnd(t *testing.T) {
	var sent atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		for r.Context().Err() == nil && sent.Load() < 1<<30 {
			n, err := w.Write(make([]byte, 1<<16))
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	if err := mustNew(t, srv.URL+"/x.git").Fetch(t.Context(), branch); err == nil {
		t.Error("it is taken")
	}
	if n := sent.Load(); n > 32<<20 { // what the kernel holds is sent as well
		t.Errorf("%d bytes were read", n)
	}
}

func TestR15RepositoriesOfAnotherKind(t *testing.T) {
	run := func(dir string, args ...string) {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@b")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	fill := func(dir string) {
		for i := range 3 {
			if err := os.WriteFile(filepath.Join(dir, "a"), fmt.Append(nil, i), 0o600); err != nil {
				t.Fatal(err)
			}
			run(dir, "add", "a")
			run(dir, "commit", "-qm", "x")
		}
	}
	parent := t.TempDir()
	for name, c := range map[string]struct {
		setup func(dir string)
		ok    bool
		says  string
	}{
		"empty": {func(dir string) { run(dir, "init", "-q", "-b", "main") }, false, "no such branch"},
		"a HEAD that is not born": {func(dir string) {
			run(dir, "init", "-q", "-b", "main")
			fill(dir)
			run(dir, "symbolic-ref", "HEAD", "refs/heads/none")
		}, true, ""},
		"shallow": {func(dir string) {
			run(parent, "init", "-q", "-b", "main", "deep")
			fill(filepath.Join(parent, "deep"))
			run(dir, "clone", "-q", "--depth", "1", "file://"+filepath.Join(parent, "deep"), ".")
		}, true, ""},
		"SHA-256": {func(dir string) { run(dir, "init", "-q", "-b", "main", "--object-format=sha256"); fill(dir) }, false, "SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.setup(dir)
			o := &origin{t: t, dir: filepath.Join(dir, ".git")}
			s := serve(t, o)
			for kind, m := range map[string]*Mirror{"http": s.mirror(), "path": mustNew(t, dir)} {
				err := m.Fetch(t.Context(), branch)
				if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Fatalf("%s: %v", kind, err)
				}
				if !c.ok {
					continue
				}
				head, err := m.Head(branch)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := m.Write(t.Context(), head, ".", filepath.Join(t.TempDir(), "w"), DefaultLimits); err != nil {
					t.Errorf("%s: %v", kind, err)
				}
			}
		})
	}
}

func mustNew(t *testing.T, address string) *Mirror {
	t.Helper()
	m, err := New(address, filepath.Join(t.TempDir(), "git"), Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Credentials go to the server that they are for, and to no other that it names.
func TestCredentialsGoToNoOtherServer(t *testing.T) {
	var got atomic.Value
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Authorization") + " " + r.URL.String())
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(other.Close)
	var first atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first.Store(r.Header.Get("Authorization"))
		http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+r.URL.String(), http.StatusFound)
	}))
	t.Cleanup(srv.Close)
	m, err := New(srv.URL+"/x.git", filepath.Join(t.TempDir(), "git"), Credentials{Password: func() (string, error) { return "hunter2", nil }})
	if err != nil {
		t.Fatal(err)
	}
	err = m.Fetch(t.Context(), branch)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	if auth, _ := first.Load().(string); !strings.HasPrefix(auth, "Basic ") {
		t.Errorf("the server itself got %q", auth)
	}
	if auth, _ := got.Load().(string); strings.Contains(auth, "Basic") {
		t.Errorf("the other server got %q", auth)
	}
}

// What a server says is shown: without what it was told, and as text.
func TestWhatAServerSaysIsShownAsText(t *testing.T) {
	const password = "hunter2/ä b"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusForbidden)
		_, pass, _ := r.BasicAuth()
		fmt.Fprintf(w, "who is \x1b[31m%s\x00\n%s %s %s", r.Header.Get("Authorization"), pass, url.QueryEscape(pass), strings.Repeat("long ", 1000))
	}))
	t.Cleanup(srv.Close)
	m, err := New(srv.URL+"/x.git", filepath.Join(t.TempDir(), "git"), Credentials{Username: "me", Password: func() (string, error) { return password, nil }})
	if err != nil {
		t.Fatal(err)
	}
	err = m.Fetch(t.Context(), branch)
	if err == nil || !strings.Contains(err.Error(), "who is") || !strings.Contains(err.Error(), "***") {
		t.Fatalf("what it said is not there: %v", err)
	}
	for _, secret := range []string{password, url.QueryEscape(password), base64.StdEncoding.EncodeToString([]byte("me:" + password))} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q is in %v", secret, err)
		}
	}
	if strings.ContainsAny(err.Error(), "\x1b\x00\n") || len(err.Error()) > 4*maxSaid {
		t.Errorf("%d bytes: %q", len(err.Error()), err)
	}
}
