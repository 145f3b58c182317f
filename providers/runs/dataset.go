package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/source"
	"github.com/continuo-ml/continuo/internal/tabular"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// dataset freezes data under its digest, judges it and deals out its splits.
type dataset struct {
	command
	claims Claims // nil: nothing here reaches any
}

// datasetRef names what must be there for the data to be.
type datasetRef struct {
	Paths []string `json:"paths"` // relative to the project
}

// datasetDetail is kept with the run.
type datasetDetail struct {
	Files   int            `json:"files"`
	Bytes   int64          `json:"bytes"`
	Schema  tabular.Schema `json:"schema,omitempty"`
	Profile string         `json:"profile,omitempty"`
}

// Probe implements providers.Prober: the content of a source. What a command will make cannot be known without running it, so
// there it is the command's code, by which a plan sees that the data would be made anew.
func (d *dataset) Probe(ctx context.Context, req providers.ProbeRequest) (map[string]string, error) {
	var n struct {
		Source string `ml:"source"`
	}
	if err := resource.Decode(req.Spec, &n); err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	if d.claims != nil {
		if req.FilesOnly {
			return nil, fmt.Errorf("%s: %w: %s", req.Address, providers.ErrElsewhere, n.Source)
		}
		return d.probeClaim(ctx, n.Source, req)
	}
	if n.Source == "" {
		return d.command.Probe(ctx, req)
	}
	if source.Remote(n.Source) {
		if req.FilesOnly {
			return nil, fmt.Errorf("%s: %w: %s", req.Address, providers.ErrElsewhere, n.Source)
		}
		v, err := d.sources().Probe(ctx, n.Source)
		if err != nil {
			return nil, fmt.Errorf("%s: source: %w", req.Address, err)
		}
		return map[string]string{"content": string(resource.DigestOfHex(v.Hex))}, nil
	}
	x, err := d.planned()
	if err != nil {
		return nil, err
	}
	s, err := x.DigestSource(n.Source)
	if err != nil {
		return nil, fmt.Errorf("%s: source: %w", req.Address, err)
	}
	return map[string]string{"content": string(resource.DigestOfHex(s.Hex))}, nil
}

// Read implements providers.Typed. Frozen data that is gone is a missing object, so that apply freezes it anew.
func (d *dataset) Read(_ context.Context, req providers.ReadRequest) (providers.Object, error) {
	var ref datasetRef
	if len(req.Record.Ref) > 0 {
		if err := json.Unmarshal(req.Record.Ref, &ref); err != nil {
			return providers.Object{}, fmt.Errorf("%s: read its reference: %w", req.Address, err)
		}
	}
	if len(ref.Paths) == 0 {
		return providers.Object{Phase: resource.PhaseMissing, Message: "no frozen copy is recorded"}, nil
	}
	for _, p := range ref.Paths {
		ok, err := exists(d.Abs(p))
		if err != nil {
			return providers.Object{}, fmt.Errorf("%s: %w", req.Address, err)
		}
		if !ok {
			return providers.Object{Phase: resource.PhaseMissing, Message: "the frozen copy " + p + " is gone"}, nil
		}
	}
	return providers.Object{Phase: resource.PhaseReady}, nil
}

// Delete implements providers.Typed. The data itself is content under its digest, which runs and versions may refer to; prune
// removes what nothing refers to.
func (d *dataset) Delete(context.Context, providers.DeleteRequest) error { return nil }

// Apply implements providers.Typed.
func (d *dataset) Apply(ctx context.Context, spec config.Dataset, req providers.ApplyRequest) (providers.Result, error) {
	var f frozen
	var err error
	if spec.Source != "" || d.claims != nil {
		f, err = d.source(ctx, spec, req)
	} else {
		f, err = d.made(ctx, spec, req)
	}
	if err != nil {
		return providers.Result{}, err
	}
	return d.scan(ctx, spec, req, f)
}

// source freezes what exists. Everything about it follows from its content, so that doing it twice does nothing.
func (d *dataset) source(ctx context.Context, spec config.Dataset, req providers.ApplyRequest) (frozen, error) {
	want := resource.Digest(req.Probed["content"])
	if req.Adopt {
		if ok, err := exists(d.version(want)); want == "" || err != nil || !ok {
			return frozen{}, errors.Join(err, fmt.Errorf("%s: operation %s: %w", req.Address, req.OpID, providers.ErrAbsent))
		}
	}
	x, err := d.planned()
	if err != nil {
		return frozen{}, err
	}
	var f frozen
	if d.claims != nil {
		f, err = d.fetchClaim(ctx, x, spec.Source, want, req)
	} else if source.Remote(spec.Source) {
		f, err = d.fetch(ctx, x, spec.Source, want)
	} else {
		f, err = d.freeze(x, spec.Source, want)
	}
	if errors.Is(err, files.ErrMoved) {
		return f, fmt.Errorf("%s: the source moved since the plan: %w", req.Address, err)
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w", req.Address, err)
	}
	return f, nil
}

// scan reads the frozen data once: schema, profile, expectations, splits.
func (d *dataset) scan(ctx context.Context, spec config.Dataset, req providers.ApplyRequest, f frozen) (providers.Result, error) {
	out := config.DatasetOutputs{Data: config.Data{Address: req.Address.String(), Digest: string(f.digest), Path: d.Rel(f.path)}}
	ref := datasetRef{Paths: []string{out.Path}}
	detail := datasetDetail{Files: f.files, Bytes: f.bytes}
	paths, err := FilesUnder(f.path)
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	rules := len(spec.Columns)+len(spec.Expect) > 0
	if !rules && len(spec.Splits) == 0 && spec.Format == "" && commonFormat(paths) == "" {
		// Images, archives, notes: a version without rows.
		return providers.Result{Outputs: out, Ref: ref, Detail: detail, Message: fmt.Sprintf("%s frozen, not a table", fileCount(len(paths)))}, nil
	}
	res, err := d.read(ctx, spec, paths, f.digest)
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	out.Rows, out.Columns, out.Split = res.Rows, res.Schema.Names(), map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(res.splits)) {
		s := res.splits[name]
		s.Address = out.Address
		ref.Paths = append(ref.Paths, s.Path)
		out.Split[name] = map[string]any{"address": s.Address, "name": s.Name, "digest": s.Digest, "path": s.Path, "rows": s.Rows}
	}
	detail.Schema, detail.Profile = res.Schema, res.profile
	r := providers.Result{Outputs: out, Ref: ref, Detail: detail, Message: fmt.Sprintf("%d rows, %d columns", res.Rows, len(res.Schema))}
	if rules {
		r.Verdict = dataVerdict(res.Findings, f.digest)
		r.Verdict.Time = d.Now()
	}
	return r, nil
}

// scanned is what reading a version found.
type scanned struct {
	*tabular.Result
	splits  map[string]config.Data
	profile string
}

func (d *dataset) read(ctx context.Context, spec config.Dataset, paths []string, digest resource.Digest) (s scanned, err error) {
	opts, err := scanOptions(spec)
	if err != nil {
		return s, err
	}
	if err := mkdir(d.dataDir()); err != nil {
		return s, err
	}
	tmp, err := os.MkdirTemp(d.dataDir(), ".scan-*")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	opts.SplitDir, opts.TempDir, opts.Now = filepath.Join(tmp, "splits"), tmp, d.Now()
	if s.Result, err = tabular.Scan(ctx, paths, opts); err != nil {
		return s, err
	}
	if s.splits, err = d.keepSplits(spec, s.Splits, digest); err != nil {
		return s, err
	}
	// Types steer a profile, so one version may have several.
	key, err := json.Marshal([]any{spec.Format, s.Schema})
	if err != nil {
		return s, err
	}
	at := filepath.Join(d.version(digest), "profile-"+resource.DigestOf(key).Hex()[:12]+".json")
	s.profile = d.Rel(at)
	return s, durable.WriteJSON(at, s.Profile)
}

// keepSplits moves written splits to the folders of their own versions.
func (d *dataset) keepSplits(spec config.Dataset, written map[string]tabular.SplitResult, digest resource.Digest) (map[string]config.Data, error) {
	out := map[string]config.Data{}
	start := 0.0
	for _, def := range spec.Splits {
		w, ok := written[def.Name]
		if !ok {
			return nil, fmt.Errorf("split %s was not written", def.Name)
		}
		version := def.Digest(digest, start)
		start += def.Fraction
		at := filepath.Join(d.version(version), filepath.Base(w.Path))
		if err := settle(w.Path, at); err != nil {
			return nil, fmt.Errorf("keep split %s: %w", def.Name, err)
		}
		out[def.Name] = config.Data{Name: def.Name, Digest: string(version), Path: d.Rel(at), Rows: w.Rows}
	}
	return out, nil
}

func fileCount(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}
