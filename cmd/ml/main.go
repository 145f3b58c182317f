// Command ml plans and applies the life of machine-learning models.
package main

import (
	"os"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/runner"
)

// Hidden first arguments under which the program starts itself: a detached
// runner, a gateway, a router and its other part in a pod, and a child that
// evaluates files under limits. They are handled before anything else is set up.
const (
	argRunner  = "__runner"
	argGateway = "__gateway"
	argEval    = "__eval"
	argRoute   = "route" // "ml gateway route": a pod's command line
	argPod     = "pod"
)

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case argRunner:
			return runner.Main(os.Args[2])
		case argGateway:
			return gateway.Main(os.Args[2])
		}
	}
	if len(os.Args) > 3 && os.Args[1] == "gateway" && os.Args[2] == argRoute {
		return gateway.RouteMain(os.Args[3:], os.Stderr)
	}
	if len(os.Args) == 2 && os.Args[1] == argEval {
		return config.EvalMain(os.Stdin, os.Stdout)
	}
	if len(os.Args) > 2 && os.Args[1] == argPod {
		return podMain(os.Args[2:])
	}
	spendMemory()
	return Main(os.Args[1:], System())
}
