package tabular

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// thriftWalker checks Thrift compact bytes before a decoder may allocate for what they claim: parquet-go makes a list as long as its header
// says, so nine bytes could ask for gigabytes. The walk allocates nothing and every step consumes a byte, so it ends.
// https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
type thriftWalker struct {
	b        []byte
	at       int
	elements int   // list elements that may still come
	depth    int   // nesting that may still come
	err      error // what is wrong, after which nothing is read
}

// maxThriftElements bounds the list elements of one footer: a million of the largest, the column chunks, take about half a gigabyte.
const maxThriftElements = 1 << 20

var errThrift = errors.New("the Thrift metadata is damaged")

// thriftLength returns the length of the one struct that b starts with, or io.ErrUnexpectedEOF (wrapped) if b ends before it does.
func thriftLength(b []byte) (int, error) {
	w := thriftWalker{b: b, elements: maxThriftElements, depth: 32}
	w.nested(w.structure)
	return w.at, w.err
}

func (w *thriftWalker) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("%w: %w", errThrift, fmt.Errorf(format, args...))
	}
	w.at = len(w.b)
}

// byte returns the next byte, or 0 after an error.
func (w *thriftWalker) byte() byte {
	if w.at >= len(w.b) {
		w.fail("%w", io.ErrUnexpectedEOF)
		return 0
	}
	w.at++
	return w.b[w.at-1]
}

func (w *thriftWalker) uvarint() uint64 {
	v, n := binary.Uvarint(w.b[w.at:])
	switch {
	case n == 0:
		w.fail("%w", io.ErrUnexpectedEOF)
	case n < 0:
		w.fail("a number is too long")
	default:
		w.at += n
	}
	return v
}

func (w *thriftWalker) skip(n uint64) {
	if n > uint64(len(w.b)-w.at) {
		w.fail("%d bytes are claimed where %d are left: %w", n, len(w.b)-w.at, io.ErrUnexpectedEOF)
		return
	}
	w.at += int(n)
}

// nested runs walk one level deeper.
func (w *thriftWalker) nested(walk func()) {
	if w.depth == 0 {
		w.fail("it is nested too deep")
		return
	}
	w.depth--
	walk()
	w.depth++
}

func (w *thriftWalker) structure() {
	for {
		head := w.byte()
		if head == 0 {
			return
		}
		if head>>4 == 0 { // the field number follows in full
			w.uvarint()
		}
		if kind := head & 0xF; kind != 1 && kind != 2 { // a bool field is its own value
			w.value(kind)
		}
	}
}

func (w *thriftWalker) value(kind byte) {
	switch kind {
	case 1, 2, 3: // a bool in a list, a byte
		w.skip(1)
	case 4, 5, 6:
		w.uvarint()
	case 7:
		w.skip(8)
	case 8:
		w.skip(w.uvarint())
	case 9, 10:
		head := w.byte()
		n := uint64(head >> 4)
		if n == 15 {
			n = w.uvarint()
		}
		w.elementsOf(n, head&0xF)
	case 11:
		if n := w.uvarint(); n > 0 {
			kinds := w.byte()
			w.elementsOf(n, kinds>>4, kinds&0xF)
		}
	case 12:
		w.nested(w.structure)
	default:
		w.fail("it has the unknown type %d", kind)
	}
}

// elementsOf walks n elements, each of the given kinds. Each takes a byte at least, so more than what is left in b is a lie.
func (w *thriftWalker) elementsOf(n uint64, kinds ...byte) {
	switch {
	case n > uint64(len(w.b)-w.at):
		w.fail("a list claims %d elements where %d bytes are left: %w", n, len(w.b)-w.at, io.ErrUnexpectedEOF)
		return
	case n > uint64(w.elements):
		w.err, w.at = limitf("metadata", "the metadata has more than %d list elements", maxThriftElements), len(w.b)
		return
	}
	w.elements -= int(n)
	w.nested(func() {
		for i := uint64(0); i < n && w.err == nil; i++ {
			for _, kind := range kinds {
				w.value(kind)
			}
		}
	})
}
