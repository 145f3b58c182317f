package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
)

// Digest is the content of one file.
type Digest struct {
	Hex  string // SHA-256, 64 lowercase hex digits
	Size int64  // bytes
}

// FileDigest is a Digest with the slash path that it belongs to, relative to the project folder.
type FileDigest struct {
	Path string
	Digest
}

// memo is the digest of one path, once the batch that computes it is done.
type memo struct {
	done chan struct{}
	d    Digest
	err  error
}

// chunkFiles is how many files of one folder a worker takes at a time.
const chunkFiles = 128

// digestAll digests clean paths, each once in the life of the view.
func (v *view) digestAll(paths []string) ([]FileDigest, error) {
	memos := make([]*memo, len(paths))
	b := &batch{x: v.x, v: v}
	done := make(chan struct{})
	slab := make([]memo, 0, len(paths)) // one allocation; never grown, so pointers into it stay good
	v.mu.Lock()
	if len(v.digests) == 0 {
		v.digests = make(map[string]*memo, len(paths))
	}
	for i, p := range paths {
		m := v.digests[p]
		if m == nil {
			slab = append(slab, memo{done: done})
			m = &slab[len(slab)-1]
			v.digests[p] = m
			b.jobs = append(b.jobs, job{path: p, memo: m})
		}
		memos[i] = m
	}
	v.mu.Unlock()
	b.run()
	// Own work first, then wait for others: no two batches can wait for each other.
	close(done)
	out := make([]FileDigest, len(paths))
	var errs []error
	for i, m := range memos {
		<-m.done
		if m.err != nil {
			errs = append(errs, m.err)
		}
		out[i] = FileDigest{Path: paths[i], Digest: m.d}
	}
	if len(errs) > 0 {
		return nil, joinErrors(errs)
	}
	return out, nil
}

// job is one file to digest.
type job struct {
	path string
	memo *memo
	size int64
}

// batch digests jobs in parallel: first all files, small ones at once and grouped by folder, then the
// large ones, largest first, so that none is left for the end.
type batch struct {
	x    *Index
	v    *view
	jobs []job

	mu    sync.Mutex
	large []job
}

func (b *batch) run() {
	// Paths come sorted, so the files of a folder stand together but for its subfolders.
	var chunks [][]job
	for from := 0; from < len(b.jobs); {
		to, dir := from+1, dirOf(b.jobs[from].path)
		for to < len(b.jobs) && to-from < chunkFiles && dirOf(b.jobs[to].path) == dir {
			to++
		}
		chunks = append(chunks, b.jobs[from:to])
		from = to
	}
	parallel(len(chunks), ioWorkers(), func(i int) { b.chunk(chunks[i]) })
	slices.SortFunc(b.large, func(p, q job) int { return int(min(max(q.size-p.size, -1), 1)) })
	parallel(len(b.large), cpuWorkers(), func(i int) {
		near := -1
		b.one(nil, b.large[i], &near)
	})
}

// dirOf is path.Dir for a clean path, without its cost.
func dirOf(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return "."
}

func (b *batch) chunk(jobs []job) {
	dir, err := openDirRef(b.v.root, dirOf(jobs[0].path))
	if err != nil {
		for _, j := range jobs {
			j.memo.err = explain("digest", j.path, err)
		}
		return
	}
	near := -1
	for _, j := range jobs {
		b.one(dir, j, &near)
	}
	if err := dir.Close(); err != nil {
		jobs[0].memo.err = errors.Join(jobs[0].memo.err, explain("digest", jobs[0].path, err))
	}
}

// one digests a file through its folder dir; a nil dir means that it is large and its turn has come.
func (b *batch) one(dir *dirRef, j job, near *int) {
	later := dir != nil
	d, err := b.attempt(dir, j, later, near)
	if errors.Is(err, ErrChanged) {
		d, err = b.attempt(dir, j, false, near)
	}
	if errors.Is(err, errLater) {
		return
	}
	j.memo.d, j.memo.err = d, err
}

// errLater says that a file was put on the list of large ones.
var errLater = errors.New("later")

func (b *batch) attempt(dir *dirRef, j job, later bool, near *int) (d Digest, err error) {
	started := b.x.opt.now().UnixNano()
	st, f, err := b.locate(dir, j.path)
	if err != nil {
		return Digest{}, err
	}
	defer func() {
		if f != nil {
			err = errors.Join(err, explain("digest", j.path, f.Close()))
		}
	}()
	known, hit := b.x.cache.lookup(b.v.key+j.path, st, near)
	if hit && !known.due(j.path, started) {
		b.x.hits.Add(1)
		return Digest{Hex: hex.EncodeToString(known.sum[:]), Size: st.size}, nil
	}
	if later && st.size >= bufBytes {
		j.size = st.size
		b.mu.Lock()
		b.large = append(b.large, j)
		b.mu.Unlock()
		return Digest{}, errLater
	}
	if f == nil {
		if f, err = dir.open(path.Base(j.path)); err != nil {
			return Digest{}, explain("digest", j.path, err)
		}
	}
	sum, n, err := b.read(f, st, j.path)
	if err != nil {
		return Digest{}, explain("digest", j.path, err)
	}
	b.x.cache.put(b.v.key+j.path, cacheEntry{stamp: st, hashed: started, sum: sum})
	b.x.hashed.Add(1)
	return Digest{Hex: hex.EncodeToString(sum[:]), Size: n}, nil
}

// locate stats a file. In its open folder dir that is one call, and the file stays closed until it is
// known that it must be read; a link or a large file is opened through os.Root, which resolves it safely.
func (b *batch) locate(dir *dirRef, p string) (stamp, handle, error) {
	if dir != nil {
		st, mode, err := dir.lstat(path.Base(p))
		switch {
		case err != nil:
			return stamp{}, nil, explain("digest", p, err)
		case mode.IsRegular():
			return st, nil, nil
		case mode&fs.ModeSymlink == 0:
			return stamp{}, nil, notRegular("digest", p, mode)
		}
	}
	f, err := openRegular(b.v.root, p)
	if err != nil {
		return stamp{}, nil, err
	}
	st, _, err := osFile{f}.stat()
	if err != nil {
		return stamp{}, nil, errors.Join(explain("digest", p, err), f.Close())
	}
	return st, osFile{f}, nil
}

// read hashes the open file, which must still have stamp st afterwards.
func (b *batch) read(f handle, st stamp, p string) (sum [sha256.Size]byte, n int64, err error) {
	if hook := b.x.onRead; hook != nil {
		hook(p)
	}
	if st.size < bufBytes {
		buf := b.x.pool.get()
		sum, n, err = hashSmall(f, st.size, buf)
		b.x.pool.put(buf)
	} else {
		adviseSequential(f)
		// One byte more than expected is enough to know that the file grew, and an end for one that
		// grows for ever.
		sum, n, err = copyHash(nil, f, st.size+1, &b.x.pool)
	}
	if err != nil {
		return sum, n, err
	}
	after, mode, err := f.stat()
	if err != nil {
		return sum, n, err
	}
	if !mode.IsRegular() || n != st.size || !after.sameContent(st) {
		return sum, n, fmt.Errorf("%w; wait until its writer is done", ErrChanged)
	}
	return sum, n, nil
}
