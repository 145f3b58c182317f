package local

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/runner"
)

// TestMain lets this test binary be the detached runner and the gateway.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "__gateway" {
		os.Exit(gateway.Main(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == runner.Subcommand {
		os.Exit(runner.Main(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}
