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

	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// recordSignals stores signals that moved and tells the notifiers about those
// that turned bad, or good again. Whom it owes an alert is recorded with the
// turn, so that neither a crash nor a notifier that is down loses it: whoever
// records signals next tells them.
func (s *Session) recordSignals(ctx context.Context, found map[resource.Address][]*state.Signal) error {
	var ops []state.Op
	told := map[resource.Address][]state.Window{}
	for _, list := range found {
		for _, sig := range list {
			old := s.now.signal(sig.Address, sig.Name)
			now := s.withAlarm(old, *sig)
			now.Windows = nil
			if old != nil && sameSignal(old, &now) {
				continue
			}
			if old != nil && now.Epoch < old.Epoch {
				return fmt.Errorf("signal %s.%s: its epoch would fall from %d to %d", now.Address, now.Name, old.Epoch, now.Epoch)
			}
			ops = append(ops, state.Op{PutSignal: &now})
			told[now.Address] = append(told[now.Address], sig.Windows...)
		}
	}
	if len(ops) > 0 {
		if err := s.commit(ctx, ops...); err != nil {
			return fmt.Errorf("record signals: %w", err)
		}
		s.keepWindows(told)
	}
	for _, a := range sortedAddrs(found) {
		for _, sig := range found[a] {
			if err := s.alert(ctx, s.now.signal(a, sig.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepWindows hands on what was judged, once it is recorded: a crash between the
// two costs a chart its last points.
func (s *Session) keepWindows(told map[resource.Address][]state.Window) {
	if s.e.Windows == nil {
		return
	}
	for _, a := range sortedAddrs(told) {
		if err := s.e.Windows(a, told[a]); err != nil {
			s.e.emit(resource.Event{Type: resource.EventDiagnostic, Address: a.String(), Message: fmt.Sprintf("the history of its windows is not kept: %v", err)})
		}
	}
}

func sameSignal(a, b *state.Signal) bool {
	return a.State == b.State && a.Epoch == b.Epoch && a.Streak == b.Streak && a.Subject == b.Subject && bytes.Equal(a.Cursor, b.Cursor)
}

// withAlarm takes over from the recorded signal what drivers know nothing of,
// and owes all notifiers an alert when the signal turned: bad, which is when its
// epoch rises, or good after an alarm.
func (s *Session) withAlarm(old *state.Signal, now state.Signal) state.Signal {
	now.Alarm, now.Owed = false, nil
	if old != nil {
		now.Alarm, now.Owed = old.Alarm, old.Owed
	}
	bad := now.State == resource.SignalBad && (old == nil || old.Epoch != now.Epoch)
	if bad || now.State == resource.SignalGood && now.Alarm {
		now.Alarm, now.Owed = bad, s.notifiers(now.Address)
	}
	return now
}

// notifiers are those that a monitor's alert block names.
func (s *Session) notifiers(monitor resource.Address) []string {
	blk := s.e.Project.Block(monitor)
	if blk == nil || blk.Kind.Notify == nil {
		return nil
	}
	ev, diags := s.e.Project.Eval(blk, recorded{project: s.e.Project, snap: s.now.snapshot()})
	if diags.HasErrors() {
		s.e.emit(resource.Event{Type: resource.EventDiagnostic, Address: monitor.String(), Message: "alert not sent: " + diags.Error()})
		return nil
	}
	return blk.Kind.Notify(ev.Value)
}

// alert tells the notifiers that are owed one about a signal. One that cannot be
// reached is reported and stays owed; it never keeps the signal from counting.
func (s *Session) alert(ctx context.Context, sig *state.Signal) error {
	if sig == nil || len(sig.Owed) == 0 {
		return nil
	}
	wanted := s.notifiers(sig.Address)
	told := *sig
	told.Owed = nil
	for _, to := range sig.Owed {
		if !slices.Contains(wanted, to) {
			continue // no file names it any more
		}
		if err := s.notify(ctx, to, sig); err != nil {
			told.Owed = append(told.Owed, to)
			s.e.emit(resource.Event{Type: resource.EventDiagnostic, Address: to, Message: fmt.Sprintf("alert about %s.%s not delivered: %v; the next ml monitor or ml apply tries again", sig.Address, sig.Name, err)})
		}
	}
	if len(told.Owed) == len(sig.Owed) {
		return nil
	}
	if err := s.commit(ctx, state.Op{PutSignal: &told}); err != nil {
		return fmt.Errorf("record that an alert was delivered: %w", err)
	}
	return nil
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
	turn := resource.SignalGood // the state may have moved on since
	if sig.Alarm {
		turn = resource.SignalBad
	}
	req := providers.NotifyRequest{
		Spec: unmarked(ev.Value), Title: fmt.Sprintf("%s.%s is %s", sig.Address, sig.Name, turn),
		Key: fmt.Sprintf("%s.%s/%s/%d", sig.Address, sig.Name, turn, sig.Epoch),
		Body: map[string]any{
			"address": sig.Address.String(), "signal": sig.Name, "state": string(turn), "epoch": sig.Epoch,
			"message": sig.Message, "evidence": json.RawMessage(orNull(sig.Evidence)), "time": sig.Time,
		},
	}
	return retry(ctx, RetryPolicy{Attempts: 3, Max: 2 * time.Second}, func(error, time.Duration) {}, func() error {
		if err := fence.Check(ctx); err != nil {
			return err
		}
		return n.Notify(ctx, req)
	})
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
