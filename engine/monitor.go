package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zclconf/go-cty/cty"

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

// recordSignals stores signals that moved and tells the notifiers about those
// that turned bad, or good again.
func (s *Session) recordSignals(ctx context.Context, found map[resource.Address][]*state.Signal) error {
	var ops []state.Op
	var turned []*state.Signal
	for _, list := range found {
		for _, sig := range list {
			old := s.now.signal(sig.Address, sig.Name)
			if old != nil && sameSignal(old, sig) {
				continue
			}
			if old != nil && sig.Epoch < old.Epoch {
				return fmt.Errorf("signal %s.%s: its epoch would fall from %d to %d", sig.Address, sig.Name, old.Epoch, sig.Epoch)
			}
			ops = append(ops, state.Op{PutSignal: sig})
			if turns(old, sig) {
				turned = append(turned, sig)
			}
		}
	}
	if len(ops) == 0 {
		return nil
	}
	if err := s.commit(ctx, ops...); err != nil {
		return fmt.Errorf("record signals: %w", err)
	}
	slices.SortFunc(turned, func(a, b *state.Signal) int {
		if c := a.Address.Compare(b.Address); c != 0 {
			return c
		}
		return bytes.Compare([]byte(a.Name), []byte(b.Name))
	})
	for _, sig := range turned {
		s.alert(ctx, sig)
	}
	return nil
}

func sameSignal(a, b *state.Signal) bool {
	return a.State == b.State && a.Epoch == b.Epoch && a.Streak == b.Streak && a.Subject == b.Subject && bytes.Equal(a.Cursor, b.Cursor)
}

func turns(old, now *state.Signal) bool {
	was := old != nil && old.State == resource.SignalBad
	is := now.State == resource.SignalBad
	return is && (!was || old.Epoch != now.Epoch) || was && now.State == resource.SignalGood
}

// alert tells a monitor's notifiers about one signal. A notifier that cannot be
// reached is reported; it never keeps the signal from counting.
func (s *Session) alert(ctx context.Context, sig *state.Signal) {
	blk := s.e.Project.Block(sig.Address)
	if blk == nil || blk.Kind.Notify == nil {
		return
	}
	ev, diags := s.e.Project.Eval(blk, recorded{project: s.e.Project, snap: s.now.snapshot()})
	if diags.HasErrors() {
		s.e.emit(resource.Event{Type: resource.EventDiagnostic, Address: sig.Address.String(), Message: "alert not sent: " + diags.Error()})
		return
	}
	for _, to := range blk.Kind.Notify(ev.Value) {
		if err := s.notify(ctx, to, sig); err != nil {
			s.e.emit(resource.Event{Type: resource.EventDiagnostic, Address: to, Message: fmt.Sprintf("alert about %s.%s not delivered: %v", sig.Address, sig.Name, err)})
		}
	}
}

func (s *Session) notify(ctx context.Context, to string, sig *state.Signal) error {
	addr, err := resource.ParseAddress(to)
	if err != nil {
		return err
	}
	blk := s.e.Project.Block(addr)
	if blk == nil {
		return errors.New("no file declares it")
	}
	ev, diags := s.e.Project.Eval(blk, recorded{project: s.e.Project, snap: s.now.snapshot()})
	if diags.HasErrors() {
		return diags
	}
	d, err := s.e.driver(ctx, blk.Provider, addr.Kind)
	if err != nil {
		return err
	}
	n, ok := providers.As[providers.Notifier](d)
	if !ok {
		return fmt.Errorf("provider %q cannot deliver alerts", blk.Provider)
	}
	req := providers.NotifyRequest{
		Spec: unmarked(ev.Value), Title: fmt.Sprintf("%s.%s is %s", sig.Address, sig.Name, sig.State),
		Key: fmt.Sprintf("%s.%s/%s/%d", sig.Address, sig.Name, sig.State, sig.Epoch),
		Body: map[string]any{
			"address": sig.Address.String(), "signal": sig.Name, "state": string(sig.State), "epoch": sig.Epoch,
			"message": sig.Message, "evidence": json.RawMessage(orNull(sig.Evidence)), "time": sig.Time,
		},
	}
	return retry(ctx, RetryPolicy{Attempts: 3, Max: 2 * time.Second}, func(error, time.Duration) {}, func() error { return n.Notify(ctx, req) })
}

func unmarked(v cty.Value) cty.Value {
	u, _ := v.UnmarkDeep()
	return u
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
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
