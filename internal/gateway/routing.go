package gateway

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

// lanes is how many upstreams one backend has. They share its address: a
// connection that is refused is tried once more, and whoever balances the
// address may choose another server for it.
const lanes = 2

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
