package tabular

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
)

// The canonical form of a row, on which row identity rests: for every column that is not null, in byte order of the column names, the
// length of the name (unsigned varint), the name, the length of the text (unsigned varint), the text. Column order, nulls and the spelling
// of null therefore do not matter; the spelling of a value does. The form is part of the contract: changing it would move every row of
// every split that users have trained on.

// rowEncoder writes canonical forms. The zero value encodes all columns; with columns set, only those.
type rowEncoder struct {
	columns []string // nil for all
	names   []string // what order was made for
	order   []int
	buf     []byte
}

// prepare fixes the order of columns for a batch; it reports a column that the batch lacks.
func (e *rowEncoder) prepare(b *Batch) (missing string) {
	if len(e.names) == len(b.Columns) && e.order != nil {
		return ""
	}
	e.names, e.order = e.names[:0], e.order[:0]
	for i := range b.Columns {
		e.names = append(e.names, b.Columns[i].Name)
	}
	if e.columns == nil {
		for i := range e.names {
			e.order = append(e.order, i)
		}
	}
	for _, c := range e.columns {
		i := slices.Index(e.names, c)
		if i < 0 {
			e.order = nil
			return c
		}
		e.order = append(e.order, i)
	}
	slices.SortFunc(e.order, func(a, b int) int { return strings.Compare(e.names[a], e.names[b]) })
	return ""
}

// encode returns the canonical form of row i, valid until the next call, and how many of its columns are null.
func (e *rowEncoder) encode(b *Batch, i int) (form []byte, nulls int) {
	e.buf = e.buf[:0]
	for _, c := range e.order {
		col := &b.Columns[c]
		if col.IsNull(i) && !col.invalid(i) {
			nulls++
			continue
		}
		text := col.Text(i)
		e.buf = binary.AppendUvarint(e.buf, uint64(len(col.Name)))
		e.buf = append(e.buf, col.Name...)
		e.buf = binary.AppendUvarint(e.buf, uint64(len(text)))
		e.buf = append(e.buf, text...)
	}
	return e.buf, nulls
}

// invalid reports whether row i holds text that is not of the declared type: null in value, and yet something is there.
func (c *Column) invalid(i int) bool {
	_, found := slices.BinarySearch(c.Invalid, i)
	return found
}

// rowKey identifies a row's content: the first 128 bits of SHA-256, which do not collide by accident or by design.
type rowKey [16]byte

func keyOf(form []byte) rowKey {
	sum := sha256.Sum256(form)
	return rowKey(sum[:16])
}

// splitHash is the 64-bit hash that places a row: the first eight bytes, big endian, of
// SHA-256("continuo split 1" ‖ seed as big-endian int64 ‖ canonical form).
func splitHash(scratch []byte, seed int64, form []byte) (uint64, []byte) {
	scratch = append(scratch[:0], "continuo split 1"...)
	scratch = binary.BigEndian.AppendUint64(scratch, uint64(seed))
	scratch = append(scratch, form...)
	sum := sha256.Sum256(scratch)
	return binary.BigEndian.Uint64(sum[:8]), scratch
}
