package state_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	statetest.Run(t, func(*testing.T) state.Store { return state.NewMemory() })
}
