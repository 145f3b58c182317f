package runs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/source"
	"github.com/continuo-ml/continuo/internal/tabular"
	"github.com/continuo-ml/continuo/resource"
)

// frozen is one version of data as it stands in the data folder.
type frozen struct {
	digest resource.Digest
	path   string // file, or folder of several files
	files  int
	bytes  int64
}

// freeze fixes what source is now in the data folder, if it still is the version that was planned; "" takes it as it is. The
// error of a source that moved matches files.ErrMoved.
func (e *Workspace) freeze(x *files.Index, source string, planned resource.Digest) (frozen, error) {
	d, err := x.DigestSource(source)
	if err != nil && !(planned != "" && errors.Is(err, fs.ErrNotExist)) {
		return frozen{}, err
	}
	if planned == "" {
		planned = resource.DigestOfHex(d.Hex)
	}
	f := frozen{digest: planned, files: len(d.Files), bytes: d.Bytes}
	f.path = e.frozenAt(planned, source, d.IsDir)
	if err := mkdir(e.version(planned)); err != nil {
		return frozen{}, err
	}
	// Freeze looks at the source anew, whatever the index remembers.
	if err := x.Freeze(source, planned.Hex(), f.path); err != nil {
		return frozen{}, err
	}
	return f, nil
}

// frozenAt is where a version stands: a single file under its own name, for its extension says what it is.
func (e *Workspace) frozenAt(d resource.Digest, source string, isDir bool) string {
	if isDir {
		return filepath.Join(e.version(d), "files")
	}
	return filepath.Join(e.version(d), path.Base(path.Clean(filepath.ToSlash(source))))
}

// fetch is freeze for a source that lies elsewhere.
func (e *Workspace) fetch(ctx context.Context, x *files.Index, address string, planned resource.Digest) (frozen, error) {
	hex := ""
	if planned != "" {
		hex = planned.Hex()
	}
	var f frozen
	r := e.sources()
	if hex == "" {
		v, err := r.Probe(ctx, address)
		if err != nil {
			return f, err
		}
		hex = v.Hex
	}
	f.digest = resource.DigestOfHex(hex)
	at := func(isDir bool) string { return e.frozenAt(f.digest, source.Name(address), isDir) }
	if err := mkdir(e.version(f.digest)); err != nil {
		return f, err
	}
	v, err := r.Freeze(ctx, x, address, hex, at)
	if err != nil {
		return f, err
	}
	f.path, f.files, f.bytes = at(v.IsDir), v.Files, v.Bytes
	return f, nil
}

// FilesUnder lists the files of a data version, sorted.
func FilesUnder(p string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(p, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list data: %w", err)
	}
	slices.Sort(out)
	return out, nil
}

// The formats of tables, as a dataset's `format` names them.
const (
	formatCSV     = "csv"
	formatJSONL   = "jsonl"
	formatParquet = "parquet"
)

// commonFormat is the one format of all files, or "".
func commonFormat(names []string) string {
	format := ""
	for i, n := range names {
		f, _ := tabular.FormatOf(n)
		if f == "" || i > 0 && f != format {
			return ""
		}
		format = f
	}
	return format
}
