package remote

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/continuo-ml/continuo/state"
)

const (
	// partSize is where a part is cut, in bytes of its entries: a commit that
	// folds rewrites those it touches, and a read fetches several at a time.
	partSize = 256 << 10
	// smallPart is joined with its neighbour when it is written anyway.
	smallPart = partSize / 4
	// maxPart bounds what a part may unpack to: one entry of the largest size.
	maxPart = partSize + 68<<20
	// maxTail is how many packed bytes of changes the head carries.
	maxTail = 48 << 10
)

var errPacked = errors.New("the packed entries end in the middle")

// pack writes entries. A deletion, which only a tail has, is a length of 0; that
// of a value is one more than its bytes.
func pack(entries []state.Entry) (packed []byte, size int, err error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, 0, err
	}
	var buf []byte
	for _, e := range entries {
		buf = binary.AppendUvarint(buf[:0], uint64(len(e.Bucket)))
		buf = append(buf, e.Bucket...)
		buf = binary.AppendUvarint(buf, uint64(len(e.Key)))
		buf = append(buf, e.Key...)
		if e.Value == nil {
			buf = append(buf, 0)
		} else {
			buf = binary.AppendUvarint(buf, uint64(len(e.Value))+1)
			buf = append(buf, e.Value...)
		}
		size += len(buf)
		if _, err := z.Write(buf); err != nil {
			return nil, 0, err
		}
	}
	err = z.Close()
	return b.Bytes(), size, err
}

// unpack reads what pack wrote and wants the entries in order.
func unpack(packed []byte) ([]state.Entry, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxPart+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxPart {
		return nil, fmt.Errorf("it unpacks to more than %d bytes", maxPart)
	}
	var entries []state.Entry
	for len(raw) > 0 {
		var e state.Entry
		var fields [3][]byte
		for i := range fields {
			n, w := binary.Uvarint(raw)
			if w <= 0 {
				return nil, errPacked
			}
			raw = raw[w:]
			if i == 2 {
				if n == 0 {
					continue
				}
				n--
			}
			if n > uint64(len(raw)) {
				return nil, errPacked
			}
			fields[i], raw = raw[:n:n], raw[n:]
		}
		e.Bucket, e.Key, e.Value = string(fields[0]), string(fields[1]), fields[2]
		if !slices.Contains(state.Buckets(), e.Bucket) {
			return nil, state.UnknownTo("the bucket " + e.Bucket)
		}
		if len(entries) > 0 && !before(entries[len(entries)-1], e) {
			return nil, errors.New("its entries are out of order")
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// place is where an entry stands in the order of all.
func place(e state.Entry) string { return e.Bucket + "\x00" + e.Key }

func before(a, b state.Entry) bool {
	return a.Bucket < b.Bucket || a.Bucket == b.Bucket && a.Key < b.Key
}

// merge puts changes, sorted, over entries, sorted. keep leaves deletions in, for a tail.
func merge(entries, changes []state.Entry, keep bool) []state.Entry {
	out := make([]state.Entry, 0, len(entries)+len(changes))
	add := func(e state.Entry) {
		if keep || e.Value != nil {
			out = append(out, e)
		}
	}
	for len(entries) > 0 && len(changes) > 0 {
		switch e, c := entries[0], changes[0]; {
		case before(e, c):
			add(e)
			entries = entries[1:]
		case before(c, e):
			add(c)
			changes = changes[1:]
		default:
			add(c)
			entries, changes = entries[1:], changes[1:]
		}
	}
	for _, e := range append(entries[:len(entries):len(entries)], changes...) {
		add(e)
	}
	return out
}

// cutParts divides entries into parts of about partSize. Runs in full stand in
// parts of their own, which a snapshot need not read.
func cutParts(entries []state.Entry) [][]state.Entry {
	var parts [][]state.Entry
	size, from := 0, 0
	for i, e := range entries {
		other := i > 0 && isRuns(e) != isRuns(entries[i-1])
		if i > from && (other || size >= partSize) {
			parts, size, from = append(parts, entries[from:i]), 0, i
		}
		size += len(e.Bucket) + len(e.Key) + len(e.Value)
	}
	if from < len(entries) {
		parts = append(parts, entries[from:])
	}
	return parts
}

func isRuns(e state.Entry) bool { return e.Bucket == state.BucketRuns }
