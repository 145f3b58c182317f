package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// training runs a command that writes a model: a smoke run, a search for parameters, then the run that counts.
type training struct{ command }

// trained is what an ended training remembers, so that its model need not lie in its folder any longer.
type trained struct {
	Made
	Metrics map[string]float64 `json:"metrics,omitempty"`
	Params  map[string]any     `json:"params,omitempty"`
	Commit  string             `json:"commit,omitempty"`
	Detail  trainingDetail     `json:"detail"`
}

// trainingDetail is kept with the run.
type trainingDetail struct {
	Slices      map[string]map[string]map[string]float64 `json:"slices,omitempty"`
	Tuning      *tuningDetail                            `json:"tuning,omitempty"`
	MaxRSSBytes int64                                    `json:"max_rss_bytes,omitempty"`
	CPUSeconds  float64                                  `json:"cpu_seconds,omitempty"`
}

// Read implements providers.Typed: a version whose files are gone is missing.
func (t *training) Read(ctx context.Context, req providers.ReadRequest) (providers.Object, error) {
	var ref runRef
	if len(req.Record.Ref) > 0 {
		if err := json.Unmarshal(req.Record.Ref, &ref); err != nil {
			return providers.Object{}, fmt.Errorf("%s: read its reference: %w", req.Address, err)
		}
	}
	if ref.Digest == "" {
		return providers.Object{Phase: resource.PhaseReady}, nil
	}
	err := t.exec.Stored(ctx, Made{Digest: ref.Digest, URI: ref.URI})
	if errors.Is(err, fs.ErrNotExist) {
		return providers.Object{Phase: resource.PhaseMissing, Message: "the model's files are gone from the artifact store"}, nil
	}
	if err != nil {
		return providers.Object{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	return providers.Object{Phase: resource.PhaseReady}, nil
}

// Delete implements providers.Typed. Versions stay until prune; only what waited for a next attempt goes.
func (t *training) Delete(_ context.Context, req providers.DeleteRequest) error {
	return os.RemoveAll(t.keptAll("checkpoints", req.Address))
}

// Apply implements providers.Typed.
func (t *training) Apply(ctx context.Context, spec config.Training, req providers.ApplyRequest) (providers.Result, error) {
	o, err := t.begin(ctx, req)
	if err != nil {
		return providers.Result{}, err
	}
	var made trained
	known, err := o.recall(&made)
	if err != nil {
		return providers.Result{}, err
	}
	if !known {
		if made, err = t.execute(ctx, spec, o); err != nil {
			return providers.Result{}, err
		}
		if err := o.done(made); err != nil {
			return providers.Result{}, err
		}
	}
	err = errors.Join(os.RemoveAll(o.at("model")), os.RemoveAll(t.keptAll("checkpoints", req.Address)))
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: tidy up: %w", req.Address, err)
	}
	return t.result(o, made), nil
}

func (t *training) result(o *op, made trained) providers.Result {
	a := o.req.Address
	ref := o.ref()
	ref.Digest, ref.URI = made.Digest, made.URI
	return providers.Result{
		Outputs: config.TrainingOutputs{
			Address: a.String(), Metrics: made.Metrics,
			Model: &config.Model{Name: a.Name, Digest: string(made.Digest), URI: made.URI, Metrics: made.Metrics, Params: made.Params, Address: a.String()},
		},
		Version: &state.Version{
			Address: a, Digest: made.Digest, URI: made.URI, Run: o.req.OpID, Inputs: o.req.Inputs,
			Metrics: made.Metrics, Params: made.Params, Commit: made.Commit, Bytes: made.Bytes, Created: t.Now(),
		},
		Ref: ref, Metrics: made.Metrics, Detail: made.Detail,
		Message: fmt.Sprintf("model %s, %s", made.Digest.Short(), resource.Bytes(made.Bytes)),
	}
}

// execute goes through the stages. Each of them happens once, whichever call of Apply reaches it.
func (t *training) execute(ctx context.Context, spec config.Training, o *op) (trained, error) {
	in, err := t.inputs(spec.Inputs)
	if err != nil {
		return trained{}, fmt.Errorf("%s: %w", o.req.Address, err)
	}
	ps, err := params(spec.Params)
	if err != nil {
		return trained{}, fmt.Errorf("%s: %w", o.req.Address, err)
	}
	if spec.Smoke != nil {
		if err := t.smoke(ctx, spec, o, in, ps); err != nil {
			return trained{}, err
		}
	}
	var made trained
	if spec.Tuning != nil {
		if made.Detail.Tuning, err = t.tune(ctx, spec, o, in, ps); err != nil {
			return trained{}, err
		}
		ps = merged(ps, made.Detail.Tuning.params())
	}
	made.Params = ps
	s := t.call(o, mainStage, spec, ps)
	s.Inputs, s.Spec.CheckpointDir = in, t.checkpoints(o.req)
	st, err := o.run(ctx, mainStage, s, o.progress(""))
	if err != nil {
		return trained{}, err
	}
	if err := o.failure("", st); err != nil {
		return trained{}, err
	}
	made.Detail.MaxRSSBytes, made.Detail.CPUSeconds = st.MaxRSSBytes, st.CPUSeconds
	if err := t.measure(o, st, &made); err != nil {
		return trained{}, err
	}
	if made.Made, err = t.exec.Store(ctx, o.req.Address, o.dir); err != nil {
		return trained{}, fmt.Errorf("%s: %w", o.req.Address, err)
	}
	made.Commit = t.commit(o, spec.Exec)
	return made, nil
}

// measure reads the metrics. A training need not write any, but what it writes must be numbers.
func (t *training) measure(o *op, st runner.Status, made *trained) error {
	m, err := runner.ReadMetrics(o.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &providers.RunError{Err: fmt.Errorf("%s: %w", o.req.Address, err), Log: st.LastLogLines, Ref: o.ref()}
	}
	made.Metrics, made.Detail.Slices = m.Values, m.Slices
	return nil
}

// call is how each stage of a training calls its command.
func (t *training) call(o *op, name string, spec config.Training, ps map[string]any) Stage {
	s := o.stage(name, spec.Exec)
	s.Spec.Params, s.Spec.Seed, s.Spec.NeedModel, s.Spec.Processes = ps, spec.Seed, true, spec.ProcessesPerNode
	return s
}

// checkpoints is the folder that an attempt finds as the one before left it. Other inputs get another folder: a checkpoint of
// other data or parameters would be continued without anyone noticing.
func (t *training) checkpoints(req providers.ApplyRequest) string {
	in := req.Inputs
	if in == "" {
		in = resource.DigestOf([]byte(req.OpID))
	}
	return t.kept("checkpoints", req.Address, in)
}
