package runs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/internal/tabular"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// batchRun is one batch inference under way. A batch is finished when its output stands in the parts folder, where it comes
// whole, durable and with as many rows as it was given; a finished batch is never run again.
type batchRun struct {
	spec   config.BatchInference
	op     *op
	parts  string
	format string // of the input
	out    string // extension of the output
	params map[string]any
	total  int64

	count int // batches
	done  atomic.Int64
}

// batch is one part of the input.
type batch struct {
	number int
	rows   int64
	input  string
}

// all deals the input out in batches and has them predicted, so many at a time.
func (r *batchRun) all(ctx context.Context, files []string) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(max(r.spec.Parallel, 1))
	err := r.deal(inner, files, func(b batch) {
		group.Go(func() error { return r.one(inner, b) })
	})
	// The error of a batch explains why dealing ended, so it is said first.
	if werr := group.Wait(); werr != nil {
		if ctx.Err() == nil {
			werr = errors.Join(werr, r.stop(ctx))
		}
		return werr
	}
	return err
}

// stop ends the batches that still run beside one that failed.
func (r *batchRun) stop(ctx context.Context) error {
	var err error
	for n := range r.count {
		st, rerr := r.op.exec.Read(ctx, r.op.at(batchName(n)))
		if rerr == nil && !st.Phase.Over() && st.Phase != runner.Absent {
			rerr = r.op.exec.Cancel(ctx, r.op.at(batchName(n)), 0)
		}
		err = errors.Join(err, rerr)
	}
	return err
}

func batchName(n int) string { return fmt.Sprintf("batch-%05d", n) }

func (r *batchRun) part(n int) string {
	return filepath.Join(r.parts, fmt.Sprintf("%05d%s", n, r.out))
}

// deal cuts the files into batches in order. The rows of a finished batch are only passed over.
func (r *batchRun) deal(ctx context.Context, files []string, give func(batch)) (err error) {
	for _, path := range files {
		t, err := openTable(path, r.format)
		if err != nil {
			return err
		}
		for err == nil {
			var b batch
			if b, err = r.cut(t); err == nil && b.rows == 0 {
				break
			}
			if err == nil {
				give(b)
				err = ctx.Err()
			}
		}
		if err := errors.Join(err, t.Close()); err != nil {
			return err
		}
	}
	return nil
}

// cut writes the next batch's input.
func (r *batchRun) cut(t *tableReader) (b batch, err error) {
	b = batch{number: r.count, input: r.op.at(batchName(r.count) + "-input." + r.format)}
	tmp := b.input + ".tmp"
	if err := mkdir(r.op.dir); err != nil {
		return b, err
	}
	f, err := os.Create(tmp)
	if err != nil {
		return b, err
	}
	w, err := newTableWriter(f, t)
	if err == nil {
		b.rows, err = t.copyTo(w, size(r.spec))
		err = errors.Join(err, w.close(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return b, err
	}
	finished, err := exists(r.part(b.number))
	if err != nil {
		return b, err
	}
	if b.rows > 0 {
		r.count++
	}
	if finished || b.rows == 0 {
		return b, os.Remove(tmp)
	}
	return b, place(tmp, b.input)
}

// one predicts one batch.
func (r *batchRun) one(ctx context.Context, b batch) error {
	part := r.part(b.number)
	finished, err := exists(part)
	if err != nil {
		return err
	}
	if !finished {
		if err := r.predict(ctx, b, part); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(b.input); err != nil {
		return err
	}
	n := r.done.Add(b.rows)
	r.op.emit(resource.Event{
		Type: resource.EventProgress, Step: float64(n), Of: float64(r.total),
		Message: fmt.Sprintf("%d of %d rows predicted", n, max(n, r.total)),
	})
	return nil
}

func (r *batchRun) predict(ctx context.Context, b batch, part string) error {
	name := batchName(b.number)
	out := r.op.at(name + "-output" + r.out)
	s := r.op.stage(name, r.spec.Exec)
	s.Spec.Params, s.Model, s.Output = r.params, modelInput(*r.spec.Model), out
	s.Inputs = map[string]Input{"data": {Path: b.input}}
	st, err := r.op.run(ctx, name, s, nil)
	if err != nil {
		return err
	}
	if err := r.op.failure(fmt.Sprintf("batch %d", b.number), st); err != nil {
		return err
	}
	rows, err := countRows(out, outputFormat(r.out))
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = fmt.Errorf("it wrote nothing to ML_OUTPUT (%s)", out)
	case err == nil && rows != b.rows:
		err = fmt.Errorf("it wrote %d rows for %d; write one row for each row of ML_INPUT_DATA%s", rows, b.rows, headerHint(r.out))
	}
	if err != nil {
		return &providers.RunError{Err: fmt.Errorf("%s: batch %d: %w", r.op.req.Address, b.number, err), Log: st.LastLogLines, Ref: r.op.ref()}
	}
	if err := syncFile(out); err != nil {
		return err
	}
	return settle(out, part)
}

func headerHint(ext string) string {
	if ext == "."+formatCSV {
		return ", under a header line"
	}
	return ""
}

// outputFormat is the format of which rows are counted: a line each where the extension says nothing.
func outputFormat(ext string) string {
	format, _ := tabular.FormatOf("x" + ext)
	return format
}

// assemble joins the parts in order and puts the whole in its place in one step.
func (r *batchRun) assemble(output string) (p predicted, err error) {
	p.Batches = r.count
	root, err := os.OpenRoot(r.op.env.Root)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	at := filepath.Clean(filepath.FromSlash(output))
	if err := durable.MkdirIn(root, filepath.Dir(at)); err != nil {
		return p, fmt.Errorf("output %s: %w", output, err)
	}
	tmp := filepath.Join(filepath.Dir(at), "."+filepath.Base(at)+"."+r.op.req.OpID)
	f, err := root.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return p, fmt.Errorf("output %s: %w", output, err)
	}
	sum := newSum(f)
	p.Rows, err = r.join(sum, output)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(tmp, at)
	}
	if err != nil {
		return p, errors.Join(fmt.Errorf("output %s: %w", output, err), root.Remove(tmp))
	}
	p.Digest = sum.digest()
	return p, durable.SyncDir(filepath.Join(r.op.env.Root, filepath.Dir(at)))
}

// join writes all parts, compressed as the output's name says, under one header.
func (r *batchRun) join(to io.Writer, output string) (rows int64, err error) {
	z, err := compressed(to, output)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	var w *tableWriter
	for n := range r.count {
		got, err := r.append(&w, z, r.part(n))
		if err != nil {
			return rows, err
		}
		rows += got
	}
	if w != nil {
		return rows, w.close()
	}
	return rows, nil
}

func (r *batchRun) append(w **tableWriter, to io.Writer, part string) (n int64, err error) {
	t, err := openTable(part, outputFormat(r.out))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if *w == nil {
		if *w, err = newTableWriter(to, t); err != nil {
			return 0, err
		}
	}
	return t.copyTo(*w, -1)
}
