package tabular

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// A Parquet file reaches parquet-go only through what is built here. The footer is walked, decoded and judged; then a copy of it is handed
// over in which every column chunk is uncompressed, starts at virtualStart and has no indexes, and a pageStream serves the
// chunk's pages under that promise. So every byte that the library allocates for has been counted first.

// virtualStart is where each column chunk begins in the address space of its own pageStream.
const virtualStart = 4

// parquetLeaf is one leaf column of the schema.
type parquetLeaf struct {
	leafType
	name     string
	element  format.SchemaElement
	maxRep   int
	maxDef   int
	optional bool // the top-level field may be null
}

// parquetChunk is where one column of one row group lies in the real file.
type parquetChunk struct {
	start, end int64
	codec      format.CompressionCodec
	values     int64
}

// parquetMeta is a judged footer.
type parquetMeta struct {
	leaves []parquetLeaf
	chunks [][]parquetChunk // by row group, by leaf
	rows   []int64          // by row group
	file   *parquet.File    // over the rewritten footer
	schema *parquet.Schema  // with the library's own choice of encodings, for writing
	text   string           // of the schema, by which files are compared
}

// guard turns a panic of the library into an error. This is the only place where hostile bytes meet code that may panic.
func guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the Parquet data is damaged: %v", p)
		}
	}()
	return do()
}

func readParquetMeta(r io.ReaderAt, size int64, limits Limits) (*parquetMeta, error) {
	footer, err := readFooter(r, size, limits)
	if err != nil {
		return nil, err
	}
	n, err := thriftLength(footer)
	if err != nil {
		return nil, fmt.Errorf("read Parquet footer: %w", err)
	}
	if n != len(footer) {
		return nil, fmt.Errorf("read Parquet footer: %d bytes follow its metadata; the file is damaged or signed", len(footer)-n)
	}
	var md format.FileMetaData
	if err := guard(func() error { return thrift.Unmarshal(&thrift.CompactProtocol{}, footer, &md) }); err != nil {
		return nil, fmt.Errorf("read Parquet footer: %w", err)
	}
	m := &parquetMeta{}
	if m.leaves, err = schemaLeaves(md.Schema, limits); err != nil {
		return nil, fmt.Errorf("read Parquet schema: %w", err)
	}
	if err := m.locate(&md, size-8-int64(len(footer)), limits); err != nil {
		return nil, err
	}
	if err := guard(func() error { return m.open(&md) }); err != nil {
		return nil, fmt.Errorf("open Parquet file: %w", err)
	}
	return m, nil
}

func readFooter(r io.ReaderAt, size int64, limits Limits) ([]byte, error) {
	if size < 12 {
		return nil, fmt.Errorf("is no Parquet file: it has %d bytes", size)
	}
	var head [4]byte
	var tail [8]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("read Parquet header: %w", err)
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil {
		return nil, fmt.Errorf("read Parquet footer: %w", err)
	}
	switch magic := string(tail[4:]); {
	case magic == "PARE" || string(head[:]) == "PARE":
		return nil, errors.New("is an encrypted Parquet file; decrypt it first")
	case magic != "PAR1" || string(head[:]) != "PAR1":
		return nil, errors.New("is no Parquet file, or was cut off: the marks PAR1 at its start and end are missing")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4]))
	if n > size-12 {
		return nil, fmt.Errorf("read Parquet footer: it claims %d bytes in a file of %d; the file is damaged", n, size)
	}
	if n > int64(limits.PageBytes) {
		return nil, limitf("page bytes", "the Parquet footer has %d bytes, more than %d", n, limits.PageBytes)
	}
	footer := make([]byte, n)
	if _, err := r.ReadAt(footer, size-8-n); err != nil {
		return nil, fmt.Errorf("read Parquet footer: %w", err)
	}
	return footer, nil
}

// schemaWalk follows the depth-first list of schema elements.
type schemaWalk struct {
	limits Limits
	rest   []format.SchemaElement // not yet seen
	leaves []parquetLeaf
}

func schemaLeaves(schema []format.SchemaElement, limits Limits) ([]parquetLeaf, error) {
	if len(schema) == 0 || schema[0].Type.Valid || schema[0].NumChildren.V <= 0 {
		return nil, errors.New("it has no columns")
	}
	w := &schemaWalk{limits: limits, rest: schema[1:]}
	if err := w.children(nil, schema[0].NumChildren.V, parquetLeaf{}); err != nil {
		return nil, err
	}
	if len(w.rest) > 0 {
		return nil, errors.New("it has elements outside its root; the file is damaged")
	}
	names := make([]string, len(w.leaves))
	for i, l := range w.leaves {
		names[i] = l.name
	}
	return w.leaves, checkNames(names, limits)
}

// children reads the n children of the group at path; above holds its levels. A struct's leaves get dotted names, a list that is the only
// leaf of its field the field's own name.
func (w *schemaWalk) children(path []string, n int32, above parquetLeaf) error {
	for range n {
		if len(w.rest) == 0 {
			return errors.New("it ends in the middle of a group; the file is damaged")
		}
		leaf, before := above, len(w.leaves)
		leaf.element, w.rest = w.rest[0], w.rest[1:]
		e := &leaf.element
		switch e.RepetitionType.V {
		case format.Optional:
			leaf.maxDef++
		case format.Repeated:
			leaf.maxRep++
			leaf.maxDef++
		}
		at := append(slices.Clip(path), e.Name)
		if len(path) == 0 {
			leaf.optional = e.RepetitionType.V == format.Optional
		}
		read := w.leaf
		if !e.Type.Valid {
			read = w.group
		}
		if err := read(at, leaf); err != nil {
			return err
		}
		if field := w.leaves[before:]; len(path) == 0 && len(field) == 1 && field[0].maxRep > 0 {
			field[0].name = e.Name
		}
	}
	return nil
}

func (w *schemaWalk) group(path []string, g parquetLeaf) error {
	if g.element.NumChildren.V <= 0 {
		return fmt.Errorf("group %s has no columns", clip(g.element.Name))
	}
	if len(path) >= w.limits.Depth {
		return limitf("depth", "columns are nested deeper than %d", w.limits.Depth)
	}
	return w.children(path, g.element.NumChildren.V, g)
}

func (w *schemaWalk) leaf(path []string, leaf parquetLeaf) error {
	e := &leaf.element
	switch n := e.TypeLength.V; {
	case n < 0 || int(n) > w.limits.FieldBytes:
		return fmt.Errorf("column %s claims values of %d bytes", clip(e.Name), n)
	case e.NumChildren.V > 0:
		return fmt.Errorf("column %s is both a value and a group", clip(e.Name))
	case e.Type.V == format.FixedLenByteArray && n == 0:
		return fmt.Errorf("column %s: its values have a fixed length that is not told; the file is damaged", clip(e.Name))
	case len(w.leaves) == w.limits.Columns:
		return limitf("columns", "it has more than %d columns", w.limits.Columns)
	}
	leaf.name = strings.Join(path, ".")
	w.leaves = append(w.leaves, leaf)
	return nil
}

// locate judges where the chunks are and rewrites md as parquet-go is to see it.
func (m *parquetMeta) locate(md *format.FileMetaData, dataEnd int64, limits Limits) error {
	var rows int64
	for g := range md.RowGroups {
		rg := &md.RowGroups[g]
		if rows += rg.NumRows; rg.NumRows < 0 || rg.NumRows > limits.Rows || rows > limits.Rows {
			return limitf("rows", "the Parquet footer claims more than %d rows", limits.Rows)
		}
		if len(rg.Columns) != len(m.leaves) {
			return fmt.Errorf("row group %d has %d column chunks for %d columns; the file is damaged", g, len(rg.Columns), len(m.leaves))
		}
		chunks := make([]parquetChunk, len(rg.Columns))
		for c := range rg.Columns {
			chunk, err := chunkOf(&rg.Columns[c], dataEnd)
			if err != nil {
				return &Error{Column: m.leaves[c].name, Err: fmt.Errorf("row group %d: %w", g, err)}
			}
			chunks[c] = chunk
			rg.Columns[c] = format.ColumnChunk{FileOffset: virtualStart, MetaData: format.ColumnMetaData{
				Type: rg.Columns[c].MetaData.Type, Encoding: rg.Columns[c].MetaData.Encoding, PathInSchema: rg.Columns[c].MetaData.PathInSchema,
				NumValues: chunk.values, DataPageOffset: virtualStart, TotalCompressedSize: 1 << 60, TotalUncompressedSize: 1 << 60,
			}}
		}
		rg.SortingColumns = nil
		m.chunks = append(m.chunks, chunks)
		m.rows = append(m.rows, rg.NumRows)
	}
	md.NumRows, md.KeyValueMetadata, md.ColumnOrders = rows, nil, nil
	return nil
}

func chunkOf(c *format.ColumnChunk, dataEnd int64) (parquetChunk, error) {
	md := &c.MetaData
	start := md.DataPageOffset
	if md.DictionaryPageOffset > 0 {
		start = min(start, md.DictionaryPageOffset)
	}
	switch {
	case c.FilePath != "":
		return parquetChunk{}, fmt.Errorf("its data is in another file (%s), which is not read", clip(c.FilePath))
	case c.CryptoMetadata.Value != nil || len(c.EncryptedColumnMetadata) > 0:
		return parquetChunk{}, errors.New("it is encrypted; decrypt the file first")
	case start < 4 || md.TotalCompressedSize < 0 || md.TotalCompressedSize > dataEnd || start > dataEnd-md.TotalCompressedSize:
		return parquetChunk{}, fmt.Errorf("its data is claimed at %d to %d, outside the file; the file is damaged", start, start+md.TotalCompressedSize)
	case md.NumValues < 0:
		return parquetChunk{}, fmt.Errorf("it claims %d values; the file is damaged", md.NumValues)
	}
	switch md.Codec {
	case format.Uncompressed, format.Snappy, format.Gzip, format.Brotli, format.Zstd, format.Lz4Raw:
	default:
		return parquetChunk{}, fmt.Errorf("its compression codec %d is not supported; write the file with snappy, gzip, brotli, zstd, lz4_raw or none", md.Codec)
	}
	return parquetChunk{start: start, end: start + md.TotalCompressedSize, codec: md.Codec, values: md.NumValues}, nil
}

// open hands the rewritten footer to parquet-go, and once more without row groups for the schema of written files: a schema with
// row groups would carry the read file's encodings, and promise no compression.
func (m *parquetMeta) open(md *format.FileMetaData) error {
	var err error
	if m.file, err = openVirtual(md); err != nil {
		return err
	}
	groups := md.RowGroups
	md.RowGroups, md.NumRows = nil, 0
	empty, err := openVirtual(md)
	md.RowGroups = groups
	if err != nil {
		return err
	}
	m.schema = empty.Schema()
	m.text = m.schema.String()
	return setTypes(m.leaves, m.file.Root())
}

func openVirtual(md *format.FileMetaData) (*parquet.File, error) {
	footer, err := thrift.Marshal(&thrift.CompactProtocol{}, md)
	if err != nil {
		return nil, err
	}
	b := append([]byte("PAR1"), footer...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(footer)))
	b = append(b, "PAR1"...)
	return parquet.OpenFile(bytes.NewReader(b), int64(len(b)), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
}
