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

// guardPage checks the claims inside a decompressed page.
func guardPage(h *format.PageHeader, leaf *parquetLeaf, body []byte, limits Limits) error {
	switch h.Type {
	case format.DictionaryPage:
		if e := h.DictionaryPageHeader.V.Encoding; e != format.Plain && e != format.PlainDictionary {
			return fmt.Errorf("a dictionary has the encoding %d, which is not plain", e)
		}
		return nil
	case format.DataPage:
		dp := &h.DataPageHeader.V
		n := int(dp.NumValues)
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
			if err := guardRuns(levels, levelWidth(l.max), n); err != nil {
				return err
			}
			body = rest
		}
		return guardValues(dp.Encoding, leaf, body, n, limits)
	}
	v2 := &h.DataPageHeaderV2.V
	n := int(v2.NumValues)
	rep, def := int(v2.RepetitionLevelsByteLength), int(v2.DefinitionLevelsByteLength)
	if (leaf.maxRep > 0 && rep == 0 && n > 0) || (leaf.maxDef > 0 && def == 0 && n > 0) {
		return fmt.Errorf("%w: a page has no levels", errEncoding)
	}
	if leaf.maxRep > 0 {
		if err := guardRuns(body[:rep], levelWidth(leaf.maxRep), n); err != nil {
			return err
		}
	}
	if leaf.maxDef > 0 {
		if err := guardRuns(body[rep:rep+def], levelWidth(leaf.maxDef), n); err != nil {
			return err
		}
	}
	return guardValues(v2.Encoding, leaf, body[rep+def:], n, limits)
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

// guardRuns walks the hybrid of run-length and bit-packed runs and checks that it holds no more than n values.
func guardRuns(b []byte, width, n int) error {
	total := uint64(0)
	for len(b) > 0 {
		head, k := binary.Uvarint(b)
		if k <= 0 {
			return fmt.Errorf("%w: a run is cut off", errEncoding)
		}
		b = b[k:]
		count, size := head>>1, uint64(width+7)/8
		if count > maxPageValues {
			return fmt.Errorf("%w: a run claims %d values", errEncoding, count)
		}
		if head&1 == 1 {
			size = count * uint64(width)
			count *= 8
		}
		if count == 0 {
			size = 0
		}
		if size > uint64(len(b)) {
			return fmt.Errorf("%w: a run claims %d bytes where %d are left", errEncoding, size, len(b))
		}
		b = b[size:]
		if total += count; total > uint64(n)+runSlack {
			return fmt.Errorf("%w: runs hold more than the page's %d values", errEncoding, n)
		}
	}
	return nil
}

// guardValues checks the claims of the values of a page that has n values, nulls included.
func guardValues(e format.Encoding, leaf *parquetLeaf, b []byte, n int, limits Limits) error {
	switch e {
	case format.Plain, format.ByteStreamSplit:
		return nil
	case format.PlainDictionary, format.RLEDictionary:
		if len(b) == 0 {
			return nil
		}
		if b[0] > 32 {
			return fmt.Errorf("%w: dictionary indexes of %d bits", errEncoding, b[0])
		}
		return guardRuns(b[1:], int(b[0]), n)
	case format.RLE:
		if leaf.element.Type.V != format.Boolean {
			return errors.New("run-length values that are not booleans are not supported")
		}
		runs, _, err := prefixed(b)
		if err != nil {
			return err
		}
		return guardRuns(runs, 1, n)
	case format.DeltaBinaryPacked, format.DeltaLengthByteArray:
		_, _, err := guardDelta(b, n)
		return err
	case format.DeltaByteArray:
		return guardDeltaStrings(b, n, limits)
	}
	return fmt.Errorf("its encoding %d is not supported; write the file with plain or dictionary encoding", e)
}

// guardDelta checks a DELTA_BINARY_PACKED block of at most n values and returns its end and its count.
func guardDelta(b []byte, n int) (end, count int, err error) {
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
		return 0, 0, err
	case total > uint64(n):
		return 0, 0, fmt.Errorf("%w: a delta block claims %d values in a page of %d", errEncoding, total, n)
	case block == 0 || block%128 != 0 || block > 1<<20 || minis == 0 || minis > block || block%minis != 0 || (block/minis)%32 != 0:
		return 0, 0, fmt.Errorf("%w: delta blocks of %d values in %d", errEncoding, block, minis)
	}
	for left := int64(total) - 1; left > 0; {
		number() // the smallest delta
		if err != nil || at+int(minis) > len(b) {
			return 0, 0, fmt.Errorf("%w: a delta block is cut off", errEncoding)
		}
		widths := b[at : at+int(minis)]
		at += int(minis)
		for _, w := range widths {
			if left <= 0 {
				break
			}
			if w > 64 {
				return 0, 0, fmt.Errorf("%w: deltas of %d bits", errEncoding, w)
			}
			at += int(block/minis) * int(w) / 8
			left -= int64(block / minis)
		}
	}
	if at > len(b) {
		return 0, 0, fmt.Errorf("%w: a delta block is cut off", errEncoding)
	}
	return at, int(total), nil
}

// guardDeltaStrings checks DELTA_BYTE_ARRAY, where each value may repeat all of the one before: the lengths are added up first.
func guardDeltaStrings(b []byte, n int, limits Limits) error {
	total := int64(0)
	for _, what := range []string{"prefix", "suffix"} {
		end, count, err := guardDelta(b, n)
		if err != nil {
			return err
		}
		lengths := make([]int32, 0, count)
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
