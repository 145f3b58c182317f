package gateway

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/internal/proc"
)

// Exit codes of Main.
const (
	exitOK      = 0
	exitError   = 1
	exitRunning = 3 // another gateway has the folder
)

// Ports that are chosen lie below the ranges from which Linux (32768) and
// macOS (49152) take the ports of outgoing connections, or a stable endpoint
// could be taken by chance while the gateway is down.
const (
	firstPort = 20000
	portCount = 10000
)

// cannotRun is what a gateway logs last when it cannot begin; Start looks for it.
const cannotRun = "gateway cannot run"

// Main is the gateway process on dir. It returns its exit code when it was
// told to stop (SIGTERM, SIGINT), when its folder was deleted, when another gateway has the folder, or when
// it cannot begin.
func Main(dir string) int {
	ballast := tune()
	defer runtime.KeepAlive(ballast)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := serve(folder(dir), log)
	switch {
	case errors.Is(err, errRunning):
		log.Info("not needed", "reason", err)
		return exitRunning
	case err != nil:
		log.Error(cannotRun, "error", err)
		return exitError
	}
	return exitOK
}

var errRunning = errors.New("another gateway serves this folder")

// gateway is one running gateway process.
type gateway struct {
	dir   folder
	log   *slog.Logger
	ports processFile
	ctl   *controller
	main  *http.Server
	admin *http.Server
	door  door // to main

	mu       sync.Mutex
	listener net.Listener
}

// serve runs a gateway from lock to unlock.
func serve(dir folder, log *slog.Logger) (err error) {
	if err := os.MkdirAll(dir.logs(), 0o700); err != nil {
		return err
	}
	lock := flock.New(dir.lock())
	if err := takeLock(dir, lock); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()

	// Before gateway.json names this process, since from then on it is signalled.
	reload, stop := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(reload, signalReload)
	signal.Notify(stop, stopSignals...)
	defer signal.Stop(reload)
	defer signal.Stop(stop)

	g := &gateway{dir: dir, log: log}
	if err := g.begin(); err != nil {
		return err // the process ends, and with it all that was opened
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.ctl.run(ctx, reload)
	}()
	select {
	case <-stop:
	case <-done:
	}
	cancel()
	<-done
	return g.end(g.drain())
}

// takeLock takes the folder's lock for life. A killed gateway counts as dead a
// moment before the kernel has closed its files, so a lock without a live
// holder is waited for.
func takeLock(dir folder, lock *flock.Flock) error {
	deadline := time.NewTimer(lockLimit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		locked, err := lock.TryLock()
		if err != nil {
			return fmt.Errorf("lock %s: %w", dir.lock(), err)
		}
		if locked {
			return nil
		}
		if _, alive := running(dir); alive {
			return errRunning
		}
		select {
		case <-deadline.C:
			return errRunning
		case <-tick.C:
		}
	}
}

// begin opens everything, and names this process in gateway.json at the end.
func (g *gateway) begin() error {
	self, err := proc.Self()
	if err != nil {
		return fmt.Errorf("identify this process: %w", err)
	}
	var state stateFile
	if err := readJSON(g.dir.state(), &state); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; move the file away to start anew", err)
	}
	if err := readJSON(g.dir.process(), &g.ports); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; move the file away to start anew", err)
	}
	killLeftovers(state.Servers, g.log)
	g.ports.Process = self

	entries, rt := &capture.Entries{}, newRouter()
	sent, _, _ := capture.ReadCursor(g.dir.cursor()) // whoever starts the sink tells what is wrong with it
	writer, err := capture.Open(g.dir.capture(), entries, capture.Options{After: sent}, g.log)
	if err != nil {
		return err
	}
	m := newMeters(rt, writer)
	p := &proxy{router: rt, entries: entries, writer: writer, log: g.log, meters: m}
	limits := Desired{}.withDefaults().Limits
	g.ctl = &controller{
		dir: g.dir, log: g.log, spawner: newSpawner(), router: rt, proxy: p, meters: m, writer: writer,
		rebind: g.rebind, wake: make(chan struct{}, 1), left: make(chan *release), retiring: map[*release]bool{},
		desired: Desired{}.withDefaults(), live: Live{Phase: PhaseStarting},
		outlet: &outlet{dir: g.dir, log: g.log, writer: writer, stats: &m.sink},
	}
	files, err := descriptors()
	if err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	g.main, g.door = newServer(p, g.log, limits), newDoor(files)
	g.main.ConnState = g.door.left
	live := func() Live { return g.mark(*g.ctl.public.Load()) }
	g.ctl.public.Store(&Live{Phase: PhaseStarting})
	g.admin = newServer(newAdmin(m, live, g.log), g.log, limits)
	g.ctl.resume(state)
	if err := g.listen(); err != nil {
		return err
	}
	g.ctl.launch(state)
	return nil
}

// mark fills in what Live says about the process.
func (g *gateway) mark(l Live) Live {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.Alive, l.Process, l.Admin = true, g.ports.Process, "http://"+loopback(g.ports.Admin)
	return l
}

// listen opens the two listeners. The first desired.json decides about the
// port of the models, if it is there already.
func (g *gateway) listen() error {
	al, port, err := listenOn(g.ports.Admin, portSeed(string(g.dir)+"/admin"))
	if err != nil {
		return fmt.Errorf("listen for metrics: %w", err)
	}
	g.ports.Admin = port
	g.serveOn(g.admin, al)
	want := 0
	var d Desired
	if err := readJSON(g.dir.desired(), &d); err == nil {
		want = d.Port
	} else if !errors.Is(err, os.ErrNotExist) {
		g.log.Error("read desired.json", "error", err)
	}
	_, err = g.rebind(want)
	return err
}

// rebind makes the gateway listen on port; 0 is the one it always had, or a
// new one at the first time. Connections of an old port go on.
func (g *gateway) rebind(port int) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	endpoint := func() string { return "http://" + loopback(g.ports.Port) }
	if g.listener != nil && (port == 0 || port == g.ports.Port) {
		return endpoint(), nil
	}
	if port == 0 {
		port = g.ports.Port
	}
	l, port, err := listenOn(port, portSeed(string(g.dir)))
	if err != nil {
		return "", fmt.Errorf("listen for requests: %w", err)
	}
	if g.listener != nil {
		if err := g.listener.Close(); err != nil {
			g.log.Warn("close old listener", "error", err)
		}
	}
	g.listener, g.ports.Port = l, port
	if err := writeJSON(g.dir.process(), g.ports); err != nil {
		return "", err
	}
	g.serveOn(g.main, g.door.guard(l))
	return endpoint(), nil
}

func (g *gateway) serveOn(s *http.Server, l net.Listener) {
	go func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			g.log.Error("listener ended", "address", l.Addr().String(), "error", err)
		}
	}()
}

// listenOn binds a port, or chooses one from a seed when it is 0.
func listenOn(port, seed int) (net.Listener, int, error) {
	if port != 0 {
		l, err := net.Listen("tcp", loopback(port))
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, 0, fmt.Errorf("port %d is taken by another program; end it or give the deployment another port: %w", port, err)
		}
		return l, port, err
	}
	for i := range portCount {
		port = firstPort + (seed+i)%portCount
		if l, err := net.Listen("tcp", loopback(port)); err == nil {
			return l, port, nil
		}
	}
	return nil, 0, fmt.Errorf("no free port between %d and %d", firstPort, firstPort+portCount-1)
}

// portSeed makes folders prefer different ports.
func portSeed(s string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s)) // never fails
	return int(h.Sum32() % portCount)
}

// killLeftovers ends servers of a gateway that was killed: on Linux the kernel
// has done so, but for what they had started themselves.
func killLeftovers(servers []ServerStatus, log *slog.Logger) {
	for _, s := range servers {
		err := proc.KillGroup(s.Process, signalKill)
		if err != nil && !errors.Is(err, proc.ErrGone) {
			log.Warn("end a leftover server", "error", err)
		}
	}
}

// drain is how long this stop may wait for requests.
func (g *gateway) drain() time.Duration {
	var s stopFile
	if err := readJSON(g.dir.stop(), &s); err == nil && s.Process == g.ports.Process {
		return time.Duration(s.DrainNS)
	}
	return g.ctl.desired.Drain
}

// end stops in the order of the traffic: no new connections, requests finish,
// servers end, captured answers reach the disk and the sink.
func (g *gateway) end(drain time.Duration) error {
	until := time.Now().Add(drain)
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	var errs []error
	if err := g.main.Shutdown(ctx); err != nil {
		g.log.Warn("requests were cut off", "drain", drain, "error", err)
		errs = append(errs, g.main.Close())
	}
	g.ctl.shutdown(drain)
	g.ctl.spawner.close()
	errs = append(errs, g.ctl.writer.Close())
	g.ctl.outlet.drain(until)
	errs = append(errs, g.admin.Close())
	g.ctl.settle(PhaseStopped, "stopped")
	g.ctl.retiring = nil
	g.ctl.publish(time.Now())
	return errors.Join(errs...)
}
