package gateway

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// release is one version with its servers.
type release struct {
	spec    spec
	key     string
	spawner *spawner
	logs    string
	meters  *versionMeters
	wake    func() // tells the controller that something changed

	// versionHeader is the ready-made ML-Model-Version value.
	versionHeader []string

	ready atomic.Pointer[[]*upstream] // replaced as a whole
	turn  atomic.Uint64
	// explain are the servers of ":explain"; empty when they are the same. They never change.
	explain []*upstream

	requests, errors, slow atomic.Int64
	slowAfter              atomic.Int64 // nanoseconds; 0 counts nothing as slow

	mu       sync.Mutex
	replicas []*replica
	closed   bool
	leaving  sync.WaitGroup // replicas that were scaled away
}

// changed rebuilds the list of ready servers after a replica moved.
func (r *release) changed() {
	r.mu.Lock()
	var ready []*upstream
	for _, rep := range r.replicas {
		rep.mu.Lock()
		if rep.upstream != nil && !r.closed {
			ready = append(ready, rep.upstream)
		}
		rep.mu.Unlock()
	}
	r.ready.Store(&ready)
	r.mu.Unlock()
	r.wake()
}

func (r *release) restarted() { r.meters.restarts.Inc() }

// scale starts or drains replicas until there are n.
func (r *release) scale(n int, drain time.Duration) {
	r.mu.Lock()
	var surplus []*replica
	for len(r.replicas) < n {
		ctx, cancel := context.WithCancel(context.Background())
		rep := &replica{release: r, index: r.freeIndex(), cancel: cancel, done: make(chan struct{})}
		r.replicas = append(r.replicas, rep)
		go rep.run(ctx)
	}
	if len(r.replicas) > n {
		surplus = append(surplus, r.replicas[n:]...)
		r.replicas = r.replicas[:n:n]
	}
	r.leaving.Add(len(surplus))
	r.mu.Unlock()
	for _, rep := range surplus {
		go func() {
			defer r.leaving.Done()
			rep.leave(drain)
		}()
	}
	if len(surplus) > 0 {
		r.changed()
	}
}

// stored is the spec with the number of replicas that run now.
func (r *release) stored() *spec {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.spec
	s.Server.Replicas = len(r.replicas)
	return &s
}

// freeIndex returns the lowest index that no replica has; the caller holds mu.
func (r *release) freeIndex() int {
	for i := 0; ; i++ {
		taken := false
		for _, rep := range r.replicas {
			taken = taken || rep.index == i
		}
		if !taken {
			return i
		}
	}
}

// leave drains one replica and ends it.
func (rep *replica) leave(drain time.Duration) {
	rep.mu.Lock()
	u := rep.upstream
	rep.mu.Unlock()
	if u != nil {
		u.close()
		awaitIdle([]*upstream{u}, drain)
	}
	rep.cancel()
	<-rep.done
}

// retire takes no more requests, lets those in flight finish for at most
// drain, and ends the servers. It returns when they are gone.
func (r *release) retire(drain time.Duration) {
	r.mu.Lock()
	r.closed = true
	replicas := r.replicas
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, rep := range replicas {
		wg.Go(func() { rep.leave(drain) })
	}
	wg.Wait()
	r.leaving.Wait()
	r.changed()
}

// awaitIdle returns when no request is in flight any more, or after limit.
func awaitIdle(ups []*upstream, limit time.Duration) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int64
		for _, u := range ups {
			n += u.inflight.Load()
		}
		if n == 0 {
			return
		}
		select {
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

// isReady reports whether every replica is ready; up whether any is.
func (r *release) isReady() bool {
	r.mu.Lock()
	want := len(r.replicas)
	r.mu.Unlock()
	return want > 0 && len(*r.ready.Load()) >= want
}

func (r *release) up() bool { return len(*r.ready.Load()) > 0 }

// failure says why the release cannot be had, or "".
func (r *release) failure() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rep := range r.replicas {
		rep.mu.Lock()
		f := rep.failure
		rep.mu.Unlock()
		if f != "" {
			return f
		}
	}
	return ""
}

func (r *release) statuses() []ServerStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []ServerStatus
	for _, rep := range r.replicas {
		rep.mu.Lock()
		all = append(all, rep.statuses...)
		rep.mu.Unlock()
	}
	return all
}

// all are the release's servers that are ready.
func (r *release) all() []*upstream {
	ready := *r.ready.Load()
	if len(r.explain) == 0 {
		return ready
	}
	return slices.Concat(ready, r.explain)
}

// reap closes connections that have been idle for long.
func (r *release) reap(now time.Time) {
	for _, u := range r.all() {
		u.reap(now)
	}
}

// account counts one answered request.
func (r *release) account(latency time.Duration, failed bool) {
	r.requests.Add(1)
	if failed {
		r.errors.Add(1)
	}
	if limit := r.slowAfter.Load(); limit > 0 && int64(latency) > limit {
		r.slow.Add(1)
	}
}

// missed counts a request that was due here and found no server.
func (r *release) missed() {
	r.requests.Add(1)
	r.errors.Add(1)
	r.meters.errors.Inc()
}

func (r *release) tally() Tally {
	// Errors and slow before requests: a request that ends in between must not
	// look like more errors than requests.
	e, s := r.errors.Load(), r.slow.Load()
	return Tally{Requests: r.requests.Load(), Errors: e, Slow: s}
}
