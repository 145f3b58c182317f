package tabular

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write puts content into a file of the test's own folder, compressed as its extension says.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	var b bytes.Buffer
	switch filepath.Ext(name) {
	case ".gz":
		w := gzip.NewWriter(&b)
		must(t, second(w.Write([]byte(content))))
		must(t, w.Close())
	case ".zst":
		w, err := zstd.NewWriter(&b)
		must(t, err)
		must(t, second(w.Write([]byte(content))))
		must(t, w.Close())
	default:
		b.WriteString(content)
	}
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

func second[T any](_ T, err error) error { return err }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readAll reads every row as text, nulls as "∅".
func readAll(t testing.TB, paths []string, opts Options) (Schema, [][]string, error) {
	t.Helper()
	r, err := Open(context.Background(), paths, opts)
	if err != nil {
		return nil, nil, err
	}
	defer func() { must(t, r.Close()) }()
	var rows [][]string
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Schema(), rows, nil
		}
		if err != nil {
			return nil, rows, err
		}
		for i := range b.Rows {
			row := make([]string, len(b.Columns))
			for c := range b.Columns {
				row[c] = b.Columns[c].Text(i)
				if b.Columns[c].IsNull(i) {
					row[c] = "∅"
				}
			}
			rows = append(rows, row)
		}
	}
}

// wantError fails unless err holds every one of parts.
func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q lacks %q", err, p)
		}
	}
}
