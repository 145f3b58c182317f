package files

import (
	"crypto/sha256"
	"errors"
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
	var dst io.Writer = h
	if w != nil {
		dst = io.MultiWriter(h, w)
	}
	src := io.LimitReader(r, limit)
	if limit > pipelineBytes {
		n, err = copyAhead(dst, src, pool)
	} else {
		buf := pool.get()
		n, err = io.CopyBuffer(dst, src, buf[:])
		pool.put(buf)
	}
	h.Sum(sum[:0])
	return sum, n, err
}

// block is one filled buffer on its way from the reader to the writer.
type block struct {
	buf *buffer
	n   int
	err error // after the n bytes; io.EOF at the end
}

// copyAhead is io.Copy with the next blocks read while one is written.
func copyAhead(w io.Writer, r io.Reader, pool *buffers) (n int64, err error) {
	full := make(chan block, 2)
	stop := make(chan struct{})
	go func() {
		defer close(full)
		for {
			b := block{buf: pool.get()}
			b.n, b.err = r.Read(b.buf[:])
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
		_, err := w.Write(b.buf[:b.n])
		pool.put(b.buf)
		switch n += int64(b.n); {
		case err != nil:
			return n, err
		case errors.Is(b.err, io.EOF):
			return n, nil
		case b.err != nil:
			return n, b.err
		}
	}
	return n, nil
}
