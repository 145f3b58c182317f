package bolt

import (
	"path/filepath"
	"testing"

	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/statetest"
)

func TestStore(t *testing.T) {
	statetest.Run(t, func(t *testing.T) state.Store {
		return newStore(t)
	})
}

// newStore is a Store in a fresh folder whose state must be whole when the test ends.
func newStore(t testing.TB) *Store {
	t.Helper()
	s := Open(filepath.Join(t.TempDir(), ".ml", "state.db"), Options{Holder: "ada@host", Warn: func(err error) { t.Error("warning:", err) }})
	t.Cleanup(func() {
		if _, err := s.Verify(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error("after the test:", err)
		}
	})
	return s
}
