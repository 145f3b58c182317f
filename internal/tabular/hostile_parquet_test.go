package tabular

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// hang ends a read that would never end. It says nothing of speed: machines differ, and the race detector is slow.
const hang = 5 * time.Minute

// readBytes reads content as a file and returns the error; it fails when the read hangs.
func readBytes(t testing.TB, name string, content []byte, limits Limits) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, content, 0o600))
	return readFile(t, path, limits)
}

func readFile(t testing.TB, path string, limits Limits) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	r, err := Open(ctx, []string{path}, Options{Limits: limits})
	if err != nil {
		return err
	}
	_, err = drain(r)
	must(t, r.Close())
	if ctx.Err() != nil {
		t.Fatalf("reading %s did not end", path)
	}
	return err
}

// rewriteFooter returns the file with its metadata changed, and with other data if given.
func rewriteFooter(t testing.TB, file []byte, change func(*format.FileMetaData), data ...*[]byte) []byte {
	t.Helper()
	n := int(binary.LittleEndian.Uint32(file[len(file)-8:]))
	var md format.FileMetaData
	must(t, thrift.Unmarshal(&thrift.CompactProtocol{}, file[len(file)-8-n:len(file)-8], &md))
	change(&md)
	footer, err := thrift.Marshal(&thrift.CompactProtocol{}, &md)
	must(t, err)
	if len(data) > 0 {
		return withFooter(*data[0], footer)
	}
	return withFooter(file[:len(file)-8-n], footer)
}

func withFooter(data, footer []byte) []byte {
	out := append(bytes.Clone(data), footer...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(footer)))
	return append(out, "PAR1"...)
}

// withoutChecksums rewrites the pages without CRC, as a forger would, so that damage gets past the checksum to the decoders.
func withoutChecksums(t testing.TB, file []byte) []byte {
	t.Helper()
	data := []byte("PAR1")
	return rewriteFooter(t, file, func(md *format.FileMetaData) {
		for g := range md.RowGroups {
			for c := range md.RowGroups[g].Columns {
				m := &md.RowGroups[g].Columns[c].MetaData
				at := m.DataPageOffset
				if m.DictionaryPageOffset > 0 {
					at = min(at, m.DictionaryPageOffset)
				}
				end, start := at+m.TotalCompressedSize, int64(len(data))
				for at < end {
					n, err := thriftLength(file[at:end])
					must(t, err)
					var h format.PageHeader
					must(t, thrift.Unmarshal(&thrift.CompactProtocol{}, file[at:at+int64(n)], &h))
					h.CRC = 0
					head, err := thrift.Marshal(&thrift.CompactProtocol{}, &h)
					must(t, err)
					at += int64(n)
					data = append(append(data, head...), file[at:at+int64(h.CompressedPageSize)]...)
					at += int64(h.CompressedPageSize)
				}
				m.DataPageOffset, m.DictionaryPageOffset, m.TotalCompressedSize = start, 0, int64(len(data))-start
			}
		}
	}, &data)
}

type pair struct {
	A int64   `parquet:"a"`
	B *string `parquet:"b,optional"`
}

func pairs(n int) []pair {
	rows := make([]pair, n)
	for i := range rows {
		s := fmt.Sprint("v", i%3)
		rows[i] = pair{int64(i), &s}
	}
	return rows
}

// allocated fails the test if do allocates more than most bytes in all.
func allocated(t *testing.T, most uint64, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > most {
		t.Errorf("%d MiB allocated, more than %d", n>>20, most>>20)
	}
}

func TestD1HostileParquetNeverHangsOrPanics(t *testing.T) {
	file := parquetBytes(t, pairs(20), parquet.Compression(&parquet.Snappy))
	path := filepath.Join(t.TempDir(), "x.parquet")
	try := func(content []byte) error {
		must(t, os.WriteFile(path, content, 0o600))
		return readFile(t, path, Limits{})
	}
	t.Run("cut off at every byte", func(t *testing.T) {
		for n := range file {
			wantError(t, try(file[:n]), path)
		}
	})
	t.Run("every byte replaced", func(t *testing.T) {
		file := withoutChecksums(t, file)
		must(t, try(file))
		for at := range file {
			for _, b := range []byte{0, 0xFF, file[at] + 0x11} {
				bad := bytes.Clone(file)
				bad[at] = b
				if err := try(bad); err != nil && !strings.Contains(err.Error(), path) {
					t.Fatalf("byte %d = %#x: %v does not name the file", at, b, err)
				}
			}
		}
	})
	t.Run("a footer of nested structs that never ends", func(t *testing.T) {
		wantError(t, try(withFooter([]byte("PAR1"), bytes.Repeat([]byte{0x1C}, 1<<20))), "nested too deep")
	})
	t.Run("pages without bytes or values", func(t *testing.T) {
		h, err := thrift.Marshal(&thrift.CompactProtocol{}, &format.PageHeader{Type: format.DataPage, DataPageHeader: thrift.New(format.DataPageHeader{Encoding: format.Plain, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE})})
		must(t, err)
		loop := append([]byte("PAR1"), bytes.Repeat(h, 10_000)...)
		bad := rewriteFooter(t, append(loop, file[4:]...), func(md *format.FileMetaData) {
			c := &md.RowGroups[0].Columns[0].MetaData
			c.DataPageOffset, c.DictionaryPageOffset, c.TotalCompressedSize = 4, 0, int64(10_000*len(h))
		})
		wantError(t, try(bad), path, `column "a"`)
	})
	t.Run("a byte of a page that has a checksum", func(t *testing.T) {
		bad := bytes.Clone(parquetBytes(t, pairs(20), parquet.Compression(&parquet.Uncompressed)))
		bad[bytes.Index(bad, []byte{7, 0, 0, 0, 0, 0, 0, 0, 8})] = 9
		wantError(t, try(bad), `column "a"`, "checksum")
	})
	t.Run("a panic of the library is an error", func(t *testing.T) {
		wantError(t, guard(func() error { panic("index out of range") }), "damaged", "index out of range")
	})
	t.Run("a type that the bytes cannot have", func(t *testing.T) {
		number, text := 1, 2
		for name, bad := range map[string]struct {
			column int
			change func(*format.SchemaElement)
			want   string
		}{
			"text in integers":       {number, func(e *format.SchemaElement) { e.LogicalType.Value = &format.StringType{} }, "INT64"},
			"older text in integers": {number, func(e *format.SchemaElement) { e.LogicalType.Value, e.ConvertedType = nil, thrift.New(deprecated.UTF8) }, "INT64"},
			"bytes in eight bytes":   {number, func(e *format.SchemaElement) { e.LogicalType.Value = &format.IntType{BitWidth: 8, IsSigned: true} }, "INT64"},
			"a UUID in integers":     {number, func(e *format.SchemaElement) { e.LogicalType.Value = &format.UUIDType{} }, "INT64"},
			"a date in text":         {text, func(e *format.SchemaElement) { e.LogicalType.Value = &format.DateType{} }, "BYTE_ARRAY"},
			"a decimal in floats": {number, func(e *format.SchemaElement) {
				e.Type.V, e.LogicalType.Value = format.Double, &format.DecimalType{Precision: 5}
			}, "DECIMAL"},
			"a UUID of four bytes": {text, func(e *format.SchemaElement) {
				e.Type.V, e.TypeLength, e.LogicalType.Value = format.FixedLenByteArray, thrift.New(int32(4)), &format.UUIDType{}
			}, "FIXED_LEN_BYTE_ARRAY"},
			"a length that is not told": {text, func(e *format.SchemaElement) { e.Type.V, e.LogicalType.Value = format.FixedLenByteArray, nil }, "fixed length that is not told"},
		} {
			t.Run(name, func(t *testing.T) {
				wantError(t, try(rewriteFooter(t, file, func(md *format.FileMetaData) { bad.change(&md.Schema[bad.column]) })), path, bad.want, "damaged")
			})
		}
	})
	t.Run("a chunk outside the file", func(t *testing.T) {
		wantError(t, try(rewriteFooter(t, file, func(md *format.FileMetaData) { md.RowGroups[0].Columns[1].MetaData.DataPageOffset = 1 << 62 })), `column "b"`, "outside the file")
	})
}

func TestD2ClaimsOfABillionValuesAllocateNothing(t *testing.T) {
	file := parquetBytes(t, pairs(20))
	allocated(t, 64<<20, func() {
		err := readBytes(t, "x.parquet", rewriteFooter(t, file, func(md *format.FileMetaData) {
			md.NumRows, md.RowGroups[0].NumRows = 1e9, 1e9
			for i := range md.RowGroups[0].Columns {
				md.RowGroups[0].Columns[i].MetaData.NumValues = 1e9
			}
		}), Limits{})
		wantError(t, err, "x.parquet", `column "a"`, "20 values of the 1000000000 claimed")
	})
	allocated(t, 16<<20, func() {
		// Field 2 (the schema), a list of 2^31-1 structs, and nothing behind it.
		footer := []byte{0x15, 0x02, 0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x07}
		wantError(t, readBytes(t, "x.parquet", withFooter([]byte("PAR1"), footer), Limits{}), "list claims 2147483647 elements")
	})
	t.Run("a level run of 2^31 values in six bytes", func(t *testing.T) {
		run := binary.AppendUvarint(nil, 1<<31<<1)
		wantError(t, guardRuns(append(run, 1), 1, 100, nil), "claims")
		wantError(t, guardRuns([]byte{0xC8, 0x0A, 1}, 1, 100, nil), "more than the page's 100 values") // within reach, and still a lie: 676 values
	})
	t.Run("delta strings that grow without bytes", func(t *testing.T) {
		one := strings.Repeat("x", 20_000)
		offsets := []uint32{0}
		for range 100 {
			offsets = append(offsets, uint32(20_000*len(offsets)))
		}
		page, err := parquet.DeltaByteArray.EncodeByteArray(nil, []byte(strings.Repeat(one, 100)), offsets)
		must(t, err)
		if len(page) > 21_000 {
			t.Fatalf("the page has %d bytes; this test wants shared prefixes", len(page))
		}
		leaf := &parquetLeaf{element: format.SchemaElement{Type: thrift.New(format.ByteArray)}}
		must(t, guardValues(format.DeltaByteArray, leaf, page, 100, Limits{}.withDefaults()))
		wantError(t, guardValues(format.DeltaByteArray, leaf, page, 100, Limits{PageBytes: 1 << 20}.withDefaults()), "2000000 bytes", "limit page bytes")
	})
}

func TestD3FooterLongerThanTheFile(t *testing.T) {
	file := parquetBytes(t, pairs(20))
	for _, n := range []uint32{uint32(len(file)), 1 << 20, 1<<32 - 1} {
		bad := bytes.Clone(file)
		binary.LittleEndian.PutUint32(bad[len(bad)-8:], n)
		wantError(t, readBytes(t, "x.parquet", bad, Limits{}), "x.parquet", fmt.Sprint(n))
	}
}

func TestD4AMillionColumns(t *testing.T) {
	schema := []format.SchemaElement{{Name: "root", NumChildren: thrift.New(int32(1_000_000))}}
	for i := range 1_000_000 {
		schema = append(schema, format.SchemaElement{Name: fmt.Sprint(i), Type: thrift.New(format.Int32), RepetitionType: thrift.New(format.Required)})
	}
	footer, err := thrift.Marshal(&thrift.CompactProtocol{}, &format.FileMetaData{Version: 1, Schema: schema})
	must(t, err)
	wantError(t, readBytes(t, "x.parquet", withFooter([]byte("PAR1"), footer), Limits{}), "more than 10000 columns", "limit columns")
	wantError(t, readBytes(t, "x.csv", []byte(strings.Repeat("c,", 999_999)+"c\n"), Limits{}), "more than 10000 columns", "limit columns")
	wantError(t, readBytes(t, "x.csv", []byte(strings.Repeat("c,", 19_999)+"c\n"), Limits{}), "has 20000 columns, more than 10000", "limit columns")
	commas := []byte("a,b\n" + strings.Repeat(",", 6<<20) + "\n")
	allocated(t, 100<<20, func() { wantError(t, readBytes(t, "x.csv", commas, Limits{}), "row 1 (line 2)", "more fields") })
	// Commas inside of quotes and in the rows behind a long one are no columns.
	long := "a,b\n1,\"" + strings.Repeat("x,\n", 1<<17) + "\"\n" + strings.Repeat("1,\"2,3\"\n", 20_000)
	must(t, readBytes(t, "x.csv", []byte(long), Limits{}))
	var line strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&line, `,"k%d":1`, i)
	}
	wantError(t, readBytes(t, "x.jsonl", []byte("{"+line.String()[1:]+"}\n"), Limits{}), "more than 10000 different keys")
}

func TestD5SchemaNestedTenThousandDeep(t *testing.T) {
	schema := []format.SchemaElement{{Name: "root", NumChildren: thrift.New(int32(1))}}
	for range 10_000 {
		schema = append(schema, format.SchemaElement{Name: "list", NumChildren: thrift.New(int32(1)), RepetitionType: thrift.New(format.Repeated)})
	}
	schema = append(schema, format.SchemaElement{Name: "leaf", Type: thrift.New(format.Int32), RepetitionType: thrift.New(format.Required)})
	footer, err := thrift.Marshal(&thrift.CompactProtocol{}, &format.FileMetaData{Version: 1, Schema: schema})
	must(t, err)
	wantError(t, readBytes(t, "x.parquet", withFooter([]byte("PAR1"), footer), Limits{}), "nested deeper than 64")
}

func TestD6UnknownCodec(t *testing.T) {
	file := rewriteFooter(t, parquetBytes(t, pairs(20)), func(md *format.FileMetaData) { md.RowGroups[0].Columns[1].MetaData.Codec = 99 })
	wantError(t, readBytes(t, "x.parquet", file, Limits{}), "x.parquet", `column "b"`, "codec 99")
}

func TestD7PageBombs(t *testing.T) {
	type zero struct {
		X float64 `parquet:"x,plain"`
	}
	for name, codec := range map[string]parquet.WriterOption{"zstd": parquet.Compression(&parquet.Zstd), "gzip": parquet.Compression(&parquet.Gzip)} {
		t.Run(name+" page of 24 MiB of zeros", func(t *testing.T) {
			file := parquetBytes(t, make([]zero, 3<<20), codec, parquet.PageBufferSize(32<<20))
			allocated(t, 16<<20, func() {
				wantError(t, readBytes(t, "x.parquet", file, Limits{}), `column "x"`, "bomb")
			})
		})
	}
	t.Run("a page that says it is small", func(t *testing.T) {
		z, err := zstd.NewWriter(nil)
		must(t, err)
		bomb := z.EncodeAll(make([]byte, 64<<20), nil)
		must(t, z.Close())
		dst := make([]byte, 1000)
		allocated(t, 16<<20, func() { wantError(t, inflate(format.Zstd, dst, bomb), "not the claimed") })
	})
	t.Run("snappy that claims four gigabytes", func(t *testing.T) {
		allocated(t, 1<<20, func() {
			wantError(t, inflate(format.Snappy, make([]byte, 10), []byte{0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0}), "not the claimed")
		})
	})
}
