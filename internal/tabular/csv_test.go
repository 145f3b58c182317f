package tabular

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// rawCSV reads all records with the package's own parser, header included.
func rawCSV(t testing.TB, content string) ([][]string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.csv")
	must(t, os.WriteFile(path, []byte(content), 0o600))
	in, err := openInput(context.Background(), path, "", Limits{}.withDefaults())
	must(t, err)
	defer func() { must(t, in.close()) }()
	s, err := openCSV(in, Limits{}.withDefaults())
	if err != nil {
		return nil, err
	}
	records := [][]string{s.names()}
	for {
		var f frame
		f.reset(len(s.names()))
		err := s.fill(&f)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, err
		}
		for i := range f.rows {
			var rec []string
			for c := range f.cells {
				rec = append(rec, f.cells[c].text[i])
			}
			records = append(records, rec)
		}
	}
}

// stdCSV reads the same with encoding/csv.
func stdCSV(content string) ([][]string, error) {
	return csv.NewReader(strings.NewReader(strings.TrimPrefix(content, "\ufeff"))).ReadAll()
}

func TestCSVReadsWhatEncodingCSVReads(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		body := rapid.StringOf(rapid.SampledFrom([]rune("ab1,,,\"\"\n\n\r é"))).Draw(rt, "body")
		content := "x,y\n" + body
		want, wantErr := stdCSV(content)
		got, gotErr := rawCSV(t, content)
		if (wantErr == nil) != (gotErr == nil) {
			rt.Fatalf("%q: encoding/csv says %v, this parser says %v", content, wantErr, gotErr)
		}
		if wantErr == nil {
			if d := cmp.Diff(want, got); d != "" {
				rt.Fatalf("%q: (-encoding/csv +this)\n%s", content, d)
			}
		}
	})
}

func BenchmarkLoadCSV(b *testing.B) {
	path := benchCSV(b, 1_000_000, 25)
	b.ReportAllocs()
	for b.Loop() {
		t, err := Load(context.Background(), []string{path}, Options{})
		must(b, err)
		if t.Rows != 1_000_000 || t.Schema[0].Type != Number {
			b.Fatalf("%d rows, %v", t.Rows, t.Schema[0])
		}
	}
}

// benchCSV writes a file of random-looking numbers, the same at every run.
func benchCSV(tb testing.TB, rows, columns int) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "bench.csv")
	f, err := os.Create(path)
	must(tb, err)
	var line []byte
	for c := range columns {
		line = fmt.Appendf(line, "c%d,", c)
	}
	line[len(line)-1] = '\n'
	x := uint64(1)
	for range rows {
		for range columns {
			x = mix64(x)
			line = fmt.Appendf(line, "%.6f,", float64(x>>40)/1000)
		}
		line[len(line)-1] = '\n'
		if len(line) > 1<<20 {
			must(tb, second(f.Write(line)))
			line = line[:0]
		}
	}
	must(tb, second(f.Write(line)))
	must(tb, f.Close())
	return path
}
