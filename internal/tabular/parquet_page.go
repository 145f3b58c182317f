package tabular

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// maxPageValues bounds the values of one page, whatever it costs to encode them: a run of 16 Mi equal values takes five bytes.
const maxPageValues = 16 << 20

// pageStream serves the pages of one column chunk, decompressed and judged, as the bytes of an uncompressed chunk at virtualStart.
// It is an io.ReaderAt because parquet-go reads chunks so; it can only be read forwards, which is how pages are read.
type pageStream struct {
	ctx    context.Context
	src    io.ReaderAt
	chunk  parquetChunk
	leaf   *parquetLeaf
	limits Limits
	ratio  *ratioGuard // of the whole file

	pos   int64  // in the real file
	next  int64  // virtual offset of out
	out   []byte // served next
	seen  int64  // values of the data pages so far
	held  int64  // bytes that the last page and the dictionary take once decoded
	dict  int64
	stuck error
}

func (s *pageStream) ReadAt(p []byte, off int64) (int, error) {
	if off != s.next {
		return 0, fmt.Errorf("a dictionary page is missing or stands behind its data (offset %d, not %d)", off, s.next)
	}
	n := 0
	for n < len(p) {
		if len(s.out) == 0 {
			if s.stuck == nil {
				s.stuck = s.page()
			}
			if s.stuck != nil {
				return n, s.stuck
			}
		}
		c := copy(p[n:], s.out)
		s.out = s.out[c:]
		s.next += int64(c)
		n += c
	}
	return n, nil
}

// page reads the next page into out, or returns io.EOF at the chunk's end.
func (s *pageStream) page() error {
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if s.pos >= s.chunk.end {
			if s.seen != s.chunk.values {
				return fmt.Errorf("its pages hold %d values of the %d claimed", s.seen, s.chunk.values)
			}
			return io.EOF
		}
		h, err := s.header()
		if err != nil {
			return err
		}
		if h.Type == format.IndexPage {
			s.pos += int64(h.CompressedPageSize)
			continue
		}
		body, err := s.body(h)
		if err != nil {
			return err
		}
		if err := s.count(h, body); err != nil {
			return err
		}
		if err := guardPage(h, s.leaf, body, s.limits); err != nil {
			return err
		}
		return s.serve(h, body)
	}
}

// header reads and judges the page header at pos, and moves behind it.
func (s *pageStream) header() (*format.PageHeader, error) {
	var length int
	var buf []byte
	// Headers are short unless they carry long statistics, so little is read first.
	for _, try := range []int64{2 << 10, 64 << 10, int64(s.limits.PageBytes)} {
		buf = make([]byte, min(try, s.chunk.end-s.pos))
		if _, err := s.src.ReadAt(buf, s.pos); err != nil {
			return nil, fmt.Errorf("read page header: %w", err)
		}
		var err error
		length, err = thriftLength(buf)
		if err == nil {
			break
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) || int64(len(buf)) == s.chunk.end-s.pos || try == int64(s.limits.PageBytes) {
			return nil, fmt.Errorf("read page header: %w", err)
		}
	}
	h := &format.PageHeader{}
	if err := guard(func() error { return thrift.Unmarshal(&thrift.CompactProtocol{}, buf[:length], h) }); err != nil {
		return nil, fmt.Errorf("read page header: %w", err)
	}
	s.pos += int64(length)
	switch {
	case h.CompressedPageSize < 0 || int64(h.CompressedPageSize) > s.chunk.end-s.pos:
		return nil, fmt.Errorf("a page claims %d bytes where %d are left; the file is damaged", h.CompressedPageSize, s.chunk.end-s.pos)
	case h.UncompressedPageSize < 0:
		return nil, fmt.Errorf("a page claims %d bytes; the file is damaged", h.UncompressedPageSize)
	case int(max(h.CompressedPageSize, h.UncompressedPageSize)) > s.limits.PageBytes:
		return nil, limitf("page bytes", "a page has %d bytes, more than %d", max(h.CompressedPageSize, h.UncompressedPageSize), s.limits.PageBytes)
	case h.Type == format.DataPage && !h.DataPageHeader.Valid, h.Type == format.DataPageV2 && !h.DataPageHeaderV2.Valid, h.Type == format.DictionaryPage && !h.DictionaryPageHeader.Valid:
		return nil, errors.New("a page lacks the header of its type; the file is damaged")
	case h.Type < format.DataPage || h.Type > format.DataPageV2:
		return nil, fmt.Errorf("a page has the unknown type %d", h.Type)
	}
	return h, nil
}

// body reads the page's bytes, checks their sum, and decompresses them.
func (s *pageStream) body(h *format.PageHeader) ([]byte, error) {
	// The guard judges the claim, so that a bomb is refused before it is let off; inflate then holds the page to its claim.
	s.ratio.in += int64(h.CompressedPageSize)
	s.ratio.out += int64(h.UncompressedPageSize)
	if err := s.ratio.check(); err != nil {
		return nil, err
	}
	raw := make([]byte, h.CompressedPageSize)
	if _, err := s.src.ReadAt(raw, s.pos); err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	s.pos += int64(len(raw))
	if h.CRC != 0 && crc32.ChecksumIEEE(raw) != uint32(h.CRC) {
		return nil, errors.New("the checksum of a page does not match; the file is damaged")
	}
	levels := 0
	compressed := s.chunk.codec != format.Uncompressed
	if h.Type == format.DataPageV2 { // its levels are never compressed
		v2 := &h.DataPageHeaderV2.V
		r, d := int64(v2.RepetitionLevelsByteLength), int64(v2.DefinitionLevelsByteLength)
		if r < 0 || d < 0 || r+d > int64(len(raw)) || r+d > int64(h.UncompressedPageSize) {
			return nil, fmt.Errorf("a page claims %d bytes of levels in %d", r+d, len(raw))
		}
		levels = int(r + d)
		compressed = compressed && (!v2.IsCompressed.Valid || v2.IsCompressed.V)
		v2.IsCompressed = thrift.New(false)
	}
	want := int(h.UncompressedPageSize)
	if !compressed {
		if len(raw) != want {
			return nil, fmt.Errorf("an uncompressed page has %d bytes, not the %d claimed", len(raw), want)
		}
		return raw, nil
	}
	body := make([]byte, want)
	copy(body, raw[:levels])
	if err := inflate(s.chunk.codec, body[levels:], raw[levels:]); err != nil {
		return nil, fmt.Errorf("decompress page: %w", err)
	}
	return body, nil
}

// inflate decompresses src into exactly dst; nothing beyond dst is ever allocated for what src claims.
func inflate(codec format.CompressionCodec, dst, src []byte) error {
	if len(dst) == 0 && len(src) == 0 {
		return nil
	}
	switch codec {
	case format.Snappy:
		n, err := snappy.DecodedLen(src)
		if err != nil || n != len(dst) {
			return fmt.Errorf("snappy data of %d bytes where %d are claimed: %w", n, len(dst), errors.Join(err, errPageSize))
		}
		_, err = snappy.Decode(dst, src)
		return err
	case format.Lz4Raw:
		n, err := lz4.UncompressBlock(src, dst)
		if err == nil && n != len(dst) {
			err = errPageSize
		}
		return err
	case format.Gzip:
		z, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return err
		}
		return fill(dst, z)
	case format.Zstd:
		z, err := zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return err
		}
		defer z.Close()
		return fill(dst, z)
	}
	return fill(dst, brotli.NewReader(bytes.NewReader(src)))
}

var errPageSize = errors.New("the decompressed size is not the claimed one")

// fill reads dst and nothing more from r.
func fill(dst []byte, r io.Reader) error {
	if _, err := io.ReadFull(r, dst); err != nil {
		return fmt.Errorf("%w: %w", errPageSize, err)
	}
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return errPageSize
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// count holds the page to the values that the chunk has left.
func (s *pageStream) count(h *format.PageHeader, body []byte) error {
	var n int64
	width := int64(8)
	switch h.Type {
	case format.DataPage:
		n = int64(h.DataPageHeader.V.NumValues)
	case format.DataPageV2:
		n = int64(h.DataPageHeaderV2.V.NumValues)
		if nulls := int64(h.DataPageHeaderV2.V.NumNulls); nulls < 0 || nulls > n {
			return fmt.Errorf("a page claims %d nulls among %d values", nulls, n)
		}
	case format.DictionaryPage:
		n = int64(h.DictionaryPageHeader.V.NumValues)
		if n < 0 || n > maxPageValues {
			return limitf("page values", "a dictionary claims %d values, more than %d", n, maxPageValues)
		}
		s.dict = int64(len(body)) + 4*n
		return nil
	}
	if n < 0 || n > maxPageValues {
		return limitf("page values", "a page claims %d values, more than %d", n, maxPageValues)
	}
	if s.seen += n; s.seen > s.chunk.values {
		return fmt.Errorf("its pages hold more than the %d values claimed", s.chunk.values)
	}
	s.held = max(int64(len(body)), width*n) + s.dict
	return nil
}

// serve puts the page, as an uncompressed one, in front of the reader.
func (s *pageStream) serve(h *format.PageHeader, body []byte) error {
	h.CompressedPageSize, h.UncompressedPageSize, h.CRC = int32(len(body)), int32(len(body)), 0
	h.DataPageHeader.V.Statistics, h.DataPageHeaderV2.V.Statistics = format.Statistics{}, format.Statistics{}
	head, err := thrift.Marshal(&thrift.CompactProtocol{}, h)
	if err != nil {
		return fmt.Errorf("rewrite page header: %w", err)
	}
	s.out = append(head, body...)
	return nil
}
