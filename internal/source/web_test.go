package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/internal/files"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a web server with one file, over TLS.
type site struct {
	*testing.T
	*httptest.Server
	dir string

	mu      sync.Mutex
	content []byte
	etag    string // "" = none
	at      time.Time
	cut     int    // ends the connection after so many bytes of a body; 0 = never
	mode    string // how the server misbehaves
	gets    int
	heads   int
	ranges  []string
}

func newSite(t *testing.T, content string) *site {
	t.Helper()
	s := &site{T: t, dir: t.TempDir(), content: []byte(content), etag: `"1"`, at: time.Unix(1e9, 0)}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *site) set(content, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content, s.etag = []byte(content), etag
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodHead {
		s.heads++
		if s.mode == "no head" {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
	} else {
		s.gets++
		s.ranges = append(s.ranges, r.Header.Get("Range"))
	}
	if s.etag != "" {
		w.Header().Set("ETag", s.etag)
	}
	at := s.at
	switch s.mode {
	case "no time":
		at = time.Time{}
	case "busy":
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case "secret":
		w.WriteHeader(http.StatusForbidden)
		return
	case "gone":
		w.WriteHeader(http.StatusNotFound)
		return
	case "silent":
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			s.mu.Unlock()
			<-r.Context().Done()
			s.mu.Lock()
			return
		}
	case "packed":
		w.Header().Set("Content-Encoding", "gzip")
	case "no range":
		r.Header.Del("Range")
	case "exchanged":
		s.content = append(s.content, 'x')
		s.etag = fmt.Sprintf("\"%d\"", len(s.content))
	}
	if s.cut > 0 && r.Method == http.MethodGet {
		w = &cutter{ResponseWriter: w, left: s.cut}
	}
	http.ServeContent(w, r, "f.csv", at, bytes.NewReader(s.content))
}

// cutter ends the connection in the middle.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		if _, err := c.ResponseWriter.Write(p[:len(p)+c.left]); err != nil {
			return 0, err
		}
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

func (s *site) options() Options {
	stall := 20 * time.Second // a machine that is busy is no server that stalls
	if s.mode == "silent" {
		stall = 300 * time.Millisecond
	}
	return Options{Dir: filepath.Join(s.dir, "cache"), Transport: s.Client().Transport, Attempts: 3, Wait: time.Millisecond, Stall: stall}
}

func (s *site) reader() *Reader {
	r := New(s.options())
	s.Cleanup(func() {
		if err := r.Close(); err != nil {
			s.Error(err)
		}
	})
	return r
}

func (s *site) probe(address string) (Version, error) {
	return s.reader().Probe(s.Context(), address)
}

func (s *site) want(content string) {
	s.Helper()
	v, err := s.probe(s.URL + "/f.csv")
	if err != nil {
		s.Error(err)
	} else if v.Hex != sum(content) {
		s.Errorf("it is %s, want %s", v.Hex, sum(content))
	}
}

func sum(content string) string {
	h := sha256.Sum256([]byte(content))
	return hex.EncodeToString(h[:])
}

func (s *site) freeze(address, want string) (string, error) {
	s.Helper()
	x, err := files.Open(s.dir, "")
	if err != nil {
		s.Fatal(err)
	}
	defer x.Close()
	at := filepath.Join(s.dir, "frozen", want, "f.csv")
	_, err = s.reader().Freeze(s.Context(), x, address, want, func(bool) string { return at })
	data, rerr := os.ReadFile(at)
	if err != nil && rerr == nil {
		s.Errorf("%v, and yet something is there", err)
	}
	return string(data), err
}

func TestAWebFileIsReadAgainOnlyWhenItsIdentityMoved(t *testing.T) {
	s := newSite(t, "one")
	s.want("one")
	s.want("one")
	if s.gets != 1 {
		t.Errorf("it was fetched %d times", s.gets)
	}
	s.set("two", `"2"`)
	s.want("two")
	if s.gets != 2 {
		t.Errorf("it was fetched %d times", s.gets)
	}
	s.set("two", `"3"`)
	s.want("two")
}

func TestWhatIsNoIdentityIsNotTakenForOne(t *testing.T) {
	s := newSite(t, "one")
	s.set("one", `W/"1"`)
	s.want("one")
	s.at = s.at.Add(time.Second) // the weak tag is the same
	s.set("two", `W/"1"`)
	s.want("two")
	s.mode = "no time"
	s.set("ten", "")
	s.want("ten")
	s.set("six", "")
	s.want("six")
}

func TestAServerWithoutHeadIsAskedOtherwise(t *testing.T) {
	s := newSite(t, "one")
	s.mode = "no head"
	s.want("one")
	s.want("one")
}

func TestACutDownloadGoesOn(t *testing.T) {
	content := strings.Repeat("0123456789", 1000)
	s := newSite(t, content)
	s.cut = 1500
	s.want(content)
	if len(s.ranges) < 7 || s.ranges[1] == "" {
		t.Errorf("it asked for %q", s.ranges)
	}
}

func TestACutDownloadThatCannotGoOnBeginsAgain(t *testing.T) {
	content := strings.Repeat("0123456789", 1000)
	for _, mode := range []string{"no range", "no identity"} {
		s := newSite(t, content)
		s.cut, s.mode = 6000, mode
		if mode == "no identity" {
			s.set(content, "")
			s.mode = "no time"
		}
		_, err := s.probe(s.URL + "/f.csv")
		if err == nil || !strings.Contains(err.Error(), "tried") {
			t.Errorf("%s: %v", mode, err)
		}
		if s.gets > 4 {
			t.Errorf("%s: it was fetched %d times from the beginning", mode, s.gets)
		}
		s.cut = 0
		s.want(content)
	}
}

func TestWhatWebServersDoWrongIsTold(t *testing.T) {
	for mode, c := range map[string]struct {
		kind error
		text string
	}{
		"busy":      {nil, "503 Service Unavailable (tried 3 times); the place may be busy"},
		"secret":    {ErrDenied, "web addresses have none"},
		"gone":      {ErrNotFound, "404"},
		"silent":    {nil, "nothing moved for too long"},
		"packed":    {ErrHostile, "packs the file (gzip)"},
		"exchanged": {ErrChanged, "wait until its writer is done"},
	} {
		s := newSite(t, "one")
		s.mode = mode
		_, err := s.probe(s.URL + "/f.csv?token=hush")
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v %q", mode, err, c.kind, c.text)
			continue
		}
		if strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), s.URL+"/f.csv") {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

func TestAPinIsTheContent(t *testing.T) {
	s := newSite(t, "one")
	for _, address := range []string{s.URL + "/f.csv#sha256=" + sum("one"), s.URL + "/f.csv?x=1&sha256=" + sum("one")} {
		v, err := s.probe(address)
		if err != nil || v.Hex != sum("one") || s.gets+s.heads != 0 {
			t.Fatalf("%v, %v after %d requests", v, err, s.gets+s.heads)
		}
	}
	if got, err := s.freeze(s.URL+"/f.csv#sha256="+sum("one"), sum("one")); err != nil || got != "one" {
		t.Errorf("got %q, %v", got, err)
	}
	s.set("two", `"2"`)
	if got, err := newSiteOver(t, s).freeze(s.URL+"/f.csv#sha256="+sum("one"), sum("one")); err == nil || !strings.Contains(err.Error(), "the address wants") {
		t.Errorf("got %q, %v", got, err)
	}
}

// newSiteOver is another machine that reads the same server.
func newSiteOver(t *testing.T, s *site) *site {
	return &site{T: t, Server: s.Server, dir: t.TempDir()}
}

func TestAPlannedVersionIsWhatApplyGetsOrAnError(t *testing.T) {
	s := newSite(t, "one")
	s.want("one")
	s.set("two", `"2"`)
	if got, err := s.freeze(s.URL+"/f.csv", sum("one")); err != nil || got != "one" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := newSiteOver(t, s).freeze(s.URL+"/f.csv", sum("one")); !errors.Is(err, files.ErrMoved) {
		t.Errorf("elsewhere: %q, %v", got, err)
	}
	// Also when the blob was pruned, what is there now is not taken for what was planned.
	if err := os.RemoveAll(filepath.Join(s.dir, "cache", "blobs")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "frozen")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.freeze(s.URL+"/f.csv", sum("one")); !errors.Is(err, files.ErrMoved) {
		t.Errorf("pruned: %q, %v", got, err)
	}
}

func TestOneReaderSeesOneVersion(t *testing.T) {
	s := newSite(t, "one")
	r := s.reader()
	for range 2 {
		v, err := r.Probe(t.Context(), s.URL+"/f.csv")
		if err != nil || v.Hex != sum("one") {
			t.Fatalf("%v, %v", v, err)
		}
		s.set("two", `"2"`)
	}
}

func TestAServerCannotSendUsAnywhere(t *testing.T) {
	secret := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secret") }))
	defer secret.Close()
	to := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }))
	defer s.Close()
	port := secret.URL[strings.LastIndex(secret.URL, ":"):]
	for where, text := range map[string]string{
		"http://127.0.0.2" + port + "/x":    "an address of this machine",
		"http://169.254.169.254/latest/x":   "plain http",
		"https://169.254.169.254/latest/x":  "an address of this machine",
		"https://10.1.2.3/x":                "an address of this machine or network",
		"http://example.com/x":              "plain http",
		s.URL + "/f.csv":                    "more than 5 times",
		"https://[::ffff:169.254.169.254]/": "an address of this machine",
	} {
		to = where
		r := New(Options{Dir: t.TempDir(), Attempts: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := r.Probe(ctx, s.URL+"/f.csv"); !errors.Is(err, ErrHostile) || !strings.Contains(err.Error(), text) {
			t.Errorf("to %s: %v", where, err)
		}
		cancel()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPruneKeepsWhatAVersionIsMadeOf(t *testing.T) {
	s := newSite(t, "one")
	s.want("one")
	s.set("three", `"3"`)
	s.want("three")
	if _, err := s.freeze(s.URL+"/f.csv", sum("three")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.dir, "cache")
	for _, dry := range []bool{true, false} {
		removed, n, err := Prune(t.Context(), dir, map[string]bool{sum("three"): true}, dry)
		if err != nil || n != 3 || len(removed) != 1 || removed[0] != "sha256:"+sum("one") {
			t.Errorf("dry %v: %v, %d bytes, %v", dry, removed, n, err)
		}
	}
	if removed, n, err := Prune(t.Context(), dir, nil, false); err != nil || n != 0 || len(removed) != 1 {
		t.Errorf("shared with the frozen file: %v, %d bytes, %v", removed, n, err)
	}
	gets := s.gets
	s.want("three")
	if s.gets != gets {
		t.Error("after pruning, what did not move was downloaded")
	}
}

func TestWhatADeadProcessLeftIsRemoved(t *testing.T) {
	s := newSite(t, "one")
	dead := filepath.Join(s.dir, "cache", "tmp", "get-1")
	if err := errors.Join(os.MkdirAll(dead, 0o755), os.WriteFile(filepath.Join(dead, "part-1"), []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	alive := s.reader()
	here, err := alive.store.scratch()
	if err != nil {
		t.Fatal(err)
	}
	s.want("one")
	if _, err := os.Stat(dead); err == nil {
		t.Error("it is still there")
	}
	if _, err := os.Stat(here); err != nil {
		t.Errorf("that of a process that lives is gone: %v", err)
	}
}

func TestAddressesThatCannotBeReadAreRefused(t *testing.T) {
	for source, text := range map[string]string{
		"ftp://h/x":                              "known are s3://",
		"http://example.com/x.csv":               "plain http is for this machine only",
		"https://u:p@h/x.csv":                    "no user and password",
		"https://h/":                             "stands for one file",
		"https://h/x.csv#part":                   "is not sha256=",
		"https://h/x.csv#sha256=12":              "64 digits",
		"s3://":                                  "names no bucket",
		"s3://b/../x":                            "no clean path",
		"s3://b//x":                              "no clean path",
		"s3://b/x?what=1":                        `there is no option "what"`,
		"s3://b/x?.csv":                          "write *",
		"s3://b/x?endpoint=http://example.com":   "write https://, or set AWS_ENDPOINT_URL",
		"s3://b/x?endpoint=nonsense":             "no address such as",
		"s3://b/x/?sha256=" + sum("x"):           "for one file",
		"gs://b/x?endpoint=https://evil.example": `there is no option "endpoint"`,
		"azure://c/x?endpoint=https://evil":      `there is no option "endpoint"`,
		"pvc://claim/x":                          "only pods of a cluster reach a claim",
		"s3://b/" + strings.Repeat("x", 9000):    "too long",
		"s3://b/x\ny":                            "control characters",
	} {
		if err := Check(source); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%.60s: %v, want %q", source, err, text)
		}
		if err := Check(source); err != nil && strings.Contains(err.Error(), "u:p") {
			t.Errorf("it shows the password: %v", err)
		}
	}
	for _, source := range []string{"s3://b/x.csv", "s3://b", "s3://b/a/**/*.csv?region=eu-west-1&endpoint=https://s3.example.com", "gs://b/x", "azure://c/x?account=abc", "https://h/x.csv?a=b", "http://127.0.0.1:1/x", "oci://h/r:t//data"} {
		if err := Check(source); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestKeysThatAreNoFileNamesAreRefused(t *testing.T) {
	a, err := parse("s3://b/x/")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]string{{"x/a/../../b"}, {"x//b"}, {`x/a\b`}, {"x/a\nb"}, {"x/" + strings.Repeat("n", 300)}, {"x/a", "x/a/b"}, {"x/\xff"}} {
		var found []object
		for _, k := range bad {
			found = append(found, object{Key: k})
		}
		if got, err := choose(a, found); !errors.Is(err, ErrHostile) {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}
