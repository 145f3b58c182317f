package tabular

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// The encodings below can claim far more values than they have bytes: a run of 2^31 levels takes six. Each claim is checked against the
// page's own count of values before parquet-go makes room for it. https://parquet.apache.org/docs/file-format/data-pages/encodings/

var errEncoding = errors.New("the encoded values are damaged")

// runSlack is how many values past the count a last run may pad to.
const runSlack = 512

// guardPage checks the claims inside a decompressed page: that its levels and values are as many as its header says, neither more, for
// which memory would be made, nor fewer, for which the library would make values up.
func guardPage(h *format.PageHeader, leaf *parquetLeaf, body []byte, limits Limits) error {
	switch h.Type {
	case format.DictionaryPage:
		if e := h.DictionaryPageHeader.V.Encoding; e != format.Plain && e != format.PlainDictionary {
			return fmt.Errorf("a dictionary has the encoding %d, which is not plain", e)
		}
		return guardPlain(leaf, body, int(h.DictionaryPageHeader.V.NumValues))
	case format.DataPage:
		return guardV1(&h.DataPageHeader.V, leaf, body, limits)
	}
	v2 := &h.DataPageHeaderV2.V
	n, values := int(v2.NumValues), int(v2.NumValues)
	rep, def := int(v2.RepetitionLevelsByteLength), int(v2.DefinitionLevelsByteLength)
	if leaf.maxRep > 0 {
		if _, err := guardLevels(body[:rep], leaf.maxRep, n); err != nil {
			return err
		}
	}
	if leaf.maxDef > 0 {
		var err error
		if values, err = guardLevels(body[rep:rep+def], leaf.maxDef, n); err != nil {
			return err
		}
	}
	if values != n-int(v2.NumNulls) {
		return fmt.Errorf("%w: a page claims %d nulls and has %d", errEncoding, v2.NumNulls, n-values)
	}
	return guardValues(v2.Encoding, leaf, body[rep+def:], values, limits)
}

func guardV1(dp *format.DataPageHeader, leaf *parquetLeaf, body []byte, limits Limits) error {
	n, values := int(dp.NumValues), int(dp.NumValues)
	for _, l := range []struct {
		max      int
		encoding format.Encoding
	}{{leaf.maxRep, dp.RepetitionLevelEncoding}, {leaf.maxDef, dp.DefinitionLevelEncoding}} {
		if l.max == 0 {
			continue
		}
		if l.encoding != format.RLE {
			return fmt.Errorf("its levels have the encoding %d; write the file with RLE levels, as all current writers do", l.encoding)
		}
		levels, rest, err := prefixed(body)
		if err != nil {
			return err
		}
		// The definition levels come last, so their count of values stands.
		if values, err = guardLevels(levels, l.max, n); err != nil {
			return err
		}
		body = rest
	}
	if leaf.maxDef == 0 {
		values = n
	}
	return guardValues(dp.Encoding, leaf, body, values, limits)
}

// guardLevels checks n levels and returns how many of them are most, which is how many values stand behind definition levels.
func guardLevels(b []byte, most, n int) (full int, err error) {
	width, left := levelWidth(most), n
	err = guardRuns(b, width, n, func(packed bool, count int, data []byte) {
		count = min(count, left)
		left -= count
		switch {
		case !packed && len(data) > 0 && int(data[0]) == most:
			full += count
		case packed:
			full += countPacked(data, width, most, count)
		}
	})
	return full, err
}

// countPacked counts the values that are want among the first n of width bits each, the least significant bits first.
func countPacked(data []byte, width, want, n int) (count int) {
	acc, have := uint(0), 0
	mask := uint(1)<<width - 1
	for range n {
		for have < width {
			acc |= uint(data[0]) << have
			data = data[1:]
			have += 8
		}
		if int(acc&mask) == want {
			count++
		}
		acc >>= width
		have -= width
	}
	return count
}

func levelWidth(most int) int {
	w := 0
	for ; most > 0; most >>= 1 {
		w++
	}
	return w
}

// prefixed splits off the bytes whose length the first four bytes tell.
func prefixed(b []byte) (part, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, fmt.Errorf("%w: a length is missing", errEncoding)
	}
	n := int64(binary.LittleEndian.Uint32(b))
	if n > int64(len(b)-4) {
		return nil, nil, fmt.Errorf("%w: %d bytes are claimed where %d are left", errEncoding, n, len(b)-4)
	}
	return b[4 : 4+n], b[4+n:], nil
}

// guardRuns walks the hybrid of run-length and bit-packed runs and checks that it holds n values, padding aside. see may be nil.
func guardRuns(b []byte, width, n int, see func(packed bool, count int, data []byte)) error {
	total := uint64(0)
	for len(b) > 0 {
		head, k := binary.Uvarint(b)
		if k <= 0 {
			return fmt.Errorf("%w: a run is cut off", errEncoding)
		}
		b = b[k:]
		count, size, packed := head>>1, uint64(width+7)/8, head&1 == 1
		if count > maxPageValues {
			return fmt.Errorf("%w: a run claims %d values", errEncoding, count)
		}
		if packed {
			size = count * uint64(width)
			count *= 8
		}
		if count == 0 {
			continue // as parquet-go takes it: nothing stands behind an empty run
		}
		if size > uint64(len(b)) {
			return fmt.Errorf("%w: a run claims %d bytes where %d are left", errEncoding, size, len(b))
		}
		if see != nil {
			see(packed, int(count), b[:size])
		}
		b = b[size:]
		if total += count; total > uint64(n)+runSlack {
			return fmt.Errorf("%w: runs hold more than the page's %d values", errEncoding, n)
		}
	}
	if total < uint64(n) {
		return fmt.Errorf("%w: runs hold %d of the page's %d values", errEncoding, total, n)
	}
	return nil
}

// plainWidth is the bytes of one plain value, or 0 for booleans (bits) and byte arrays (a length each).
func plainWidth(leaf *parquetLeaf) int {
	switch leaf.element.Type.V {
	case format.Int32, format.Float:
		return 4
	case format.Int64, format.Double:
		return 8
	case format.Int96:
		return 12
	case format.FixedLenByteArray:
		return int(leaf.element.TypeLength.V)
	}
	return 0
}

// guardPlain checks that b holds n plain values.
func guardPlain(leaf *parquetLeaf, b []byte, n int) error {
	switch leaf.element.Type.V {
	case format.Boolean:
		if len(b) < (n+7)/8 {
			return fmt.Errorf("%w: %d booleans in %d bytes", errEncoding, n, len(b))
		}
	case format.ByteArray:
		for range n {
			_, rest, err := prefixed(b)
			if err != nil {
				return err
			}
			b = rest
		}
		if len(b) > 0 {
			return fmt.Errorf("%w: %d bytes follow its %d values", errEncoding, len(b), n)
		}
	default:
		if w := plainWidth(leaf); len(b) < w*n || (w > 0 && len(b)%w != 0) {
			return fmt.Errorf("%w: %d values of %d bytes in %d bytes", errEncoding, n, w, len(b))
		}
	}
	return nil
}

// guardValues checks the claims of n values that are not null.
func guardValues(e format.Encoding, leaf *parquetLeaf, b []byte, n int, limits Limits) error {
	kind := leaf.element.Type.V
	switch e {
	case format.Plain:
		return guardPlain(leaf, b, n)
	case format.ByteStreamSplit:
		if w := plainWidth(leaf); w == 0 || len(b) != w*n {
			return fmt.Errorf("%w: %d split values of %d bytes in %d bytes", errEncoding, n, w, len(b))
		}
		return nil
	case format.PlainDictionary, format.RLEDictionary:
		if len(b) == 0 && n == 0 {
			return nil
		}
		if len(b) == 0 || b[0] > 32 {
			return fmt.Errorf("%w: dictionary indexes have no width, or one over 32 bits", errEncoding)
		}
		return guardRuns(b[1:], int(b[0]), n, nil)
	case format.RLE:
		if kind != format.Boolean {
			return errors.New("run-length values that are not booleans are not supported")
		}
		runs, _, err := prefixed(b)
		if err != nil {
			return err
		}
		return guardRuns(runs, 1, n, nil)
	case format.DeltaBinaryPacked:
		if kind != format.Int32 && kind != format.Int64 {
			return fmt.Errorf("%w: deltas that are not integers", errEncoding)
		}
		_, err := guardDelta(b, n)
		return err
	case format.DeltaLengthByteArray:
		if kind != format.ByteArray {
			return fmt.Errorf("%w: lengths of what has a fixed length", errEncoding)
		}
		_, err := guardDelta(b, n)
		return err
	case format.DeltaByteArray:
		if kind != format.ByteArray && kind != format.FixedLenByteArray {
			return fmt.Errorf("%w: prefixes of what is no text", errEncoding)
		}
		return guardDeltaStrings(b, n, limits)
	}
	return fmt.Errorf("its encoding %d is not supported; write the file with plain or dictionary encoding", e)
}

// guardDelta checks that b starts with n DELTA_BINARY_PACKED values and returns where they end.
func guardDelta(b []byte, n int) (end int, err error) {
	at := 0
	number := func() uint64 {
		v, k := binary.Uvarint(b[min(at, len(b)):])
		if k <= 0 {
			err = fmt.Errorf("%w: a delta block is cut off", errEncoding)
			return 0
		}
		at += k
		return v
	}
	block, minis, total, _ := number(), number(), number(), number()
	switch {
	case err != nil:
		return 0, err
	case total != uint64(n):
		return 0, fmt.Errorf("%w: a delta block claims %d values in a page of %d", errEncoding, total, n)
	case block == 0 || block%128 != 0 || block > 1<<20 || minis == 0 || minis > block || block%minis != 0 || (block/minis)%32 != 0:
		return 0, fmt.Errorf("%w: delta blocks of %d values in %d", errEncoding, block, minis)
	}
	for left := int64(total) - 1; left > 0; {
		number() // the smallest delta
		if err != nil || at+int(minis) > len(b) {
			return 0, fmt.Errorf("%w: a delta block is cut off", errEncoding)
		}
		widths := b[at : at+int(minis)]
		at += int(minis)
		for _, w := range widths {
			if left <= 0 {
				break
			}
			if w > 64 {
				return 0, fmt.Errorf("%w: deltas of %d bits", errEncoding, w)
			}
			at += int(block/minis) * int(w) / 8
			left -= int64(block / minis)
		}
	}
	if at > len(b) {
		return 0, fmt.Errorf("%w: a delta block is cut off", errEncoding)
	}
	return at, nil
}

// guardDeltaStrings checks DELTA_BYTE_ARRAY, where each value may repeat all of the one before: the lengths are added up first.
func guardDeltaStrings(b []byte, n int, limits Limits) error {
	total := int64(0)
	for _, what := range []string{"prefix", "suffix"} {
		end, err := guardDelta(b, n)
		if err != nil {
			return err
		}
		lengths := make([]int32, 0, n)
		if err := guard(func() error {
			var derr error
			lengths, derr = parquet.DeltaBinaryPacked.DecodeInt32(lengths, b[:end])
			return derr
		}); err != nil {
			return fmt.Errorf("%w: %s lengths: %w", errEncoding, what, err)
		}
		for _, l := range lengths {
			if l < 0 || int(l) > limits.FieldBytes {
				return fmt.Errorf("%w: a %s of %d bytes", errEncoding, what, l)
			}
			total += int64(l)
		}
		b = b[end:]
	}
	if total > int64(limits.PageBytes) {
		return limitf("page bytes", "the values of a page take %d bytes, more than %d", total, limits.PageBytes)
	}
	return nil
}
