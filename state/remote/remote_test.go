package remote_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/remotetest"
	"github.com/continuo-ml/continuo/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick are options whose waits a test can afford.
func quick(t testing.TB, dir string) remote.Options {
	return remote.Options{
		Dir: dir, LeaseFor: 400 * time.Millisecond, Poll: 5 * time.Millisecond, Patience: 300 * time.Millisecond, Holder: "ada@host",
		Warn: func(err error) { t.Log("warning:", err) },
	}
}

func TestFake(t *testing.T) { remotetest.Run(t, remotetest.NewFake()) }

func TestStore(t *testing.T) {
	statetest.Run(t, func(t *testing.T) state.Store {
		s := remote.Open(remotetest.NewFake(), quick(t, t.TempDir()))
		t.Cleanup(func() {
			if _, err := s.Verify(context.WithoutCancel(t.Context())); err != nil {
				t.Error("after the test:", err)
			}
		})
		return s
	})
}
