package planner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// world is what a plan is made from, with an apply that does nothing but record
// what the confirmer lets through.
type world struct {
	t         testing.TB
	dir       string
	conf      *config.Project
	snap      *state.Snapshot
	now       time.Time
	sources   map[string]string // content by address
	objects   map[resource.Address]planner.Object
	signals   map[resource.Address][]*state.Signal
	noLive    bool
	sameModel bool             // every version of a training has the same bytes
	bad       map[string]bool  // verdicts to come
	fail      map[string]bool  // runs that error
	rows      map[string]int64 // rows of datasets
	ran       []string         // what apply executed
	// open is told, at each execution, so that a property can look at the gates.
	open func(blk *config.Block, recs map[resource.Address]*state.Record, outcomes map[resource.Address]planner.Outcome)
}

func newWorld(t testing.TB, hcl string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "planner")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a leftover in the temporary folder harms nobody
	w := &world{
		t: t, dir: dir, now: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC),
		snap: &state.Snapshot{
			Lineage: "L", Records: map[resource.Address]*state.Record{}, Versions: map[resource.Address][]*state.Version{},
			Signals: map[resource.Address][]*state.Signal{}, Pins: map[resource.Address]*state.Pin{},
			Quarantines: map[resource.Address][]*state.Quarantine{}, Runs: map[resource.Address][]state.RunKey{},
		},
		sources: map[string]string{}, objects: map[resource.Address]planner.Object{}, signals: map[resource.Address][]*state.Signal{},
		bad: map[string]bool{}, fail: map[string]bool{}, rows: map[string]int64{},
	}
	w.files(hcl)
	return w
}

// files replaces the project's files.
func (w *world) files(hcl string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, "main.ml.hcl"), []byte(hcl), 0o600); err != nil {
		w.t.Fatal(err)
	}
	kinds := []string{"dataset", "check", "training", "validation", "deployment", "monitor", "notifier", "batch_inference", "package", "manifest"}
	conf, diags := config.Load(context.Background(), config.Options{Dir: w.dir, Providers: map[string]config.ProviderSchema{
		"local": {Name: "local", Kinds: kinds},
		"pods":  {Name: "pods", Kinds: kinds, Nested: nestedSchemas(w.t, podRun{}, podServer{})},
		"grid":  {Name: "grid", Kinds: kinds, Nested: nestedSchemas(w.t, gridRun{}, nil)},
	}})
	if diags.HasErrors() {
		w.t.Fatalf("load: %v", diags)
	}
	w.conf = conf
	// No kind has an immutable attribute of its own; here one has.
	format := w.conf.Kinds["deployment"].Body().Attr("format")
	format.Immutable = true
	w.t.Cleanup(func() { format.Immutable = false })
}

func hash(s string) string { return "h" + resource.DigestOf([]byte(s)).Hex()[:8] }

func (w *world) input(o planner.Options) planner.Input {
	if o.Hash == nil {
		o.Hash = hash
	}
	in := planner.Input{Project: w.conf, Prior: w.snap, Now: w.now, Options: o, Live: planner.Live{Objects: w.objects, Signals: w.signals}}
	if w.noLive {
		return in
	}
	in.Live.Probes = map[resource.Address]planner.Probe{}
	for _, b := range w.conf.Blocks {
		if p, ok := w.probe(b, scope{w}); ok {
			in.Live.Probes[b.Addr] = p
		}
	}
	return in
}

func (w *world) probe(b *config.Block, s config.Scope) (planner.Probe, bool) {
	if len(b.Kind.Probes) == 0 {
		return planner.Probe{}, false
	}
	ev, diags := w.conf.Eval(b, s)
	if diags.HasErrors() {
		return planner.Probe{}, false
	}
	key, known := w.conf.ProbeKey(b, ev.Value)
	if !known {
		return planner.Probe{}, false
	}
	p := planner.Probe{Key: key, Values: map[string]string{}}
	for _, n := range probesOf(b) {
		p.Values[n] = string(resource.DigestOf([]byte(w.sources[b.Addr.String()])))
	}
	p.Err = w.sources["error of "+b.Addr.String()] // whatever the driver found before it
	return p, true
}

// probesOf are the contents that a driver reads: a dataset with a source has no code.
func probesOf(b *config.Block) []string {
	if b.Kind.Name == "dataset" {
		return []string{"content"}
	}
	return b.Kind.Probes
}

func (w *world) build(o ...planner.Options) *planner.Plan {
	if len(o) == 0 {
		o = []planner.Options{{}}
	}
	return w.plan(w.input(o[0]))
}

// plan builds the plan twice: with bodies that a refresh took apart before, as
// the engine does, and without. The short cuts of the first must change nothing.
func (w *world) plan(in planner.Input) *planner.Plan {
	w.t.Helper()
	p := planner.Build(in)
	if w.noLive {
		return p
	}
	in.Evaluated = map[resource.Address]planner.Body{}
	for _, b := range w.conf.Blocks {
		ev, diags := w.conf.Eval(b, scope{w})
		if len(diags) > 0 {
			continue
		}
		var probe *planner.Probe
		if found, ok := in.Live.Probes[b.Addr]; ok {
			probe = &found
		}
		in.Evaluated[b.Addr] = planner.NewBody(w.conf, b, ev, w.snap.Records[b.Addr], probe, in.Options.Hash)
	}
	want, got := mustJSON(w.t, p), mustJSON(w.t, planner.Build(in))
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Fatalf("bodies evaluated before change the plan (-without +with):\n%s", diff)
	}
	return p
}

// lines shows a plan as "action address code,code", diagnostics first.
func lines(p *planner.Plan) []string {
	out := []string{}
	for _, d := range p.Diagnostics {
		out = append(out, fmt.Sprintf("%s: %s: %s", d.Severity, d.Address, d.Summary))
	}
	for _, st := range p.Steps {
		var codes []string
		for _, r := range st.Reasons {
			codes = append(codes, string(r.Code))
		}
		out = append(out, fmt.Sprintf("%s %s %s", st.Action, st.Address, strings.Join(codes, ",")))
	}
	return out
}

// apply walks the plan's steps in their order and records what came of them.
func (w *world) apply(o ...planner.Options) {
	w.t.Helper()
	if len(o) == 0 {
		o = []planner.Options{{}}
	}
	in := w.input(o[0])
	p := w.plan(in)
	for _, d := range p.Diagnostics {
		if d.Severity == "error" {
			w.t.Fatalf("plan: %s: %s", d.Summary, d.Detail)
		}
	}
	w.ran = nil
	outcomes := map[resource.Address]planner.Outcome{}
	next := *w.snap
	next.Records, next.Runs, next.Versions = maps.Clone(w.snap.Records), maps.Clone(w.snap.Runs), maps.Clone(w.snap.Versions)
	next.Signals = maps.Clone(w.snap.Signals)
	maps.Copy(next.Signals, w.signals)
	next.Serial++
	for _, st := range p.Steps {
		if st.From != nil {
			next.Records[st.Address] = next.Records[*st.From]
			next.Runs[st.Address], next.Versions[st.Address] = next.Runs[*st.From], next.Versions[*st.From]
			delete(next.Records, *st.From)
			delete(next.Runs, *st.From)
			delete(next.Versions, *st.From)
		}
	}
	c := planner.NewConfirmer(in, p)
	for _, st := range p.Steps {
		if st.Action == resource.Noop {
			continue
		}
		out := w.step(c, &next, st, outcomes)
		outcomes[st.Address] = out
		c.Done(st.Address, out)
	}
	w.snap = &next
	w.now = w.now.Add(time.Minute)
}

func (w *world) step(c *planner.Confirmer, next *state.Snapshot, st *planner.Step, outcomes map[resource.Address]planner.Outcome) planner.Outcome {
	switch st.Action { //nolint:exhaustive // the others are confirmed below
	case resource.Blocked:
		return planner.Outcome{Blocked: st.Reasons[0].Message}
	case resource.Delete, resource.Forget:
		w.ran = append(w.ran, string(st.Action)+" "+st.Address.String())
		delete(next.Records, st.Address)
		return planner.Outcome{Changed: true}
	case resource.Move:
		r := next.Records[st.Address]
		return planner.Outcome{Outputs: r.Outputs, Verdict: r.Verdict, Changed: true}
	}
	blk := w.conf.Block(st.Address)
	var probe planner.Probe
	if _, key, known := c.Sources(st.Address); known && len(blk.Kind.Probes) > 0 {
		probe = planner.Probe{Key: key, Values: map[string]string{}}
		for _, n := range probesOf(blk) {
			probe.Values[n] = string(resource.DigestOf([]byte(w.sources[st.Address.String()])))
		}
	}
	f, err := c.Confirm(st, probe)
	if err != nil {
		w.t.Fatalf("confirm %s: %v", st.Address, err)
	}
	prior := next.Records[st.Address]
	switch f.Action { //nolint:exhaustive // the others act
	case resource.Noop:
		if prior == nil {
			return planner.Outcome{}
		}
		return planner.Outcome{Outputs: prior.Outputs, Verdict: prior.Verdict}
	case resource.Blocked:
		return planner.Outcome{Blocked: f.Why}
	}
	if w.open != nil {
		w.open(blk, next.Records, outcomes)
	}
	w.ran = append(w.ran, string(f.Action)+" "+st.Address.String())
	return w.record(next, blk, f, st)
}

func (w *world) dataIn(spec json.RawMessage) []json.RawMessage {
	w.t.Helper()
	data, err := state.DataIn(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// record is what a driver and the engine make of a confirmed step.
func (w *world) record(next *state.Snapshot, blk *config.Block, f *planner.Final, st *planner.Step) planner.Outcome {
	prior := next.Records[blk.Addr]
	rec := &state.Record{Created: w.now}
	if prior != nil {
		c := *prior
		rec = &c
	}
	id := fmt.Sprintf("run-%d-%s", next.Serial, blk.Addr.Slug())
	rec.Address, rec.Provider, rec.Updated, rec.Deps, rec.Seen, rec.Protected = blk.Addr, blk.Provider, w.now, f.Deps, f.Seen, blk.Lifecycle.PreventDestroy
	if w.fail[blk.Addr.String()] && blk.Kind.Class == resource.Run && !f.Exec.RecordOnly {
		rec.Phase, rec.Message, rec.Verdict = resource.PhaseFailed, "boom", &resource.Verdict{Message: "errored: boom"}
		rec.Attempt, rec.FailedInputs = rec.Attempt+1, f.Inputs
		next.Records[blk.Addr] = rec
		next.Runs[blk.Addr] = append(slices.Clip(next.Runs[blk.Addr]), state.RunKey{ID: id, Inputs: f.Inputs, Phase: resource.PhaseFailed, Started: w.now, Finished: w.now})
		return planner.Outcome{Failed: "boom"}
	}
	rec.Phase, rec.Attempt, rec.FailedInputs, rec.Message = resource.PhaseReady, 0, "", ""
	rec.Parts, rec.Inputs, rec.Policy, rec.Judge, rec.Rows, rec.Spec = f.Parts, f.Inputs, f.Policy, f.Judge, f.Rows, f.Spec
	if f.Exec.RecordOnly && f.Exec.AdoptRun == "" {
		next.Records[blk.Addr] = rec
		return planner.Outcome{Outputs: rec.Outputs, Verdict: rec.Verdict, Changed: true}
	}
	w.outputs(next, blk, f, rec, id)
	if blk.Kind.Class == resource.Run && f.Exec.AdoptRun == "" {
		next.Runs[blk.Addr] = append(slices.Clip(next.Runs[blk.Addr]), state.RunKey{ID: id, Inputs: f.Inputs, Phase: resource.PhaseReady, Trigger: st.Exec.Trigger, Version: rec.Version, Started: w.now, Finished: w.now.Add(time.Second)})
	}
	next.Records[blk.Addr] = rec
	return planner.Outcome{Outputs: rec.Outputs, Verdict: rec.Verdict, Changed: true}
}

func (w *world) outputs(next *state.Snapshot, blk *config.Block, f *planner.Final, rec *state.Record, id string) {
	w.t.Helper()
	addr := blk.Addr.String()
	verdict := &resource.Verdict{Passed: true, Message: "passed"}
	if w.bad[addr] {
		verdict = &resource.Verdict{Message: "not good enough"}
	}
	var out any
	switch blk.Kind.Name {
	case "dataset":
		rows := w.rows[addr]
		out = config.DatasetOutputs{Data: config.Data{Address: addr, Digest: f.Probes["content"], Path: "/data", Rows: rows}, Split: map[string]any{}}
		rec.Verdict = verdict
	case "check":
		out, rec.Verdict = config.CheckOutputs{Address: addr, Passed: verdict.Passed}, verdict
	case "training":
		rec.Version = len(next.Versions[blk.Addr]) + 1
		if f.Exec.AdoptRun != "" {
			for _, r := range next.Runs[blk.Addr] {
				if r.ID == f.Exec.AdoptRun {
					rec.Version = r.Version
				}
			}
		}
		d := string(resource.DigestOf([]byte(fmt.Sprint(addr, rec.Version))))
		if w.sameModel {
			d = string(resource.DigestOf([]byte(addr)))
		}
		if f.Exec.AdoptRun == "" {
			next.Versions[blk.Addr] = append(slices.Clip(next.Versions[blk.Addr]), &state.Version{Address: blk.Addr, Number: rec.Version, Digest: resource.Digest(d), Run: id, Parts: f.Parts, Data: w.dataIn(f.Spec)})
		}
		out = config.TrainingOutputs{Address: addr, Version: rec.Version, Model: &config.Model{Name: blk.Addr.Name, Address: addr, Version: rec.Version, Digest: d}}
	case "validation":
		var v config.Validation
		if err := resource.Decode(f.Value, &v); err != nil {
			w.t.Fatal(err)
		}
		o := config.ValidationOutputs{Address: addr, Model: v.Model, Passed: verdict.Passed}
		rec.Verdict = verdict
		if !verdict.Passed { // the gate holds what passed last
			o.Model = nil
			var last struct {
				Model *config.Model `json:"model"`
			}
			if len(rec.Outputs) > 0 {
				if v, err := state.DecodeValue(rec.Outputs, blk.Kind.OutputSchema().Type()); err == nil && !v.GetAttr("model").IsNull() {
					last.Model = &config.Model{}
					if err := resource.Decode(v.GetAttr("model"), last.Model); err != nil {
						w.t.Fatal(err)
					}
				}
			}
			o.Model = last.Model
		}
		out = o
	case "deployment":
		var v config.Deployment
		if err := resource.Decode(f.Value, &v); err != nil {
			w.t.Fatal(err)
		}
		out = config.DeploymentOutputs{Address: addr, Endpoint: "http://127.0.0.1:1", Version: v.Model.Version, Digest: v.Model.Digest}
	case "monitor":
		out = config.MonitorOutputs{Address: addr}
	case "notifier":
		out = config.NotifierOutputs{Address: addr, Type: "log"}
	case "manifest":
		out = config.ManifestOutputs{Address: addr, Objects: []config.ManifestObject{{Kind: "ConfigMap", Name: "c"}}}
	default:
		w.t.Fatalf("no outputs for %s", blk.Kind.Name)
	}
	v, err := resource.Encode(out)
	if err != nil {
		w.t.Fatal(err)
	}
	if rec.Outputs, err = state.EncodeValue(v); err != nil {
		w.t.Fatal(err)
	}
}

// scope is what is recorded.
type scope struct{ w *world }

func (s scope) Outputs(a resource.Address) (v cty.Value) {
	b, rec := s.w.conf.Block(a), s.w.snap.Records[a]
	if b == nil || rec == nil || len(rec.Outputs) == 0 {
		return v
	}
	v, err := state.DecodeValue(rec.Outputs, b.Kind.OutputSchema().Type())
	if err != nil {
		return cty.NilVal
	}
	return v
}

func (s scope) Signal(resource.SignalRef) config.Signal { return config.Signal{} }

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func address(s string) resource.Address {
	a, err := resource.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}
