package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// lanes is how many upstreams one backend has. They share its address: a
// connection that is refused is tried once more, and whoever balances the
// address may choose another server for it.
const lanes = 2

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

// resume takes the routes that it followed before a restart, or newer ones of
// the file. A mounted file lags behind what was PUT.
func (d *dataPlane) resume() {
	var kept Routes
	err := readJSON(d.dir.routes(), &kept)
	if err == nil {
		if err = kept.Validate(); err == nil {
			err = d.take(kept)
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.log.Error("routes of before are not taken", "error", err)
	}
	d.reload()
}

// reload takes the routes file when it was replaced and is newer.
func (d *dataPlane) reload() {
	if d.o.File == "" {
		return
	}
	info, err := os.Stat(d.o.File)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			d.log.Error("look at the routes file", "error", err)
		}
		return
	}
	if d.seen != nil && os.SameFile(d.seen, info) && d.seen.ModTime().Equal(info.ModTime()) && d.seen.Size() == info.Size() {
		return
	}
	data, err := os.ReadFile(d.o.File)
	if err != nil {
		d.log.Error("read the routes file; the routes stay", "error", err)
		return
	}
	d.seen = info
	r, err := ParseRoutes(data)
	if err == nil {
		err = d.take(r)
	}
	var stale *StaleRoutesError
	if err != nil && !errors.As(err, &stale) {
		d.log.Error("the routes file is refused; the routes stay", "error", err)
	}
}

// StaleRoutesError refuses routes that are not newer than those a router has.
type StaleRoutesError struct{ Given, Have int64 }

// Error names both generations.
func (e *StaleRoutesError) Error() string {
	if e.Given == e.Have {
		return fmt.Sprintf("routes of generation %d differ from those that the router has under that number; give them the next", e.Given)
	}
	return fmt.Sprintf("routes of generation %d are older than generation %d, which the router has", e.Given, e.Have)
}

// take follows r from now on. The same routes again are no error; others that
// are not newer are a *StaleRoutesError.
func (d *dataPlane) take(r Routes) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Generation <= d.routes.Generation {
		if r.same(d.routes) {
			return nil
		}
		return &StaleRoutesError{Given: r.Generation, Have: d.routes.Generation}
	}
	// The sink's place is on disk before the first answer that it is owed.
	if err := d.outlet.restart(r.Sink); err != nil {
		return err
	}
	// Only a restart needs the copy; traffic need not wait for a full disk.
	if err := writeJSON(d.dir.routes(), r); err != nil {
		d.log.Error("keep the routes for a restart", "error", err)
	}
	d.writer.SetOptions(capture.Options{MaxBytes: r.Capture.MaxBytes, MaxBody: r.Capture.MaxBody})
	d.proxy.config.Store(&proxyConfig{limits: r.Limits.withDefaults(), capture: r.Capture.Enabled || r.Sink != nil, sink: r.Sink != nil})
	d.follow(r)
	d.routes, d.since = r, time.Now().UTC()
	d.log.Info("new routes", "generation", r.Generation, "current", number(r.Current), "candidate", number(r.Candidate), "weight", r.Weight)
	return nil
}

func number(b *Backend) int {
	if b == nil {
		return 0
	}
	return b.Version
}

// follow swaps the route in one step, and counts from here. The caller holds mu.
func (d *dataPlane) follow(r Routes) {
	old := d.router.route.Load()
	t := &route{current: d.release(r.Current), candidate: d.release(r.Candidate), weight: r.Weight}
	if old.candidate != t.candidate {
		d.shadow = nil
	}
	closing := d.mirror
	if r.Mirror {
		if closing != nil && closing.candidate == t.candidate {
			closing = nil
		} else {
			var before Comparison
			if d.shadow != nil {
				before = *d.shadow
			}
			d.mirror = newMirror(t.candidate, r.Limits.withDefaults().Timeout, before)
		}
		t.mirror = d.mirror
	} else {
		d.mirror = nil
	}
	for _, rel := range []*release{t.current, t.candidate} {
		if rel != nil {
			rel.slowAfter.Store(int64(r.SlowAfter))
		}
	}
	d.router.route.Store(t)
	d.meters.setWeights(t)
	if closing != nil {
		closing.close() // after the swap: no new copies come
		if closing.candidate == t.candidate {
			seen := closing.comparison()
			d.shadow = &seen
		}
	}
	d.leave(t)
	d.base, d.before = map[*release]Tally{}, map[int]Histogram{}
	for _, rel := range d.releases {
		d.base[rel] = rel.tally()
		d.before[rel.spec.Model.Number] = d.meters.latency(rel.spec.Model.Number)
	}
}

// release returns the one for b that takes requests already, or a new one.
func (d *dataPlane) release(b *Backend) *release {
	if b == nil {
		return nil
	}
	t := d.router.route.Load()
	for _, rel := range []*release{t.current, t.candidate} {
		if rel != nil && rel.key == b.URL+" "+b.Explain && rel.spec.Model.Number == b.Version && rel.spec.Model.Digest == b.Digest {
			return rel
		}
	}
	rel := &release{spec: spec{Model: Version{Number: b.Version, Digest: b.Digest}}, key: b.URL + " " + b.Explain, wake: func() {},
		meters: d.meters.version(b.Version), versionHeader: []string{strconv.Itoa(b.Version)}}
	ups := d.lanesTo(b.URL, rel)
	rel.ready.Store(&ups)
	if b.Explain != "" {
		rel.explain = d.lanesTo(b.Explain, rel)
	}
	d.releases = append(d.releases, rel)
	return rel
}

// lanesTo are the upstreams to a server of a version.
func (d *dataPlane) lanesTo(url string, rel *release) []*upstream {
	dial, host, err := addr(url)
	if err != nil { // Validate let it through
		d.log.Error("address of a version", "version", rel.spec.Model.Number, "error", err)
	}
	ups := make([]*upstream, lanes)
	for i := range ups {
		ups[i] = newUpstream(dial, rel)
		ups[i].host = host
	}
	return ups
}

// leave lets no new request into releases that are not in t, and forgets those
// whose last request is over. The caller holds mu.
func (d *dataPlane) leave(t *route) {
	kept := d.releases[:0]
	for _, rel := range d.releases {
		stays := rel == t.current || rel == t.candidate
		if !stays {
			for _, u := range rel.all() {
				u.close()
			}
		}
		if stays || rel.inflight() > 0 {
			kept = append(kept, rel)
		} else {
			delete(d.base, rel)
		}
	}
	clear(d.releases[len(kept):])
	d.releases = kept
}

// inflight counts the requests that the release has not answered.
func (r *release) inflight() int64 {
	var n int64
	for _, u := range r.all() {
		n += u.inflight.Load()
	}
	return n
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
