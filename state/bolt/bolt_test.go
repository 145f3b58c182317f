package bolt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
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
		if _, err := s.Verify(context.WithoutCancel(t.Context())); err != nil {
			t.Error("after the test:", err)
		}
	})
	return s
}

// commit commits on the present serial.
func commit(t testing.TB, s *Store, ops ...state.Op) uint64 {
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

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// wantError wants an error that is target (if not nil) and has the text.
func wantError(t testing.TB, err, target error, text string) {
	t.Helper()
	if err == nil || target != nil && !errors.Is(err, target) || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want %v with %q", err, target, text)
	}
}

// small is a record of some 500 bytes.
func small(i int) *state.Record {
	r := bigRecord(i)
	r.Spec, r.Outputs, r.Deps = nil, nil, nil
	return r
}
