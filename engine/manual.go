package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// RollbackOptions say where to and who asks.
type RollbackOptions struct {
	To       int // 0 = the newest good version below the one that serves
	Who, Why string
}

// Rollback moves an object to an earlier version at once and pins it there,
// until Unpin. It refuses a version that never passed, where versions are judged.
// One that does not hold (Applied.Bad) is not pinned.
func (s *Session) Rollback(ctx context.Context, addr resource.Address, o RollbackOptions) (*Applied, *state.Version, error) {
	v, err := s.rollbackTarget(addr, o.To)
	if err != nil {
		return nil, nil, err
	}
	model, err := resource.Encode(config.ModelOf(v.Address, v.Number, v.Digest, v.URI, v.Metrics, v.Params))
	if err != nil {
		return nil, nil, err
	}
	raw, err := state.EncodeValue(model)
	if err != nil {
		return nil, nil, err
	}
	before := state.Op{PutPin: s.now.snapshot().Pins[addr]}
	if before.PutPin == nil {
		before.DeletePin = &addr
	}
	ops := []state.Op{{PutPin: &state.Pin{Address: addr, Version: v.Number, Model: raw, Who: o.Who, Why: o.Why, When: s.e.Now().UTC()}}}
	if q := s.now.quarantined(addr, v.Digest); q != nil {
		ops = append(ops, state.Op{LiftQuarantine: q})
	}
	if err := s.commit(ctx, ops...); err != nil {
		return nil, nil, err
	}
	s.force = true
	defer func() { s.force = false }()
	p, err := s.Plan(ctx, PlanOptions{Options: planner.Options{Targets: append([]resource.Address{addr}, s.following(addr)...), Only: true}})
	if err != nil {
		return nil, v, err
	}
	out, err := s.Apply(ctx, p)
	if err == nil && out.Bad[addr] != nil { // the old version serves, so the old pin stands
		err = s.commit(ctx, before)
	}
	return out, v, err
}

// following are the applied blocks whose data belongs to the version that addr
// serves: monitors, whose reference goes back with it.
func (s *Session) following(addr resource.Address) (out []resource.Address) {
	for _, blk := range s.e.Project.Blocks {
		if blk.Kind.KeepWith != "" && slices.Contains(blk.Deps, addr) && s.now.record(blk.Addr) != nil {
			out = append(out, blk.Addr)
		}
	}
	return out
}

// rollbackTarget finds the version to go back to.
func (s *Session) rollbackTarget(addr resource.Address, to int) (*state.Version, error) {
	blk, rec := s.e.Project.Block(addr), s.now.record(addr)
	if blk == nil || rec == nil {
		return nil, fmt.Errorf("%s is not applied; there is nothing to roll back", addr)
	}
	if blk.Kind.PinAttr == "" {
		return nil, fmt.Errorf("%s has no version to roll back; a deployment has", addr)
	}
	current, training, err := servedModel(blk, rec)
	if err != nil {
		return nil, err
	}
	versions := s.now.snapshot().Versions[training]
	// Where nothing ever judged a version, there is no gate to have passed.
	judged := slices.ContainsFunc(versions, func(v *state.Version) bool { return len(v.Verdicts) > 0 })
	var best *state.Version
	for _, v := range versions {
		good := v.Passed() || !judged
		switch {
		case to > 0 && v.Number == to:
			if !good {
				return nil, fmt.Errorf("version %d of %s never passed its validation; choose one that did (ml versions %s)", to, training, training.Arg())
			}
			return v, nil
		case to == 0 && v.Number < current && good && s.now.quarantined(addr, v.Digest) == nil:
			best = v
		}
	}
	if best == nil {
		if to > 0 {
			return nil, fmt.Errorf("%s has no version %d; ml versions %s lists them", training, to, training.Arg())
		}
		return nil, fmt.Errorf("%s serves version %d, and no earlier version of %s is good; ml versions %s lists them", addr, current, training, training.Arg())
	}
	return best, nil
}

// servedModel reads the version that a record serves and its training.
func servedModel(blk *config.Block, rec *state.Record) (int, resource.Address, error) {
	v, err := state.DecodeValue(rec.Spec, blk.Kind.Body().Type())
	if err != nil {
		return 0, resource.Address{}, err
	}
	var m config.Model
	if err := resource.Decode(v.GetAttr(blk.Kind.PinAttr), &m); err != nil {
		return 0, resource.Address{}, err
	}
	training, err := resource.ParseAddress(m.Address)
	return m.Version, training, err
}

// Unpin lets an object follow its newest passed version again.
func (s *Session) Unpin(ctx context.Context, addr resource.Address) error {
	if s.now.snapshot().Pins[addr] == nil {
		return fmt.Errorf("%s is not pinned", addr)
	}
	return s.commit(ctx, state.Op{DeletePin: &addr})
}

// Cancel stops the run that is going on at addr. It needs no lease: the apply
// that waits for the run holds it, and records the end.
func (e *Engine) Cancel(ctx context.Context, addr resource.Address) error {
	snap, err := e.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, in := range snap.Intents {
		if in.Address != addr {
			continue
		}
		return e.cancelIntent(ctx, in)
	}
	return fmt.Errorf("nothing is running at %s; ml runs %s shows what ran", addr, addr.Arg())
}

// CancelAll stops every run that an intent is open for.
func (e *Engine) CancelAll(ctx context.Context) error {
	snap, err := e.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, in := range snap.Intents {
		if err := e.cancelIntent(ctx, in); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) cancelIntent(ctx context.Context, in *state.Intent) error {
	d, err := e.driver(ctx, in.Provider, in.Address.Kind)
	if err != nil {
		return err
	}
	c, ok := providers.As[providers.Canceller](d)
	if !ok {
		return nil // an object's apply is short and finishes by itself
	}
	return c.Cancel(ctx, in.Address, in.OpID)
}

// Pruned says what a prune removed.
type Pruned struct {
	Versions []state.VersionRef
	Removed  []string
	Bytes    int64
}

// Prune removes versions beyond what their training keeps, and content that
// nothing refers to any more. What is served, pinned, current or champion stays.
func (s *Session) Prune(ctx context.Context, dryRun bool) (*Pruned, error) {
	snap := s.now.snapshot()
	out := &Pruned{}
	var ops []state.Op
	inUse := usedText(snap)
	for _, a := range sortedAddrs(snap.Versions) {
		surplus := s.surplus(snap, a, snap.Versions[a], inUse)
		// What only they name goes with them, also where this only says what would go.
		snap.Versions[a] = slices.DeleteFunc(slices.Clone(snap.Versions[a]), func(v *state.Version) bool { return slices.Contains(surplus, v) })
		for _, v := range surplus {
			ref := state.VersionRef{Address: a, Number: v.Number}
			out.Versions = append(out.Versions, ref)
			ops = append(ops, state.Op{DeleteVersion: &ref})
		}
	}
	if !dryRun && len(ops) > 0 {
		if err := s.commit(ctx, ops...); err != nil {
			return out, err
		}
		if err := s.reload(ctx); err != nil {
			return out, err
		}
	}
	return out, s.pruneContent(ctx, snap, out, dryRun)
}

// surplus lists the versions of one training that may go, oldest first.
func (s *Session) surplus(snap *state.Snapshot, a resource.Address, list []*state.Version, inUse string) []*state.Version {
	keep := 0
	if blk := s.e.Project.Block(a); blk != nil && blk.Kind.Versioned {
		if ev, diags := s.e.Project.Eval(blk, recorded{project: s.e.Project, snap: snap}); !diags.HasErrors() && ev.Value.Type().HasAttribute("keep") {
			if k := unmarked(ev.Value.GetAttr("keep")); k.IsKnown() && !k.IsNull() {
				n, _ := k.AsBigFloat().Int64()
				keep = int(n)
			}
		}
	}
	if keep == 0 || len(list) <= keep {
		return nil
	}
	champion := 0
	for _, v := range list {
		if v.Passed() {
			champion = v.Number
		}
	}
	var out []*state.Version
	for _, v := range list[:len(list)-keep] {
		if v.Number != champion && !strings.Contains(inUse, string(v.Digest)) {
			out = append(out, v)
		}
	}
	return out
}

// usedText is the text of everything that may name a digest in use: records and pins.
func usedText(snap *state.Snapshot) string {
	var b strings.Builder
	for _, r := range snap.Records {
		b.Write(r.Outputs)
		b.Write(r.Spec)
		b.Write(r.Ref)
		for _, p := range r.Parts {
			b.WriteString(p)
		}
	}
	for _, p := range snap.Pins {
		b.Write(p.Model)
	}
	return b.String()
}

func textOf(parts []json.RawMessage) string {
	var b strings.Builder
	for _, p := range parts {
		b.Write(p)
	}
	return b.String()
}

// pruneContent lets each provider remove what no record, version or pin names.
func (s *Session) pruneContent(ctx context.Context, snap *state.Snapshot, out *Pruned, dryRun bool) error {
	req := providers.PruneRequest{KeepDigests: digestsIn(usedText(snap)), KeepRuns: map[string]bool{}, DryRun: dryRun}
	for _, list := range snap.Versions {
		for _, v := range list {
			req.KeepDigests[v.Digest.Hex()] = true
			req.KeepRuns[v.Run] = true
			if v.Passed() { // a rollback to it takes its monitors back to the data that it was trained on
				maps.Copy(req.KeepDigests, digestsIn(textOf(v.Data)))
			}
		}
	}
	for _, r := range snap.Records {
		req.KeepRuns[r.Run] = true
	}
	for _, in := range snap.Intents {
		req.KeepRuns[in.OpID] = true
	}
	s.e.mu.Lock()
	connected := make([]*providers.Provider, 0, len(s.e.connected))
	for _, p := range s.e.connected {
		connected = append(connected, p)
	}
	s.e.mu.Unlock()
	for _, p := range connected {
		if p.Prune == nil {
			continue
		}
		res, err := p.Prune(ctx, req)
		if err != nil {
			return fmt.Errorf("prune %s: %w", p.Name, err)
		}
		out.Removed = append(out.Removed, res.Removed...)
		out.Bytes += res.Bytes
	}
	return nil
}

// digestsIn finds every "sha256:<64 hex>" in text.
func digestsIn(text string) map[string]bool {
	found := map[string]bool{}
	for {
		i := strings.Index(text, "sha256:")
		if i < 0 {
			return found
		}
		text = text[i+len("sha256:"):]
		if len(text) >= 64 {
			found[text[:64]] = true
		}
	}
}
