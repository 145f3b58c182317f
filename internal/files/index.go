package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxFiles is how many entries an Index or a Store lists before it gives up.
const maxFiles = 2_000_000

// options of an Index; every command uses the zero value.
type options struct {
	maxFiles int              // cap on the entries of all folders listed; 0 means maxFiles
	now      func() time.Time // the clock; nil means time.Now
}

// Index finds and digests the files of one project folder during one command. It is safe for
// concurrent use.
type Index struct {
	root  *os.Root
	opt   options
	cache *statCache
	// onRead, if set, is called before a file is read: the place for a test to write to it.
	onRead func(path string)

	hits, hashed atomic.Int64

	pool buffers // one for all questions: thousands of them are about one small file each

	mu      sync.Mutex
	cur     *view
	folders int64 // listed before the last Refresh
}

// view is one folder with what was seen of it: the project until Refresh, or a frozen copy.
type view struct {
	x      *Index
	root   *os.Root
	key    string // in front of paths in the stat cache
	tree   *tree
	globs  onceMap[globbed]
	sets   onceMap[setDigest]
	source onceMap[SourceDigest]

	mu      sync.Mutex
	digests map[string]*memo
}

// Stats counts what an Index did.
type Stats struct {
	Folders int64 // folders listed
	Hits    int64 // digests taken from the stat cache
	Hashed  int64 // files read and hashed
}

// Open opens the project folder root. The stat cache is read from cachePath, if it is there and
// whole, and written back by Close; "" keeps no cache.
func Open(root, cachePath string) (*Index, error) { return openIndex(root, cachePath, options{}) }

func openIndex(root, cachePath string, opt options) (*Index, error) {
	if opt.maxFiles == 0 {
		opt.maxFiles = maxFiles
	}
	if opt.now == nil {
		opt.now = time.Now
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, explain("open the project folder", root, err)
	}
	x := &Index{root: r, opt: opt, cache: loadCache(cachePath)}
	x.cur = x.newView(x.root, "", true)
	return x, nil
}

func (x *Index) newView(root *os.Root, key string, rules bool) *view {
	return &view{x: x, root: root, key: key, tree: newTree(root, rules, x.opt.maxFiles), digests: map[string]*memo{}}
}

func (x *Index) view() *view {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cur
}

// Refresh forgets listings and digests, so that the next call sees the folder as it is then. The stat
// cache stays: files that did not move are not read again.
func (x *Index) Refresh() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.folders += x.cur.tree.dirs.Load()
	x.cur = x.newView(x.root, "", true)
}

// Stats returns what was done so far.
func (x *Index) Stats() Stats {
	x.mu.Lock()
	defer x.mu.Unlock()
	return Stats{
		Folders: x.folders + x.cur.tree.dirs.Load(),
		Hits:    x.hits.Load(),
		Hashed:  x.hashed.Load(),
	}
}

// Close writes the stat cache back if it changed, and closes the folder. The Index is of no use after.
func (x *Index) Close() error {
	return errors.Join(x.cache.save(x.opt.now()), x.root.Close())
}

// ReadFile returns the bytes of the regular file p of the project, at most maxBytes of them; a longer
// file is an error that matches ErrTooLarge.
func (x *Index) ReadFile(p string, maxBytes int64) ([]byte, error) {
	clean, err := cleanPath(p)
	if err != nil {
		return nil, fmt.Errorf("read %w", err)
	}
	return readCapped(x.root, clean, maxBytes)
}

// openRegular opens clean path p below root. Devices are refused before they are opened, since opening
// alone can act on one, and again afterwards, since names can be exchanged in between.
func openRegular(root *os.Root, p string) (*os.File, error) {
	fi, err := root.Stat(p)
	if err != nil {
		return nil, explain("read", p, err)
	}
	if !fi.Mode().IsRegular() {
		return nil, notRegular("read", p, fi.Mode())
	}
	f, err := root.OpenFile(p, openFileFlags, 0)
	if err != nil {
		return nil, explain("read", p, err)
	}
	fi, err = f.Stat()
	if err == nil && fi.Mode().IsRegular() {
		return f, nil
	}
	if err == nil {
		err = notRegular("read", p, fi.Mode())
	} else {
		err = explain("read", p, err)
	}
	return nil, errors.Join(err, f.Close())
}

func readCapped(root *os.Root, p string, maxBytes int64) (data []byte, err error) {
	f, err := openRegular(root, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, explain("read", p, err)
	}
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("read %s: %w: it holds over %d bytes", p, ErrTooLarge, maxBytes)
	}
	return data, nil
}

// onceMap computes the value of each key once; others that ask meanwhile wait for it.
type onceMap[V any] struct {
	mu sync.Mutex
	m  map[string]func() (V, error)
}

func (o *onceMap[V]) get(key string, compute func() (V, error)) (V, error) {
	o.mu.Lock()
	if o.m == nil {
		o.m = map[string]func() (V, error){}
	}
	once := o.m[key]
	if once == nil {
		once = sync.OnceValues(compute)
		o.m[key] = once
	}
	o.mu.Unlock()
	return once()
}
