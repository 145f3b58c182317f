package oci

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/modelformat"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

// pack is the driver of the kind package.
type pack struct {
	w        *runs.Workspace
	client   *oci.Client // builds, pushes and deletes
	look     *oci.Client // reads for a plan, with less patience
	platform string
	pulling  sync.Mutex // several blocks may want the same model
}

// defaultTimeout bounds an apply whose block says nothing.
const defaultTimeout = 30 * time.Minute

// ref is what a record keeps of an image.
type ref struct {
	Image  string          `json:"image"` // oci://HOST/REPOSITORY@sha256:…
	Repo   string          `json:"repo"`  // oci://HOST/REPOSITORY
	Digest resource.Digest `json:"digest"`
	Tags   []string        `json:"tags,omitempty"`
}

// built is what an operation made; its folder keeps it.
type built struct {
	Ref    ref    `json:"ref"`
	Bytes  int64  `json:"bytes"`
	Detail detail `json:"detail"`
}

// detail is kept with the record for those who look closer.
type detail struct {
	Base     string             `json:"base,omitempty"` // by its digest
	Platform string             `json:"platform"`
	Format   modelformat.Format `json:"format,omitempty"`
	Why      string             `json:"why,omitempty"`  // how the format shows
	Code     []string           `json:"code,omitempty"` // what runs when the model is loaded
	Files    int                `json:"files,omitempty"`
}

// Probe implements providers.Prober: the content of what lies in /app.
func (p *pack) Probe(_ context.Context, req providers.ProbeRequest) (map[string]string, error) {
	var named struct {
		Mode       string   `ml:"mode"`
		Command    []string `ml:"command"`
		Sources    []string `ml:"sources"`
		Dockerfile string   `ml:"dockerfile"`
	}
	if err := resource.Decode(req.Spec, &named); err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	if named.Mode == "model" {
		return map[string]string{}, nil
	}
	sources := sourcesOf(named.Sources, named.Dockerfile)
	spec, err := resource.Encode(struct {
		Command []string `ml:"command"`
		Sources []string `ml:"sources"`
	}{named.Command, sources})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	return p.w.ProbeCode(providers.ProbeRequest{Address: req.Address, Spec: spec})
}

// sourcesOf are the globs of a block; nil leaves it to the command which files are meant.
func sourcesOf(sources []string, dockerfile string) []string {
	if dockerfile == "" {
		return sources
	}
	if len(sources) == 0 {
		sources = []string{"**"}
	}
	return append(slices.Clone(sources), dockerfile)
}

// Apply implements providers.Typed.
func (p *pack) Apply(ctx context.Context, spec config.Package, req providers.ApplyRequest) (providers.Result, error) {
	limit := spec.Timeout
	if limit <= 0 {
		limit = defaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than its timeout of %s", limit))
	defer cancel()
	o, err := p.begin(req)
	if err != nil {
		return providers.Result{}, err
	}
	made, known, err := o.recall()
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	if !known {
		if made, err = p.make(ctx, spec, o); err != nil {
			return providers.Result{}, p.failure(ctx, req, err)
		}
	}
	return p.result(ctx, spec, req, made)
}

// make builds and stores the image.
func (p *pack) make(ctx context.Context, spec config.Package, o *op) (built, error) {
	if err := hidden(spec, o.req); err != nil {
		return built{}, err
	}
	if err := o.start(); err != nil {
		return built{}, err
	}
	made, err := p.build(ctx, spec, o)
	if err != nil {
		return built{}, err
	}
	return made, o.done(made)
}

// hidden errors where an interrupted operation would need sensitive values, of which a record has only hashes.
func hidden(spec config.Package, req providers.ApplyRequest) error {
	if !req.Adopt {
		return nil
	}
	for _, m := range []map[string]string{spec.Env, spec.Labels} {
		for _, v := range m {
			if strings.HasPrefix(v, "hash:") {
				return errors.New("it was interrupted, and what is left needs sensitive values, which are not stored; apply again")
			}
		}
	}
	return nil
}

// failure says what failed where, and marks what may succeed by itself later.
func (p *pack) failure(ctx context.Context, req providers.ApplyRequest, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	err = fmt.Errorf("%s: %w", req.Address, err)
	if oci.Retryable(err) && ctx.Err() == nil {
		return &providers.RetryableError{Err: err}
	}
	return err
}

func (p *pack) result(ctx context.Context, spec config.Package, req providers.ApplyRequest, made built) (providers.Result, error) {
	if err := p.retire(ctx, req, made.Ref); err != nil {
		return providers.Result{}, p.failure(ctx, req, err)
	}
	out := config.PackageOutputs{
		Address: req.Address.String(), Image: strings.TrimPrefix(made.Ref.Image, oci.Scheme), Digest: string(made.Ref.Digest),
		URI: made.Ref.Image, Format: string(servable(made.Detail.Format)),
	}
	if spec.Model != nil {
		out.Version = spec.Model.Version
	}
	return providers.Result{
		Outputs: out, Ref: made.Ref, Detail: made.Detail,
		Message: fmt.Sprintf("image %s, %s", made.Ref.Digest.Short(), resource.Bytes(made.Bytes)),
	}, nil
}

// servable is the format as serving runtimes know it, if they do.
func servable(f modelformat.Format) modelformat.Format {
	if f == modelformat.Pickle || f == modelformat.SafeTensors {
		return modelformat.Unknown
	}
	return f
}

// retire removes the tags of the image before this one that are not wanted any more.
func (p *pack) retire(ctx context.Context, req providers.ApplyRequest, now ref) error {
	if req.Prior == nil {
		return nil
	}
	was, known, err := refOf(req.Prior.Ref)
	if err != nil || !known {
		return err
	}
	drop := slices.DeleteFunc(slices.Clone(was.Tags), func(t string) bool { return was.Repo == now.Repo && slices.Contains(now.Tags, t) })
	was.Tags = drop
	return p.untag(ctx, was, func(e resource.Event) { emit(req.Emit, req.Address, req.Action, e) })
}

func refOf(raw json.RawMessage) (r ref, known bool, err error) {
	if len(raw) == 0 {
		return r, false, nil
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, false, fmt.Errorf("read its reference: %w", err)
	}
	return r, r.Image != "", nil
}

func emit(to func(resource.Event), a resource.Address, action resource.Action, e resource.Event) {
	if to == nil {
		return
	}
	e.Address, e.Action = a.String(), action
	to(e)
}

// repo is where a block's images go.
func (p *pack) repo(spec config.Package, a resource.Address) (string, error) {
	if spec.Image != "" {
		return oci.Scheme + strings.TrimPrefix(spec.Image, oci.Scheme), nil
	}
	base, is := strings.CutPrefix(p.w.Artifacts, oci.Scheme)
	if !is {
		return "", fmt.Errorf("there is no registry to put the image in: set image = \"HOST/REPOSITORY\", or ml { artifacts = \"oci://HOST/…\" } (artifacts is %q)", cmp.Or(p.w.Artifacts, filepath.Join(".ml", "artifacts")))
	}
	return oci.Scheme + strings.TrimSuffix(base, "/") + "/packages/" + strings.TrimPrefix(a.Slug(), "package."), nil
}
