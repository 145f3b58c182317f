//go:build linux

// Command cluster runs a real Kubernetes with KServe, JobSet and Kubeflow Trainer on this machine, for the project's own end-to-end
// tests, from Go modules and Debian packages alone: no container engine, no image from elsewhere.
//
//	go run ./e2e/cluster up      build what is not built, start, check; prints where it is
//	go run ./e2e/cluster down    stop exactly what up started
//	go run ./e2e/cluster check   run real workloads on it
//	go run ./e2e/cluster env     print where it is, as NAME=VALUE
//	go run ./e2e/cluster build   build programs and images only
//	go run ./e2e/cluster gateway add the Gateway API and a controller for it to a cluster that runs
//	go run ./e2e/cluster knative add Knative Serving to a cluster that runs, with a stand-in for its ingress
//	go run ./e2e/cluster katib   add Katib to a cluster that runs
//
// Every component is a process of this machine with its own pid file and log in one folder (ML_E2E_DIR). Pods hang on a bridge of their
// own, 10.88.0.0/16. Its gateway 10.88.0.1 is the node's address: API server, kubelet, DNS and registry listen there or on loopback and
// nowhere else. 10.88.0.1:5050/NAME:TAG names the same image for this machine, for containerd and for programs in pods, over plain HTTP:
// clients take a private address (RFC 1918) for an insecure registry.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/registry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

const usage = `usage: cluster up [-base] | down | check [NAME...] | env | build | gateway | knative | katib | restart COMPONENT | registry -listen HOST:PORT -dir DIR`

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("name a command\n%s", usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	base := flags.Bool("base", false, "up: Kubernetes and the registry only")
	listen := flags.String("listen", "", "registry, standin: addresses HOST:PORT, separated by commas")
	dir := flags.String("dir", "", "registry: folder of the blobs")
	also := flags.String("also", "", "registry: second folder of blobs, only read")
	user := flags.String("user", "", "registry: who may come in; the password is in ML_E2E_AUTH_PASSWORD")
	kubeconfig := flags.String("kubeconfig", "", "standin: of who watches Knative's ingresses")
	service := flags.String("service", "", "standin: name of the Service by which pods reach it")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "registry" {
		o := registry.Options{Listen: splitList(*listen), Dir: *dir, Also: *also, User: *user, Password: os.Getenv("ML_E2E_AUTH_PASSWORD"), Log: os.Stderr}
		return registry.Serve(ctx, o)
	}
	if args[0] == "standin" {
		return runStandin(ctx, *listen, *kubeconfig, *service)
	}
	c, err := newCluster(out)
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		return c.up(ctx, *base)
	case "down":
		return c.down(ctx)
	case "check":
		return c.check(ctx, flags.Args())
	case "env":
		return c.printEnv()
	case "build":
		if err := c.needs(); err != nil {
			return err
		}
		return c.build(ctx, *base)
	case "gateway":
		return c.gatewayUp(ctx)
	case "knative":
		return c.knativeUp(ctx)
	case "katib":
		return c.katibUp(ctx)
	case "restart":
		if flags.NArg() != 1 {
			return fmt.Errorf("name one component\n%s", usage)
		}
		return c.restart(ctx, flags.Arg(0))
	default:
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
}
