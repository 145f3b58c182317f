package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

const alerting = loop + `
notifier "a" {
  type = "webhook"
  url  = "http://a"
}
notifier "b" {
  type = "webhook"
  url  = "http://b"
}
`

// alertBench is a loop whose monitor tells a and b.
func alertBench(t *testing.T) *bench {
	b := newBench(t, strings.Replace(alerting, "  drift {}", "  drift {}\n  alert { notify = [notifier.a, notifier.b] }", 1))
	b.w.sources["d.csv"] = "one"
	b.apply()
	b.w.took()
	return b
}

// see evaluates the monitor, which now sees this, and returns what was said about alerts.
func (b *bench) see(is resource.SignalState, epoch int64) []string {
	b.t.Helper()
	b.w.signals["monitor.m"], b.w.sees["monitor.m"] = epoch, is
	var said []string
	e := b.engine()
	e.Emit = func(ev resource.Event) {
		if ev.Type == resource.EventDiagnostic {
			said = append(said, ev.Address+": "+ev.Message)
		}
	}
	s, err := e.Begin(context.Background(), "monitor")
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = s.Monitor(context.Background(), resource.Address{Kind: "monitor", Name: "m"})
	if err = errors.Join(err, s.Close()); err != nil {
		b.t.Fatal(err)
	}
	return said
}

func TestWhatAWindowFoundIsHandedOnOnce(t *testing.T) {
	b := alertBench(t)
	var kept []state.Window
	look := func(is resource.SignalState, epoch int64, err error) {
		t.Helper()
		b.w.signals["monitor.m"], b.w.sees["monitor.m"] = epoch, is
		e := b.engine()
		e.Windows = func(a resource.Address, list []state.Window) error {
			if a.String() != "monitor.m" {
				t.Errorf("windows of %s", a)
			}
			kept = append(kept, list...)
			return err
		}
		s, berr := e.Begin(context.Background(), "monitor")
		if berr != nil {
			t.Fatal(berr)
		}
		_, merr := s.Monitor(context.Background(), resource.Address{Kind: "monitor", Name: "m"})
		if merr = errors.Join(merr, s.Close()); merr != nil {
			t.Fatal(merr) // also when its history cannot be kept
		}
	}
	look(resource.SignalBad, 1, nil)
	look(resource.SignalBad, 1, nil) // nothing new
	look(resource.SignalGood, 1, errBoom)
	if len(kept) != 2 || kept[0].State != resource.SignalBad || kept[1].State != resource.SignalGood {
		t.Errorf("%+v", kept)
	}
}

func told(to string, turns ...string) (out []string) {
	for _, turn := range turns {
		out = append(out, "tell http://"+to+": monitor.m.drift is "+strings.Split(turn, "/")[0]+", monitor.m.drift/"+turn)
	}
	return out
}

func TestEveryTurnIsToldOnceToEach(t *testing.T) {
	b := alertBench(t)
	for _, step := range []struct {
		what  string
		is    resource.SignalState
		epoch int64
		turn  string // that is told now
	}{
		{"it was never bad", resource.SignalGood, 0, ""},
		{"it turns bad", resource.SignalBad, 1, "bad/1"},
		{"it stays bad", resource.SignalBad, 1, ""},
		{"it cannot be evaluated for a while", resource.SignalError, 1, ""},
		{"and is as bad as before", resource.SignalBad, 1, ""},
		{"it is good again", resource.SignalGood, 1, "good/1"},
		{"it stays good", resource.SignalGood, 1, ""},
		{"it turns bad a second time", resource.SignalBad, 2, "bad/2"},
		{"a new version starts with too few", resource.SignalTooFew, 2, ""},
		{"and is good", resource.SignalGood, 2, "good/2"},
		{"too few of a version that never was bad", resource.SignalTooFew, 2, ""},
		{"end no alarm", resource.SignalGood, 2, ""},
		{"it turns bad a third time", resource.SignalBad, 3, "bad/3"},
		{"and at once again", resource.SignalBad, 4, "bad/4"},
	} {
		b.see(step.is, step.epoch)
		if t.Log(step.what); step.turn == "" {
			b.wantCalls()
			continue
		}
		b.wantCalls(append(told("a", step.turn), told("b", step.turn)...)...)
	}
}

func TestANotifierThatIsDownIsToldLater(t *testing.T) {
	b := alertBench(t)
	b.w.deaf["http://b"] = true
	said := b.see(resource.SignalBad, 1)
	b.wantCalls(told("a", "bad/1")...)
	if len(said) != 1 || !strings.HasPrefix(said[0], "notifier.b: alert about monitor.m.drift not delivered: boom; the next ml monitor or ml apply tries again") {
		t.Errorf("said %q", said)
	}
	b.see(resource.SignalBad, 1)
	b.wantCalls()
	b.w.deaf["http://b"] = false
	b.see(resource.SignalTooFew, 1) // a new version meanwhile: the turn that is owed was to bad
	b.wantCalls(told("b", "bad/1")...)
	b.see(resource.SignalTooFew, 1)
	b.wantCalls()

	// Of a turn that came after the owed one only the newest is told.
	b.w.deaf["http://b"] = true
	b.see(resource.SignalBad, 2)
	b.see(resource.SignalGood, 2)
	b.w.deaf["http://b"] = false
	b.apply()
	b.wantCalls(append(told("a", "bad/2", "good/2"), append(told("b", "good/2"), "run training.m", "run validation.m", "update deployment.m")...)...)
}

func TestAnAlertIsOwedBeforeItIsSent(t *testing.T) {
	b := alertBench(t)
	seen := 0
	b.w.onTell = func() { // a crash here finds this record
		snap, err := b.store.Snapshot(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		s := snap.Signal(resource.Address{Kind: "monitor", Name: "m"}, "drift")
		if s.Epoch != 1 || strings.Join(s.Owed, " ") != "notifier.a notifier.b" {
			t.Errorf("recorded %+v", s)
		}
		seen++
	}
	b.see(resource.SignalBad, 1)
	if seen != 2 {
		t.Errorf("%d were told", seen)
	}
}

func TestAnAlertIsNotOwedToWhomNoFileNames(t *testing.T) {
	b := alertBench(t)
	b.w.deaf["http://b"] = true
	b.see(resource.SignalBad, 1)
	b.wantCalls(told("a", "bad/1")...)
	b.write(strings.Replace(alerting, "  drift {}", "  drift {}\n  alert { notify = [notifier.a] }", 1))
	b.w.deaf["http://b"] = false
	b.see(resource.SignalBad, 1)
	b.wantCalls()
	snap, err := b.store.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if s := snap.Signal(resource.Address{Kind: "monitor", Name: "m"}, "drift"); len(s.Owed) > 0 || !s.Alarm {
		t.Errorf("recorded %+v", s)
	}
}
