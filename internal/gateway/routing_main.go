package gateway

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/oklog/ulid/v2"
)

// RouteOptions say where a router listens and what it keeps.
type RouteOptions struct {
	// Dir holds the captured answers and the routes of before a restart.
	Dir string
	// File holds the routes, such as a mounted ConfigMap; "" = only PUT gives them.
	File string
	// Traffic and Admin are the addresses to listen on, such as ":8080".
	Traffic, Admin string
	// Current and Candidate are further addresses, at which whoever stands
	// before the router has decided between the versions; "" = none.
	Current, Candidate string
	// TokenFile holds what the header ML-Router-Token must be for /routes,
	// /stats and /capture; "" leaves them open to all who reach the port.
	TokenFile string
	// LameDuck is how long requests are still taken after the order to stop;
	// Drain is how long those in flight may take after that.
	LameDuck, Drain time.Duration
}

// Ports of a router and what its requests may take at its end, unless told otherwise.
const (
	RouterPort          = 8080
	RouterAdminPort     = 8081
	RouterCurrentPort   = 8082
	RouterCandidatePort = 8083
	defaultLameDuck     = 5 * time.Second
	defaultDrain        = 30 * time.Second
)

// RouteMain is the command line of a router: "ml gateway route" with args. It
// returns the exit code when it was told to stop (SIGTERM, SIGINT).
func RouteMain(args []string, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	o, err := routeFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err == nil {
		// No tune: a pod's CPU limit is what the runtime goes by.
		ballast := make([]byte, slack)
		ctx, stop := signal.NotifyContext(context.Background(), stopSignals...)
		err = Route(ctx, o, log)
		stop()
		runtime.KeepAlive(ballast)
	}
	if err != nil {
		log.Error("router cannot run", "error", err)
		return exitError
	}
	return exitOK
}

func routeFlags(args []string, stderr io.Writer) (RouteOptions, error) {
	var o RouteOptions
	set := flag.NewFlagSet("ml gateway route", flag.ContinueOnError)
	set.SetOutput(stderr)
	port := set.Int("port", RouterPort, "port for requests")
	admin := set.Int("admin-port", RouterAdminPort, "port for routes, stats, metrics and captured answers")
	current := set.Int("current-port", 0, "further port, whose requests are for the current version; 0 is none")
	candidate := set.Int("candidate-port", 0, "further port, whose requests are for the candidate while there is one; 0 is none")
	host := set.String("host", "", "address to listen on; empty is all")
	set.StringVar(&o.Dir, "dir", "", "folder for captured answers (required)")
	set.StringVar(&o.File, "routes", "", "JSON file with the routes")
	set.StringVar(&o.TokenFile, "token-file", "", "file with the token of the admin port")
	set.DurationVar(&o.LameDuck, "lame-duck", defaultLameDuck, "how long requests are taken after SIGTERM")
	set.DurationVar(&o.Drain, "drain", defaultDrain, "how long requests in flight may take after that")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if o.Dir == "" || set.NArg() > 0 {
		return o, fmt.Errorf("route: -dir is required, and nothing beside flags is taken (got %q)", set.Args())
	}
	for port, to := range map[*int]*string{port: &o.Traffic, admin: &o.Admin, current: &o.Current, candidate: &o.Candidate} {
		if *port != 0 || to == &o.Traffic || to == &o.Admin {
			*to = fmt.Sprintf("%s:%d", *host, *port)
		}
	}
	return o, nil
}

// Route is a gateway that starts no servers: it passes requests on to the
// versions behind URLs that its routes name, keeps the answers, and serves the
// admin port (see routeAdmin). It returns when ctx has ended and the requests
// are over, or when it cannot listen.
func Route(ctx context.Context, o RouteOptions, log *slog.Logger) error {
	d, err := openPlane(o, log)
	if err != nil {
		return err
	}
	return d.serve(ctx)
}

// storeID names the store of captured answers for ever: sequence numbers mean
// something only together with it.
func storeID(name string) (string, error) {
	var id struct {
		ID string `json:"id"`
	}
	err := readJSON(name, &id)
	if err == nil && id.ID != "" {
		return id.ID, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("open router: %w; move the file away to start anew", err)
	}
	id.ID = ulid.Make().String()
	if err := writeJSON(name, id); err != nil {
		return "", fmt.Errorf("open router: %w", err)
	}
	return id.ID, nil
}
