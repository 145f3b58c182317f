package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// world is a fake outside system: what exists in it, and everything that was
// asked of it. It stands in where a test is about plans and records, not about
// processes.
type world struct {
	mu        sync.Mutex
	sources   map[string]string // content by source path or command
	objects   map[string]string // address → spec digest
	ops       map[string]bool   // op ids that had an effect
	calls     []string
	bad       map[string]string // address → bad verdict
	fail      map[string]error  // address → error of the next Apply
	signals   map[string]int64  // epochs by monitor
	holds     map[string]chan struct{}
	onApply   func(addr string) // called when an Apply had its effect
	specs     map[string]cty.Value
	probed    int             // how often a source was read
	elsewhere bool            // sources of datasets lie outside of the project folder
	reads     int             // how often a live object was looked at
	files     int             // how often a source was to be read in the project folder only
	refuse    map[string]bool // deployments that take the next version back

	unrecordable map[string]bool                 // addresses whose findings are no JSON
	nan          map[string]bool                 // addresses that measure what is no number
	sees         map[string]resource.SignalState // what a monitor sees now; else it follows from its epoch
	deaf         map[string]bool                 // notifiers that cannot be reached
	onTell       func()                          // called before a notifier takes an alert
	sameModel    bool                            // every training makes the same bytes each time

	asked    []providers.PreflightRequest   // of whom it was asked what stands in the way
	findings map[string][]providers.Finding // what does, by address
	blind    map[string]error               // why that is not known
	reasons  map[string][]resource.Reason   // with which each address was last applied
	watchers []providers.WatchRequest       // who asked to be told
}

func newWorld() *world {
	return &world{
		sources: map[string]string{}, objects: map[string]string{}, ops: map[string]bool{},
		bad: map[string]string{}, fail: map[string]error{}, signals: map[string]int64{}, holds: map[string]chan struct{}{}, refuse: map[string]bool{}, specs: map[string]cty.Value{},
		unrecordable: map[string]bool{}, nan: map[string]bool{}, sees: map[string]resource.SignalState{}, deaf: map[string]bool{},
		reasons: map[string][]resource.Reason{},
	}
}

func (w *world) log(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
}

// took returns what was asked since the last call, sorted.
func (w *world) took() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.calls
	w.calls = nil
	sort.Strings(out)
	return out
}

// fakeDriver serves one kind in the world.
type fakeDriver struct {
	w    *world
	kind string
}

func (d *fakeDriver) Read(_ context.Context, req providers.ReadRequest) (providers.Object, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.reads++
	if _, ok := d.w.objects[req.Address.String()]; !ok && kindClass(d.kind) == resource.Object {
		return providers.Object{Phase: resource.PhaseMissing}, nil
	}
	return providers.Object{Phase: resource.PhaseReady}, nil
}

func kindClass(kind string) resource.Class {
	switch kind {
	case "dataset", "deployment", "monitor", "notifier":
		return resource.Object
	}
	return resource.Run
}

func (d *fakeDriver) Probe(_ context.Context, req providers.ProbeRequest) (map[string]string, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.probed++
	if req.FilesOnly {
		d.w.files++
	}
	if d.kind == "dataset" && req.FilesOnly && d.w.elsewhere {
		return nil, fmt.Errorf("%s: %w", req.Address, providers.ErrElsewhere)
	}
	if d.kind == "dataset" {
		src := req.Spec.GetAttr("source")
		if src.IsNull() {
			return nil, nil
		}
		content, ok := d.w.sources[src.AsString()]
		if !ok {
			return nil, fmt.Errorf("%s: no such file", src.AsString())
		}
		return map[string]string{"content": string(resource.DigestOf([]byte(content)))}, nil
	}
	return map[string]string{"code": string(resource.DigestOf([]byte(d.w.sources["code of "+req.Address.String()])))}, nil
}

// Preflight finds what the world says of the address.
func (d *fakeDriver) Preflight(_ context.Context, req providers.PreflightRequest) ([]providers.Finding, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.asked = append(d.w.asked, req)
	return d.w.findings[req.Address.String()], d.w.blind[req.Address.String()]
}

// Watch sees every object, unless nobody can look at it; what changes, a test says.
func (d *fakeDriver) Watch(_ context.Context, req providers.WatchRequest) ([]resource.Address, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if kindClass(d.kind) != resource.Object {
		return nil, nil
	}
	d.w.watchers = append(d.w.watchers, req)
	var out []resource.Address
	for _, r := range req.Records {
		if err := d.w.blind[r.Address.String()]; err != nil {
			return out, err
		}
		out = append(out, r.Address)
	}
	return out, nil
}

func (d *fakeDriver) Observe(_ context.Context, req providers.ObserveRequest) ([]*state.Signal, error) {
	if d.kind != "monitor" {
		return nil, nil
	}
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	e := d.w.signals[req.Address.String()]
	s := &state.Signal{Address: req.Address, Name: "drift", State: resource.SignalGood, Epoch: e, Message: "calm"}
	if e > 0 {
		s.State, s.Message = resource.SignalBad, "14 of 30 columns drift"
	}
	if is, ok := d.w.sees[req.Address.String()]; ok {
		s.State = is
	}
	s.Windows = []state.Window{{Signal: s.Name, State: s.State, Message: s.Message}}
	return []*state.Signal{s}, nil
}

func (d *fakeDriver) Notify(_ context.Context, req providers.NotifyRequest) error {
	d.w.mu.Lock()
	deaf, hook := d.w.deaf[req.Spec.GetAttr("url").AsString()], d.w.onTell
	d.w.mu.Unlock()
	if hook != nil {
		hook()
	}
	if deaf {
		return errBoom
	}
	d.w.log("tell %s: %s, %s", req.Spec.GetAttr("url").AsString(), req.Title, req.Key)
	return nil
}

// artifact is the digest of what a training makes: each time another, unless the world says so.
func (w *world) artifact(req providers.ApplyRequest) string {
	if w.sameModel {
		return string(resource.DigestOf([]byte(req.Address.String())))
	}
	return string(resource.DigestOf([]byte(req.OpID)))
}

var errBoom = errors.New("boom")

func (d *fakeDriver) Apply(ctx context.Context, req providers.ApplyRequest) (providers.Result, error) {
	addr := req.Address.String()
	d.w.mu.Lock()
	if req.Adopt && !d.w.ops[req.OpID] {
		d.w.mu.Unlock()
		return providers.Result{}, providers.ErrAbsent
	}
	hold, fail := d.w.holds[addr], d.w.fail[addr]
	delete(d.w.fail, addr)
	if !d.w.ops[req.OpID] {
		d.w.calls = append(d.w.calls, string(req.Action)+" "+addr)
	}
	d.w.ops[req.OpID] = true
	d.w.specs[addr], d.w.reasons[addr] = req.Spec, req.Reasons
	hook := d.w.onApply
	d.w.mu.Unlock()
	if hook != nil {
		hook(addr)
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return providers.Result{}, ctx.Err()
		}
	}
	if fail != nil {
		return providers.Result{}, fail
	}
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.objects[addr] = string(req.Inputs)
	res, err := d.result(req)
	if d.w.unrecordable[addr] {
		res.Detail = math.NaN()
	}
	if d.w.nan[addr] {
		res.Metrics = map[string]float64{"loss": math.NaN()}
	}
	return res, err
}

func (d *fakeDriver) result(req providers.ApplyRequest) (providers.Result, error) {
	addr := req.Address.String()
	verdict := &resource.Verdict{Passed: true, Message: "passed"}
	if why := d.w.bad[addr]; why != "" {
		verdict = &resource.Verdict{Message: why}
	}
	switch d.kind {
	case "dataset":
		digest := req.Probed["content"]
		data := config.Data{Address: addr, Digest: digest, Path: "/data/" + digest, Rows: int64(len(d.w.sources[req.Spec.GetAttr("source").AsString()]))}
		return providers.Result{Outputs: config.DatasetOutputs{Data: data, Split: map[string]any{}}, Verdict: verdict}, nil
	case "check":
		return providers.Result{Outputs: config.CheckOutputs{Address: addr, Passed: verdict.Passed}, Verdict: verdict}, nil
	case "training":
		m := config.Model{Name: req.Address.Name, Digest: d.w.artifact(req), Address: addr, Metrics: map[string]float64{"recall": 0.9}}
		return providers.Result{
			Outputs: config.TrainingOutputs{Address: addr, Model: &m},
			Version: &state.Version{Digest: resource.Digest(m.Digest), Metrics: m.Metrics},
		}, nil
	case "validation":
		var v config.Validation
		if err := resource.Decode(req.Spec, &v); err != nil {
			return providers.Result{}, err
		}
		training, err := resource.ParseAddress(v.Model.Address)
		if err != nil {
			return providers.Result{}, err
		}
		return providers.Result{
			Outputs: config.ValidationOutputs{Address: addr, Model: v.Model, Passed: verdict.Passed},
			Verdict: verdict, Judged: &state.VersionRef{Address: training, Number: v.Model.Version},
		}, nil
	case "deployment":
		var v config.Deployment
		if err := resource.Decode(req.Spec, &v); err != nil {
			return providers.Result{}, err
		}
		if d.w.refuse[addr] {
			var before config.Deployment
			old, err := state.DecodeValue(req.Prior.Spec, req.Spec.Type())
			if err == nil {
				err = resource.Decode(old, &before)
			}
			return providers.Result{
				Outputs:     config.DeploymentOutputs{Address: addr, Endpoint: "http://127.0.0.1:1", Version: before.Model.Version, Digest: before.Model.Digest},
				Verdict:     &resource.Verdict{Message: "taken back: 30 % errors"},
				Quarantined: []state.Quarantine{{Address: req.Address, Version: v.Model.Version, Digest: resource.Digest(v.Model.Digest), Reason: "30 % errors"}},
			}, err
		}
		return providers.Result{Outputs: config.DeploymentOutputs{Address: addr, Endpoint: "http://127.0.0.1:1", Version: v.Model.Version, Digest: v.Model.Digest}}, nil
	case "monitor":
		return providers.Result{Outputs: config.MonitorOutputs{Address: addr}}, nil
	case "notifier":
		return providers.Result{Outputs: config.NotifierOutputs{Address: addr, Type: "log"}}, nil
	}
	return providers.Result{}, fmt.Errorf("no such kind %s", d.kind)
}

func (d *fakeDriver) Delete(_ context.Context, req providers.DeleteRequest) error {
	d.w.log("delete %s", req.Address)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	delete(d.w.objects, req.Address.String())
	return nil
}

// Judge passes whatever is asked, and says so.
func (d *fakeDriver) Judge(_ context.Context, req providers.ApplyRequest, _ *state.Run) (providers.Result, error) {
	d.w.log("judge %s", req.Address)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	return d.result(req)
}

// bench is a project in a folder with a fake world behind it.
type bench struct {
	t     *testing.T
	dir   string
	w     *world
	store state.Store
	now   time.Time
	vars  []config.VarInput
}

func newBench(t *testing.T, hcl string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), w: newWorld(), store: state.NewMemory(), now: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)}
	b.write(hcl)
	return b
}

func (b *bench) write(hcl string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, "main.ml.hcl"), []byte(hcl), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) engine() *Engine {
	b.t.Helper()
	conf, diags := config.Load(context.Background(), config.Options{
		Dir: b.dir, Vars: b.vars,
		Providers: map[string]config.ProviderSchema{"local": {Name: "local", Kinds: []string{"dataset", "check", "training", "validation", "deployment", "monitor", "notifier", "batch_inference"}, Nested: map[string]*resource.Schema{"training": nestedRun(b.t)}}},
	})
	if diags.HasErrors() {
		b.t.Fatalf("load: %v", diags)
	}
	return &Engine{
		Project: conf, Store: b.store, Now: func() time.Time { return b.now },
		Hash: func(s string) string { return "h" + resource.DigestOf([]byte(s)).Hex()[:8] },
		Connect: func(context.Context, string, config.ProviderConfig) (*providers.Provider, error) {
			p := &providers.Provider{Name: "local", Drivers: map[string]providers.Driver{}}
			for _, k := range []string{"dataset", "check", "training", "validation", "deployment", "monitor", "notifier"} {
				p.Drivers[k] = &fakeDriver{w: b.w, kind: k}
			}
			return p, nil
		},
		Retry: RetryPolicy{Base: time.Millisecond, Max: 2 * time.Millisecond},
	}
}

// plan plans and returns the steps as "action address code,code".
func (b *bench) plan(o ...planner.Options) []string {
	b.t.Helper()
	var opts PlanOptions
	if len(o) > 0 {
		opts.Options = o[0]
	}
	p, err := b.engine().Plan(context.Background(), opts)
	if err != nil {
		b.t.Fatalf("plan: %v", err)
	}
	return lines(p.Plan)
}

func lines(p *planner.Plan) []string {
	out := []string{}
	for _, d := range p.Diagnostics {
		out = append(out, d.Severity+": "+d.Summary)
	}
	for _, st := range p.Steps {
		codes := []string{}
		for _, r := range st.Reasons {
			codes = append(codes, string(r.Code))
		}
		out = append(out, fmt.Sprintf("%s %s %s", st.Action, st.Address, strings.Join(codes, ",")))
	}
	return out
}

// apply plans and applies under the lease.
func (b *bench) apply(o ...planner.Options) *Applied {
	b.t.Helper()
	var opts PlanOptions
	if len(o) > 0 {
		opts.Options = o[0]
	}
	e := b.engine()
	out, err := applyWith(context.Background(), e, opts)
	if err != nil {
		b.t.Fatalf("apply: %v", err)
	}
	b.now = b.now.Add(time.Minute)
	return out
}

func applyWith(ctx context.Context, e *Engine, opts PlanOptions) (*Applied, error) {
	s, err := e.Begin(ctx, "apply")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := s.Settle(ctx); err != nil {
		return nil, err
	}
	p, err := s.Plan(ctx, opts)
	if err != nil {
		return nil, err
	}
	out, err := s.Apply(ctx, p)
	return out, err
}

func (b *bench) wantPlan(want ...string) {
	b.t.Helper()
	if got := b.plan(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		b.t.Fatalf("plan:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (b *bench) wantCalls(want ...string) {
	b.t.Helper()
	sort.Strings(want)
	if got := b.w.took(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		b.t.Fatalf("asked of the world:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (b *bench) record(addr string) *state.Record {
	b.t.Helper()
	snap, err := b.store.Snapshot(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := resource.ParseAddress(addr)
	if err != nil {
		b.t.Fatal(err)
	}
	return snap.Records[a]
}
