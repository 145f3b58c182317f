package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/tabular"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// batchInference predicts every row of a table, in batches that are each done once.
type batchInference struct{ command }

// predicted is what an ended batch inference remembers.
type predicted struct {
	Digest resource.Digest `json:"digest"`
	Rows   int64           `json:"rows"`
	// Batches and the model's digest are the lineage of the file.
	Batches int             `json:"batches"`
	Model   resource.Digest `json:"model"`
	Input   resource.Digest `json:"input"`
}

// Read implements providers.Typed: predictions that are gone are missing.
func (b *batchInference) Read(_ context.Context, req providers.ReadRequest) (providers.Object, error) {
	var ref runRef
	if len(req.Record.Ref) > 0 {
		if err := json.Unmarshal(req.Record.Ref, &ref); err != nil {
			return providers.Object{}, fmt.Errorf("%s: read its reference: %w", req.Address, err)
		}
	}
	if ref.Path != "" {
		ok, err := exists(b.Abs(ref.Path))
		if err != nil {
			return providers.Object{}, fmt.Errorf("%s: %w", req.Address, err)
		}
		if !ok {
			return providers.Object{Phase: resource.PhaseMissing, Message: ref.Path + " is gone"}, nil
		}
	}
	return providers.Object{Phase: resource.PhaseReady}, nil
}

// Delete implements providers.Typed. The predictions are the user's; only finished batches that wait for the rest go.
func (b *batchInference) Delete(_ context.Context, req providers.DeleteRequest) error {
	return os.RemoveAll(b.keptAll("parts", req.Address))
}

// Apply implements providers.Typed.
func (b *batchInference) Apply(ctx context.Context, spec config.BatchInference, req providers.ApplyRequest) (providers.Result, error) {
	if spec.Model == nil || spec.Input == nil {
		return providers.Result{}, fmt.Errorf("%s: model and input are needed", req.Address)
	}
	o, err := b.begin(ctx, req)
	if err != nil {
		return providers.Result{}, err
	}
	parts := b.parts(spec, req)
	var p predicted
	known, err := o.recall(&p)
	if err != nil {
		return providers.Result{}, err
	}
	if !known {
		if p, err = b.execute(ctx, spec, o, parts); err != nil {
			return providers.Result{}, err
		}
		if err := o.done(p); err != nil {
			return providers.Result{}, err
		}
	}
	// Those of other inputs too: nobody will go on with them.
	if err := os.RemoveAll(b.keptAll("parts", req.Address)); err != nil {
		return providers.Result{}, fmt.Errorf("%s: tidy up: %w", req.Address, err)
	}
	ref := o.ref()
	ref.Path, ref.Digest = filepath.ToSlash(filepath.Clean(spec.Output)), p.Digest
	return providers.Result{
		Outputs: config.BatchInferenceOutputs{
			Address: req.Address.String(), Path: ref.Path, Digest: string(p.Digest), Rows: p.Rows, Version: spec.Model.Version,
		},
		Ref: ref, Metrics: map[string]float64{"rows": float64(p.Rows)}, Detail: p,
		Message: fmt.Sprintf("%d rows predicted with version %d", p.Rows, spec.Model.Version),
	}, nil
}

// parts is the folder of finished batches. It belongs to the inputs, not to the operation, so that another attempt keeps what one
// before it finished; batches of another size have other rows, so the size is part of its name.
func (b *batchInference) parts(spec config.BatchInference, req providers.ApplyRequest) string {
	in := req.Inputs
	if in == "" {
		in = resource.DigestOf([]byte(req.OpID))
	}
	return filepath.Join(b.kept("parts", req.Address, in), fmt.Sprint(size(spec)))
}

func size(spec config.BatchInference) int64 { return max(spec.BatchSize, 1) }

func (b *batchInference) execute(ctx context.Context, spec config.BatchInference, o *op, parts string) (predicted, error) {
	fail := func(err error) (predicted, error) {
		var run *providers.RunError
		if errors.As(err, &run) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return predicted{}, err
		}
		return predicted{}, fmt.Errorf("%s: %w", o.req.Address, err)
	}
	in, err := b.InputPath(spec.Input.Path)
	if err != nil {
		return fail(err)
	}
	files, err := FilesUnder(in)
	if err != nil {
		return fail(err)
	}
	format := commonFormat(files)
	if format == "" {
		return fail(fmt.Errorf("input: %s is not a table; predict rows of a csv, jsonl or parquet file", spec.Input.Path))
	}
	ps, err := params(spec.Params)
	if err != nil {
		return fail(err)
	}
	if err := mkdir(parts); err != nil {
		return fail(err)
	}
	r := &batchRun{spec: spec, op: o, parts: parts, format: format, params: ps, total: spec.Input.Rows, out: outputExt(spec.Output)}
	if err := r.all(ctx, files); err != nil {
		return fail(err)
	}
	p, err := r.assemble(spec.Output)
	if err != nil {
		return fail(err)
	}
	p.Model, p.Input = resource.Digest(spec.Model.Digest), resource.Digest(spec.Input.Digest)
	return p, nil
}

// outputExt is the extension of the predictions without compression, which also says how their rows are counted.
func outputExt(output string) string {
	switch format, _ := tabular.FormatOf(output); format {
	case "":
		return ".txt"
	default:
		return "." + format
	}
}
