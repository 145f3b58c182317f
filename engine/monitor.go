package engine

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// observeAll evaluates the due windows of every monitor, or of the one at only.
// It writes nothing.
func (e *Engine) observeAll(ctx context.Context, snap *state.Snapshot, only resource.Address) (map[resource.Address][]*state.Signal, error) {
	r := &refresher{e: e, snap: snap, live: &planner.Live{Signals: map[resource.Address][]*state.Signal{}}}
	for a, rec := range snap.Records {
		if !only.IsZero() && a != only {
			continue
		}
		d, err := e.driver(ctx, rec.Provider, a.Kind)
		if err != nil {
			return nil, err
		}
		if err := r.observe(ctx, d, providers.ReadRequest{Address: a, Record: rec}); err != nil {
			return nil, err
		}
	}
	return r.live.Signals, nil
}

// errorSignals keeps the signals' epochs and says that evaluating them failed:
// a monitor that cannot see must not look as if all were well.
func errorSignals(old []*state.Signal, err error, now time.Time) []*state.Signal {
	out := make([]*state.Signal, 0, len(old))
	for _, s := range old {
		c := *s
		c.State, c.Message, c.Time = resource.SignalError, s.Address.Trim(err.Error()), now.UTC()
		out = append(out, &c)
	}
	return out
}

// Monitor evaluates and records one monitor's due windows and returns its signals.
func (s *Session) Monitor(ctx context.Context, addr resource.Address) ([]*state.Signal, error) {
	found, err := s.e.observeAll(ctx, s.now.snapshot(), addr)
	if err != nil {
		return nil, err
	}
	if _, ok := found[addr]; !ok {
		if addr.Kind != "monitor" {
			return nil, fmt.Errorf("%s is no monitor; ml status names those that are applied", addr)
		}
		return nil, fmt.Errorf("%s is not an applied monitor; apply it first", addr)
	}
	if err := s.recordSignals(ctx, found); err != nil {
		return nil, err
	}
	return found[addr], nil
}

// recordLive takes over what a refresh found: outputs as they are now, rollouts
// that ended since, versions that were quarantined.
func (s *Session) recordLive(ctx context.Context, live planner.Live) error {
	var ops []state.Op
	for a, o := range live.Objects {
		rec := s.now.record(a)
		if rec == nil || o.Err != "" || o.Phase == resource.PhaseMissing {
			continue
		}
		c := *rec
		if o.Outputs != nil {
			c.Outputs = o.Outputs
		}
		if rec.Phase != resource.PhaseFailed && (o.Phase == resource.PhaseReady || o.Phase == resource.PhaseRunning) {
			c.Phase = o.Phase
		}
		if c.Phase != rec.Phase || !bytes.Equal(c.Outputs, rec.Outputs) {
			c.Updated = s.e.Now().UTC()
			ops = append(ops, state.Op{PutRecord: &c})
		}
		for i := range o.Quarantined {
			if s.now.quarantined(a, o.Quarantined[i].Digest) == nil {
				ops = append(ops, state.Op{PutQuarantine: &o.Quarantined[i]})
			}
		}
	}
	if len(ops) == 0 {
		return nil
	}
	if err := s.commit(ctx, ops...); err != nil {
		return fmt.Errorf("record live state: %w", err)
	}
	return nil
}

// RecordRefresh stores what a plan's refresh found, for `apply -refresh-only`.
func (s *Session) RecordRefresh(ctx context.Context, p *Planned) error {
	if err := s.recordLive(ctx, p.Input.Live); err != nil {
		return err
	}
	return s.recordSignals(ctx, p.Input.Live.Signals)
}
