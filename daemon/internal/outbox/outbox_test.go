package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/providers"
)

// open opens an outbox of a folder that nobody else writes to.
func open(t *testing.T, dir string, opts Options) *Outbox {
	t.Helper()
	opts.Pen = func() (func() error, error) { return func() error { return nil }, nil }
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	o, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func owe(t *testing.T, o *Outbox, at time.Time, keys ...string) {
	t.Helper()
	err := o.Change(func(k *Kept) {
		for _, key := range keys {
			k.Owed = append(k.Owed, &Notice{Key: key, At: at, Owed: []string{"team", "log"}})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestANotifierThatIsAwayIsTriedLaterAndInOrder(t *testing.T) {
	var log strings.Builder
	var got, logged []string
	tries, now := 0, time.Now()
	away := errors.New("away")
	dir := t.TempDir()
	opts := Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }, Senders: map[string]Send{
		"team": func(_ context.Context, n *Notice) error {
			if tries++; away != nil {
				return away
			}
			got = append(got, n.Key)
			return nil
		},
		"log": func(_ context.Context, n *Notice) error { logged = append(logged, n.Key); return nil },
	}}
	o := open(t, dir, opts)
	owe(t, o, now, "1", "2")
	state := map[string]*retry{}
	for i, want := range []struct {
		pass, wait time.Duration
		tries      int
	}{{0, firstRetry, 1}, {time.Second, firstRetry - time.Second, 1}, {firstRetry - time.Second, 2 * firstRetry, 2}} {
		now = now.Add(want.pass)
		if wait := o.deliver(t.Context(), state); wait != want.wait || tries != want.tries {
			t.Errorf("%d: come again in %s after %d tries", i, wait, tries)
		}
	}
	if !slices.Equal(logged, []string{"1", "2"}) {
		t.Errorf("who is there was told %v", logged)
	}
	// It says itself how long.
	away, now = &providers.RetryableError{Err: away, After: time.Hour / 2}, now.Add(2*firstRetry)
	if wait := o.deliver(t.Context(), state); wait != time.Hour/2 {
		t.Errorf("come again in %s", wait)
	}
	// Another daemon of the same folder goes on.
	away, o = nil, open(t, dir, opts)
	o.deliver(t.Context(), map[string]*retry{})
	if !slices.Equal(got, []string{"1", "2"}) || len(o.Owed()) != 0 || len(logged) != 2 {
		t.Errorf("told %v and %v; owed: %v", got, logged, o.Owed())
	}
	// Nobody wants to know what is old.
	away = errors.New("away")
	owe(t, o, now, "3")
	o.deliver(t.Context(), state)
	if now = now.Add(owedFor); len(o.Owed()) != 1 {
		t.Errorf("owed: %v", o.Owed())
	}
	if o.deliver(t.Context(), state); len(o.Owed()) != 1 {
		t.Errorf("a week is not over: %v", o.Owed())
	}
	if now = now.Add(1); o.deliver(t.Context(), state) == 0 || len(o.Owed()) != 0 || !strings.Contains(log.String(), "news dropped") {
		t.Errorf("owed for ever: %v", o.Owed())
	}
}

func TestWhatAnotherProcessKeptIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	o, other := open(t, dir, Options{Now: time.Now}), open(t, dir, Options{Now: time.Now})
	owe(t, other, time.Now(), "1")
	if n := len(o.Owed()); n != 0 {
		t.Errorf("%d owed", n)
	}
	if err := o.Reread(); err != nil || len(o.Owed()) != 1 {
		t.Errorf("%d owed, %v", len(o.Owed()), err)
	}
}

func TestNewsThatNobodyTakesAreBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	o := open(t, dir, Options{Now: time.Now})
	err := o.Change(func(k *Kept) {
		for i := range maxOwed + 10 {
			k.Owed = append(k.Owed, &Notice{Key: fmt.Sprint(i), Owed: []string{"x"}})
		}
	})
	if got := o.Owed(); err != nil || len(got) != maxOwed || got[0].Key != "10" {
		t.Errorf("%d owed, %v", len(got), err)
	}
	// What cannot be kept is not as if it were.
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := o.settled("10", "x"); err == nil || len(o.Owed()) != maxOwed {
		t.Errorf("%d owed, %v", len(o.Owed()), err)
	}
}
