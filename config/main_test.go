package config

import (
	"os"
	"testing"
)

// TestMain lets the test binary be the child that evaluates under limits.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[len(os.Args)-1] == EvalCommand {
		os.Exit(EvalMain(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}
