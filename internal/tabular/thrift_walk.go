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
	elements int // list elements that may still come
	depth    int // nesting that may still come
}

// maxThriftElements bounds the list elements of one footer: a million of the largest, the column chunks, take about half a gigabyte.
const maxThriftElements = 1 << 20

var errThrift = errors.New("the Thrift metadata is damaged")

// thriftLength returns the length of the one struct that b starts with, or io.ErrUnexpectedEOF (wrapped) if b ends before it does.
func thriftLength(b []byte) (int, error) {
	w := thriftWalker{b: b, elements: maxThriftElements, depth: 32}
	if err := w.structure(); err != nil {
		return 0, err
	}
	return w.at, nil
}

func (w *thriftWalker) byte() (byte, error) {
	if w.at >= len(w.b) {
		return 0, fmt.Errorf("%w: %w", errThrift, io.ErrUnexpectedEOF)
	}
	w.at++
	return w.b[w.at-1], nil
}

func (w *thriftWalker) uvarint() (uint64, error) {
	v, n := binary.Uvarint(w.b[w.at:])
	switch {
	case n == 0:
		return 0, fmt.Errorf("%w: %w", errThrift, io.ErrUnexpectedEOF)
	case n < 0:
		return 0, fmt.Errorf("%w: a number is too long", errThrift)
	}
	w.at += n
	return v, nil
}

func (w *thriftWalker) skip(n uint64) error {
	if n > uint64(len(w.b)-w.at) {
		return fmt.Errorf("%w: %d bytes are claimed where %d are left: %w", errThrift, n, len(w.b)-w.at, io.ErrUnexpectedEOF)
	}
	w.at += int(n)
	return nil
}

func (w *thriftWalker) structure() error {
	if w.depth--; w.depth < 0 {
		return fmt.Errorf("%w: it is nested too deep", errThrift)
	}
	defer func() { w.depth++ }()
	for {
		head, err := w.byte()
		if err != nil {
			return err
		}
		if head == 0 {
			return nil
		}
		if head>>4 == 0 { // the field number follows in full
			if _, err := w.uvarint(); err != nil {
				return err
			}
		}
		if kind := head & 0xF; kind != 1 && kind != 2 { // a bool field is its own value
			if err := w.value(kind); err != nil {
				return err
			}
		}
	}
}

func (w *thriftWalker) value(kind byte) error {
	switch kind {
	case 1, 2, 3: // a bool in a list, a byte
		return w.skip(1)
	case 4, 5, 6:
		_, err := w.uvarint()
		return err
	case 7:
		return w.skip(8)
	case 8:
		n, err := w.uvarint()
		if err != nil {
			return err
		}
		return w.skip(n)
	case 9, 10:
		return w.list()
	case 11:
		return w.mapping()
	case 12:
		return w.structure()
	}
	return fmt.Errorf("%w: it has the unknown type %d", errThrift, kind)
}

// claim takes n elements off the budget; each is at least a byte, so more than what is left in b is a lie.
func (w *thriftWalker) claim(n uint64) error {
	if n > uint64(len(w.b)-w.at) {
		return fmt.Errorf("%w: a list claims %d elements where %d bytes are left: %w", errThrift, n, len(w.b)-w.at, io.ErrUnexpectedEOF)
	}
	if n > uint64(w.elements) {
		return limitf("metadata", "the metadata has more than %d list elements", maxThriftElements)
	}
	w.elements -= int(n)
	return nil
}

func (w *thriftWalker) list() error {
	head, err := w.byte()
	if err != nil {
		return err
	}
	n := uint64(head >> 4)
	if n == 15 {
		if n, err = w.uvarint(); err != nil {
			return err
		}
	}
	if err := w.claim(n); err != nil {
		return err
	}
	if w.depth--; w.depth < 0 {
		return fmt.Errorf("%w: it is nested too deep", errThrift)
	}
	defer func() { w.depth++ }()
	for range n {
		if err := w.value(head & 0xF); err != nil {
			return err
		}
	}
	return nil
}

func (w *thriftWalker) mapping() error {
	n, err := w.uvarint()
	if err != nil || n == 0 {
		return err
	}
	kinds, err := w.byte()
	if err != nil {
		return err
	}
	if err := w.claim(n); err != nil {
		return err
	}
	if w.depth--; w.depth < 0 {
		return fmt.Errorf("%w: it is nested too deep", errThrift)
	}
	defer func() { w.depth++ }()
	for range n {
		if err := w.value(kinds >> 4); err != nil {
			return err
		}
		if err := w.value(kinds & 0xF); err != nil {
			return err
		}
	}
	return nil
}
