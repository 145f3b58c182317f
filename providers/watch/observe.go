package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// The signals of a monitor.
const (
	signalDrift       = "drift"
	signalLatency     = "latency"
	signalPerformance = "performance"
)

// maxWindows bounds how many windows one observation evaluates of each signal; older ones are passed over.
const maxWindows = 50

// watcher follows one signal through the captured requests.
type watcher struct {
	track    *track
	recorded *state.Signal
	cut      *cutter
	since    time.Time // requests before it belong to windows that are passed over
	skipped  bool
	// counts says which requests make up this signal's windows, decodes that it looks into them.
	counts  func(request) bool
	decodes bool
	collect func(request)
	judge   func(stretch) error
	// finish, if not nil, judges what waited for the end of the traffic; fresh, that more than traffic is new to it.
	finish func() error
	fresh  bool
	err    error
}

// Observe implements providers.Observer. It writes nothing: a plan calls it too.
func (m *monitor) Observe(ctx context.Context, req providers.ObserveRequest) ([]*state.Signal, error) {
	spec, err := monitorSpec(req.Record)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	live, err := m.captured(ctx, spec, req.State)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	o := &observation{monitor: m, ctx: ctx, spec: spec, req: req, live: live, now: m.Now()}
	watchers, err := o.watchers()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	if live.Version > 0 {
		if err := o.run(live.Dir, watchers); err != nil {
			return nil, fmt.Errorf("%s: %w", req.Address, err)
		}
	}
	return o.results(watchers)
}

// monitorSpec decodes the recorded body.
func monitorSpec(rec *state.Record) (config.Monitor, error) {
	var spec config.Monitor
	schema, err := resource.SchemaOf(spec)
	if err != nil {
		return spec, err
	}
	v, err := state.DecodeValue(rec.Spec, schema.Type())
	if err == nil {
		err = resource.Decode(v, &spec)
	}
	if err != nil {
		return spec, fmt.Errorf("read the recorded monitor: %w", err)
	}
	return spec, nil
}

// observation is one call of Observe. It lives no longer than that, so it may keep its context.
type observation struct {
	*monitor
	ctx  context.Context
	spec config.Monitor
	req  providers.ObserveRequest
	live Captured
	now  time.Time
}

// watchers makes one per declared signal, sorted by name.
func (o *observation) watchers() ([]*watcher, error) {
	version := fmt.Sprintf("version %d %s", o.live.Version, o.live.Digest)
	var out []*watcher
	add := func(name, subject string, confirm int, fill func(*watcher)) error {
		w := &watcher{}
		for _, s := range o.req.Signals {
			if s.Name == name {
				w.recorded = s
			}
		}
		if o.live.Version == 0 && w.recorded != nil {
			subject = w.recorded.Subject // nothing serves now: what is known stands
		}
		var err error
		if w.track, err = newTrack(o.req.Address, name, subject, w.recorded, confirm); err != nil {
			return err
		}
		w.cut = newCutter(o.spec.Window, w.track.cursor.Start)
		fill(w)
		out = append(out, w)
		return nil
	}
	if d := o.spec.Drift; d != nil && o.spec.Reference != nil {
		subject := version + "; reference " + o.spec.Reference.Digest
		if err := add(signalDrift, subject, d.Confirm, o.drift); err != nil {
			return nil, err
		}
	}
	if l := o.spec.Latency; l != nil {
		if err := add(signalLatency, version, l.Confirm, o.latency); err != nil {
			return nil, err
		}
	}
	if p := o.spec.Performance; p != nil {
		if err := add(signalPerformance, version, p.Confirm, o.performance); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// drift fills in how drift is watched. The reference is loaded for the first window only.
func (o *observation) drift(w *watcher) {
	var ref *reference
	var open *driftWindow
	w.decodes, w.counts = true, func(q request) bool { return q.inference }
	load := func() (err error) {
		if ref == nil {
			ref, err = o.reference(o.ctx, o.spec, o.req.State)
		}
		return err
	}
	w.collect = func(q request) {
		if w.err = load(); w.err != nil {
			return
		}
		if open == nil {
			open = &driftWindow{features: ref.features}
		}
		open.add(q)
	}
	w.judge = func(at stretch) error {
		if open == nil {
			open = &driftWindow{}
		}
		if err := load(); err != nil {
			return err
		}
		op, err := judgeDrift(at, open, ref, *o.spec.Drift, w.cut.least(o.spec.MinSamples))
		open = nil
		if err != nil {
			return err
		}
		return w.track.add(op)
	}
}

// latency fills in how latency is watched.
func (o *observation) latency(w *watcher) {
	open := &latencyWindow{}
	w.counts, w.collect = request.work, func(q request) { open.add(q) }
	w.judge = func(at stretch) error {
		op := judgeLatency(at, open, *o.spec.Latency, w.cut.least(o.spec.MinSamples))
		open = &latencyWindow{}
		return w.track.add(op)
	}
}

// performance fills in how performance is watched: complete windows wait until enough of their labels are there.
func (o *observation) performance(w *watcher) {
	labels := newest(*o.spec.Performance.Labels, o.req.State)
	w.fresh = w.track.cursor.Labels != labels.Digest
	open := &predictionWindow{}
	var waiting []*predictionWindow
	w.decodes, w.counts = true, func(q request) bool { return q.inference }
	w.collect = func(q request) { open.add(q) }
	w.judge = func(at stretch) error {
		open.at = at
		waiting = append(waiting, open)
		if len(waiting) > maxWindows {
			waiting, w.skipped = waiting[1:], true
		}
		open = &predictionWindow{}
		return nil
	}
	w.finish = func() error { return o.join(w, labels, waiting) }
}

// run feeds the captured requests to the watchers that have something to look for.
func (o *observation) run(dir string, watchers []*watcher) error {
	last, err := lastSeq(dir)
	if err != nil {
		return err
	}
	var due []*watcher
	for _, w := range watchers {
		if o.due(w, last) {
			due = append(due, w)
		}
	}
	if len(due) == 0 {
		return nil
	}
	if err := o.scan(dir, due); err != nil {
		return err
	}
	for _, w := range due {
		w.end(o.now)
	}
	return o.ctx.Err()
}

// due prepares a watcher, and says whether a window of it can be complete.
func (o *observation) due(w *watcher, last uint64) bool {
	c := &w.track.cursor
	if last+1 < c.Next {
		// Another capture under the same deployment: it was replaced, or a crash took its end. What was judged is not judged again.
		c.Next, c.Seen, w.since = 1, 0, c.At.Add(1)
	}
	if w.finish != nil && w.fresh && last >= c.Next {
		return w.cut.due(last+1-c.Next, o.now)
	}
	if !w.cut.due(last+1-max(c.Next, c.Seen+1), o.now) {
		return false
	}
	if w.cut.duration > 0 {
		// Only whole windows: the oldest begins where an aligned one does.
		if oldest := o.now.UTC().Truncate(w.cut.duration).Add(-maxWindows * w.cut.duration); c.Start.Before(oldest) {
			if oldest.After(w.since) {
				w.since = oldest
			}
			if !c.Start.IsZero() {
				w.cut.bound(oldest)
				w.skipped = true
			}
		}
	} else if oldest := last + 1 - min(last, uint64(maxWindows*w.cut.requests)); w.finish == nil && c.Next < oldest {
		c.Next, w.skipped = oldest, true
	}
	return true
}

// scan reads the capture from where the first watcher stands.
func (o *observation) scan(dir string, due []*watcher) error {
	from := due[0].track.cursor.Next
	for _, w := range due {
		from = min(from, w.track.cursor.Next)
	}
	version := o.live.Version
	n := 0
	for rec, err := range capture.Records(dir, from) {
		var bad *capture.LineError
		if errors.As(err, &bad) {
			continue // one damaged line must not blind the monitor
		}
		if err != nil {
			return err
		}
		if n++; n%256 == 0 && o.ctx.Err() != nil {
			return o.ctx.Err()
		}
		if rec.Version != version {
			continue
		}
		decode := false
		for _, w := range due {
			decode = decode || w.decodes && w.wants(rec.Seq, rec.Time)
		}
		q := readRequest(rec, decode)
		for _, w := range due {
			if w.wants(q.seq, q.time) && w.counts(q) {
				w.take(q)
			}
		}
	}
	return nil
}

// wants says whether a request lies behind what the signal has judged.
func (w *watcher) wants(seq uint64, t time.Time) bool {
	return w.err == nil && seq >= w.track.cursor.Next && !t.Before(w.since)
}

func (w *watcher) take(q request) {
	ended, full := w.cut.take(q.seq, q.time)
	if ended != nil {
		w.close(*ended)
	}
	if w.err == nil {
		w.collect(q)
	}
	if full != nil && w.err == nil {
		w.close(*full)
	}
}

// close judges a window and moves the cursor behind it. A watcher that finishes later moves its own.
func (w *watcher) close(at stretch) {
	if w.err = w.judge(at); w.err == nil && w.finish == nil {
		w.pass(at)
	}
}

// pass moves the cursor behind a window.
func (w *watcher) pass(at stretch) {
	c := &w.track.cursor
	if at.To > 0 {
		c.Next = at.To + 1
	}
	if w.cut.duration > 0 {
		c.Start = at.End
	}
	c.At = at.End
}

// end closes what the time has closed, and judges what waited.
func (w *watcher) end(now time.Time) {
	if w.err == nil {
		at := w.cut.flush(now)
		if at != nil {
			w.close(*at)
		}
		// From the first request on it is known when the first window ends: nothing need be read before.
		if c := &w.track.cursor; w.err == nil && w.cut.duration > 0 && (c.Start.IsZero() || at != nil && w.finish == nil) {
			c.Start = w.cut.open.Start
		}
	}
	if w.err == nil && w.finish != nil {
		w.err = w.finish()
	}
	if w.err == nil && w.skipped && w.track.moved {
		w.track.signal.Message += fmt.Sprintf(" (older windows than the last %d were passed over)", maxWindows)
	}
}

// results are the signals as they would be recorded, by name.
func (o *observation) results(watchers []*watcher) ([]*state.Signal, error) {
	out := make([]*state.Signal, 0, len(watchers))
	for _, w := range watchers {
		if w.err != nil {
			if o.ctx.Err() != nil {
				return nil, o.ctx.Err()
			}
			out = append(out, broken(w.track, w.err, o.now))
			continue
		}
		s, err := w.track.result(w.recorded, o.now)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
