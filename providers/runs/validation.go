package runs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// validation judges a model version by what a command measures, or by what its training measured.
type validation struct{ command }

// measured is what is known of one version on some inputs.
type measured struct {
	Version int                                      `json:"version"`
	Digest  string                                   `json:"digest,omitempty"`
	Metrics map[string]float64                       `json:"metrics,omitempty"`
	Slices  map[string]map[string]map[string]float64 `json:"slices,omitempty"`
	// Problem says why there are no metrics although the command ended well; it closes the gate.
	Problem string `json:"problem,omitempty"`
}

// validationDetail is kept with the run, and is what a later judgement goes by.
type validationDetail struct {
	measured
	// Inputs identifies all that was measured with but the model: only numbers of the same inputs are compared.
	Inputs   resource.Digest `json:"inputs"`
	Champion *measured       `json:"champion,omitempty"`
}

// Read implements providers.Typed. A validation leaves nothing outside its record.
func (v *validation) Read(context.Context, providers.ReadRequest) (providers.Object, error) {
	return providers.Object{Phase: resource.PhaseReady}, nil
}

// Delete implements providers.Typed: verdicts stay with the versions.
func (v *validation) Delete(context.Context, providers.DeleteRequest) error { return nil }

// Apply implements providers.Typed.
func (v *validation) Apply(ctx context.Context, spec config.Validation, req providers.ApplyRequest) (providers.Result, error) {
	if spec.Model == nil {
		return providers.Result{}, fmt.Errorf("%s: model: there is no version to judge", req.Address)
	}
	o, err := v.begin(ctx, req)
	if err != nil {
		return providers.Result{}, err
	}
	var d validationDetail
	known, err := o.recall(&d)
	if err != nil {
		return providers.Result{}, err
	}
	if !known {
		if d, err = v.measure(ctx, spec, o); err != nil {
			return providers.Result{}, err
		}
		if err := o.done(d); err != nil {
			return providers.Result{}, err
		}
	}
	return v.result(spec, req, d, o.ref()), nil
}

// Judge implements providers.Judge: the recorded numbers under the thresholds of now. It executes nothing, so a champion
// without numbers on the same inputs closes the gate.
func (v *validation) Judge(_ context.Context, req providers.ApplyRequest, run *state.Run) (providers.Result, error) {
	var spec config.Validation
	if err := resource.Decode(req.Spec, &spec); err != nil {
		return providers.Result{}, fmt.Errorf("%s: read its attributes: %w", req.Address, err)
	}
	if spec.Model == nil {
		return providers.Result{}, fmt.Errorf("%s: model: there is no version to judge", req.Address)
	}
	var d validationDetail
	if err := json.Unmarshal(run.Detail, &d); err != nil {
		return providers.Result{}, fmt.Errorf("%s: read what run %s measured: %w", req.Address, run.ID, err)
	}
	d.Champion = nil
	if champion := v.champion(spec, req); champion != nil && regresses(spec) {
		m, err := v.recorded(spec, req, champion, d.Inputs)
		if err != nil {
			return providers.Result{}, err
		}
		if m == nil {
			m = &measured{Version: champion.Number, Problem: fmt.Sprintf("the champion, version %d, has no metrics on these inputs; measure both with -replace %s", champion.Number, req.Address.Arg())}
		}
		d.Champion = m
	}
	return v.result(spec, req, d, runRef{Op: run.ID}), nil
}

// measure gets the numbers of the version, and of the champion where a rule compares them.
func (v *validation) measure(ctx context.Context, spec config.Validation, o *op) (validationDetail, error) {
	d := validationDetail{}
	var err error
	if d.Inputs, err = inputsKey(spec, o.req); err != nil {
		return d, fmt.Errorf("%s: %w", o.req.Address, err)
	}
	if d.measured, err = v.version(ctx, spec, o, mainStage, *spec.Model); err != nil {
		return d, err
	}
	champion := v.champion(spec, o.req)
	if champion == nil || !regresses(spec) {
		return d, nil
	}
	if d.Champion, err = v.recorded(spec, o.req, champion, d.Inputs); err != nil || d.Champion != nil {
		return d, err
	}
	o.log("the champion, version %d, is measured on the same inputs", champion.Number)
	m, err := v.version(ctx, spec, o, "champion", modelOf(champion))
	d.Champion = &m
	return d, err
}

// version measures one version. A command that fails is an error, which may be tried again; numbers that are missing or unusable
// are a bad verdict.
func (v *validation) version(ctx context.Context, spec config.Validation, o *op, stage string, m config.Model) (measured, error) {
	out := measured{Version: m.Version, Digest: m.Digest}
	if len(spec.Command) == 0 {
		out.Metrics = m.Metrics
		if len(m.Metrics) == 0 {
			out.Problem = "its training wrote no metrics, and the validation has no command"
		}
		return out, nil
	}
	s, err := v.call(spec, o, stage, m)
	if err != nil {
		return out, fmt.Errorf("%s: %w", o.req.Address, err)
	}
	what := ""
	if stage != mainStage {
		what = "the run for the champion"
	}
	st, err := o.run(ctx, stage, s, o.progress(what))
	if err != nil {
		return out, err
	}
	if err := o.failure(what, st); err != nil {
		return out, err
	}
	metrics, err := runner.ReadMetrics(o.at(stage))
	if err != nil {
		out.Problem = err.Error()
		return out, nil
	}
	out.Metrics, out.Slices = metrics.Values, metrics.Slices
	return out, nil
}

func (v *validation) call(spec config.Validation, o *op, stage string, m config.Model) (Stage, error) {
	s := o.stage(stage, spec.Exec)
	var err error
	if s.Inputs, err = v.inputs(spec.Inputs); err != nil {
		return s, err
	}
	if s.Spec.Params, err = params(spec.Params); err != nil {
		return s, err
	}
	s.Spec.Seed, s.Model = spec.Seed, modelInput(m)
	return s, nil
}

// result judges what was measured.
func (v *validation) result(spec config.Validation, req providers.ApplyRequest, d validationDetail, ref runRef) providers.Result {
	verdict := gate{spec, d}.verdict()
	verdict.Subject, verdict.Time = resource.Digest(spec.Model.Digest), v.Now()
	r := providers.Result{
		Outputs: config.ValidationOutputs{Address: req.Address.String(), Model: spec.Model, Passed: verdict.Passed, Metrics: d.Metrics},
		Ref:     ref, Verdict: verdict, Metrics: d.Metrics, Detail: d, Message: verdict.Message,
	}
	if a, err := resource.ParseAddress(spec.Model.Address); err == nil && spec.Model.Version > 0 {
		r.Judged = &state.VersionRef{Address: a, Number: spec.Model.Version}
	}
	return r
}

// champion is the newest other version of the same training that this validation passed.
func (v *validation) champion(spec config.Validation, req providers.ApplyRequest) *state.Version {
	a, err := resource.ParseAddress(spec.Model.Address)
	if err != nil || req.State == nil {
		return nil
	}
	var best *state.Version
	for _, x := range req.State.Versions[a] {
		w := x.Verdicts[req.Address.String()]
		if x.Number == spec.Model.Version || w == nil || !w.Passed {
			continue
		}
		if best == nil || x.Number > best.Number {
			best = x
		}
	}
	return best
}

func modelOf(v *state.Version) config.Model {
	return config.Model{Name: v.Address.Name, Version: v.Number, Digest: string(v.Digest), URI: v.URI, Metrics: v.Metrics, Params: v.Params, Address: v.Address.String()}
}

// recorded finds the champion's numbers on the same inputs in earlier runs: its own, or those that measured it for comparison.
func (v *validation) recorded(spec config.Validation, req providers.ApplyRequest, champion *state.Version, inputs resource.Digest) (*measured, error) {
	if len(spec.Command) == 0 {
		return &measured{Version: champion.Number, Digest: string(champion.Digest), Metrics: champion.Metrics}, nil
	}
	if req.Runs == nil {
		return nil, nil
	}
	runs, err := req.Runs(req.Address)
	if err != nil {
		return nil, fmt.Errorf("%s: look for the champion's metrics: %w", req.Address, err)
	}
	for i := len(runs) - 1; i >= 0; i-- {
		if runs[i].Phase != resource.PhaseReady || len(runs[i].Detail) == 0 {
			continue
		}
		var d validationDetail
		if err := json.Unmarshal(runs[i].Detail, &d); err != nil {
			return nil, fmt.Errorf("%s: read what run %s measured: %w", req.Address, runs[i].ID, err)
		}
		if d.Inputs != inputs {
			continue
		}
		for _, m := range []*measured{&d.measured, d.Champion} {
			if m != nil && m.Problem == "" && m.Version == champion.Number && m.Digest == string(champion.Digest) {
				return m, nil
			}
		}
	}
	return nil, nil
}

// regresses says whether any threshold compares with the champion.
func regresses(spec config.Validation) bool {
	for _, t := range spec.Thresholds {
		if t.MaxRegression != nil {
			return true
		}
	}
	for _, s := range spec.Slices {
		for _, t := range s.Thresholds {
			if t.MaxRegression != nil {
				return true
			}
		}
	}
	return false
}

// inputsKey digests all that a measurement depends on but the model. What an input is, is its digest.
func inputsKey(spec config.Validation, req providers.ApplyRequest) (resource.Digest, error) {
	parts := resource.Parts{"code": req.Probed["code"], "image": spec.Image}
	for name, v := range map[string]any{"command": spec.Command, "env": spec.Env, "params": spec.Params, "seed": spec.Seed} {
		b, err := json.Marshal(v)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		parts[name] = string(b)
	}
	for name, v := range spec.Inputs {
		if m, ok := v.(map[string]any); ok && m["digest"] != nil {
			v = m["digest"]
		}
		parts["inputs."+name] = fmt.Sprint(v)
	}
	return parts.Digest(), nil
}
