package kubeflow

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/providers"
)

// pipelineOp is one operation under way.
type pipelineOp struct {
	*pipelineDriver
	api *pipelinesAPI
	req providers.ApplyRequest
	dir string
	at  submitted
}

func (d *pipelineDriver) op(req providers.ApplyRequest) (*pipelineOp, error) {
	if req.OpID == "" || !filepath.IsLocal(req.OpID) || strings.ContainsAny(req.OpID, `/\`) {
		return nil, fmt.Errorf("operation id %q cannot name a folder", req.OpID)
	}
	a, err := d.api()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	o := &pipelineOp{pipelineDriver: d, api: a, req: req, dir: filepath.Join(d.env.Work.Dir, "runs", req.OpID)}
	_, err = durable.ReadJSON(o.file(submittedFile), &o.at)
	return o, err
}

func (o *pipelineOp) file(name string) string { return filepath.Join(o.dir, name) }

// note keeps in the folder how the run is found.
func (o *pipelineOp) note() error {
	if err := durable.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	return durable.WriteJSON(o.file(submittedFile), o.at)
}

type runPipelineRef struct {
	Op  string `json:"op"`
	Run string `json:"run,omitempty"`
}

func (o *pipelineOp) ref() runPipelineRef { return runPipelineRef{Op: o.req.OpID, Run: o.at.ID} }

// failed is a run that ended badly.
func (o *pipelineOp) failed(err error) error {
	return &providers.RunError{Err: fmt.Errorf("%s: %w", o.req.Address, err), Ref: o.ref()}
}

// submit makes the run, unless it is made.
func (o *pipelineOp) submit(ctx context.Context, spec config.Pipeline) error {
	begun := o.at.Name != ""
	if o.at.ID != "" {
		return nil
	}
	if o.req.Adopt && !begun {
		return fmt.Errorf("%s: operation %s: %w", o.req.Address, o.req.OpID, providers.ErrAbsent)
	}
	if cancelled, err := exists(o.file(cancelledFile)); err != nil || cancelled {
		if err == nil {
			err = o.failed(providers.ErrCancelled)
		}
		return err
	}
	var run map[string]any
	if !o.req.Adopt {
		var err error
		if run, err = o.run(ctx, spec); err != nil {
			return err
		}
		if !begun {
			o.at.Name = runName(o.req)
			if err := o.note(); err != nil {
				return err
			}
		}
		run["display_name"] = o.at.Name
	}
	r, err := o.findOrMake(ctx, run)
	if err != nil {
		return err
	}
	o.at.ID = r.ID
	return o.note()
}

// runName holds the operation's id; the address in front is for people.
func runName(req providers.ApplyRequest) string {
	return req.Address.Slug() + "-" + strings.ToLower(req.OpID)
}

// findOrMake looks for the run, and makes it when it is not there; run nil only looks.
func (o *pipelineOp) findOrMake(ctx context.Context, run map[string]any) (*pipelineRun, error) {
	r, err := retried(ctx, o.every, func() (*pipelineRun, error) { return o.api.find(ctx, o.at.Name) })
	if err != nil {
		return nil, o.open(ctx, err)
	}
	if r != nil {
		return r, nil
	}
	if run == nil {
		return nil, fmt.Errorf("%s: operation %s: %w", o.req.Address, o.req.OpID, providers.ErrAbsent)
	}
	r, err = o.api.create(ctx, run)
	if err == nil {
		return r, nil
	}
	if passes(err) || ctx.Err() != nil {
		// It may have been made all the same. To make it again would be to run it twice, so the next look decides.
		return nil, o.open(ctx, err)
	}
	return nil, o.failed(err)
}

// open is an error after which nobody knows how the run ends.
func (o *pipelineOp) open(ctx context.Context, err error) error {
	err = fmt.Errorf("%s: %w", o.req.Address, err)
	if ctx.Err() != nil || !passes(err) {
		return err
	}
	return &providers.OpenError{Err: fmt.Errorf("%w; apply again to look for it", err)}
}

// retried repeats what only looks, for as long as a run may go unseen.
func retried[T any](ctx context.Context, every time.Duration, look func() (T, error)) (T, error) {
	end := time.NewTimer(unseen)
	defer end.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		v, err := look()
		if err == nil || !passes(err) {
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, context.Cause(ctx)
		case <-end.C:
			return v, err
		case <-tick.C:
		}
	}
}

// run is the request for a run.
func (o *pipelineOp) run(ctx context.Context, spec config.Pipeline) (map[string]any, error) {
	not := func(err error) (map[string]any, error) {
		return nil, &providers.NotStartedError{Err: fmt.Errorf("%s: %w", o.req.Address, err)}
	}
	p, err := o.read(spec.Package)
	if err != nil {
		return nil, o.failed(fmt.Errorf("package: %w", err))
	}
	if err := o.env.Work.Unmoved(o.req, config.Exec{Sources: []string{spec.Package}}); err != nil {
		return nil, o.failed(err)
	}
	values, ok := spec.Params.(map[string]any)
	if !ok && spec.Params != nil {
		return nil, o.failed(fmt.Errorf("params: is %T; write an object such as params = { epochs = 300 }", spec.Params))
	}
	if err := p.check(values); err != nil {
		return nil, o.failed(err)
	}
	if !spec.Cache {
		p.withoutCache()
	}
	experiment, err := retried(ctx, o.every, func() (string, error) { return o.api.experiment(ctx, spec.Experiment) })
	if err != nil {
		return not(err)
	}
	config := map[string]any{}
	if len(values) > 0 {
		config["parameters"] = maps.Clone(values)
	}
	if spec.Root != "" {
		config["pipeline_root"] = spec.Root
	}
	out := map[string]any{
		"description": fmt.Sprintf("%s, run %s of ml", o.req.Address, o.req.OpID), "experiment_id": experiment, "pipeline_spec": p.source(), "runtime_config": config,
	}
	if b := nestedPipeline(o.req.Spec); b.ServiceAccount != "" {
		out["service_account"] = b.ServiceAccount
	}
	return out, nil
}
