package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// work is one journalled operation: what the intent says, and what is needed to
// do it.
type work struct {
	intent *state.Intent
	kind   *config.Kind
	driver providers.Driver
	spec   cty.Value
	prior  *state.Record
	// judge is the run whose metrics are judged again, instead of an Apply.
	judge *state.Run
	// importID names what an import takes over, instead of an Apply.
	importID string
	metrics  map[string]float64 // what the run measured, for people
	// post checks the block's postconditions on its new outputs; nil = none to check.
	post func(outputs cty.Value) error
}

// request is what the driver gets.
func (w *work) request(s *Session, adopt bool) providers.ApplyRequest {
	// What a driver tells may quote the command; most tell nothing, and cost nothing here.
	hide := sync.OnceValue(func() func(string) string {
		secrets, _ := s.e.secretsOf(w.intent.Address, s.now.snapshot())
		return replacing(secrets)
	})
	return providers.ApplyRequest{
		OpID: w.intent.OpID, Address: w.intent.Address, Action: w.intent.Action,
		Spec: w.spec, Prior: w.prior, State: s.now.view(w.intent.Address, w.intent.Deps), Inputs: w.intent.Inputs, Probed: w.intent.Probes,
		Reasons: w.intent.Reasons, Adopt: adopt, Force: s.force,
		Emit: func(ev resource.Event) {
			ev.Address = w.intent.Address.String()
			if ev.Type == resource.EventLog {
				ev.Message = hide()(ev.Message)
			}
			s.e.emit(ev)
		},
		Runs: func(a resource.Address) ([]*state.Run, error) { return s.e.Store.Runs(context.Background(), a) },
	}
}

// finish records how a journalled operation ended, in one commit with the end
// of its intent. It returns the new record; a failed operation is recorded and
// returned as the error.
func (s *Session) finish(ctx context.Context, w *work, res providers.Result, failure error) (*state.Record, error) {
	var open *providers.OpenError
	if failure != nil && (interrupted(ctx, failure) || errors.As(failure, &open) || errors.Is(failure, fence.ErrLost)) {
		return nil, failure // the intent stays open: the next session settles it
	}
	rec, ops, ended := s.ending(w, res, failure)
	fault.Point(fault.EngineDoneBefore)
	// The work is done whatever happens to this process's context: record it.
	err := s.commit(context.WithoutCancel(ctx), ops...)
	if ended == nil && errors.Is(err, state.ErrUnwritable) {
		rec, ops, ended = s.ending(w, res, err)
		err = s.commit(context.WithoutCancel(ctx), ops...)
	}
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", w.intent.Address, err)
	}
	fault.Point(fault.EngineDoneAfter)
	return rec, ended
}

// ending builds what is recorded of an operation's end, and returns the failure
// that it counts as, if any.
func (s *Session) ending(w *work, res providers.Result, failure error) (*state.Record, []state.Op, error) {
	var (
		rec *state.Record
		ops []state.Op
	)
	if failure == nil {
		// A result that cannot be recorded is a failure: an intent that stayed open for it would stop every apply to come.
		rec, ops, failure = s.succeeded(w, res)
	}
	switch {
	case failure == nil:
	case w.importID != "":
		rec, ops = nil, nil // nothing was taken over, so there is nothing to record
	default:
		rec, ops = s.failed(w, failure)
	}
	ops = append(ops, state.Op{CloseIntent: w.intent.OpID})
	return rec, ops, failure
}

func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// succeeded builds the record, run and version of an operation that ended well,
// be its verdict good or bad.
func (s *Session) succeeded(w *work, res providers.Result) (*state.Record, []state.Op, error) {
	now := s.e.Now().UTC()
	w.metrics = res.Metrics
	rec := w.base(now)
	rec.Phase, rec.Verdict, rec.Message = resource.PhaseReady, res.Verdict, res.Message
	if res.Held {
		rec.Phase = resource.PhaseRunning
	}
	rec.Attempt, rec.FailedInputs = 0, ""
	if res.Verdict != nil && res.Verdict.Time.IsZero() {
		res.Verdict.Time = now
	}
	if err := setRef(rec, res.Ref); err != nil {
		return nil, nil, err
	}
	s.hideIn(w.intent.Address, rec.Verdict)
	var ops []state.Op
	if res.Version != nil {
		op, err := s.newVersion(w, res, rec)
		if err != nil {
			return nil, nil, err
		}
		ops = append(ops, op)
	}
	outputs, err := w.outputs(res, rec.Version)
	if err != nil {
		return nil, nil, err
	}
	if rec.Outputs, err = state.EncodeValue(outputs); err != nil {
		return nil, nil, fmt.Errorf("outputs of %s: %w", rec.Address, err)
	}
	if w.post != nil && !rec.Verdict.Bad() {
		if err := w.post(outputs); err != nil {
			rec.Verdict = &resource.Verdict{Message: "postcondition: " + err.Error(), Time: now}
		}
	}
	if w.kind.Class == resource.Run && w.judge == nil {
		run, err := w.run(res, rec, now)
		if err != nil {
			return nil, nil, err
		}
		rec.Run = run.ID
		ops = append(ops, state.Op{PutRun: run})
	}
	if res.Judged != nil {
		ops = append(ops, s.judged(w, res, rec)...)
	}
	for _, q := range res.Quarantined {
		ops = append(ops, state.Op{PutQuarantine: &q})
		if err := w.keepServing(rec, q); err != nil {
			return nil, nil, err
		}
	}
	return rec, append(ops, state.Op{PutRecord: rec}), nil
}

// base is the record that every outcome starts from: the prior one with the
// intent's inputs.
func (w *work) base(now time.Time) *state.Record {
	in := w.intent
	rec := &state.Record{Created: now}
	if w.prior != nil {
		c := *w.prior
		rec = &c
	}
	rec.Address, rec.Provider, rec.Updated = in.Address, in.Provider, now
	rec.Parts, rec.Inputs, rec.Policy, rec.Judge, rec.Rows = in.Parts, in.Inputs, in.Policy, in.Judge, in.Rows
	rec.Spec, rec.Deps, rec.Protected = in.Spec, in.Deps, in.Protected
	rec.Seen = in.Seen
	return rec
}

func setRef(rec *state.Record, ref any) error {
	if ref == nil {
		return nil
	}
	raw, err := json.Marshal(ref)
	if err != nil {
		return fmt.Errorf("reference of %s: %w", rec.Address, err)
	}
	rec.Ref = raw
	return nil
}

// newVersion numbers the version that a run made.
func (s *Session) newVersion(w *work, res providers.Result, rec *state.Record) (state.Op, error) {
	v := *res.Version
	v.Address, v.Number, v.Run = w.intent.Address, s.now.nextVersion(w.intent.Address), w.intent.OpID
	v.Inputs, v.Parts, v.Created = w.intent.Inputs, w.intent.Parts, rec.Updated
	if v.Commit == "" {
		v.Commit = s.e.Commit
	}
	var err error
	if v.Data, err = state.DataIn(w.intent.Spec); err != nil {
		return state.Op{}, fmt.Errorf("%s: %w", v.Address, err)
	}
	v.Params = maskLike(v.Params, w.storedParams())
	// The same bytes need no new judgement, and get none: to a gate, whose inputs are digests, nothing moved.
	if same := s.now.versionOf(v.Address, v.Digest); same != nil {
		v.Verdicts = maps.Clone(same.Verdicts)
	}
	rec.Version = v.Number
	return state.Op{PutVersion: &v}, nil
}

// outputs encodes what the driver returned. Held outputs stay as they were
// while the verdict is bad, and a new version's number is filled in.
func (w *work) outputs(res providers.Result, version int) (cty.Value, error) {
	v, ok := res.Outputs.(cty.Value)
	if !ok {
		var err error
		if v, err = resource.Encode(res.Outputs); err != nil {
			return cty.NilVal, fmt.Errorf("outputs of %s: %w", w.intent.Address, err)
		}
	}
	attrs := v.AsValueMap()
	if w.kind.Versioned && res.Version != nil {
		attrs["version"] = cty.NumberIntVal(int64(version))
		if m := attrs["model"]; m != cty.NilVal && !m.IsNull() {
			model := m.AsValueMap()
			model["version"] = cty.NumberIntVal(int64(version))
			if p, err := resource.ToGo(model["params"]); err == nil && p != nil {
				if masked, err := resource.FromGo(maskValue(p, w.storedParams())); err == nil {
					model["params"] = masked
				}
			}
			attrs["model"] = cty.ObjectVal(model)
		}
	}
	if res.Verdict.Bad() {
		w.hold(attrs)
	}
	return cty.ObjectVal(attrs), nil
}

// keepServing lets the record say what serves after a rollout was taken back:
// the version from before, not the one that was refused.
func (w *work) keepServing(rec *state.Record, q state.Quarantine) error {
	attr := w.kind.PinAttr
	if attr == "" || w.prior == nil || !strings.Contains(rec.Parts[attr], string(q.Digest)) {
		return nil
	}
	var now, before map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(rec.Spec, &now), json.Unmarshal(w.prior.Spec, &before)); err != nil {
		return fmt.Errorf("record of %s: %w", rec.Address, err)
	}
	now[attr] = before[attr]
	raw, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("record of %s: %w", rec.Address, err)
	}
	rec.Spec, rec.Parts = raw, maps.Clone(rec.Parts)
	rec.Parts[attr] = w.prior.Parts[attr]
	rec.Inputs = rec.Parts.Digest()
	return nil
}

// hold keeps the last good value of the outputs that a gate holds.
func (w *work) hold(attrs map[string]cty.Value) {
	var prior cty.Value
	if w.prior != nil && len(w.prior.Outputs) > 0 {
		if v, err := state.DecodeValue(w.prior.Outputs, w.kind.OutputSchema().Type()); err == nil {
			prior = v
		}
	}
	for _, a := range w.kind.OutputSchema().Attrs {
		if !a.Hold {
			continue
		}
		attrs[a.Name] = cty.NullVal(a.Type.WithoutOptionalAttributesDeep())
		if prior != cty.NilVal && !prior.IsNull() {
			attrs[a.Name] = prior.GetAttr(a.Name)
		}
	}
}

// run is the entry in the history.
func (w *work) run(res providers.Result, rec *state.Record, now time.Time) (*state.Run, error) {
	run := w.runBase(now)
	run.Phase, run.Metrics, run.Verdict = resource.PhaseReady, res.Metrics, rec.Verdict
	run.Outputs, run.Message, run.Ref = rec.Outputs, res.Message, rec.Ref
	if res.Version != nil {
		run.Version = rec.Version
	} else if res.Judged != nil {
		run.Version = res.Judged.Number
	}
	if res.Detail != nil {
		raw, err := json.Marshal(res.Detail)
		if err != nil {
			return nil, fmt.Errorf("findings of %s: %w", w.intent.Address, err)
		}
		run.Detail = raw
	}
	return run, nil
}

func (w *work) runBase(now time.Time) *state.Run {
	in := w.intent
	return &state.Run{
		ID: in.OpID, Address: in.Address, Provider: in.Provider, Inputs: in.Inputs, Parts: in.Parts, Reasons: in.Reasons,
		Trigger: in.Trigger, Started: in.Started, Finished: now,
	}
}

// judged keeps a validation's verdict with the version that it judged; one that
// was pruned meanwhile has it in the run alone.
func (s *Session) judged(w *work, res providers.Result, rec *state.Record) []state.Op {
	v := s.now.version(*res.Judged)
	if v == nil {
		return nil
	}
	c := *v
	c.Verdicts = maps.Clone(v.Verdicts)
	if c.Verdicts == nil {
		c.Verdicts = map[string]*resource.Verdict{}
	}
	c.Verdicts[w.intent.Address.String()] = rec.Verdict
	return []state.Op{{PutVersion: &c}}
}

// failed builds the record of an operation that errored. What served before
// stays in the outputs; the verdict closes the gate.
func (s *Session) failed(w *work, failure error) (*state.Record, []state.Op) {
	now := s.e.Now().UTC()
	in := w.intent
	rec := &state.Record{Created: now, Address: in.Address, Provider: in.Provider, Deps: in.Deps, Spec: in.Spec}
	if w.prior != nil {
		c := *w.prior
		rec = &c
	}
	why := in.Address.Trim(failure.Error())
	rec.Updated, rec.Phase, rec.Message = now, resource.PhaseFailed, why
	rec.Seen, rec.Protected = in.Seen, in.Protected
	var ref any
	var re *providers.RunError
	if errors.As(failure, &re) {
		ref = re.Ref
	}
	if err := setRef(rec, ref); err != nil {
		rec.Message += " (" + err.Error() + ")"
	}
	var ops []state.Op
	if w.kind.Class == resource.Run {
		var absent *providers.NotStartedError
		switch {
		case errors.As(failure, &absent):
			rec.Attempt, rec.FailedInputs = 0, ""
		case rec.FailedInputs == in.Inputs:
			rec.Attempt++
		default:
			rec.Attempt, rec.FailedInputs = 1, in.Inputs
		}
		rec.Verdict = &resource.Verdict{Message: "errored: " + why, Time: now}
		run := w.runBase(now)
		run.Phase, run.Message, run.Ref = resource.PhaseFailed, why, rec.Ref
		rec.Run = run.ID
		ops = append(ops, state.Op{PutRun: run})
	}
	return rec, append(ops, state.Op{PutRecord: rec})
}

// postconditions returns the check of a block's postconditions, on what is
// recorded of the blocks that they refer to.
func (s *Session) postconditions(a resource.Address) func(cty.Value) error {
	blk := s.e.Project.Block(a)
	if blk == nil {
		return nil
	}
	return func(self cty.Value) error {
		scope := recorded{project: s.e.Project, snap: s.now.view(a, blk.Deps)}
		if diags := s.e.Project.Conditions(blk, scope, self, true); diags.HasErrors() {
			d := diags[0]
			return fmt.Errorf("%s: %s", d.Summary, d.Detail)
		}
		return nil
	}
}
