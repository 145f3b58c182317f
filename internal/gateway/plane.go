package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// dataPlane passes requests on as its routes say. Nothing in it decides: what
// the routes say next comes from outside, by file or by PUT.
type dataPlane struct {
	o        RouteOptions
	dir      folder
	log      *slog.Logger
	instance string // of this process
	store    string // of the captured answers
	router   *router
	proxy    *proxy
	meters   *meters
	writer   *capture.Writer
	outlet   *outlet
	main     *http.Server
	admin    *http.Server
	door     door
	traffic  net.Listener
	sides    [2]sideDoor
	control  net.Listener
	leaving  atomic.Bool // told to stop
	seen     os.FileInfo // of the routes file; only tick looks at it

	mu       sync.Mutex // guards what follows
	routes   Routes
	since    time.Time
	releases []*release // in the routes, or with requests in flight
	base     map[*release]Tally
	before   map[int]Histogram
	mirror   *mirror
	shadow   *Comparison // of a mirror that is closed
}

// sideDoor is a port whose requests are for one of the versions.
type sideDoor struct {
	listener net.Listener // nil = none
	port     int
	to       side
}

// openPlane opens folder, captured answers and listeners, and takes the newest
// routes that it finds.
func openPlane(o RouteOptions, log *slog.Logger) (_ *dataPlane, err error) {
	d := &dataPlane{o: o, dir: folder(o.Dir), log: log, instance: ulid.Make().String(), router: newRouter()}
	if err := durable.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open router: %w", err)
	}
	if d.store, err = storeID(d.dir.store()); err != nil {
		return nil, err
	}
	// Sequence numbers that a sink or a reader has seen must not come again.
	sent, _, _ := capture.ReadCursor(d.dir.cursor()) // the sink tells what is wrong with it
	given, _, err := capture.ReadCursor(d.dir.given())
	if err != nil {
		return nil, fmt.Errorf("open router: %w", err)
	}
	entries := &capture.Entries{}
	if d.writer, err = capture.Open(d.dir.capture(), entries, capture.Options{After: max(sent, given)}, log); err != nil {
		return nil, err
	}
	d.meters = newMeters(d.router, d.writer)
	d.meters.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ml_gateway_routes_generation",
		Help: "Generation of the routes that this router follows."}, func() float64 { return float64(d.stats().Generation) }))
	d.outlet = &outlet{dir: d.dir, log: log, writer: d.writer, stats: &d.meters.sink}
	d.proxy = &proxy{router: d.router, entries: entries, writer: d.writer, log: log, meters: d.meters}
	if err := d.listen(); err != nil {
		return nil, errors.Join(err, d.writer.Close())
	}
	d.resume()
	return d, nil
}

// listen opens both ports.
func (d *dataPlane) listen() error {
	files, err := descriptors()
	if err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	limits := Limits{}.withDefaults()
	d.main, d.door = newServer(http.HandlerFunc(d.pass), d.log, limits), newDoor(files)
	d.main.ConnState = d.door.left
	d.admin = newServer(&routeAdmin{plane: d, metrics: metricsHandler(d.meters)}, d.log, limits)
	if d.traffic, err = net.Listen("tcp", d.o.Traffic); err != nil {
		return fmt.Errorf("listen for requests: %w", err)
	}
	if d.control, err = net.Listen("tcp", d.o.Admin); err != nil {
		return errors.Join(fmt.Errorf("listen for the admin port: %w", err), d.traffic.Close())
	}
	for i, s := range []struct {
		at string
		to side
	}{{d.o.Current, toCurrent}, {d.o.Candidate, toCandidate}} {
		if s.at == "" {
			continue
		}
		l, err := net.Listen("tcp", s.at)
		if err != nil {
			return errors.Join(fmt.Errorf("listen for one of the versions: %w", err), d.traffic.Close(), d.control.Close())
		}
		d.sides[i] = sideDoor{listener: l, port: portOf(l.Addr()), to: s.to}
	}
	return nil
}

func portOf(a net.Addr) int {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return 0
	}
	return tcp.Port
}

// pass hands a request to the proxy. While the router leaves, every answer
// asks the client for a new connection, which goes to another router.
func (d *dataPlane) pass(w http.ResponseWriter, r *http.Request) {
	if d.leaving.Load() {
		w.Header()["Connection"] = []string{"close"}
	}
	d.proxy.pass(w, r, d.side(r))
}

// side is that of the port at which a request came in.
func (d *dataPlane) side(r *http.Request) side {
	if d.sides[0].listener == nil && d.sides[1].listener == nil {
		return byWeight
	}
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return byWeight
	}
	port := portOf(at)
	for _, s := range d.sides {
		if s.listener != nil && s.port == port {
			return s.to
		}
	}
	return byWeight
}

// tick keeps connections, releases and the captured answers in bounds, and
// looks at the routes file.
func (d *dataPlane) tick(now time.Time) {
	d.reload()
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.router.route.Load()
	for _, rel := range []*release{t.current, t.candidate} {
		if rel != nil {
			rel.reap(now)
		}
	}
	d.leave(t)
	d.outlet.keep()
}

// serve answers until ctx ends, and then as long as the options say.
func (d *dataPlane) serve(ctx context.Context) error {
	failed := make(chan error, 2+len(d.sides))
	serve := func(s *http.Server, l net.Listener) {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("listen on %s: %w", l.Addr(), err)
		}
	}
	go serve(d.main, d.door.guard(d.traffic))
	for _, s := range d.sides {
		if s.listener != nil {
			go serve(d.main, d.door.guard(s.listener))
		}
	}
	go serve(d.admin, d.control)
	tick := time.NewTicker(quietTick)
	defer tick.Stop()
	leave := (<-chan time.Time)(nil)
	stop := ctx.Done()
	var err error
	for {
		select {
		case err = <-failed:
			return errors.Join(err, d.end())
		case <-stop:
			// Whoever balances over the routers takes a moment to leave this one out.
			d.leaving.Store(true)
			d.log.Info("leaving", "after", d.o.LameDuck, "in_flight", d.router.inflight.Load())
			timer := time.NewTimer(d.o.LameDuck)
			defer timer.Stop()
			stop, leave = nil, timer.C
		case <-leave:
			return d.end()
		case now := <-tick.C:
			d.tick(now)
		}
	}
}

// end stops in the order of the traffic, as a gateway with servers does.
func (d *dataPlane) end() error {
	until := time.Now().Add(d.o.Drain)
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	var errs []error
	if err := d.main.Shutdown(ctx); err != nil {
		d.log.Warn("requests were cut off", "drain", d.o.Drain, "error", err)
		errs = append(errs, d.main.Close())
	}
	d.mu.Lock()
	m := d.mirror
	d.mirror = nil
	d.mu.Unlock()
	if m != nil {
		m.close()
	}
	d.mu.Lock()
	d.leave(&route{}) // closes the connections to the servers
	d.mu.Unlock()
	errs = append(errs, d.writer.Close())
	d.outlet.drain(until)
	return errors.Join(append(errs, d.admin.Close())...)
}
