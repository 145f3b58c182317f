package runs

import (
	"errors"
	"testing"

	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
)

// A place that had no image or no room for a command has used up none of its retries: what was missing may be there next time.
func TestACommandThatNeverBeganIsNoAttempt(t *testing.T) {
	for _, begun := range []bool{true, false} {
		err := new(op).failure("", runner.Status{Phase: runner.Failed, ExitCode: -1, Message: "image a: not found", NotBegun: !begun, LastLogLines: []string{"x"}})
		var absent *providers.NotStartedError
		if errors.As(err, &absent) == begun {
			t.Errorf("begun %v: %T", begun, err)
		}
		var run *providers.RunError
		if !errors.As(err, &run) || len(run.Log) != 1 {
			t.Errorf("begun %v: %v lost its log", begun, err)
		}
	}
}
