package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/zclconf/go-cty/cty"
	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// refreshWorkers bounds concurrent reads. They are mostly short waits on the
// file system or an API server, hence more than the cores.
const refreshWorkers = 16

// Refresh reads the live object behind every record and digests the sources
// that the files name. An object that cannot be read is reported in place; only
// a cancelled context ends the whole.
func (e *Engine) Refresh(ctx context.Context, snap *state.Snapshot) (planner.Live, error) {
	return e.refresh(ctx, snap, &state.Decoder{}, refreshing{probes: true})
}

// refreshing says what a refresh reads besides the live objects.
type refreshing struct {
	// probes: the sources, too. To digest one may take a download, or a pod; what nobody compares is not read.
	probes bool
	// pure asks nobody outside of the project folder: everything else is as it was recorded.
	pure bool
	// evaluated, when it is not nil, gets the bodies that were evaluated on the records.
	evaluated map[resource.Address]planner.Body
}

func (e *Engine) refresh(ctx context.Context, snap *state.Snapshot, dec *state.Decoder, o refreshing) (planner.Live, error) {
	live := planner.Live{
		Objects: map[resource.Address]planner.Object{}, Probes: map[resource.Address]planner.Probe{},
		Signals: map[resource.Address][]*state.Signal{}, Commit: e.Commit, AsOf: e.Now().UTC(),
	}
	r := &refresher{e: e, snap: snap, live: &live, dec: dec, refreshing: o}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(refreshWorkers)
	for batch := range r.batches() {
		g.Go(func() error { return batch(gctx) })
	}
	if err := g.Wait(); err != nil {
		return live, err
	}
	return live, ctx.Err()
}

type refresher struct {
	e    *Engine
	snap *state.Snapshot
	dec  *state.Decoder
	mu   sync.Mutex
	live *planner.Live

	refreshing
}

// batchSize is how many addresses one worker takes at a time: handing out
// 10,000 one by one costs more than reading them.
const batchSize = 64

// batches yields the reads: one per provider and kind for drivers that read
// many at once, chunks of addresses otherwise, and chunks of probes.
func (r *refresher) batches() func(yield func(func(context.Context) error) bool) {
	type group struct{ provider, kind string }
	records := map[group][]providers.ReadRequest{}
	look := &providers.Look{}
	for a, rec := range r.snap.Records {
		if r.pure {
			break
		}
		if r.e.Elsewhere != nil && r.e.Elsewhere(rec.Provider) != "" {
			continue
		}
		g := group{rec.Provider, a.Kind}
		records[g] = append(records[g], providers.ReadRequest{Address: a, Record: rec, Look: look})
	}
	var probes []*config.Block
	for _, b := range r.e.Project.Blocks {
		if r.probes && len(b.Kind.Probes) > 0 {
			probes = append(probes, b)
		}
	}
	return func(yield func(func(context.Context) error) bool) {
		for g, reqs := range records {
			if !yield(func(ctx context.Context) error { return r.read(ctx, g.provider, g.kind, reqs) }) {
				return
			}
		}
		for len(probes) > 0 {
			n := min(batchSize, len(probes))
			chunk := probes[:n]
			probes = probes[n:]
			if !yield(func(ctx context.Context) error { return r.probeAll(ctx, chunk) }) {
				return
			}
		}
	}
}

func (r *refresher) read(ctx context.Context, provider, kind string, reqs []providers.ReadRequest) error {
	d, err := r.e.driver(ctx, provider, kind)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, q := range reqs {
			r.live.Objects[q.Address] = planner.Object{Err: err.Error()}
		}
		return ctx.Err()
	}
	if b, ok := providers.As[providers.BatchReader](d); ok {
		return r.readBatch(ctx, b, reqs)
	}
	for _, q := range reqs {
		if err := ctx.Err(); err != nil {
			return err
		}
		o, err := d.Read(ctx, q)
		r.keep(q.Address, o, err)
		if err := r.observe(ctx, d, q); err != nil {
			return err
		}
	}
	return nil
}

func (r *refresher) readBatch(ctx context.Context, b providers.BatchReader, reqs []providers.ReadRequest) error {
	objects, err := b.ReadAll(ctx, reqs)
	if err == nil && len(objects) != len(reqs) {
		err = fmt.Errorf("the provider answered %d of %d reads", len(objects), len(reqs))
	}
	for i, q := range reqs {
		var o providers.Object
		if err == nil {
			o = objects[i]
		}
		r.keep(q.Address, o, err)
	}
	return ctx.Err()
}

// keep stores what was read. An object as recorded is not stored at all: the
// planner takes the record then.
func (r *refresher) keep(a resource.Address, o providers.Object, err error) {
	lo, keep := liveObject(o, err)
	if !keep {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live.Objects[a] = lo
}

func liveObject(o providers.Object, err error) (planner.Object, bool) {
	if err == nil {
		err = o.Err
	}
	if err != nil {
		return planner.Object{Err: err.Error()}, true
	}
	lo := planner.Object{Phase: o.Phase, Message: o.Message, Quarantined: o.Quarantined}
	if o.Outputs != nil {
		raw, err := encodeOutputs(o.Outputs)
		if err != nil {
			return planner.Object{Err: err.Error()}, true
		}
		lo.Outputs = raw
	}
	for _, d := range o.Drift {
		lo.Drift = append(lo.Drift, planner.Change{Path: d.Path, Old: jsonText(d.Old), New: jsonText(d.New)})
		if d.By != "" {
			lo.By = d.By
		}
	}
	plain := o.Phase == resource.PhaseReady && o.Message == "" && o.Outputs == nil && len(o.Drift) == 0 && len(o.Quarantined) == 0
	return lo, !plain
}

func jsonText(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

// encodeOutputs turns a driver's outputs struct into the stored form.
func encodeOutputs(outputs any) (json.RawMessage, error) {
	v, ok := outputs.(cty.Value)
	if !ok {
		var err error
		if v, err = resource.Encode(outputs); err != nil {
			return nil, fmt.Errorf("outputs: %w", err)
		}
	}
	return state.EncodeValue(v)
}

// observe evaluates a monitor's due windows, in memory.
func (r *refresher) observe(ctx context.Context, d providers.Driver, q providers.ReadRequest) error {
	o, ok := providers.As[providers.Observer](d)
	if !ok {
		return nil
	}
	signals, err := o.Observe(ctx, providers.ObserveRequest{
		Address: q.Address, Record: q.Record, Signals: r.snap.Signals[q.Address], State: r.snap,
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		signals = errorSignals(r.snap.Signals[q.Address], err, r.e.Now())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live.Signals[q.Address] = signals
	return nil
}

// probeAll digests the sources that blocks name, as far as their values are
// known from what is recorded.
func (r *refresher) probeAll(ctx context.Context, blks []*config.Block) error {
	scope := recorded{project: r.e.Project, snap: r.snap, dec: r.dec}
	found := make(map[resource.Address]planner.Probe, len(blks))
	evaluated := make(map[resource.Address]planner.Body, len(blks))
	for _, b := range blks {
		if err := ctx.Err(); err != nil {
			return err
		}
		ev, diags := r.e.Project.Eval(b, scope)
		if diags.HasErrors() {
			continue // the planner evaluates it again and says so
		}
		var probe *planner.Probe
		if p, ok := r.e.probe(ctx, b, ev.Value, r.snap.Records[b.Addr], r.pure); ok {
			found[b.Addr] = p
			probe = &p
		}
		if len(diags) == 0 && r.evaluated != nil {
			evaluated[b.Addr] = planner.NewBody(r.e.Project, b, ev, r.snap.Records[b.Addr], probe, r.e.Hash)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for a, p := range found {
		r.live.Probes[a] = p
	}
	if r.evaluated != nil {
		maps.Copy(r.evaluated, evaluated)
	}
	return nil
}

// probe digests what a block's value names. ok is false when that is not known
// yet or the driver has nothing to probe.
func (e *Engine) probe(ctx context.Context, b *config.Block, v cty.Value, rec *state.Record, pure bool) (planner.Probe, bool) {
	key, known := e.Project.ProbeKey(b, v)
	if !known {
		return planner.Probe{}, false
	}
	p := planner.Probe{Key: key}
	d, err := e.driver(ctx, b.Provider, b.Kind.Name)
	if err != nil {
		p.Err = err.Error()
		return p, true
	}
	prober, ok := providers.As[providers.Prober](d)
	if !ok {
		return p, true
	}
	p.Values, err = prober.Probe(ctx, providers.ProbeRequest{Address: b.Addr, Spec: v, FilesOnly: pure})
	if errors.Is(err, providers.ErrElsewhere) {
		p.Recorded = true
		return p, e.sameSource(b, key, rec)
	}
	if err != nil {
		p.Err = err.Error()
	}
	return p, true
}

// sameSource says whether the block named the same source when it was recorded:
// only then does the recorded digest stand for what nobody looks at now.
func (e *Engine) sameSource(b *config.Block, key string, rec *state.Record) bool {
	if rec == nil || len(rec.Spec) == 0 {
		return false
	}
	was, err := state.DecodeValue(rec.Spec, e.Project.Body(b.Kind, b.Provider).Type())
	if err != nil {
		return false // recorded in another form: what is there now is not known
	}
	old, known := e.Project.ProbeKey(b, was)
	return known && old == key
}

// recorded is the scope of what was recorded last: good enough to find out what
// to probe. The planner takes a probe only if its own values name the same.
type recorded struct {
	project *config.Project
	snap    *state.Snapshot
	dec     *state.Decoder // nil = nothing is remembered
}

// Outputs implements config.Scope.
func (s recorded) Outputs(a resource.Address) cty.Value {
	b, rec := s.project.Block(a), s.snap.Records[a]
	if b == nil {
		return cty.NilVal
	}
	return s.dec.Outputs(rec, b.Kind.OutputSchema().Type())
}

// Signal implements config.Scope.
func (s recorded) Signal(resource.SignalRef) config.Signal { return config.Signal{} }

// Recorded is a scope of recorded outputs, for outputs of the root module.
func Recorded(p *config.Project, snap *state.Snapshot) config.Scope {
	return recorded{project: p, snap: snap}
}
