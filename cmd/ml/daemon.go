package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/daemon"
)

// daemonMemory is what the daemon stays under as long as its work allows.
const daemonMemory = 120 << 20

func (a *app) daemonCmd() *cobra.Command {
	var file string
	var check bool
	cmd := &cobra.Command{
		Use: "daemon", Short: "Keep projects in git repositories applied", Args: cobra.NoArgs,
		Long: `daemon fetches the repositories that its file names, plans, asks where its policy
says so, applies, and watches on: data, schedules, signals and live state. Pull
requests get their plan as a comment. It answers over HTTP, on loopback unless
its file has TLS and tokens.`,
		Example: "  ml daemon\n  ml daemon -config /etc/ml/daemon.hcl\n  ml daemon -check",
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, files, diags := daemon.Load(file)
			if diags.HasErrors() {
				return diagError{Diags: diags, Files: files}
			}
			if check {
				return a.done("The daemon's file is valid: %d to look after.", len(conf.Repositories))
			}
			return a.runDaemon(cmd.Context(), conf)
		},
	}
	cmd.Flags().StringVar(&file, "config", "daemon.hcl", "the daemon's own file")
	cmd.Flags().BoolVar(&check, "check", false, "only read the file and say what is wrong with it")
	return cmd
}

func (a *app) runDaemon(ctx context.Context, conf *daemon.Config) error {
	if os.Getenv("GOGC") == "" { // main turned the collector off, for commands that are over in a moment
		debug.SetGCPercent(100)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(daemonMemory)
	}
	log := slog.New(slog.NewTextHandler(a.Err, nil))
	if a.json {
		log = slog.New(slog.NewJSONHandler(a.Err, nil))
	}
	d, err := daemon.New(conf, daemon.Options{
		Version: toolVersion(), Exe: []string{exe()}, Environ: environ, Log: log, Now: time.Now, Forges: daemon.NewForge,
	})
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", conf.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", conf.Listen, err)
	}
	scheme := "http"
	if conf.TLS != nil {
		scheme = "https"
	}
	fmt.Fprintf(a.Out, "Watching %d, data in %s. Overview: %s://%s/\n", len(conf.Repositories), conf.Data, scheme, l.Addr())
	if _, ok := os.LookupEnv("GOGC"); !ok {
		// A daemon rests most of the time beside the models that it serves: it had better be small than quick at its peak.
		defer debug.SetGCPercent(debug.SetGCPercent(50))
	}
	return a.interrupts(ctx, "Stopping: what runs goes on in the background, and the next ml daemon collects it.", nil, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return d.Serve(ctx, l) })
		g.Go(func() error { return d.Run(ctx) })
		if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
}
