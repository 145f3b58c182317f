package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/continuo-ml/continuo/internal/pod"
)

// podMain is `ml pod install DIR`, `ml pod run`, `ml pod fetch` and `ml pod scan`:
// what the program does inside of pods that it made. Nobody types it, so no help names it.
func podMain(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return pod.Main(ctx, args, pod.Options{Stdout: os.Stdout, Stderr: os.Stderr})
}
