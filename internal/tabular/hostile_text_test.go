package tabular

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// sparse writes head and then size zero bytes that take no disk.
func sparse(t *testing.T, name, head string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, []byte(head), 0o600))
	must(t, os.Truncate(path, size))
	return path
}

func TestD8UnclosedQuoteBeforeFiveGigabytes(t *testing.T) {
	path := sparse(t, "x.csv", "a,b\n1,2\n3,\"never closed", 5<<30)
	allocated(t, 200<<20, func() {
		wantError(t, readFile(t, path, Limits{}), path, "row 2 (line 3)", "an unclosed quote", "limit row bytes")
	})
	lines := "a,b\n1,2\n3,\"never closed" + strings.Repeat("\n4,5", 5<<20)
	wantError(t, readBytes(t, "x.csv", []byte(lines), Limits{}), "row 2 (line 3)", "an unclosed quote", "limit row bytes")
	wantError(t, readBytes(t, "x.csv", []byte("a,b\n1,\"x\n"), Limits{}), "row 1 (line 2)", "not closed before the end")
}

func TestD9FieldOfAGigabyte(t *testing.T) {
	path := sparse(t, "x.csv", "a,b\n1,", 1<<30)
	allocated(t, 200<<20, func() { wantError(t, readFile(t, path, Limits{}), path, "row 1 (line 2)", "limit row bytes") })
	long := "a,b\n1,2\n1," + strings.Repeat("x", 9<<20) + "\n"
	wantError(t, readBytes(t, "x.csv", []byte(long), Limits{}), "row 2 (line 3)", `column "b"`, "limit field bytes")
}

func TestD10Headers(t *testing.T) {
	for header, want := range map[string]string{
		"a,b,a":                           `columns 1 and 3 are both named "a"`,
		"a,,c":                            "column 2 has no name",
		strings.Repeat("n", 1<<20):        "limit name bytes",
		"\"\x1b[31mred\",\"\x1b[31mred\"": `\x1b[31mred`,
	} {
		wantError(t, readBytes(t, "x.csv", []byte(header+"\n1,2,3\n"), Limits{}), "x.csv", want)
	}
	schema, _, err := readAll(t, []string{write(t, "x.csv", "=cmd(),b\n1,2\n")}, Options{})
	must(t, err)
	if schema[0].Name != "=cmd()" {
		t.Errorf("a name is text and nothing more, not %q", schema[0].Name)
	}
}

func TestD11LineEndsAndEncodings(t *testing.T) {
	_, rows, err := readAll(t, []string{write(t, "x.csv", "\ufeffa,b\r\n1,2\n3,\"4\r\n5\"\r\n\r\n6,7")}, Options{})
	must(t, err)
	if d := cmp.Diff([][]string{{"1", "2"}, {"3", "4\n5"}, {"6", "7"}}, rows); d != "" {
		t.Error(d)
	}
	for content, want := range map[string][]string{
		"a,b\n1,2\n3,x\x00y\n":             {"row 2 (line 3)", `column "b"`, "NUL"},
		"a,b\n\n\n1,\"x\ny\"\n3,caf\xe9\n": {"row 2 (line 6)", `column "b"`, "not UTF-8", "iconv"},
		"a,b\n1,\"caf\xe9, sugar\"\n":      {"row 1 (line 2)", `column "b"`, "not UTF-8"},
		"\xff\xfea\x00,\x00b\x00\n\x00":    {"UTF-16", "iconv"},
		"a\x00,\x00b\x00\n\x00":            {"NUL"},
		"caf\xe9,b\n1,2\n":                 {"not UTF-8"},
	} {
		wantError(t, readBytes(t, "x.csv", []byte(content), Limits{}), append(want, "x.csv")...)
	}
}

func TestD12RaggedRows(t *testing.T) {
	for content, want := range map[string][]string{
		"a,b\n1,2\n3\n": {"row 2 (line 3)", "has 1 fields but the header has 2"},
		"a,b\n1,2,3\n":  {"row 1 (line 2)", "more fields than the header's 2"},
		"a,b\n" + strings.Repeat("1,", 999_999) + "1\n": {"row 1 (line 2)", "more fields"},
		"a,b\n1,2\n\"x\",2,3\n":                         {"row 2 (line 3)", "more fields"},
		"a,b\n1,x\"y\n":                                 {"row 1 (line 2)", "quote"},
		"a,b\n1,\"x\"y\n":                               {"row 1 (line 2)", "closing quote"},
	} {
		wantError(t, readBytes(t, "x.csv", []byte(content), Limits{}), want...)
	}
}

func TestD13NumberSpellings(t *testing.T) {
	for cell, want := range map[string]Type{
		"\"1,5\"": String, "1e999": String, "-0": Integer, "1_000": String, "0x1p4": String, "1.5e3": Number, ".5": Number, "5.": Number,
		"+7": Integer, "007": String, "1 000": String, "-inf": Number, "--1": String, "1e": String, "2024-02-29": Timestamp, "2023-02-29": String,
	} {
		schema, _, err := readAll(t, []string{write(t, "x.csv", "k,v\na,"+cell+"\nb,NaN\n")}, Options{})
		must(t, err)
		if schema[1].Type != want {
			t.Errorf("%s is %s, want %s", cell, schema[1].Type, want)
		}
	}
	path := write(t, "x.csv", "v\n1\n\"1,5\"\n1e999\n")
	res, err := Scan(context.Background(), []string{path}, ScanOptions{Columns: []ColumnRule{{Name: "v", Type: Number}}})
	must(t, err)
	if len(res.Findings) != 1 || res.Findings[0].Rule != "type" || res.Findings[0].Count != 2 || res.Findings[0].Samples[0] != (SampleRow{2, path, "1,5"}) {
		t.Errorf("%+v", res.Findings)
	}
	_, err = Load(context.Background(), []string{path}, Options{Declared: Schema{{"v", Number}}})
	wantError(t, err, path, "row 2", `column "v"`, `"1,5"`, "number")
}

func TestD14JSONLines(t *testing.T) {
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for content, want := range map[string][]string{
		`{"a":1}` + "\n" + `{"a":` + deep + `}`: {"row 2 (line 2)", `column "a"`, "nested deeper than 64"},
		`{"a":1,"b":2,"a":3}`:                   {"row 1 (line 1)", `column "a"`, "twice"},
		`{"a":1} x`:                             {"row 1", "text follows"},
		`{"a":1}{"a":2}`:                        {"text follows"},
		`[1,2]`:                                 {"not a JSON object"},
		`{"a":NaN}`:                             {`column "a"`, "null"},
		`{"a":01}`:                              {`column "a"`, "number"},
		`{"a":1,}`:                              {"comma"},
		`{"a":1 "b":2}`:                         {"comma"},
		`{"a"}`:                                 {"colon"},
		`{"":1}`:                                {"key is empty"},
		`{"a":"x`:                               {"not closed"},
		`{"a":[1,2`:                             {"not closed"},
		`{"a":[1,}]}`:                           {`column "a"`, "not JSON"},
		`{"a":tru}`:                             {`column "a"`},
		"{\"a\":\"x\ty\"}":                      {"control character"},
		"{\"a\":\"\xe9\"}":                      {"UTF-8"},
	} {
		wantError(t, readBytes(t, "x.jsonl", []byte(content), Limits{}), append(want, "x.jsonl")...)
	}
	path := sparse(t, "x.jsonl", `{"a":"`, 2<<30)
	allocated(t, 200<<20, func() { wantError(t, readFile(t, path, Limits{}), path, "row 1", "limit row bytes") })
}

func TestD15BigIntegersAndSurrogates(t *testing.T) {
	big := write(t, "x.csv", "v,w\n9223372036854775808,1\n-9007199254740993,2\n12,3\n")
	table, err := Load(context.Background(), []string{big}, Options{})
	must(t, err)
	if c := table.Column("v"); c.Type != Integer || !cmp.Equal(c.Num, []float64{1 << 63, -9007199254740992, 12}) {
		t.Errorf("%+v", c)
	}
	_, rows, err := readAll(t, []string{big}, Options{})
	must(t, err)
	if d := cmp.Diff([][]string{{"9223372036854775808", "1"}, {"-9007199254740993", "2"}, {"12", "3"}}, rows); d != "" {
		t.Error(d)
	}
	in := func(set ...string) Expectation { return Expectation{Name: "e", InSet: map[string][]string{"v": set}} }
	res, err := Scan(context.Background(), []string{big}, ScanOptions{Expect: []Expectation{in("9223372036854775808", "-9007199254740993", "12.0"), in("9223372036854775807", "-9007199254740992", "12")}})
	must(t, err)
	if len(res.Findings) != 1 || res.Findings[0].Count != 2 {
		t.Errorf("neighbours of a big integer are other numbers: %+v", res.Findings)
	}
	wantError(t, readBytes(t, "x.jsonl", []byte(`{"s":"a\ud800b"}`), Limits{}), "row 1", `column "s"`, "lone surrogate")
	_, rows, err = readAll(t, []string{write(t, "x.jsonl", `{"s":"\ud83d\ude00 \u00e9\n\"","n":9223372036854775809}`)}, Options{})
	must(t, err)
	if d := cmp.Diff([][]string{{"😀 é\n\"", "9223372036854775809"}}, rows); d != "" {
		t.Error(d)
	}
}

func TestD16CompressedFiles(t *testing.T) {
	var bomb, members bytes.Buffer
	z := gzip.NewWriter(&bomb)
	must(t, second(z.Write([]byte("a,b\n"))))
	for range 10 {
		must(t, second(z.Write(bytes.Repeat([]byte("0,0\n"), 1<<18))))
	}
	must(t, z.Close())
	t.Run("a gzip bomb", func(t *testing.T) {
		wantError(t, readBytes(t, "x.csv.gz", bomb.Bytes(), Limits{}), "x.csv.gz", "bomb", "limit ratio")
		must(t, readBytes(t, "x.csv.gz", bomb.Bytes(), Limits{Ratio: 2000}))
	})
	t.Run("a zstd bomb", func(t *testing.T) {
		e, err := zstd.NewWriter(nil)
		must(t, err)
		b := e.EncodeAll(append([]byte("a\n"), bytes.Repeat([]byte("0\n"), 16<<20)...), nil)
		must(t, e.Close())
		wantError(t, readBytes(t, "x.csv.zst", b, Limits{}), "bomb")
	})
	t.Run("several gzip members are one file", func(t *testing.T) {
		for _, part := range []string{"a,b\n1,2\n", "3,4\n"} {
			z := gzip.NewWriter(&members)
			must(t, second(z.Write([]byte(part))))
			must(t, z.Close())
		}
		path := filepath.Join(t.TempDir(), "x.csv.gz")
		must(t, os.WriteFile(path, members.Bytes(), 0o600))
		_, rows, err := readAll(t, []string{path}, Options{})
		must(t, err)
		if d := cmp.Diff([][]string{{"1", "2"}, {"3", "4"}}, rows); d != "" {
			t.Error(d)
		}
	})
	t.Run("cut off anywhere", func(t *testing.T) {
		for n := range members.Len() - 1 {
			err := readBytes(t, "x.csv.gz", members.Bytes()[:n], Limits{})
			// A cut between the members leaves a whole file; every other one is seen.
			if err == nil && n != bytes.LastIndex(members.Bytes(), []byte{0x1f, 0x8b}) {
				t.Errorf("cut at byte %d of %d: no error", n, members.Len())
			}
		}
	})
	t.Run("not gzip at all", func(t *testing.T) {
		wantError(t, readBytes(t, "x.csv.gz", []byte("a,b\n1,2\n"), Limits{}), "x.csv.gz", "gzip")
		wantError(t, readBytes(t, "x.jsonl.zst", []byte("{}\n"), Limits{}), "x.jsonl.zst")
	})
}

func TestD17ArchivesAreRefused(t *testing.T) {
	for _, name := range []string{"x.zip", "x.csv.zip", "x.tar.gz", "x"} {
		wantError(t, readBytes(t, name, []byte("PK\x03\x04"), Limits{}), name, ".csv, .jsonl or .parquet", "zip")
	}
	dir := t.TempDir()
	wantError(t, readFile(t, mkdir(t, filepath.Join(dir, "d.csv")), Limits{}), "not a regular file")
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	must(t, os.Mkdir(path, 0o750))
	return path
}

func TestD18FileThatChangesWhileItIsRead(t *testing.T) {
	var rows strings.Builder
	rows.WriteString("a,b\n")
	for i := range 60_000 {
		fmt.Fprintf(&rows, "%d,%d\n", i, i)
	}
	change := map[string]func(path string) error{
		"grows": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			return errors.Join(second(f.WriteString("1,2\n")), f.Close())
		},
		"is rewritten at the same size": func(path string) error { return os.WriteFile(path, []byte(rows.String()), 0o600) },
		"is cut":                        func(path string) error { return os.Truncate(path, int64(rows.Len()/2)) },
		"is replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte(rows.String()), 0o600), os.Rename(path+".new", path))
		},
		"is removed": os.Remove,
	}
	for name, do := range change {
		t.Run(name, func(t *testing.T) {
			path := write(t, "x.csv", rows.String())
			r, err := Open(context.Background(), []string{path}, Options{})
			must(t, err)
			must(t, do(path))
			_, err = drain(r)
			must(t, r.Close())
			wantError(t, err, path, "changed while it was read")
			if !errors.Is(err, ErrChanged) {
				t.Errorf("%v is not ErrChanged", err)
			}
		})
	}
}

func TestD19RowOfTrainInTest(t *testing.T) {
	var b strings.Builder
	b.WriteString("patient,x\n")
	for i := range 400 {
		fmt.Fprintf(&b, "p%d,%d\n", i%100, i)
	}
	path := write(t, "x.csv", b.String())
	splits := func(group string) []Split {
		return []Split{{Name: "train", Fraction: 0.5, GroupBy: group}, {Name: "test", Fraction: 0.5, GroupBy: group}}
	}
	leak := Expectation{Name: "leak", NoOverlap: []string{"patient"}}
	res, err := Scan(context.Background(), []string{path}, ScanOptions{Expect: []Expectation{leak}, Splits: splits(""), SplitDir: t.TempDir()})
	must(t, err)
	if len(res.Findings) != 1 || res.Findings[0].Rule != "no_overlap" || res.Findings[0].Count == 0 || len(res.Findings[0].Samples) != 5 {
		t.Errorf("a split by row leaks patients and that is found: %+v", res.Findings)
	}
	res, err = Scan(context.Background(), []string{path}, ScanOptions{Expect: []Expectation{leak}, Splits: splits("patient"), SplitDir: t.TempDir()})
	must(t, err)
	if len(res.Findings) != 0 {
		t.Errorf("a split by patient does not leak: %+v", res.Findings)
	}
	_, err = Scan(context.Background(), []string{path}, ScanOptions{Expect: []Expectation{leak}})
	wantError(t, err, "leak", "no_overlap", "at least two")
}

func TestD20NothingToSee(t *testing.T) {
	header := write(t, "header.csv", "a,b\n")
	res, err := Scan(context.Background(), []string{header}, ScanOptions{SplitDir: t.TempDir(), Splits: []Split{{Name: "train", Fraction: 1}}, Expect: []Expectation{{Name: "e", NotNull: []string{"*"}, RowCount: &MinMax{Min: ptr(1.0)}, Mean: map[string]MinMax{"a": {}}, Unique: []string{"a"}}}})
	must(t, err)
	if res.Rows != 0 || len(res.Schema) != 2 || res.Schema[0].Type != String || len(res.Findings) != 2 || res.Splits["train"].Rows != 0 {
		t.Errorf("a table without rows: %+v", res)
	}
	content, err := os.ReadFile(res.Splits["train"].Path)
	must(t, err)
	if string(content) != "a,b\n" {
		t.Errorf("its split is %q", content)
	}
	res, err = Scan(context.Background(), []string{write(t, "x.csv", "gone,class\n,yes\nNA,yes\nnull,yes\n")}, ScanOptions{})
	must(t, err)
	gone, class := res.Profile.Column("gone"), res.Profile.Column("class")
	if gone.Nulls != 3 || gone.Count != 0 || gone.Type != String || gone.Mean != nil || gone.Distinct != 0 {
		t.Errorf("an all-null column: %+v", gone)
	}
	if class.Type != Category || class.Distinct != 1 || !cmp.Equal(class.Top, []ValueCount{{"yes", 3}}) {
		t.Errorf("one class only: %+v", class)
	}
	wantError(t, readBytes(t, "x.csv", nil, Limits{}), "x.csv", "is empty")
	must(t, readBytes(t, "x.jsonl", nil, Limits{}))
	must(t, readBytes(t, "x.parquet", parquetBytes(t, []pair(nil)), Limits{}))
}

func ptr[T any](v T) *T { return &v }
