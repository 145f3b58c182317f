package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// adoptRun makes an earlier run's result current again.
func (a *application) adoptRun(ctx context.Context, w *work, f *planner.Final) (planner.Outcome, string, error) {
	run, err := a.s.findRun(ctx, w.intent.Address, f.Exec.AdoptRun)
	if err != nil {
		return planner.Outcome{}, "", err
	}
	rec := w.base(a.s.e.Now().UTC())
	rec.Phase, rec.Message, rec.Attempt, rec.FailedInputs = resource.PhaseReady, "", 0, ""
	rec.Run, rec.Verdict, rec.Ref = run.ID, run.Verdict, run.Ref
	rec.Outputs = run.Outputs
	if run.Provider != "" {
		rec.Provider = run.Provider // the reference to what ran is its provider's
	}
	if w.kind.Versioned {
		rec.Version = run.Version
	}
	if err := a.s.commit(ctx, state.Op{PutRecord: rec}); err != nil {
		return planner.Outcome{}, "", err
	}
	return outcome(rec, true), fmt.Sprintf("took over the result of run %s", run.ID), nil
}

func (s *Session) findRun(ctx context.Context, a resource.Address, id string) (*state.Run, error) {
	runs, err := s.e.Store.Runs(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		if r.ID == id {
			return r, nil
		}
	}
	return nil, fmt.Errorf("run %s of %s is not in the history", id, a)
}

// recordOnly notes moved policy; nothing outside changes.
func (a *application) recordOnly(ctx context.Context, w *work) (planner.Outcome, string, error) {
	rec := w.base(a.s.e.Now().UTC())
	rec.Provider = w.prior.Provider // the reference to what ran is its provider's
	if err := a.s.commit(ctx, state.Op{PutRecord: rec}); err != nil {
		return planner.Outcome{}, "", err
	}
	return outcome(rec, true), "noted", nil
}

// judge judges the recorded run again with the new thresholds.
func (a *application) judge(ctx context.Context, w *work) (planner.Outcome, string, error) {
	j, ok := providers.As[providers.Judge](w.driver)
	if !ok || w.prior == nil {
		return planner.Outcome{}, "", fmt.Errorf("%s: recorded metrics cannot be judged again by this provider; run it with -replace", w.intent.Address)
	}
	run, err := a.s.findRun(ctx, w.intent.Address, w.prior.Run)
	if err != nil {
		return planner.Outcome{}, "", err
	}
	w.judge = run
	res, err := j.Judge(ctx, w.request(a.s, false), run)
	if err != nil {
		return planner.Outcome{}, "", err
	}
	rec, ops, err := a.s.succeeded(w, res)
	if err != nil {
		return planner.Outcome{}, "", err
	}
	rec.Run, rec.Ref = w.prior.Run, w.prior.Ref
	again := *run
	again.Verdict, again.Outputs = res.Verdict, rec.Outputs
	ops = append(ops, state.Op{PutRun: &again})
	if err := a.s.commit(ctx, ops...); err != nil {
		return planner.Outcome{}, "", err
	}
	return outcome(rec, true), doneWord(w.kind, rec, res.Metrics), nil
}

// removeOld deletes the object that a replace makes anew.
func (s *Session) removeOld(ctx context.Context, w *work) error {
	if w.prior == nil || w.kind.Class == resource.Run {
		return nil
	}
	old := &state.Intent{
		OpID: ulid.Make().String(), Address: w.intent.Address, Provider: w.prior.Provider,
		Action: resource.Delete, Deps: w.prior.Deps, Epoch: s.epoch, Started: s.e.Now().UTC(),
	}
	d, err := s.e.driver(ctx, w.prior.Provider, w.intent.Address.Kind)
	if err != nil {
		return err
	}
	if err := s.commit(ctx, state.Op{PutIntent: old}); err != nil {
		return err
	}
	if err := s.deleteNow(ctx, &work{intent: old, kind: w.kind, driver: d, prior: w.prior}); err != nil {
		return err
	}
	w.prior = nil
	return nil
}

// delete takes an address away.
func (a *application) delete(ctx context.Context, st *planner.Step) (planner.Outcome, string, error) {
	rec := a.s.now.record(st.Address)
	if rec == nil {
		return planner.Outcome{}, "gone already", nil
	}
	a.s.e.emit(resource.Event{Type: resource.EventStepStart, Address: st.Address.String(), Action: st.Action, Message: startWord(st.Action)})
	kind := a.p.Input.Project.Kinds[st.Address.Kind]
	d, err := a.s.e.driver(ctx, rec.Provider, st.Address.Kind)
	if err != nil {
		return planner.Outcome{}, "", err
	}
	in := &state.Intent{
		OpID: ulid.Make().String(), Address: st.Address, Provider: rec.Provider, Action: resource.Delete,
		Reasons: st.Reasons, Deps: rec.Deps, Epoch: a.s.epoch, Started: a.s.e.Now().UTC(),
	}
	fault.Point(fault.EngineDeleteIntentBefore)
	if err := a.s.commit(ctx, state.Op{PutIntent: in}); err != nil {
		return planner.Outcome{}, "", err
	}
	fault.Point(fault.EngineDeleteIntentAfter)
	err = a.s.deleteNow(ctx, &work{intent: in, kind: kind, driver: d, prior: rec})
	return planner.Outcome{Changed: true}, "", err
}

// deleteNow deletes the object and forgets it, in that order: an object is never
// forgotten before its deletion is certain.
func (s *Session) deleteNow(ctx context.Context, w *work) error {
	if w.prior != nil {
		if err := fence.Check(ctx); err != nil {
			return err
		}
		err := w.driver.Delete(ctx, providers.DeleteRequest{
			OpID: w.intent.OpID, Address: w.intent.Address, Record: w.prior,
			Emit: func(ev resource.Event) { ev.Address = w.intent.Address.String(); s.e.emit(ev) },
		})
		if err != nil {
			return fmt.Errorf("delete %s: %w", w.intent.Address, err)
		}
	}
	fault.Point(fault.EngineDeleteActed)
	ops := []state.Op{{CloseIntent: w.intent.OpID}}
	if w.prior != nil {
		ops = append(ops, state.Op{DeleteRecord: &w.intent.Address})
	}
	return s.commit(context.WithoutCancel(ctx), ops...)
}

func startWord(a resource.Action) string {
	switch a { //nolint:exhaustive // the others do nothing that takes time
	case resource.Create:
		return "creating"
	case resource.Update:
		return "updating"
	case resource.Replace:
		return "replacing"
	case resource.RunIt:
		return "running"
	case resource.Delete:
		return "deleting"
	}
	return string(a)
}

// doneWord describes how a block stands after its step.
func doneWord(k *config.Kind, rec *state.Record, metrics map[string]float64) string {
	switch {
	case k.Versioned && rec.Version > 0:
		return fmt.Sprintf("version %d%s", rec.Version, metricWords(metrics))
	case rec.Verdict != nil && rec.Verdict.Message != "":
		return rec.Verdict.Message
	case rec.Message != "":
		return rec.Message
	}
	return "done"
}

// metricWords shows up to four metrics, by name.
func metricWords(m map[string]float64) string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i == 4 {
			break
		}
		b.WriteString("  " + name + " " + strconv.FormatFloat(m[name], 'g', 4, 64))
	}
	return b.String()
}
