package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/continuo-ml/continuo/internal/dag"
	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Applied says how an apply ended.
type Applied struct {
	Done, Unchanged, Failed, Blocked []resource.Address
	// Running are steps whose detached work goes on although this apply was
	// interrupted; the next apply collects them.
	Running []resource.Address
	// NotStarted are steps that an interruption kept from starting.
	NotStarted []resource.Address
	// Errors say, per failed step, what went wrong.
	Errors map[resource.Address]error
	// Bad are the bad verdicts in scope after the apply, whether it made them or not.
	Bad map[resource.Address]*resource.Verdict
}

// Interrupted says whether something was left to do because the context ended.
func (a *Applied) Interrupted() bool { return len(a.Running)+len(a.NotStarted) > 0 }

// application is one apply on its way.
type application struct {
	s         *Session
	p         *Planned
	confirmMu sync.Mutex // the confirmer serves one step at a time
	confirm   *planner.Confirmer

	mu  sync.Mutex
	out *Applied
}

// Apply runs the plan's own steps; it never plans. It stops starting steps when
// ctx ends, leaves detached runs running, and says so. Errors of steps stand in
// the result; the returned error is about the apply as a whole.
func (s *Session) Apply(ctx context.Context, p *Planned) (*Applied, error) {
	a := &application{s: s, p: p, out: &Applied{
		Errors: map[resource.Address]error{}, Bad: map[resource.Address]*resource.Verdict{},
	}}
	for _, d := range p.Plan.Diagnostics {
		if d.Severity == "error" {
			return a.out, fmt.Errorf("the plan has errors: %s", d.Summary)
		}
	}
	if err := s.reload(ctx); err != nil {
		return a.out, err
	}
	if err := a.preface(ctx); err != nil {
		return a.out, err
	}
	a.confirm = planner.NewConfirmer(p.Input, p.Plan)
	if err := a.walk(ctx); err != nil {
		return a.out, err
	}
	a.settled()
	a.verdicts()
	return a.out, nil
}

// preface records what needs no step of its own: moves, live states that a
// refresh found, quarantines and signals.
func (a *application) preface(ctx context.Context) error {
	var ops []state.Op
	for _, st := range a.p.Plan.Steps {
		if st.From != nil {
			ops = append(ops, state.Op{MoveRecord: &[2]resource.Address{*st.From, st.Address}})
		}
	}
	if len(ops) > 0 {
		if err := a.s.commit(ctx, ops...); err != nil {
			return fmt.Errorf("record moves: %w", err)
		}
		if err := a.s.reload(ctx); err != nil {
			return err
		}
	}
	if err := a.s.recordLive(ctx, a.p.Input.Live); err != nil {
		return err
	}
	return a.s.recordSignals(ctx, a.p.Input.Live.Signals)
}

// walk runs the steps, each as soon as what it needs has ended.
func (a *application) walk(ctx context.Context) error {
	g := dag.New[resource.Address]()
	steps := map[resource.Address]*planner.Step{}
	for _, st := range a.p.Plan.Steps {
		if st.Action == resource.Noop {
			continue
		}
		steps[st.Address] = st
		g.Add(st.Address)
	}
	for _, st := range a.p.Plan.Steps {
		for _, n := range st.Needs {
			if steps[n] != nil && steps[st.Address] != nil {
				g.Edge(st.Address, n)
			}
		}
	}
	started := map[resource.Address]bool{}
	// A step's own failure does not stop the walk: the confirmer decides, for
	// each step behind it, whether it can live with what was there before.
	err := g.Walk(ctx, a.s.e.parallel(), func(ctx context.Context, addr resource.Address) error {
		a.mu.Lock()
		started[addr] = true
		a.mu.Unlock()
		a.step(ctx, steps[addr])
		return nil
	})
	for _, st := range a.p.Plan.Steps {
		if steps[st.Address] != nil && !started[st.Address] {
			a.out.NotStarted = append(a.out.NotStarted, st.Address)
		}
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// step runs one step and tells the confirmer and the views how it ended.
func (a *application) step(ctx context.Context, st *planner.Step) {
	began := a.s.e.Now()
	o, msg, err := a.run(ctx, st)
	ev := resource.Event{Type: resource.EventStepDone, Address: st.Address.String(), Action: st.Action, Message: msg, Seconds: a.s.e.Now().Sub(began).Seconds()}
	a.mu.Lock()
	switch {
	case errors.Is(err, errNotStarted):
		a.out.NotStarted = append(a.out.NotStarted, st.Address)
		o = planner.Outcome{Blocked: "interrupted"}
		ev.Blocked, ev.Message = true, "interrupted before it started"
	case err != nil && interrupted(ctx, err):
		a.out.Running = append(a.out.Running, st.Address)
		o = planner.Outcome{Blocked: "interrupted"}
		ev.Type = resource.EventLog // it is not done
		ev.Message = "goes on in the background; the next `ml apply` collects it"
	case err != nil:
		a.out.Failed = append(a.out.Failed, st.Address)
		a.out.Errors[st.Address] = err
		o = planner.Outcome{Failed: st.Address.Trim(err.Error())}
		a.s.lastLines(st.Address, err)
		ev.Failed, ev.Message = true, st.Address.Trim(err.Error())
	case o.Blocked != "":
		a.out.Blocked = append(a.out.Blocked, st.Address)
		ev.Blocked, ev.Message = true, o.Blocked
	case o.Verdict.Bad():
		a.out.Done = append(a.out.Done, st.Address)
		ev.Data = map[string]any{"passed": false}
	case !o.Changed:
		ev.Action = resource.Noop
		a.out.Unchanged = append(a.out.Unchanged, st.Address)
	default:
		a.out.Done = append(a.out.Done, st.Address)
	}
	a.mu.Unlock()
	a.confirmMu.Lock()
	a.confirm.Done(st.Address, o)
	a.confirmMu.Unlock()
	a.s.e.emit(ev)
}

// run does what the step says. The message describes the outcome for people.
func (a *application) run(ctx context.Context, st *planner.Step) (planner.Outcome, string, error) {
	switch st.Action { //nolint:exhaustive // the others are confirmed and executed below
	case resource.Blocked:
		return planner.Outcome{Blocked: st.Reasons[0].Message}, "", nil
	case resource.Move:
		rec := a.s.now.record(st.Address)
		return outcome(rec, true), "moved from " + st.From.String(), nil
	case resource.Delete:
		return a.delete(ctx, st)
	case resource.Forget:
		err := a.s.commit(ctx, state.Op{DeleteRecord: &st.Address})
		return planner.Outcome{Changed: true}, "forgotten", err
	}
	f, err := a.final(ctx, st)
	if err != nil {
		return planner.Outcome{}, "", err
	}
	switch f.Action { //nolint:exhaustive // the others are executed
	case resource.Noop:
		return outcome(a.s.now.record(st.Address), false), f.Why, nil
	case resource.Blocked:
		return planner.Outcome{Blocked: f.Why}, "", nil
	}
	return a.execute(ctx, st, f)
}

func outcome(rec *state.Record, changed bool) planner.Outcome {
	if rec == nil {
		return planner.Outcome{Changed: changed}
	}
	return planner.Outcome{Outputs: rec.Outputs, Verdict: rec.Verdict, Changed: changed}
}

// final confirms the step with the values that are known now. Sources that were
// not known at plan time are digested first.
func (a *application) final(ctx context.Context, st *planner.Step) (*planner.Final, error) {
	blk := a.p.Input.Project.Block(st.Address)
	var probe planner.Probe
	if blk != nil && len(blk.Kind.Probes) > 0 {
		a.confirmMu.Lock()
		v, key, known := a.confirm.Sources(st.Address)
		a.confirmMu.Unlock()
		if have, ok := a.p.Input.Live.Probes[st.Address]; known && (!ok || have.Key != key) {
			probe, _ = a.s.e.probe(ctx, blk, v, nil, false)
		}
	}
	a.confirmMu.Lock()
	defer a.confirmMu.Unlock()
	return a.confirm.Confirm(st, probe)
}

// execute does a confirmed step.
func (a *application) execute(ctx context.Context, st *planner.Step, f *planner.Final) (planner.Outcome, string, error) {
	blk := a.p.Input.Project.Block(st.Address)
	prior := a.s.now.record(st.Address)
	in := &state.Intent{
		OpID: ulid.Make().String(), Address: st.Address, Provider: blk.Provider, Action: f.Action,
		Inputs: f.Inputs, Parts: f.Parts, Policy: f.Policy, Judge: f.Judge, Rows: f.Rows, Probes: f.Probes,
		Trigger: st.Exec.Trigger, Reasons: st.Reasons, Spec: f.Spec, Deps: f.Deps, Seen: f.Seen,
		Protected: blk.Lifecycle.PreventDestroy, Epoch: a.s.epoch, Started: a.s.e.Now().UTC(),
	}
	w := &work{intent: in, kind: blk.Kind, prior: prior, spec: unmarked(f.Value), importID: f.Exec.ImportID, post: a.s.postconditions(st.Address)}
	switch {
	case f.Exec.AdoptRun != "":
		return a.adoptRun(ctx, w, f)
	case f.Exec.RecordOnly:
		return a.recordOnly(ctx, w)
	}
	d, err := a.s.e.driver(ctx, blk.Provider, blk.Kind.Name)
	if err != nil {
		return planner.Outcome{}, "", err
	}
	w.driver = d
	if f.Exec.Judge {
		return a.judge(ctx, w)
	}
	a.s.e.emit(resource.Event{Type: resource.EventStepStart, Address: st.Address.String(), Action: f.Action, Message: startWord(f.Action), Of: st.Exec.Estimate})
	if f.Action == resource.Replace && f.Exec.DeleteFirst {
		if err := a.s.removeOld(ctx, w); err != nil {
			return planner.Outcome{}, "", err
		}
	}
	rec, err := a.s.perform(ctx, w)
	if err != nil {
		return planner.Outcome{}, "", err
	}
	return outcome(rec, true), doneWord(w.kind, rec, w.metrics), nil
}

// errNotStarted marks a step that an interruption reached before its intent was
// written: nothing happened.
var errNotStarted = errors.New("not started")

// perform journals the intent, acts, and records the outcome.
func (s *Session) perform(ctx context.Context, w *work) (*state.Record, error) {
	fault.Point(fault.EngineIntentBefore)
	if err := s.commit(ctx, state.Op{PutIntent: w.intent}); err != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(errNotStarted, err)
		}
		return nil, fmt.Errorf("journal %s: %w", w.intent.Address, err)
	}
	fault.Point(fault.EngineIntentAfter)
	var res providers.Result
	req := w.request(s, false)
	err := retry(ctx, s.e.Retry, func(err error, wait time.Duration) {
		s.e.emit(resource.Event{Type: resource.EventLog, Address: w.intent.Address.String(), Message: fmt.Sprintf("%v; trying again in %s", err, wait.Round(time.Millisecond))})
	}, func() error {
		err := fence.Check(ctx)
		if err == nil {
			res, err = w.act(ctx, req)
		}
		return err
	})
	fault.Point(fault.EngineActed)
	return s.finish(ctx, w, res, err)
}

// act lets the driver do the work: apply, or take over what exists.
func (w *work) act(ctx context.Context, req providers.ApplyRequest) (providers.Result, error) {
	if w.importID == "" {
		return w.driver.Apply(ctx, req)
	}
	im, ok := providers.As[providers.Importer](w.driver)
	if !ok {
		return providers.Result{}, fmt.Errorf("provider %q cannot import a %s", w.intent.Provider, w.intent.Address.Kind)
	}
	return im.Import(ctx, w.importID, req)
}

// settled counts what settling found failed, unless a step has made up for it.
func (a *application) settled() {
	for _, addr := range slices.SortedFunc(maps.Keys(a.s.lost), resource.Address.Compare) {
		if a.out.Errors[addr] == nil && !slices.Contains(a.out.Done, addr) {
			a.out.Failed = append(a.out.Failed, addr)
			a.out.Errors[addr] = a.s.lost[addr]
		}
	}
}

// verdicts collects the bad verdicts in scope.
func (a *application) verdicts() {
	for _, blk := range a.p.Input.Project.Blocks {
		rec := a.s.now.record(blk.Addr)
		if rec != nil && rec.Verdict.Bad() && a.inScope(blk.Addr) {
			a.out.Bad[blk.Addr] = rec.Verdict
		}
	}
	for _, st := range a.p.Plan.Steps {
		for _, r := range st.Reasons {
			if r.Code == resource.ReasonQuarantined {
				a.out.Bad[st.Address] = &resource.Verdict{Message: r.Message}
			}
		}
	}
}

func (a *application) inScope(addr resource.Address) bool {
	t := a.p.Input.Options.Targets
	return len(t) == 0 || slices.Contains(t, addr) || slices.Contains(t, addr.Block())
}
