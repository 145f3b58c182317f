package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// The file format of bbolt (version 2), as its internal/common defines it, in
// the machine's byte order: fixed-size pages with a header of 16 bytes, two meta
// pages, a free list, and B+trees of branch and leaf pages.
const (
	pageHeader   = 16
	elementSize  = 16 // of branch and leaf elements alike
	metaSize     = 64
	bucketHeader = 16

	branchPage = 0x01
	leafPage   = 0x02
	freePage   = 0x10

	bucketElement = 0x01

	magic      = 0xED0CDAED
	version    = 2
	noFreelist = ^uint64(0)
)

// damage is what a reader found wrong; callers add the file and wrap ErrCorrupt.
type damage string

func (d damage) Error() string { return string(d) }

func damaged(format string, args ...any) error { return damage(fmt.Sprintf(format, args...)) }

// meta is one of the two roots of the file. The valid one with the higher txid counts.
type meta struct {
	pageSize, root, freelist, high, txid uint64
}

// pages reads a file's trees with every offset checked, and each page at most
// once, so that damage ends in an error: never in a fault, a loop or a huge
// allocation. It serves one operation.
type pages struct {
	meta
	metas int // how many of the two meta pages are valid
	r     io.ReaderAt
	seen  []bool
	arena []byte
}

// openPages reads the meta pages and checks the size against them.
func openPages(r io.ReaderAt, size int64) (*pages, error) {
	if size == 0 {
		return nil, damaged("it is empty")
	}
	m, n, err := readMetas(r, size)
	if err != nil {
		return nil, err
	}
	switch {
	case m.high < 4 || m.high > uint64(size)/m.pageSize:
		return nil, damaged("it was cut off: it has %d bytes and should hold %d pages of %d", size, m.high, m.pageSize)
	case m.root < 2 || m.root >= m.high:
		return nil, damaged("its root is page %d of %d", m.root, m.high)
	}
	return &pages{meta: m, metas: n, r: r, seen: make([]bool, m.high)}, nil
}

// again returns a reader that has visited nothing yet.
func (p *pages) again() *pages {
	return &pages{meta: p.meta, metas: p.metas, r: p.r, seen: make([]bool, p.high)}
}

// readMetas finds the newer valid meta page. The second lies one page in, and
// the page size stands in the metas only: without the first, all sizes are tried.
func readMetas(r io.ReaderAt, size int64) (meta, int, error) {
	first, ok := readMeta(r, 0, size)
	if ok {
		if second, ok := readMeta(r, int64(first.pageSize), size); ok && second.pageSize == first.pageSize {
			if second.txid > first.txid {
				return second, 2, nil
			}
			return first, 2, nil
		}
		return first, 1, nil
	}
	for at := int64(1 << 9); at <= 1<<24; at <<= 1 {
		if second, ok := readMeta(r, at, size); ok && int64(second.pageSize) == at {
			return second, 1, nil
		}
	}
	return meta{}, 0, damaged("neither of its meta pages is valid")
}

func readMeta(r io.ReaderAt, at, size int64) (meta, bool) {
	var b [metaSize]byte
	if at+pageHeader+metaSize > size {
		return meta{}, false
	}
	if _, err := r.ReadAt(b[:], at+pageHeader); err != nil {
		return meta{}, false // an unreadable meta page is one that does not count
	}
	e := binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:56])
	if e.Uint32(b[0:]) != magic || e.Uint32(b[4:]) != version || e.Uint64(b[56:]) != sum.Sum64() {
		return meta{}, false
	}
	m := meta{pageSize: uint64(e.Uint32(b[8:])), root: e.Uint64(b[16:]), freelist: e.Uint64(b[32:]), high: e.Uint64(b[40:]), txid: e.Uint64(b[48:])}
	return m, m.pageSize >= 1<<9 && m.pageSize <= 1<<24 && m.pageSize&(m.pageSize-1) == 0
}

// page is one page with its overflow pages.
type page struct {
	id    uint64
	flags uint16
	count int
	data  []byte // header included
}

func (p *pages) page(id uint64) (page, error) {
	if id < 2 || id >= p.high {
		return page{}, damaged("page %d is referred to, but pages go from 2 to %d", id, p.high-1)
	}
	data := p.room(p.pageSize)
	if _, err := p.r.ReadAt(data, int64(id*p.pageSize)); err != nil {
		return page{}, fmt.Errorf("read page %d: %w", id, err)
	}
	e := binary.NativeEndian
	overflow := uint64(e.Uint32(data[12:]))
	if own := e.Uint64(data); own != id {
		return page{}, damaged("page %d says that it is page %d", id, own)
	}
	if overflow >= p.high-id {
		return page{}, damaged("page %d runs past the end", id)
	}
	for i := id; i <= id+overflow; i++ {
		if p.seen[i] {
			return page{}, damaged("page %d is referred to twice", i)
		}
		p.seen[i] = true
	}
	if overflow > 0 {
		whole := make([]byte, (overflow+1)*p.pageSize)
		copy(whole, data)
		if _, err := p.r.ReadAt(whole[p.pageSize:], int64((id+1)*p.pageSize)); err != nil {
			return page{}, fmt.Errorf("read page %d: %w", id, err)
		}
		data = whole
	}
	return page{id: id, flags: e.Uint16(data[8:]), count: int(e.Uint16(data[10:])), data: data}, nil
}

// room cuts n bytes off a chunk; pages stay in memory as long as their values do.
func (p *pages) room(n uint64) []byte {
	if uint64(len(p.arena)) < n {
		p.arena = make([]byte, max(n, min(1<<20, p.high*p.pageSize)))
	}
	b := p.arena[:n:n]
	p.arena = p.arena[n:]
	return b
}

// element is one entry of a branch or leaf page.
type element struct {
	key, value []byte
	flags      uint32 // leaf
	child      uint64 // branch
}

func (g page) element(i int) (element, error) {
	at := pageHeader + i*elementSize
	if at+elementSize > len(g.data) {
		return element{}, damaged("page %d has no room for its %d entries", g.id, g.count)
	}
	e := binary.NativeEndian
	b := g.data[at:]
	if g.flags == branchPage {
		key, err := g.slice(i, at, e.Uint32(b), e.Uint32(b[4:]))
		return element{key: key, child: e.Uint64(b[8:])}, err
	}
	pos, ksize, vsize := e.Uint32(b[4:]), e.Uint32(b[8:]), e.Uint32(b[12:])
	both, err := g.slice(i, at, pos, ksize+vsize)
	if err != nil || uint64(ksize)+uint64(vsize) != uint64(len(both)) {
		return element{}, damaged("entry %d of page %d runs past its page", i, g.id)
	}
	return element{flags: e.Uint32(b), key: both[:ksize:ksize], value: both[ksize:]}, nil
}

func (g page) slice(i, at int, pos, n uint32) ([]byte, error) {
	start, end := uint64(at)+uint64(pos), uint64(at)+uint64(pos)+uint64(n)
	if end > uint64(len(g.data)) {
		return nil, damaged("entry %d of page %d runs past its page", i, g.id)
	}
	return g.data[start:end:end], nil
}

// scan calls fn for each key with the prefix below page id, ascending. It keeps
// to the branches that may hold the prefix, and checks the order of all keys it
// meets. Keys and values are valid as long as p.
func (p *pages) scan(id uint64, prefix []byte, fn func(element) error) error {
	var last []byte
	return p.scanPage(id, prefix, &last, fn)
}

func (p *pages) scanPage(id uint64, prefix []byte, last *[]byte, fn func(element) error) error {
	g, err := p.page(id)
	if err != nil {
		return err
	}
	switch g.flags {
	case leafPage:
		return g.scanLeaf(prefix, last, fn)
	case branchPage:
	default:
		return damaged("page %d is neither branch nor leaf but %#x", id, g.flags)
	}
	if g.count == 0 {
		return damaged("branch page %d is empty", id)
	}
	for i := range g.count {
		el, err := g.element(i)
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(el.key, prefix) > 0 && !bytes.HasPrefix(el.key, prefix) {
			return nil // all that follows is higher
		}
		if i+1 < g.count {
			next, err := g.element(i + 1)
			if err != nil {
				return err
			}
			if bytes.Compare(el.key, next.key) >= 0 {
				return damaged("the keys of branch page %d are out of order", id)
			}
			if bytes.Compare(next.key, prefix) <= 0 && len(prefix) > 0 {
				continue // all in this child is lower
			}
		}
		if err := p.scanPage(el.child, prefix, last, fn); err != nil {
			return err
		}
	}
	return nil
}

func (g page) scanLeaf(prefix []byte, last *[]byte, fn func(element) error) error {
	for i := range g.count {
		el, err := g.element(i)
		if err != nil {
			return err
		}
		if *last != nil && bytes.Compare(*last, el.key) >= 0 {
			return damaged("the keys of page %d are out of order", g.id)
		}
		*last = el.key
		if !bytes.HasPrefix(el.key, prefix) {
			continue
		}
		if err := fn(el); err != nil {
			return err
		}
	}
	return nil
}

// bucket is where a bucket's entries are: a page, or a leaf inside the root's value.
type bucket struct {
	root   uint64
	inline []byte
}

// buckets reads the root tree.
func (p *pages) buckets() (map[string]bucket, error) {
	out := map[string]bucket{}
	err := p.scan(p.root, nil, func(el element) error {
		if el.flags != bucketElement || len(el.value) < bucketHeader {
			return damaged("the root holds %q, which is no bucket", el.key)
		}
		out[string(el.key)] = bucket{root: binary.NativeEndian.Uint64(el.value), inline: el.value[bucketHeader:]}
		return nil
	})
	return out, err
}

// scanBucket calls fn for each value of a bucket whose key has the prefix.
func (p *pages) scanBucket(b bucket, prefix string, fn func(key, value []byte) error) error {
	visit := func(el element) error {
		if el.flags != 0 {
			return damaged("the key %q has flags %#x", el.key, el.flags)
		}
		return fn(el.key, el.value)
	}
	if b.root != 0 {
		return p.scan(b.root, []byte(prefix), visit)
	}
	if len(b.inline) < pageHeader {
		return damaged("a bucket of %d bytes has no page in it", len(b.inline))
	}
	g := page{flags: binary.NativeEndian.Uint16(b.inline[8:]), count: int(binary.NativeEndian.Uint16(b.inline[10:])), data: b.inline}
	if g.flags != leafPage {
		return damaged("a bucket kept in the root has a page of kind %#x", g.flags)
	}
	var last []byte
	return g.scanLeaf([]byte(prefix), &last, visit)
}

// checkFree is called when all trees were scanned: each page must be either in a
// tree or free, and none both. bbolt would otherwise write over live data.
func (p *pages) checkFree() (free int, err error) {
	if p.freelist == noFreelist {
		return 0, damaged("it has no list of free pages")
	}
	g, err := p.page(p.freelist)
	if err != nil {
		return 0, err
	}
	if g.flags != freePage {
		return 0, damaged("page %d should list the free pages and is of kind %#x", g.id, g.flags)
	}
	count, ids := uint64(g.count), g.data[pageHeader:]
	if count == 0xFFFF && len(ids) >= 8 { // the number did not fit and stands first
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return 0, damaged("the list of free pages runs past its page")
	}
	for i := range count {
		id := binary.NativeEndian.Uint64(ids[8*i:])
		if id < 2 || id >= p.high {
			return 0, damaged("page %d is listed as free, but pages go from 2 to %d", id, p.high-1)
		}
		if p.seen[id] {
			return 0, damaged("page %d is in use and listed as free", id)
		}
		p.seen[id] = true
	}
	for id := uint64(2); id < p.high; id++ {
		if !p.seen[id] {
			return 0, damaged("page %d is neither in use nor free", id)
		}
	}
	return int(count), nil
}
