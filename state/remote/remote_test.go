package remote_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/remotetest"
	"github.com/continuo-ml/continuo/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leaseFor is short enough to wait for and long enough for a busy machine.
const leaseFor = 600 * time.Millisecond

// options are those of a store with waits that a test can afford.
func options(t testing.TB, dir string) remote.Options {
	return remote.Options{
		Dir: dir, LeaseFor: leaseFor, Poll: 5 * time.Millisecond, Patience: 300 * time.Millisecond, Holder: "ada@host",
		Warn: func(err error) { t.Log("warning:", err) },
	}
}

// newStore is a store over the place as a folder of its own sees it.
func newStore(t testing.TB, place remote.Blobs) *remote.Store {
	t.Helper()
	return remote.Open(place, options(t, t.TempDir()))
}

func TestFake(t *testing.T) { remotetest.Run(t, remotetest.NewFake()) }

func TestStore(t *testing.T) {
	statetest.Run(t, func(t *testing.T) state.Store {
		s := newStore(t, remotetest.NewFake())
		t.Cleanup(func() {
			if _, err := s.Verify(context.WithoutCancel(t.Context())); err != nil {
				t.Error("after the test:", err)
			}
		})
		return s
	})
}

// small is a record of its own name.
func small(i int) *state.Record {
	return &state.Record{Address: resource.Address{Kind: "training", Name: fmt.Sprintf("t%05d", i)}, Provider: "local", Phase: resource.PhaseReady, Created: statetest.Time, Updated: statetest.Time}
}

// big is a record of about 1 KB that does not compress well.
func big(i int) *state.Record {
	r := small(i)
	var b strings.Builder
	for j := range 14 {
		b.WriteString(string(resource.DigestOf(fmt.Append(nil, i, j))))
	}
	r.Spec = json.RawMessage(`"` + b.String() + `"`)
	return r
}

// commit commits on the present serial.
func commit(t testing.TB, s state.Store, ops ...state.Op) uint64 {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	serial, err := s.Commit(t.Context(), snap.Serial, ops...)
	if err != nil {
		t.Fatal(err)
	}
	return serial
}

func put(records ...*state.Record) []state.Op {
	ops := make([]state.Op, len(records))
	for i, r := range records {
		ops[i] = state.Op{PutRecord: r}
	}
	return ops
}

func many(n int, make func(int) *state.Record) (out []*state.Record) {
	for i := range n {
		out = append(out, make(i))
	}
	return out
}

func snapshot(t testing.TB, s state.Store) *state.Snapshot {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func acquire(t testing.TB, s *remote.Store) (int64, func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*leaseFor)
	defer cancel()
	epoch, release, err := s.Acquire(ctx, "apply")
	if err != nil {
		t.Fatal(err)
	}
	return epoch, release
}

// wantError wants an error that is target (if not nil) and has the texts.
func wantError(t testing.TB, err, target error, texts ...string) {
	t.Helper()
	if err == nil || target != nil && !errors.Is(err, target) {
		t.Errorf("got error %v, want %v", err, target)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

// eventually waits for what is to happen by itself.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("waited in vain: " + what)
		}
	}
}
