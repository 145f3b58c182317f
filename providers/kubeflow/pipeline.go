package kubeflow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
)

const (
	// The files of an operation's folder.
	submittedFile = "pipeline.json" // written before a run is made: its name, and then its id
	cancelledFile = "cancelled"     // one that was not made never will be
	finishedFile  = "result.json"   // what it came to

	// pipelineService is the service of a usual installation, and its port.
	pipelineService, pipelinePort = "ml-pipeline", "8888"
	// unseen is how long a run may go on without being looked at.
	unseen = 2 * time.Minute
	// endsWithin is how long a run that was told to end may take.
	endsWithin = 5 * time.Minute
)

// pipelineDriver serves kind pipeline: a run of Kubeflow Pipelines whose name holds the operation's id, so that whoever looks for it
// finds it, and nobody makes it twice.
type pipelineDriver struct {
	env   *pods.Env
	api   func() (*pipelinesAPI, error)
	now   func() time.Time
	every time.Duration // between two looks at a run
}

// submitted is how a run is found again.
type submitted struct {
	Name string `json:"name"`
	ID   string `json:"id,omitempty"`
}

// finished is a run that came to its end.
type finished struct {
	ID    string         `json:"id"`
	Tasks []pipelineTask `json:"tasks"`
}

// newPipelineDriver reads the provider's block pipelines. It connects at the first call.
func newPipelineDriver(e *pods.Env, penv providers.Env, raw cty.Value) (*pipelineDriver, error) {
	var w struct {
		Pipelines *pipelines `ml:"pipelines,block"`
	}
	if raw != cty.NilVal {
		if err := resource.Decode(raw, &w); err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
	}
	p := pipelines{Service: "kubeflow", TokenEnv: "KF_PIPELINES_TOKEN"}
	if w.Pipelines != nil {
		p = *w.Pipelines
	}
	d := &pipelineDriver{env: e, now: penv.Now, every: 2 * time.Second}
	d.api = sync.OnceValues(func() (*pipelinesAPI, error) {
		a, err := connectPipelines(p, e, penv)
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", name, err)
		}
		return a, nil
	})
	return d, nil
}

// connectPipelines finds the API: at the endpoint of the block or of the environment, else as a service of the cluster.
func connectPipelines(p pipelines, e *pods.Env, penv providers.Env) (*pipelinesAPI, error) {
	lookup := penv.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	endpoint := p.Endpoint
	if v, ok := lookup("KF_PIPELINES_ENDPOINT"); ok && endpoint == "" {
		endpoint = v
	}
	if endpoint != "" {
		return newPipelinesAPI(p, endpoint, penv.Root, lookup)
	}
	c, err := e.Cluster()
	if err != nil {
		return nil, err
	}
	through, base, err := c.Proxy(p.Service, kube.Target{Service: true, Name: pipelineService, Port: pipelinePort})
	if err != nil {
		return nil, fmt.Errorf("reach the service %s in namespace %s (or set pipelines.endpoint): %w", pipelineService, p.Service, err)
	}
	// The cluster's credentials are those of its API server, which hands none on.
	return &pipelinesAPI{base: base, namespace: p.Namespace, token: func() (string, error) { return "", nil }, http: httpThrough(through)}, nil
}

// Probe implements providers.Prober.
func (d *pipelineDriver) Probe(_ context.Context, req providers.ProbeRequest) (map[string]string, error) {
	var w struct {
		Package string `ml:"package"`
	}
	if err := resource.Decode(req.Spec, &w); err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	req.Spec = cty.ObjectVal(map[string]cty.Value{
		"command": cty.ListValEmpty(cty.String), "sources": cty.ListVal([]cty.Value{cty.StringVal(w.Package)}),
	})
	if _, err := d.read(w.Package); err != nil {
		return nil, fmt.Errorf("%s: package: %w", req.Address, err)
	}
	return d.env.Work.ProbeCode(req)
}

// Read implements providers.Typed: a run that is over stays as it was, whatever becomes of its history.
func (d *pipelineDriver) Read(context.Context, providers.ReadRequest) (providers.Object, error) {
	return providers.Object{Phase: resource.PhaseReady}, nil
}

// Delete implements providers.Typed. The history of runs belongs to the installation.
func (d *pipelineDriver) Delete(context.Context, providers.DeleteRequest) error { return nil }

// read reads the package as it is now.
func (d *pipelineDriver) read(file string) (_ *compiled, err error) {
	root, err := os.OpenRoot(d.env.Work.Root)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	f, err := root.Open(filepath.FromSlash(file))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s; compile the pipeline before it is planned", file)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.LimitReader(f, maxPackage+1))
	if err != nil {
		return nil, err
	}
	p, err := readPackage(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// Apply implements providers.Typed.
func (d *pipelineDriver) Apply(ctx context.Context, spec config.Pipeline, req providers.ApplyRequest) (providers.Result, error) {
	o, err := d.op(req)
	if err != nil {
		return providers.Result{}, err
	}
	var end finished
	known, err := durable.ReadJSON(o.file(finishedFile), &end)
	if err != nil {
		return providers.Result{}, err
	}
	if !known {
		if err := o.submit(ctx, spec); err != nil {
			return providers.Result{}, err
		}
		r, err := o.await(ctx, spec.Timeout)
		if err != nil {
			return providers.Result{}, err
		}
		end = finished{ID: r.ID, Tasks: r.Details.Tasks}
		if err := durable.WriteJSON(o.file(finishedFile), end); err != nil {
			return providers.Result{}, err
		}
	}
	return providers.Result{
		Outputs: config.PipelineOutputs{Address: req.Address.String(), Run: end.ID, Tasks: len(end.Tasks)},
		Ref:     runPipelineRef{Op: req.OpID, Run: end.ID}, Detail: end, Message: fmt.Sprintf("run %s, %d tasks", end.ID, len(end.Tasks)),
	}, nil
}

// pipelineBlock is the block `kubeflow { … }` of a pipeline.
type pipelineBlock struct {
	ServiceAccount string `ml:"service_account,policy" doc:"Service account of the pipeline's pods. Default: the installation's."`
}

func nestedPipeline(spec cty.Value) pipelineBlock {
	var w struct {
		Kubeflow *pipelineBlock `ml:"kubeflow,block"`
	}
	if err := resource.Decode(spec, &w); err != nil || w.Kubeflow == nil {
		return pipelineBlock{}
	}
	return *w.Kubeflow
}

// Cancel implements providers.Canceller.
func (d *pipelineDriver) Cancel(ctx context.Context, addr resource.Address, opID string) error {
	o, err := d.op(providers.ApplyRequest{Address: addr, OpID: opID, Emit: func(resource.Event) {}})
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	if err := durable.WriteJSON(o.file(cancelledFile), d.now().UTC()); err != nil {
		return err
	}
	if o.at.Name == "" {
		return nil
	}
	if o.at.ID == "" {
		r, err := o.api.find(ctx, o.at.Name)
		if err != nil || r == nil {
			return err
		}
		o.at.ID = r.ID
	}
	return o.end(ctx)
}

// Logs implements providers.Logger: the API has the state of each task and what it says of its end, and no log.
func (d *pipelineDriver) Logs(ctx context.Context, req providers.LogRequest, w io.Writer) error {
	id := req.OpID
	switch {
	case req.Run != nil:
		id = req.Run.ID
	case id == "" && req.Record != nil:
		id = req.Record.Run
	}
	if id == "" {
		return errors.New("there is no log: nothing has run yet")
	}
	o, err := d.op(providers.ApplyRequest{OpID: id})
	if err != nil {
		return err
	}
	if o.at.ID == "" {
		return fmt.Errorf("run %s was not made", id)
	}
	r, err := o.api.get(ctx, o.at.ID)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "run %s (%s): %s\n", r.Name, r.ID, strings.ToLower(r.State)); err != nil {
		return err
	}
	for _, t := range r.Details.Tasks {
		line := "task " + t.Name + ": " + strings.ToLower(t.State)
		if text := t.Error.text(); text != "" {
			line += ": " + text
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
