package runs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/internal/tabular"
)

const smokeStage = "smoke"

// smoke runs the command on a few rows first, so that a broken script costs seconds and not the whole training.
func (t *training) smoke(ctx context.Context, spec config.Training, o *op, in map[string]Input, ps map[string]any) error {
	sm := *spec.Smoke
	over, err := params(sm.Params)
	if err != nil {
		return fmt.Errorf("%s: smoke.%w", o.req.Address, err)
	}
	st, err := o.exec.Read(ctx, o.at(smokeStage))
	if err != nil {
		return err
	}
	small := in
	if st.Phase == runner.Absent || st.Phase == runner.Starting {
		if small, err = cutInputs(o.at("smoke-inputs"), in, sm.Rows); err != nil {
			return fmt.Errorf("%s: cut the inputs of the smoke run: %w", o.req.Address, err)
		}
		o.log("smoke run on %d rows of each input", sm.Rows)
	}
	s := t.call(o, smokeStage, spec, merged(ps, over))
	s.Inputs, s.Spec.Timeout = small, sm.Timeout
	st, err = o.run(ctx, smokeStage, s, o.progress("smoke run"))
	if err != nil {
		return err
	}
	if err := o.failure("smoke run", st); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(o.at(smokeStage), "model")), os.RemoveAll(o.at("smoke-inputs")))
}

// cutInputs writes the first rows of each input below dir. Models, and data that is no table, are taken whole.
func cutInputs(dir string, in map[string]Input, rows int64) (map[string]Input, error) {
	out := maps.Clone(in)
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if in[name].IsModel() {
			continue
		}
		paths, err := FilesUnder(in[name].Path)
		if err != nil {
			return nil, err
		}
		format := commonFormat(paths)
		if format == "" {
			continue
		}
		root := filepath.Dir(in[name].Path)
		left := rows
		for _, p := range paths {
			rel, err := filepath.Rel(root, p)
			if err != nil {
				return nil, err
			}
			n, err := cutFile(p, filepath.Join(dir, name, rel), format, left)
			if err != nil {
				return nil, err
			}
			left -= n
		}
		out[name] = Input{Path: filepath.Join(dir, name, filepath.Base(in[name].Path))}
	}
	return out, nil
}

// cutFile copies the first n rows of a table, compressed as it is.
func cutFile(from, to, format string, n int64) (copied int64, err error) {
	r, err := openTable(from, format)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := mkdir(filepath.Dir(to)); err != nil {
		return 0, err
	}
	f, err := os.Create(to + ".tmp")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err == nil {
			err = place(f.Name(), to)
		}
	}()
	out, err := compressed(f, to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w, err := newTableWriter(out, r)
	if err != nil {
		return 0, err
	}
	copied, err = r.copyTo(w, n)
	return copied, errors.Join(err, w.close())
}

// compressed writes as the name's extension says.
func compressed(w io.Writer, name string) (io.WriteCloser, error) {
	switch _, c := tabular.FormatOf(name); c {
	case "gz":
		return gzip.NewWriter(w), nil
	case "zst":
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return nopCloser{w}, nil
}

type nopCloser struct{ io.Writer }

// Close implements io.Closer.
func (nopCloser) Close() error { return nil }
