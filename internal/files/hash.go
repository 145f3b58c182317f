package files

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"
)

const (
	// bufBytes is the size of a read. Files below it are hashed with one read and no state.
	bufBytes = 1 << 20
	// pipelineBytes is the size from which reading and hashing overlap.
	pipelineBytes = 4 * bufBytes
)

type buffer [bufBytes]byte

// buffers is shared by all readers; a buffer serves a file and goes back.
type buffers struct{ p sync.Pool }

func (b *buffers) get() *buffer {
	if v, ok := b.p.Get().(*buffer); ok {
		return v
	}
	return new(buffer)
}

func (b *buffers) put(v *buffer) { b.p.Put(v) }

// hashSmall hashes a file that is expected to hold size bytes, fewer than a buffer. It returns how many
// it read, at most size+1: the caller's second stat tells whether that was the file.
func hashSmall(r io.Reader, size int64, buf *buffer) (sum [sha256.Size]byte, n int64, err error) {
	got := 0
	for got <= int(size) {
		k, err := r.Read(buf[got : size+1])
		got += k
		if err != nil && !errors.Is(err, io.EOF) {
			return sum, int64(got), err
		}
		if k == 0 || err != nil {
			break
		}
		if int64(got) == size {
			// The second stat proves the end of the file more cheaply than a read that returns nothing.
			break
		}
	}
	return sha256.Sum256(buf[:got]), int64(got), nil
}

// copyHash reads at most limit bytes from r, hashes them and, if w is not nil, writes them to w. Reading
// and hashing overlap: the hash is the slower part and need not wait for the disk.
func copyHash(w io.Writer, r io.Reader, limit int64, pool *buffers) (sum [sha256.Size]byte, n int64, err error) {
	h := sha256.New()
	lr := &io.LimitedReader{R: r, N: limit}
	if limit <= pipelineBytes {
		n, err = copyPlain(h, w, lr, pool)
	} else {
		n, err = copyPipelined(h, w, lr, pool)
	}
	h.Sum(sum[:0])
	return sum, n, err
}

func copyPlain(h hash.Hash, w io.Writer, r io.Reader, pool *buffers) (n int64, err error) {
	buf := pool.get()
	defer pool.put(buf)
	for {
		k, err := r.Read(buf[:])
		if err := absorb(h, w, buf[:k]); err != nil {
			return n, err
		}
		n += int64(k)
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if k == 0 || err != nil {
			return n, nil
		}
	}
}

// absorb hashes p and writes it to w, unless w is nil.
func absorb(h hash.Hash, w io.Writer, p []byte) error {
	if _, err := h.Write(p); err != nil {
		return err
	}
	if w == nil || len(p) == 0 {
		return nil
	}
	_, err := w.Write(p)
	return err
}

// block is one filled buffer on its way from the reader to the hash.
type block struct {
	buf *buffer
	n   int
	err error // after the n bytes; io.EOF at the end
}

func copyPipelined(h hash.Hash, w io.Writer, r io.Reader, pool *buffers) (n int64, err error) {
	full := make(chan block, 2)
	stop := make(chan struct{})
	go func() {
		defer close(full)
		for {
			b := block{buf: pool.get()}
			b.n, b.err = r.Read(b.buf[:])
			if b.n == 0 && b.err == nil {
				b.err = io.EOF // a descriptor says the end with no bytes and no error
			}
			select {
			case full <- b:
			case <-stop:
				pool.put(b.buf)
				return
			}
			if b.err != nil {
				return
			}
		}
	}()
	// The reader must be gone before the caller closes the file under it.
	defer func() {
		close(stop)
		for b := range full {
			pool.put(b.buf)
		}
	}()
	for b := range full {
		werr := absorb(h, w, b.buf[:b.n])
		pool.put(b.buf)
		n += int64(b.n)
		switch {
		case werr != nil:
			return n, werr
		case errors.Is(b.err, io.EOF):
			return n, nil
		case b.err != nil:
			return n, b.err
		}
	}
	return n, nil
}
