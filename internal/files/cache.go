package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
)

// The cache file: magic, number of entries (8 bytes), the entries sorted by path, and the SHA-256 of
// all before it. An entry is the length of its path (4 bytes), the path, five stamp fields and the
// time of the hash (8 bytes each), the digest (32). Numbers are little-endian.
const (
	cacheMagic    = "mlstat\x00\x01"
	cacheFixed    = 6*8 + sha256.Size
	maxCacheBytes = 1 << 30

	// recheckAfter is the age by which a digest is taken again from the bytes. Each path has its own
	// day in the second half of that time, so that one run does not read everything at once.
	recheckAfter = 7 * 24 * time.Hour
	// forgetAfter is the age at which an entry that nobody asked for is dropped.
	forgetAfter = 30 * 24 * time.Hour
)

// cacheEntry says that a file with that stamp had that content when it was read, at hashed (Unix ns).
type cacheEntry struct {
	stamp  stamp
	hashed int64
	sum    [sha256.Size]byte
}

// due reports whether the entry of path is old enough at now (Unix ns) to be checked against the bytes.
func (e *cacheEntry) due(path string, now int64) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(path)) // a hash never fails
	half := int64(recheckAfter / 2)
	lifetime := half + int64(h.Sum32())*(half/1_000_000)/(1<<32)*1_000_000
	return now-e.hashed > lifetime || e.hashed > now+int64(racyWindow)
}

// statCache maps paths to the digests of files by their stamps.
type statCache struct {
	path   string
	loaded cacheTable // as read; never written to, so reads need no lock

	renewed atomic.Bool // fresh holds something
	mu      sync.Mutex
	fresh   map[string]cacheEntry // since
}

// loadCache reads the cache file. One that is absent, damaged or of another format is no error: the
// cache is then empty, costs one reading of the files, and is written anew.
func loadCache(path string) *statCache {
	c := &statCache{path: path, fresh: map[string]cacheEntry{}}
	if path == "" {
		return c
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() > maxCacheBytes || !fi.Mode().IsRegular() {
		return c
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return c
	}
	if t, ok := decodeCache(data); ok {
		c.loaded = t
	}
	return c
}

// cacheTable is a cache file in memory. It is searched, not turned into a map: to build a map of
// 100,000 entries takes longer than to stat the files.
type cacheTable struct {
	data []byte
	at   []uint32 // offset of each entry in data
}

func decodeCache(data []byte) (cacheTable, bool) {
	if len(data) < len(cacheMagic)+8+sha256.Size || string(data[:len(cacheMagic)]) != cacheMagic {
		return cacheTable{}, false
	}
	body, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return cacheTable{}, false
	}
	off := len(cacheMagic) + 8
	count := binary.LittleEndian.Uint64(body[len(cacheMagic):])
	if count > uint64(len(body)-off)/(4+cacheFixed) {
		return cacheTable{}, false
	}
	t := cacheTable{data: body, at: make([]uint32, 0, count)}
	for i := range int(count) {
		if len(body)-off < 4 {
			return cacheTable{}, false
		}
		n := int64(binary.LittleEndian.Uint32(body[off:]))
		if int64(len(body)-off-4) < n+cacheFixed {
			return cacheTable{}, false
		}
		t.at = append(t.at, uint32(off))
		// A search in entries out of order would miss some: such a file was not written by save.
		if i > 0 && bytes.Compare(t.key(i-1), t.key(i)) >= 0 {
			return cacheTable{}, false
		}
		off += 4 + int(n) + cacheFixed
	}
	return t, off == len(body)
}

// key returns the path of entry i.
func (t *cacheTable) key(i int) []byte {
	off := t.at[i]
	return t.data[off+4 : off+4+binary.LittleEndian.Uint32(t.data[off:])]
}

func (t *cacheTable) entry(i int) (e cacheEntry) {
	b := t.data[int(t.at[i])+4+len(t.key(i)):]
	e.stamp.size = int64(binary.LittleEndian.Uint64(b))
	e.stamp.mtime = int64(binary.LittleEndian.Uint64(b[8:]))
	e.stamp.ctime = int64(binary.LittleEndian.Uint64(b[16:]))
	e.stamp.ino = binary.LittleEndian.Uint64(b[24:])
	e.stamp.dev = binary.LittleEndian.Uint64(b[32:])
	e.hashed = int64(binary.LittleEndian.Uint64(b[40:]))
	copy(e.sum[:], b[48:])
	return e
}

// find returns the entry of path. Callers ask in almost the order of the table, so the entry after the
// last one found, kept in near, is tried first.
func (t *cacheTable) find(path string, near *int) (cacheEntry, bool) {
	if i := *near + 1; i < len(t.at) && string(t.key(i)) == path {
		*near = i
		return t.entry(i), true
	}
	i := sort.Search(len(t.at), func(i int) bool { return string(t.key(i)) >= path })
	if i == len(t.at) || string(t.key(i)) != path {
		return cacheEntry{}, false
	}
	*near = i
	return t.entry(i), true
}

func encodeCache(m map[string]cacheEntry) []byte {
	size := len(cacheMagic) + 8 + sha256.Size
	for p := range m {
		size += 4 + len(p) + cacheFixed
	}
	out := make([]byte, 0, size)
	out = append(out, cacheMagic...)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(m)))
	for _, p := range slices.Sorted(maps.Keys(m)) {
		e := m[p]
		out = binary.LittleEndian.AppendUint32(out, uint32(len(p)))
		out = append(out, p...)
		for _, v := range []uint64{
			uint64(e.stamp.size), uint64(e.stamp.mtime), uint64(e.stamp.ctime), e.stamp.ino, e.stamp.dev, uint64(e.hashed),
		} {
			out = binary.LittleEndian.AppendUint64(out, v)
		}
		out = append(out, e.sum[:]...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// lookup returns the entry of path if the file still has the stamp that the entry was made with. near
// is the caller's place in the table, see find.
func (c *statCache) lookup(path string, s stamp, near *int) (cacheEntry, bool) {
	if c.renewed.Load() {
		c.mu.Lock()
		e, ok := c.fresh[path]
		c.mu.Unlock()
		if ok {
			return e, e.stamp == s
		}
	}
	e, ok := c.loaded.find(path, near)
	return e, ok && e.stamp == s
}

// put remembers a digest unless its stamp is too young to be worth anything.
func (c *statCache) put(path string, e cacheEntry) {
	if e.stamp.racy(e.hashed) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fresh[path] = e
	c.renewed.Store(true)
}

// save writes the cache file if there is anything new. Of two processes that save at once the later
// wins; what the other knew is read again some day.
func (c *statCache) save(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.path == "" || len(c.fresh) == 0 {
		return nil
	}
	all := make(map[string]cacheEntry, len(c.loaded.at)+len(c.fresh))
	for i := range c.loaded.at {
		if e := c.loaded.entry(i); now.UnixNano()-e.hashed < int64(forgetAfter) {
			all[string(c.loaded.key(i))] = e
		}
	}
	maps.Copy(all, c.fresh)
	if err := os.MkdirAll(filepath.Dir(c.path), 0o755); err != nil {
		return fmt.Errorf("save the digest cache: %w", err)
	}
	if err := durable.WriteFile(c.path, encodeCache(all), 0o644); err != nil {
		return fmt.Errorf("save the digest cache: %w", err)
	}
	return nil
}
