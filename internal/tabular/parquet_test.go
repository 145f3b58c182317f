package tabular

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/parquet-go/parquet-go"
)

type patient struct {
	ID      int64     `parquet:"id"`
	Radius  float64   `parquet:"radius"`
	Name    string    `parquet:"name,dict"`
	Smoker  bool      `parquet:"smoker"`
	Seen    time.Time `parquet:"seen,timestamp(microsecond)"`
	Weight  *float64  `parquet:"weight,optional"`
	Scores  []int32   `parquet:"scores,list"`
	Address struct {
		City string `parquet:"city"`
		Zip  *int32 `parquet:"zip,optional"`
	} `parquet:"address"`
}

func patients(n int) []patient {
	rows := make([]patient, n)
	for i := range rows {
		p := &rows[i]
		p.ID = int64(i)
		p.Radius = float64(i) / 4
		p.Name = fmt.Sprintf("n%d", i%7)
		p.Smoker = i%2 == 1
		p.Seen = time.UnixMicro(1_700_000_000_250_000 + int64(i)*1_000_000).UTC()
		if i%3 > 0 {
			w := float64(i) + 0.5
			p.Weight = &w
		}
		for j := range i % 4 {
			p.Scores = append(p.Scores, int32(j))
		}
		p.Address.City = "Bern"
		if i%2 == 0 {
			z := int32(3000 + i)
			p.Address.Zip = &z
		}
	}
	return rows
}

func parquetBytes[T any](t testing.TB, rows []T, opts ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, opts...)
	must(t, second(w.Write(rows)))
	must(t, w.Close())
	return b.Bytes()
}

func TestParquetValuesComeBackUnderEveryCodecAndPageVersion(t *testing.T) {
	codecs := map[string]parquet.WriterOption{
		"none": parquet.Compression(&parquet.Uncompressed), "snappy": parquet.Compression(&parquet.Snappy), "gzip": parquet.Compression(&parquet.Gzip),
		"zstd": parquet.Compression(&parquet.Zstd), "brotli": parquet.Compression(&parquet.Brotli), "lz4_raw": parquet.Compression(&parquet.Lz4Raw),
	}
	for name, codec := range codecs {
		for _, version := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, page version %d", name, version), func(t *testing.T) {
				content := parquetBytes(t, patients(2500), codec, parquet.DataPageVersion(version), parquet.PageBufferSize(2000), parquet.MaxRowsPerRowGroup(1200))
				schema, rows, err := readAll(t, []string{write(t, "p.parquet", string(content))}, Options{})
				must(t, err)
				want := Schema{{"id", Integer}, {"radius", Number}, {"name", Category}, {"smoker", Bool}, {"seen", Timestamp}, {"weight", Number}, {"scores", Category}, {"address.city", Category}, {"address.zip", Integer}}
				if d := cmp.Diff(want, schema); d != "" {
					t.Fatal(d)
				}
				if len(rows) != 2500 {
					t.Fatalf("%d rows", len(rows))
				}
				for i, want := range map[int][]string{
					0:    {"0", "0", "n0", "false", "2023-11-14T22:13:20.25Z", "∅", "[]", "Bern", "3000"},
					1203: {"1203", "300.75", "n6", "true", "2023-11-14T22:33:23.25Z", "∅", "[0,1,2]", "Bern", "∅"},
					2498: {"2498", "624.5", "n6", "false", "2023-11-14T22:54:58.25Z", "2498.5", "[0,1]", "Bern", "5498"},
				} {
					if d := cmp.Diff(want, rows[i]); d != "" {
						t.Errorf("row %d: %s", i, d)
					}
				}
			})
		}
	}
}

// encodedRow has a column for each encoding and each odd type.
type encodedRow struct {
	A int64    `parquet:"a,delta"`
	B string   `parquet:"b,delta"`
	C string   `parquet:"c,plain"`
	D float64  `parquet:"d,split"`
	E int32    `parquet:"e,dict"`
	F uint64   `parquet:"f"`
	G float32  `parquet:"g"`
	H [16]byte `parquet:"h,uuid"`
	I int64    `parquet:"i,decimal(2:10)"`
	J []byte   `parquet:"j"`
}

func TestParquetEncodings(t *testing.T) {
	rows := make([]encodedRow, 3000)
	for i := range rows {
		rows[i] = encodedRow{A: int64(i * i), B: fmt.Sprintf("prefix-%d", i), C: fmt.Sprint(i), D: float64(i) / 3, E: int32(i % 5), F: math.MaxUint64 - uint64(i), G: 0.1, I: int64(12345 + i), J: []byte{0xFF, byte(i)}}
		rows[i].H[15] = byte(i)
	}
	path := write(t, "e.parquet", string(parquetBytes(t, rows)))
	_, got, err := readAll(t, []string{path}, Options{})
	must(t, err)
	want := []string{"8994001", "prefix-2999", "2999", "999.6666666666666", "4", "18446744073709548616", "0.1", "00000000-0000-0000-0000-0000000000b7", "153.44", "base64:/7c="}
	if d := cmp.Diff(want, got[2999]); d != "" {
		t.Error(d)
	}
}

func TestParquetCompressedAsAWhole(t *testing.T) {
	content := string(parquetBytes(t, patients(10)))
	for _, name := range []string{"p.parquet.gz", "p.parquet.zst"} {
		dir := t.TempDir()
		_, rows, err := readAll(t, []string{write(t, name, content)}, Options{TempDir: dir})
		must(t, err)
		if len(rows) != 10 {
			t.Errorf("%s: %d rows", name, len(rows))
		}
		left, err := os.ReadDir(dir)
		must(t, err)
		if len(left) > 0 {
			t.Errorf("%s: the unpacked copy is left behind", name)
		}
	}
}

func TestParquetSplitsKeepSchemaAndRows(t *testing.T) {
	all := patients(3000)
	path := write(t, "p.parquet", string(parquetBytes(t, all)))
	opts := ScanOptions{SplitDir: t.TempDir(), Splits: []Split{{Name: "train", Fraction: 0.75}, {Name: "test", Fraction: 0.25}}}
	res, err := Scan(context.Background(), []string{path}, opts)
	must(t, err)
	var ids []int64
	for _, name := range []string{"train", "test"} {
		s := res.Splits[name]
		rows, err := parquet.ReadFile[patient](s.Path)
		must(t, err)
		if int64(len(rows)) != s.Rows {
			t.Errorf("%s: %d rows in the file, %d told", name, len(rows), s.Rows)
		}
		for _, r := range rows {
			ids = append(ids, r.ID)
			if d := cmp.Diff(all[r.ID], r, cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("row %d changed: %s", r.ID, d)
			}
		}
	}
	if len(ids) != 3000 {
		t.Errorf("%d rows in both splits", len(ids))
	}
	if n := res.Splits["train"].Rows; n < 2150 || n > 2350 {
		t.Errorf("train has %d of 3000 rows", n)
	}
}

func TestParquetFilesOfOneTableHaveOneSchema(t *testing.T) {
	type a struct {
		X int32 `parquet:"x"`
	}
	type b struct {
		X int64 `parquet:"x"`
	}
	p := write(t, "a.parquet", string(parquetBytes(t, []a{{1}})))
	q := write(t, "b.parquet", string(parquetBytes(t, []b{{1}})))
	_, _, err := readAll(t, []string{p, q}, Options{})
	wantError(t, err, p, q, "schema")
}

func BenchmarkLoadParquet(b *testing.B) {
	type row struct {
		A, B, C, D, E, F, G, H, I, J float64
	}
	rows := make([]row, 200_000)
	x := uint64(1)
	for i := range rows {
		x = mix64(x)
		v := float64(x>>40) / 1000
		rows[i] = row{v, v, v, v, v, v, v, v, v, v}
	}
	path := write(b, "b.parquet", string(parquetBytes(b, rows)))
	for b.Loop() {
		_, err := Load(context.Background(), []string{path}, Options{})
		must(b, err)
	}
}

func drain(r *Reader) (rows int, err error) {
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows += b.Rows
	}
}
