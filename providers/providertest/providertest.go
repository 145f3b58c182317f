// Package providertest is the conformance kit that every driver passes.
//
// [Run] drives one [Case] through what the contract in package providers promises to the engine: an operation does its work at
// most once, whatever is called again; adoption starts nothing; a half-known spec is refused; outputs fit the kind's schema; what
// was made is there until it is deleted; a cancelled context returns and leaves something to go on with.
//
// The kit trusts no driver's word for how often work was done: a case brings an oracle of its own.
package providertest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Case is one driver with a spec that it can apply to its end.
type Case struct {
	Driver providers.Driver
	// Kind is the kind that the driver serves; its schema judges the outputs.
	Kind string
	// Spec is the wholly known body.
	Spec cty.Value
	// Prepare completes a request (State, Inputs); nil leaves it as it is.
	Prepare func(*providers.ApplyRequest)
	// Count tells how often the work was done; nil when it leaves no countable trace.
	Count func() int
	// AfterDelete is the phase of what was deleted: PhaseMissing unless set, PhaseReady where deletion leaves content that prune removes.
	AfterDelete resource.Phase
	// Slow is a body whose work waits for Release. It counts when it has begun. cty.NilVal leaves the cancelled context out.
	Slow    cty.Value
	Release func()
}

// waitTime bounds every wait of the kit.
const waitTime = 30 * time.Second

// Run runs the kit's tests as subtests of t.
func Run(t *testing.T, c Case) {
	t.Helper()
	kinds, err := config.AllKinds()
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{Case: c, kind: kinds[c.Kind]}
	if k.kind == nil {
		t.Fatalf("kind %q is not one of %s", c.Kind, strings.Join(kinds.Names(), ", "))
	}
	if k.AfterDelete == "" {
		k.AfterDelete = resource.PhaseMissing
	}
	t.Run("a half-known spec is refused", k.unknown)
	t.Run("adopting an operation that left no trace starts nothing", k.absent)
	t.Run("a probe gives the kind's digests, the same twice", k.probe)
	t.Run("what is in the way is found without changing anything, also when half is known", k.preflight)
	t.Run("an operation does its work once", k.once)
	t.Run("what was made is there until it is deleted", k.lifetime)
	if c.Slow != cty.NilVal {
		t.Run("a cancelled context returns and leaves a run to adopt", k.cancelled)
	}
}

type kit struct {
	Case
	kind *config.Kind
	made providers.Result
}

func (k *kit) address() resource.Address { return resource.Address{Kind: k.Kind, Name: "conformance"} }

func (k *kit) request(t *testing.T, op string, spec cty.Value) providers.ApplyRequest {
	t.Helper()
	req := providers.ApplyRequest{
		OpID: op, Address: k.address(), Action: resource.Create, Spec: spec,
		State: &state.Snapshot{}, Inputs: resource.DigestOf([]byte(op)),
		Emit: func(resource.Event) {},
		Runs: func(resource.Address) ([]*state.Run, error) { return nil, nil },
	}
	if k.kind.Class == resource.Run {
		req.Action = resource.RunIt
	}
	if p, ok := providers.As[providers.Prober](k.Driver); ok {
		probed, err := p.Probe(within(t), providers.ProbeRequest{Address: k.address(), Spec: spec})
		if err != nil {
			t.Fatalf("probe: %v", err)
		}
		req.Probed = probed
	}
	if k.Prepare != nil {
		k.Prepare(&req)
	}
	return req
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTime)
	t.Cleanup(cancel)
	return ctx
}

func (k *kit) count() int {
	if k.Count == nil {
		return 0
	}
	return k.Count()
}

// preflight asks a driver that can say so what is in the way: of the good body nothing is, whether all of it is known or not.
func (k *kit) preflight(t *testing.T) {
	p, ok := providers.As[providers.Preflighter](k.Driver)
	if !ok {
		return
	}
	half := k.Spec.AsValueMap()
	for name, v := range half {
		if name == "model" || name == "image" && !v.IsNull() {
			half[name] = cty.UnknownVal(v.Type())
		}
	}
	before := k.count()
	for name, spec := range map[string]cty.Value{"known": k.Spec, "half known": cty.ObjectVal(half)} {
		found, err := p.Preflight(within(t), providers.PreflightRequest{Address: k.address(), Action: resource.Create, Spec: spec, State: &state.Snapshot{}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, f := range found {
			if !f.Warning {
				t.Errorf("%s: in the way of a good body is %s: %s", name, f.Summary, f.Detail)
			}
		}
	}
	if n := k.count(); n != before {
		t.Errorf("looking made %d effects", n-before)
	}
}

// unknown puts an unknown in place of the first attribute that is set.
func (k *kit) unknown(t *testing.T) {
	attrs := k.Spec.AsValueMap()
	for _, a := range k.kind.Body().Attrs {
		if v, ok := attrs[a.Name]; ok && !v.IsNull() && !a.Probe {
			attrs[a.Name] = cty.UnknownVal(v.Type())
			break
		}
	}
	before := k.count()
	req := k.request(t, "conformance-unknown", k.Spec)
	req.Spec = cty.ObjectVal(attrs)
	if req.Spec.IsWhollyKnown() {
		t.Fatal("the case's spec sets no attribute that could be unknown")
	}
	if _, err := k.Driver.Apply(within(t), req); !errors.Is(err, resource.ErrUnknown) {
		t.Errorf("error %v, want one that matches ErrUnknown", err)
	}
	if n := k.count() - before; n != 0 {
		t.Errorf("it did its work %d times", n)
	}
}

func (k *kit) absent(t *testing.T) {
	before := k.count()
	req := k.request(t, "conformance-absent", k.Spec)
	req.Adopt = true
	if _, err := k.Driver.Apply(within(t), req); !errors.Is(err, providers.ErrAbsent) {
		t.Errorf("error %v, want ErrAbsent", err)
	}
	if n := k.count() - before; n != 0 {
		t.Errorf("it did its work %d times", n)
	}
}

func (k *kit) probe(t *testing.T) {
	first := k.request(t, "conformance-probe", k.Spec).Probed
	if d := cmp.Diff(first, k.request(t, "conformance-probe", k.Spec).Probed); d != "" {
		t.Error(d)
	}
	for name, digest := range first {
		if d := resource.Digest(digest); len(d.Hex()) != 64 || string(d) != "sha256:"+d.Hex() {
			t.Errorf("probe %s = %q is no digest", name, digest)
		}
		if _, ok := k.kind.ProbeCodes[name]; !ok && name != "code" {
			t.Errorf("the kind has no probe %q", name)
		}
	}
}

func (k *kit) once(t *testing.T) {
	before := k.count()
	first, err := k.Driver.Apply(within(t), k.request(t, "conformance-1", k.Spec))
	if err != nil {
		t.Fatal(err)
	}
	k.made = first
	want := k.outputs(t, first)
	for _, adopt := range []bool{false, true} {
		req := k.request(t, "conformance-1", k.Spec)
		req.Adopt = adopt
		again, err := k.Driver.Apply(within(t), req)
		if err != nil {
			t.Fatalf("called again (adopt %v): %v", adopt, err)
		}
		if got := k.outputs(t, again); !got.RawEquals(want) {
			t.Errorf("called again (adopt %v) it gave %#v, first %#v", adopt, got, want)
		}
		if again.Verdict.Bad() != first.Verdict.Bad() {
			t.Errorf("called again (adopt %v) the verdict is %+v, first %+v", adopt, again.Verdict, first.Verdict)
		}
	}
	if n := k.count() - before; k.Count != nil && n != 1 {
		t.Errorf("the work was done %d times in three calls of one operation", n)
	}
}

// outputs checks a result's outputs against the kind's schema.
func (k *kit) outputs(t *testing.T, r providers.Result) cty.Value {
	t.Helper()
	v, err := resource.Encode(r.Outputs)
	if err != nil {
		t.Fatalf("encode the outputs: %v", err)
	}
	if !v.IsWhollyKnown() {
		t.Error("outputs are unknown after the step")
	}
	for _, err := range v.Type().TestConformance(k.kind.OutputSchema().Type()) {
		t.Errorf("outputs: %v", err)
	}
	if got := v.GetAttr("address"); !got.RawEquals(cty.StringVal(k.address().String())) {
		t.Errorf("output address is %#v", got)
	}
	if _, err := state.EncodeValue(v); err != nil {
		t.Errorf("outputs cannot be stored: %v", err)
	}
	return v
}

func (k *kit) lifetime(t *testing.T) {
	if k.made.Outputs == nil {
		t.Fatal("nothing was made, so nothing can be read or deleted")
	}
	ref, err := json.Marshal(k.made.Ref)
	if err != nil {
		t.Fatalf("store the reference: %v", err)
	}
	if _, err := json.Marshal(k.made.Detail); err != nil {
		t.Fatalf("store the detail: %v", err)
	}
	out, err := state.EncodeValue(k.outputs(t, k.made))
	if err != nil {
		t.Fatal(err)
	}
	rec := &state.Record{Address: k.address(), Ref: ref, Outputs: out, Run: "conformance-1", Phase: resource.PhaseReady}
	k.wantPhase(t, rec, resource.PhaseReady)
	if c, ok := providers.As[providers.Canceller](k.Driver); ok {
		if err := c.Cancel(within(t), k.address(), "conformance-1"); err != nil {
			t.Errorf("cancel what has ended: %v", err)
		}
		k.wantPhase(t, rec, resource.PhaseReady)
	}
	for range 2 {
		req := providers.DeleteRequest{OpID: "conformance-delete", Address: k.address(), Record: rec, Emit: func(resource.Event) {}}
		if err := k.Driver.Delete(within(t), req); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	k.wantPhase(t, rec, k.AfterDelete)
}

func (k *kit) wantPhase(t *testing.T, rec *state.Record, want resource.Phase) {
	t.Helper()
	o, err := k.Driver.Read(within(t), providers.ReadRequest{Address: k.address(), Record: rec})
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if o.Phase != want {
		t.Errorf("phase %s (%s), want %s", o.Phase, o.Message, want)
	}
}

func (k *kit) cancelled(t *testing.T) {
	before := k.count()
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	req := k.request(t, "conformance-slow", k.Slow)
	done := make(chan error, 1)
	go func() {
		_, err := k.Driver.Apply(ctx, req)
		done <- err
	}()
	k.awaitCount(t, before+1)
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want the context's", err)
		}
	case <-time.After(waitTime):
		t.Fatal("Apply does not return when its context is cancelled")
	}
	k.Release()
	req = k.request(t, "conformance-slow", k.Slow)
	req.Adopt = true
	r, err := k.Driver.Apply(within(t), req)
	if err != nil {
		t.Fatalf("go on: %v", err)
	}
	k.outputs(t, r)
	if n := k.count() - before; n != 1 {
		t.Errorf("the work was done %d times", n)
	}
}

func (k *kit) awaitCount(t *testing.T, want int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(waitTime)
	for k.count() < want {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the work never begins")
		}
	}
}
