package tabular

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// fuzzLimits keep one input cheap, so that many are tried; the code paths are those of the defaults.
var fuzzLimits = Limits{RowBytes: 1 << 16, FieldBytes: 1 << 14, Columns: 200, Depth: 16, Rows: 100_000, PageBytes: 1 << 20, OpenBytes: 1 << 24}

// fuzzRead reads content whole and checks what every reader promises: an end within five seconds, and columns as long as their batch.
func fuzzRead(t *testing.T, dir, name string, content []byte) {
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, content, 0o600))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	res, err := Scan(ctx, []string{path}, ScanOptions{Options: Options{Limits: fuzzLimits}, Expect: []Expectation{{Name: "e", NotNull: []string{"*"}, MaxDuplicates: ptr(0)}}})
	if ctx.Err() != nil {
		t.Fatal("over five seconds")
	}
	if err != nil {
		return
	}
	rows := int64(0)
	r, err := Open(ctx, []string{path}, Options{Limits: fuzzLimits})
	must(t, err)
	for {
		b, err := r.Next()
		if err != nil {
			break
		}
		rows += int64(b.Rows)
		for _, c := range b.Columns {
			if (c.Num == nil) == (c.Str == nil) || len(c.Num)+len(c.Str) != b.Rows || (c.Nulls != nil && len(c.Nulls) != b.Rows) {
				t.Fatalf("column %q: %d numbers, %d texts, %d marks for %d rows", c.Name, len(c.Num), len(c.Str), len(c.Nulls), b.Rows)
			}
		}
	}
	must(t, r.Close())
	if rows != res.Rows {
		t.Fatalf("%d rows read, %d scanned", rows, res.Rows)
	}
}

func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a,b\n1,2\n", "a\n\"x\ny\"\"\"\r\n", "\ufeffa,b\r\n,NA\r\n1e5,true", "a,b\n\"1", "a\n\n\n1\n2024-01-01\n", people} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		fuzzRead(t, dir, "x.csv", content)
		want, wantErr := stdCSV(string(content))
		if wantErr != nil || len(want) == 0 || !utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0 || checkNames(want[0], Limits{}.withDefaults()) != nil {
			return
		}
		got, err := rawCSV(t, string(content))
		must(t, err)
		if !slices.EqualFunc(want, got, slices.Equal[[]string]) {
			t.Fatalf("%q is %q, encoding/csv says %q", content, got, want)
		}
	})
}

func FuzzJSONLines(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":"x"}` + "\n" + `{"b":null}`, `{"a":{"b":[1,"}"]},"c":-1.5e3}`, `{"a":"\ud83d\ude00\u0041"}`, `{"a":tru`, "{}\n\n{}"} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) { fuzzRead(t, dir, "x.jsonl", content) })
}

func FuzzParquet(f *testing.F) {
	for _, version := range []int{1, 2} {
		f.Add(withoutChecksums(f, parquetBytes(f, pairs(20), parquet.DataPageVersion(version), parquet.Compression(&parquet.Zstd))))
		f.Add(withoutChecksums(f, parquetBytes(f, patients(6), parquet.DataPageVersion(version))))
	}
	f.Add(withoutChecksums(f, parquetBytes(f, []encodedRow{{A: 1, B: "ab"}, {A: 5, B: "abc"}})))
	f.Add(withFooter([]byte("PAR1"), []byte{0x15, 2, 0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 7}))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) { fuzzRead(t, dir, "x.parquet", content) })
}
