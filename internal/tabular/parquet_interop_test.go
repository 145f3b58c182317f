package tabular

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// libraryTestdata is the folder of files by Impala, Spark, parquet-mr, Arrow and Rust that parquet-go's module carries.
func libraryTestdata(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/parquet-go/parquet-go").Output()
	if err != nil {
		t.Fatalf("find the parquet-go module: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "testdata")
}

// TestParquetFilesOfOtherWriters holds every cell of a flat column to what parquet-go reads unguarded.
func TestParquetFilesOfOtherWriters(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(libraryTestdata(t), "*.parquet"))
	must(t, err)
	if len(files) < 30 {
		t.Fatalf("only %d files", len(files))
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			schema, rows, err := readAll(t, []string{path}, Options{})
			must(t, err)
			f, err := os.Open(path)
			must(t, err)
			defer func() { must(t, f.Close()) }()
			st, err := f.Stat()
			must(t, err)
			pf, err := parquet.OpenFile(f, st.Size())
			must(t, err)
			if filepath.Base(path) == "lz4_raw_compressed_larger.parquet" {
				// The library itself misreads this one; the values are those that the parquet-testing repository tells.
				if rows[0][0] != "c7ce6bef-d5b0-4863-b199-8ea8c7fb117b" || rows[9999][0] != "85440778-460a-41ac-aa2e-ac3ee41696bf" {
					t.Errorf("values are %q and %q", rows[0][0], rows[9999][0])
				}
				return
			}
			var leaves []*parquet.Column
			collectLeaves(pf.Root(), &leaves)
			if len(leaves) != len(schema) {
				t.Fatalf("%d columns for %d leaves", len(schema), len(leaves))
			}
			for c, leaf := range leaves {
				if leaf.MaxRepetitionLevel() == 0 {
					compareLeaf(t, leaf, schema[c], c, rows)
				}
			}
		})
	}
}

func collectLeaves(c *parquet.Column, out *[]*parquet.Column) {
	if c.Leaf() {
		*out = append(*out, c)
	}
	for _, child := range c.Columns() {
		collectLeaves(child, out)
	}
}

func compareLeaf(t *testing.T, leaf *parquet.Column, f Field, c int, rows [][]string) {
	t.Helper()
	pages := leaf.Pages()
	defer func() { must(t, pages.Close()) }()
	at := 0
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		values := make([]parquet.Value, page.NumValues())
		n, err := page.Values().ReadValues(values)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		for _, v := range values[:n] {
			got := rows[at][c]
			exact := f.Type == Integer || f.Type == Bool || (v.Kind() == parquet.ByteArray && f.Type != Number && !strings.HasPrefix(got, "base64:"))
			switch {
			case v.IsNull() && got != "∅", !v.IsNull() && exact && got != v.String():
				t.Fatalf("column %s row %d is %q, parquet-go says %v", f.Name, at+1, got, v)
			}
			at++
		}
	}
	if at != len(rows) {
		t.Errorf("column %s has %d rows, parquet-go says %d", f.Name, len(rows), at)
	}
}

func TestParquetMalformedFilesOfTheLibraryAreErrors(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(libraryTestdata(t), "malformed", "*.parquet"))
	must(t, err)
	if len(files) < 3 {
		t.Fatalf("only %d files", len(files))
	}
	for _, path := range files {
		r, err := Open(context.Background(), []string{path}, Options{})
		if err == nil {
			_, err = drain(r)
			must(t, r.Close())
		}
		wantError(t, err, path)
	}
}
