package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
)

// Options of a [Reader]; all but Dir may be zero.
type Options struct {
	// Dir is the folder of the cache. It is made when something is fetched.
	Dir string
	// Env is the environment, as os.LookupEnv gives it; nil means that. Libraries of clouds read their own variables themselves.
	Env func(string) (string, bool)
	// OCI speaks to registries; nil means a client with Docker's credentials.
	OCI *oci.Client
	// Transport makes the connections to web servers and buckets; nil means one of its own.
	Transport http.RoundTripper
	// Attempts is how often a request is made before its error counts; 0 means 5. Wait lies before the second and doubles
	// from then on; 0 means 500 ms. MaxWait bounds it; 0 means 20 s. Stall ends a request that moves no byte; 0 means 1 min.
	Attempts             int
	Wait, MaxWait, Stall time.Duration
	// MaxBytes and MaxObjects bound one source; 0 means 1 TiB and a million.
	MaxBytes   int64
	MaxObjects int
	// Parallel is how many objects are fetched at a time; 0 means 8.
	Parallel int

	localGit bool // file:// repositories, for tests
}

// Version is the content that a source has.
type Version struct {
	Hex   string // digest, as files.Index.DigestSource gives it to the same files; 64 hex digits
	Files int
	Bytes int64 // 0 if it was not looked at, since the address pins its digest
	IsDir bool  // a folder or a pattern, however many files it holds
}

// Reader reads sources. Within its life an address has one version: what was read first stands. It is safe for concurrent use.
type Reader struct {
	opt   Options
	store *store
	s3    *s3Place
	gs    *gsPlace
	azure *azurePlace

	mu   sync.Mutex
	seen map[string]*once
	made []*http.Transport
}

// once is one address, which is read by one caller while others wait.
type once struct {
	lock sync.Mutex
	have *content
}

// content is what a source was when it was read.
type content struct {
	Version
	list *listing
}

// New returns a reader; it touches nothing.
func New(opt Options) *Reader {
	setDefault(&opt.Attempts, 5)
	setDefault(&opt.Wait, 500*time.Millisecond)
	setDefault(&opt.MaxWait, 20*time.Second)
	setDefault(&opt.Stall, time.Minute)
	setDefault(&opt.MaxBytes, 1<<40)
	setDefault(&opt.MaxObjects, 1_000_000)
	setDefault(&opt.Parallel, 8)
	if opt.OCI == nil {
		opt.OCI = oci.New(oci.Options{Attempts: opt.Attempts, Wait: opt.Wait, MaxWait: opt.MaxWait})
	}
	r := &Reader{opt: opt, store: &store{dir: opt.Dir}, seen: map[string]*once{}}
	r.s3, r.gs, r.azure = &s3Place{r: r}, &gsPlace{r: r}, &azurePlace{r: r}
	return r
}

func setDefault[T int | int64 | time.Duration](p *T, v T) {
	if *p <= 0 {
		*p = v
	}
}

// Close gives up what the reader holds of the cache, and its connections.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.made {
		t.CloseIdleConnections()
	}
	return r.store.close()
}

// transport returns the caller's transport, or else one whose connections Close ends.
func (r *Reader) transport(allow func(host string, ip netip.Addr) error) http.RoundTripper {
	if r.opt.Transport != nil {
		return r.opt.Transport
	}
	t := newTransport(allow)
	r.closes(t)
	return t
}

// closes has Close end the idle connections of t.
func (r *Reader) closes(t *http.Transport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made = append(r.made, t)
}

// Name returns what the file is called that a source of one object stands for; its extension says what it is.
func Name(source string) string {
	a, err := parse(source)
	if err != nil {
		return "data"
	}
	return a.name()
}

// Check returns an error if source is no address that can be read.
func Check(source string) error {
	a, err := parse(source)
	if err == nil {
		_, err = New(Options{}).open(a)
	}
	return err
}

// Probe returns what source is now. It downloads what it has not seen before, and nothing when nothing moved.
func (r *Reader) Probe(ctx context.Context, source string) (Version, error) {
	a, err := parse(source)
	if err != nil {
		return Version{}, err
	}
	if a.pin != "" {
		// The content is named: there is nothing to find out.
		return Version{Hex: a.pin, Files: 1}, nil
	}
	c, err := r.read(ctx, source, a)
	if err != nil {
		return Version{}, fail(a, err)
	}
	return c.Version, nil
}

func (r *Reader) read(ctx context.Context, source string, a address) (*content, error) {
	r.mu.Lock()
	o := r.seen[source]
	if o == nil {
		o = &once{}
		r.seen[source] = o
	}
	r.mu.Unlock()
	o.lock.Lock()
	defer o.lock.Unlock()
	if o.have != nil {
		return o.have, nil
	}
	l, err := r.look(ctx, a)
	if err != nil {
		return nil, err
	}
	c := &content{list: l}
	if c.Version, err = l.version(); err != nil {
		return nil, err
	}
	o.have = c
	return c, nil
}

// Freeze puts the content wantHex of source at dst(whether it is a folder) through x, if it can still be had: the bytes of a plan are in
// the cache, whatever the place holds by now. Other content is an error that matches files.ErrMoved. "" takes what is there now.
func (r *Reader) Freeze(ctx context.Context, x *files.Index, source, wantHex string, dst func(isDir bool) string) (Version, error) {
	a, err := parse(source)
	if err != nil {
		return Version{}, err
	}
	if wantHex == "" {
		v, err := r.Probe(ctx, source)
		if err != nil {
			return Version{}, err
		}
		wantHex = v.Hex
	}
	isDir, err := r.isDir(ctx, source, a, wantHex, dst)
	if err != nil {
		return Version{}, fail(a, err)
	}
	place := func() (files.SourceDigest, error) {
		return x.Place(wantHex, dst(isDir), func(to string) error { return r.fill(ctx, source, a, wantHex, to) })
	}
	d, err := place()
	if l := r.planned(source, a, wantHex); l != nil && errors.Is(err, files.ErrMoved) {
		// The list has that content, so it is the cache that was damaged.
		if err := r.store.drop(l); err != nil {
			return Version{}, fail(a, err)
		}
		d, err = place()
	}
	if err != nil {
		return Version{}, fail(a, err)
	}
	return Version{Hex: d.Hex, Files: len(d.Files), Bytes: d.Bytes, IsDir: isDir}, nil
}

// isDir finds out whether content is a folder: by what stands there already, by what the plan read, or else by asking.
func (r *Reader) isDir(ctx context.Context, source string, a address, want string, dst func(bool) string) (bool, error) {
	if a.pin != "" {
		return false, nil
	}
	for _, isDir := range []bool{false, true} {
		if info, err := os.Lstat(dst(isDir)); err == nil && info.IsDir() == isDir {
			return isDir, nil
		}
	}
	if l := r.planned(source, a, want); l != nil {
		return l.IsDir, nil
	}
	l, err := r.look(ctx, a)
	if err != nil {
		return false, err
	}
	return l.IsDir, nil
}

// fill puts the files at to: those of the plan if the cache has them all, else those that are there now.
func (r *Reader) fill(ctx context.Context, source string, a address, want, to string) error {
	l := r.planned(source, a, want)
	if l == nil {
		var err error
		if l, err = r.look(ctx, a); err != nil {
			return err
		}
	}
	for again := false; ; again = true {
		err := r.materialise(l, to)
		if !errors.Is(err, errNoBlob) || again {
			return err
		}
		// The cache was pruned since; or a blob was damaged, and is fetched anew.
		if l, err = r.fetch(ctx, a, l); err != nil {
			return err
		}
	}
}

// planned is the listing that the plan rests on: read by this reader, or by a process before.
func (r *Reader) planned(source string, a address, want string) *listing {
	r.mu.Lock()
	o := r.seen[source]
	r.mu.Unlock()
	if o != nil {
		o.lock.Lock()
		defer o.lock.Unlock()
		if o.have != nil && o.have.Hex == want {
			return o.have.list
		}
	}
	if l := r.store.recall(a); l != nil {
		if v, err := l.version(); err == nil && v.Hex == want {
			return l
		}
	}
	return nil
}

// materialise puts the blobs of a listing at to.
func (r *Reader) materialise(l *listing, to string) error {
	if !l.IsDir {
		return r.store.put(l.Objects[0].Sum, to)
	}
	for _, o := range l.Objects {
		if err := r.store.put(o.Sum, filepath.Join(to, filepath.FromSlash(o.Path))); err != nil {
			return err
		}
	}
	return nil
}

// version computes the digest of a listing whose sums are all known.
func (l *listing) version() (Version, error) {
	v := Version{Files: len(l.Objects), IsDir: l.IsDir}
	m := files.Manifest{Files: make([]files.ManifestFile, len(l.Objects))}
	for i, o := range l.Objects {
		if !isHex(o.Sum) {
			return v, fmt.Errorf("the content of %s is not known", o.Path)
		}
		v.Bytes += o.Size
		m.Files[i] = files.ManifestFile{Path: o.Path, Digest: o.Sum, Size: o.Size}
	}
	var err error
	v.Hex, err = m.SourceDigest(l.IsDir)
	return v, err
}

// checkName refuses what cannot be a file below a folder.
func checkName(p string) error {
	if err := files.CheckPath(p); err != nil {
		return kinded{ErrHostile, fmt.Errorf("an object is called %.200q, which is no name of a file: %w; rename it, or name others with a pattern", p, err)}
	}
	if len(p) > 4096 || len(path.Base(p)) > 255 {
		return kinded{ErrHostile, fmt.Errorf("an object is called %.200q…, which is too long for a file; rename it", p)}
	}
	return nil
}

// ignored reports whether the files of a folder never include p, a clean slash path.
func ignored(p string) bool {
	for at := p; at != "."; at = path.Dir(at) {
		if files.AlwaysIgnored(path.Base(at), at != p) {
			return true
		}
	}
	return false
}
