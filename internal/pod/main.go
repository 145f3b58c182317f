package pod

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/runner"
)

// defaultWork is where a pod's volume is mounted.
const defaultWork = "/ml/work"

// Main is `ml pod`: install DIR, run, fetch, or scan. It fills o from the environment and returns an exit code.
func Main(ctx context.Context, args []string, o Options) int {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	err := trustRoots()
	switch {
	case err != nil:
	case len(args) == 2 && args[0] == "install":
		err = Install(args[1])
	case len(args) == 1 && args[0] == "fetch":
		err = fetchMain(ctx, o)
	case len(args) == 1 && args[0] == "run":
		return runMain(ctx, o)
	case len(args) == 1 && args[0] == "scan":
		return scanMain(ctx, o)
	default:
		err = errors.New("usage: ml pod install DIR | run | fetch | scan; pods that ml makes call it")
	}
	if err != nil {
		fmt.Fprintf(o.Stderr, "ml: %v\n", err)
		return 1
	}
	return ExitDone
}

func fetchMain(ctx context.Context, o Options) error {
	t, err := ParseFetch(o.Getenv)
	if err != nil {
		return err
	}
	if o.Client == nil {
		o.Client = oci.New(oci.Options{Insecure: t.Insecure})
	}
	return Fetch(ctx, o.Client, t)
}

func runMain(ctx context.Context, o Options) int {
	o.Termination = or(o.Getenv(MessageVar), DefaultMessagePath)
	o.Work = or(o.Getenv(WorkVar), defaultWork)
	var err error
	if o.Task, err = ParseTask(o.Getenv, os.ReadFile); err != nil {
		fmt.Fprintf(o.Stderr, "ml: %v\n", err)
		t := Termination{Phase: runner.Failed, ExitCode: -1, Message: err.Error()}
		if err := t.write(o.Termination); err != nil {
			fmt.Fprintf(o.Stderr, "ml: %v\n", err)
		}
		return ExitFailed
	}
	return Run(ctx, o)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
