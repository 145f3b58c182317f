package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

const (
	quickTick = 50 * time.Millisecond // while something is on its way
	quietTick = time.Second           // also how late a lost signal is noticed
	maxLog    = 8 << 20               // bytes of one log before it is cut
	keepLog   = 1 << 20               // bytes that stay then
	// maxQuarantined bounds the list of versions that were found bad.
	maxQuarantined = 50
)

// controller makes the servers and the traffic follow desired.json. One
// goroutine runs it; what others read of it goes through atomics.
type controller struct {
	dir     folder
	log     *slog.Logger
	spawner *spawner
	router  *router
	proxy   *proxy
	meters  *meters
	writer  *capture.Writer
	rebind  func(port int) (endpoint string, err error)
	wake    chan struct{}

	desired Desired // with defaults; Generation 0 before there is one
	seen    os.FileInfo
	missing int // looks in a row that found no folder
	live    Live
	written Live // as it is in state.json
	wroteAt time.Time
	public  atomic.Pointer[Live]

	// before is the phase that a former gateway left; rest is the outcome to
	// report when every server of the current release is ready.
	before Phase
	rest   *outcome

	current   *release
	candidate *release
	base      tally // the candidate's, when its step began
	mirror    *mirror
	retiring  map[*release]bool
	retired   sync.WaitGroup
	left      chan *release // retirements that are done
	sink      *runningSink
}

// outcome is how a rollout came to rest.
type outcome struct {
	phase   Phase
	message string
}

// run decides until ctx ends or the folder is gone.
func (c *controller) run(ctx context.Context, reload <-chan os.Signal) {
	tick := time.NewTicker(quickTick)
	defer tick.Stop()
	for {
		c.reload()
		c.step(time.Now())
		c.publish(time.Now())
		if c.live.Phase.outcome() && c.live.Phase != PhaseHeld && len(c.retiring) == 0 && c.candidate == nil {
			tick.Reset(quietTick)
		} else {
			tick.Reset(quickTick)
		}
		select {
		case <-ctx.Done():
			return
		case <-reload:
		case <-c.wake:
		case r := <-c.left:
			delete(c.retiring, r)
		case <-tick.C:
			if c.orphaned() {
				c.log.Error("the folder of this deployment is gone; nobody could stop this gateway, so it ends")
				return
			}
			c.housekeeping(time.Now())
		}
	}
}

// orphaned reports whether the folder was deleted, at two looks in a row.
func (c *controller) orphaned() bool {
	if _, err := os.Stat(c.dir.lock()); !errors.Is(err, os.ErrNotExist) {
		c.missing = 0
		return false
	}
	c.missing++
	return c.missing > 1
}

// nudge makes run look again; it never blocks.
func (c *controller) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// resume takes up what state.json says after a restart: the release that
// served comes back, and a rollout goes on at its step. The new word is on
// disk before gateway.json names this process, so that nobody takes the dead
// gateway's last report for this one's. No process starts before launch.
func (c *controller) resume(s stateFile) {
	c.live = s.Live
	c.live.Weight = 0
	c.live.Progress.StepStarted, c.live.Progress.Tally = time.Time{}, tally{}
	c.before = s.Phase
	c.live.Phase, c.live.Message = PhaseStarting, "starting"
	if s.Serving != nil {
		c.current = c.newRelease(*s.Serving)
		c.live.Phase, c.live.Message = PhaseStarting, "starting "+s.Serving.Model.String()+" again"
		c.rest = &outcome{PhaseReady, "ready"}
		if s.Phase == PhaseAborted || s.Phase == PhaseFailed {
			c.rest = &outcome{s.Phase, s.Message}
		}
	}
	if s.Trying != nil && (s.Phase == PhaseRolling || s.Phase == PhaseHeld) {
		c.candidate = c.newRelease(*s.Trying)
		c.live.Phase, c.live.Message = PhaseRolling, "starting "+s.Trying.Model.String()+" again"
	}
	c.publish(time.Now())
}

// launch starts the servers that resume named.
func (c *controller) launch(s stateFile) {
	c.route()
	if c.current != nil {
		c.current.scale(max(s.Serving.Server.Replicas, 1), c.desired.Drain)
	}
	if c.candidate != nil {
		c.candidate.scale(max(s.Trying.Server.Replicas, 1), c.desired.Drain)
	}
}

// reload reads desired.json when it was replaced.
func (c *controller) reload() {
	info, err := os.Stat(c.dir.desired())
	if errors.Is(err, os.ErrNotExist) {
		c.live.Message = "waiting for desired.json"
		return
	}
	if err != nil {
		c.log.Error("look at desired.json", "error", err)
		return
	}
	if c.seen != nil && os.SameFile(c.seen, info) && c.seen.ModTime().Equal(info.ModTime()) && c.seen.Size() == info.Size() {
		return
	}
	var d Desired
	if err := readJSON(c.dir.desired(), &d); err != nil {
		c.log.Error("read desired.json; what runs goes on", "error", err)
		return
	}
	c.seen = info
	if d.Generation == c.desired.Generation {
		return
	}
	if err := d.validate(); err != nil {
		c.log.Error("desired.json is refused; what runs goes on", "error", err)
		c.live.Generation, c.live.Phase, c.live.Message = d.Generation, PhaseFailed, err.Error()
		return
	}
	c.adopt(d.withDefaults())
}

// adopt takes a new Desired. What needs no new servers applies at once; the
// rest is for step.
func (c *controller) adopt(d Desired) {
	c.log.Info("new desired state", "generation", d.Generation, "version", d.Model.Number)
	c.desired = d
	c.writer.SetOptions(capture.Options{MaxBytes: d.Capture.MaxBytes, MaxBody: d.Capture.MaxBody})
	c.proxy.config.Store(&proxyConfig{limits: d.Limits, capture: d.Capture.Enabled || d.Sink != nil})
	c.live.Name, c.live.Address = d.Name, d.Address
	resumed := c.live.Generation == d.Generation
	c.live.Generation = d.Generation
	if endpoint, err := c.rebind(d.Port); err != nil {
		c.settle(PhaseFailed, err.Error())
		return
	} else {
		c.live.Endpoint = endpoint
	}
	c.restartSink(d.Sink)
	key, err := d.spec().key()
	if err != nil {
		c.settle(PhaseFailed, err.Error())
		return
	}
	switch {
	case c.candidate != nil && c.candidate.key == key:
		c.candidate.scale(d.Server.Replicas, d.Drain)
		if !resumed { // a new policy judges from the step it finds
			c.live.Progress.StepStarted, c.live.Progress.Holding = time.Time{}, false
			c.live.Phase = PhaseRolling
		}
	case c.candidate != nil:
		c.drop()
	}
	if c.current != nil && c.current.key == key {
		c.current.scale(d.Server.Replicas, d.Drain)
		c.rest = &outcome{PhaseReady, "ready"}
		c.live.Phase, c.live.Message = PhaseStarting, "starting "+d.Model.String()
		if c.current.up() {
			c.live.Phase = PhaseRolling
		}
		return
	}
	if resumed && c.current != nil && (c.before == PhaseAborted || c.before == PhaseFailed) {
		return // that rollout is over, whoever restarts the gateway
	}
	if c.candidate == nil {
		c.begin(key, resumed)
	}
}

// begin starts the servers of a release that shall replace the current one.
func (c *controller) begin(key string, resumed bool) {
	d := c.desired
	if q := c.quarantined(key); q != nil {
		if !d.Force {
			c.settle(PhaseAborted, fmt.Sprintf("%s is quarantined since %s: %s", d.Model, q.Time.Format(time.RFC3339), q.Reason))
			return
		}
		c.live.Quarantined = slices.DeleteFunc(c.live.Quarantined, func(x Quarantine) bool { return c.matches(x, key) })
	}
	if !resumed {
		c.live.Progress = Progress{}
		c.live.Shadow = nil
	}
	c.candidate = c.newRelease(d.spec())
	c.live.Phase, c.live.Message = PhaseRolling, "starting "+d.Model.String()
	if c.current == nil {
		c.live.Phase = PhaseStarting
	}
	c.candidate.scale(d.Server.Replicas, d.Drain)
}

// quarantined returns the entry that keeps the desired release from rolling
// out: the release itself, or its version, unless that version serves now.
func (c *controller) quarantined(key string) *Quarantine {
	for i := range c.live.Quarantined {
		if c.matches(c.live.Quarantined[i], key) {
			return &c.live.Quarantined[i]
		}
	}
	return nil
}

func (c *controller) matches(q Quarantine, key string) bool {
	if q.Release == key {
		return true
	}
	v := c.desired.Model
	same := q.Version.Number == v.Number && q.Version.Digest == v.Digest
	serving := c.current != nil && c.current.spec.Model.Number == v.Number && c.current.spec.Model.Digest == v.Digest
	return same && !serving
}

func (c *controller) newRelease(s spec) *release {
	key, err := s.key()
	if err != nil { // the same value was encoded to get here
		c.log.Error("fingerprint of a release", "error", err)
	}
	if s.Readiness.Timeout <= 0 {
		s.Readiness.Timeout = c.desired.Readiness.Timeout
	}
	r := &release{spec: s, key: key, spawner: c.spawner, logs: c.dir.logs(), wake: c.nudge,
		meters: c.meters.version(s.Model.Number), versionHeader: []string{fmt.Sprint(s.Model.Number)}}
	r.ready.Store(&[]*upstream{})
	return r
}

// step lets the rollout machine decide, and does what it says.
func (c *controller) step(now time.Time) {
	if c.candidate == nil {
		c.comeToRest()
		return
	}
	o := observation{
		now: now, first: c.current == nil, ready: c.candidate.isReady(), failed: c.candidate.failure(),
		tally: c.candidate.tally().minus(c.base),
	}
	if c.mirror != nil {
		seen := c.mirror.comparison()
		c.live.Shadow = &seen
	}
	if seen := c.live.Shadow; seen != nil {
		o.compared, o.differed = seen.Compared, seen.Differed
	}
	d := decide(c.desired.Rollout, c.live.Progress, o)
	c.live.Progress = d.progress
	if d.message != "" {
		c.live.Message = fmt.Sprintf("%s: %s", c.candidate.spec.Model, d.message)
	}
	switch d.move {
	case wait:
	case shift:
		c.shift(d.weight)
	case hold:
		c.live.Phase = PhaseHeld
		c.closeMirror()
	case promote:
		c.promote(now)
	case abort:
		c.quarantine(d.message, now)
		c.giveUp(PhaseAborted, c.live.Message)
	case fail:
		c.giveUp(PhaseFailed, d.message)
	}
}

// comeToRest reports the outcome when the current release is complete. When
// it cannot be had, that is said, and its servers are tried on.
func (c *controller) comeToRest() {
	if c.rest == nil || c.current == nil {
		return
	}
	if c.current.isReady() {
		c.settle(c.rest.phase, c.rest.message)
		return
	}
	if why := c.current.failure(); why != "" && !c.live.Phase.outcome() {
		rest := c.rest
		c.settle(PhaseFailed, why)
		c.rest = rest
	}
}

// shift gives the candidate its weight, and counts from here.
func (c *controller) shift(weight int) {
	c.base = c.candidate.tally()
	limit := time.Duration(0)
	if p := c.desired.Rollout.Abort.P99; p != nil {
		limit = *p
	}
	c.candidate.slowAfter.Store(int64(limit))
	c.live.Phase, c.live.Weight = PhaseRolling, weight
	if c.desired.Rollout.Strategy == Shadow && c.mirror == nil {
		var before Comparison
		if c.live.Shadow != nil {
			before = *c.live.Shadow
		}
		c.mirror = newMirror(c.candidate, c.desired.Limits.Timeout, before)
	} else if c.desired.Rollout.Strategy != Shadow {
		c.closeMirror()
	}
	c.route()
}

// promote makes the candidate the current version. Traffic moves before the
// outcome is told, and the old servers go after it is on disk: a gateway that
// is killed in between still finds what its state.json names.
func (c *controller) promote(now time.Time) {
	old := c.current
	c.closeMirror()
	c.current, c.candidate = c.candidate, nil
	c.settle(PhaseReady, "ready")
	c.route()
	if old != nil {
		c.retiring[old] = true // still listed: its servers run until they are drained
	}
	c.publish(now)
	c.retire(old)
}

// giveUp goes back to the old version.
func (c *controller) giveUp(p Phase, message string) {
	gone := c.candidate
	c.closeMirror()
	c.candidate = nil
	c.settle(p, message)
	c.route()
	c.retire(gone)
}

// drop takes a candidate away that is no longer wanted.
func (c *controller) drop() {
	gone := c.candidate
	c.closeMirror()
	c.candidate = nil
	c.live.Weight = 0
	c.route()
	c.retire(gone)
}

// settle notes an outcome.
func (c *controller) settle(p Phase, message string) {
	c.live.Phase, c.live.Message, c.live.Weight, c.rest = p, message, 0, nil
	if p == PhaseReady {
		c.live.Progress = Progress{}
	}
	c.log.Info("rollout came to rest", "generation", c.live.Generation, "phase", string(p), "message", message)
}

func (c *controller) quarantine(reason string, now time.Time) {
	q := Quarantine{Version: c.candidate.spec.Model, Reason: reason, Time: now.UTC(), Release: c.candidate.key}
	list := append(c.live.Quarantined, q)
	c.live.Quarantined = slices.Clone(list[max(0, len(list)-maxQuarantined):])
}

// route publishes who gets the traffic, in one step.
func (c *controller) route() {
	t := &route{current: c.current, candidate: c.candidate, weight: c.live.Weight, mirror: c.mirror}
	c.router.route.Store(t)
	c.meters.setWeights(t)
}

func (c *controller) closeMirror() {
	if c.mirror == nil {
		return
	}
	m := c.mirror
	c.mirror = nil
	c.route() // no new copies
	m.close()
	seen := m.comparison()
	c.live.Shadow = &seen
}

// retire drains a release in the background.
func (c *controller) retire(r *release) {
	if r == nil {
		return
	}
	c.retiring[r] = true
	drain := c.desired.Drain
	c.retired.Go(func() {
		r.retire(drain)
		c.left <- r
	})
}

// publish writes state.json when something other than counts changed, and
// counts once a second. When the disk fails, serving goes on and the next
// call tries again.
func (c *controller) publish(now time.Time) {
	c.describe()
	l := c.live
	c.public.Store(&l)
	quiet := c.written
	quiet.Progress.Tally, quiet.Message, quiet.Shadow, quiet.Updated = l.Progress.Tally, l.Message, l.Shadow, l.Updated
	moved := !reflect.DeepEqual(quiet, l)
	counted := l.Progress.Tally != c.written.Progress.Tally || l.Message != c.written.Message || !reflect.DeepEqual(l.Shadow, c.written.Shadow)
	if !moved && (!counted || now.Sub(c.wroteAt) < time.Second) {
		return
	}
	l.Updated = now.UTC()
	s := stateFile{Live: l}
	if c.current != nil {
		s.Serving = c.current.stored()
	}
	if c.candidate != nil {
		s.Trying = c.candidate.stored()
	}
	c.wroteAt = now
	if err := writeJSON(c.dir.state(), s); err != nil {
		c.log.Error("write state.json", "error", err)
		return
	}
	c.written = l
}

// describe fills in what follows from the releases.
func (c *controller) describe() {
	c.live.Current, c.live.Candidate = Version{}, nil
	var servers []ServerStatus
	if c.current != nil {
		c.live.Current = c.current.spec.Model
		servers = append(servers, c.current.statuses()...)
	}
	if c.candidate != nil {
		v := c.candidate.spec.Model
		c.live.Candidate = &v
		servers = append(servers, c.candidate.statuses()...)
	}
	for r := range c.retiring {
		servers = append(servers, r.statuses()...)
	}
	slices.SortFunc(servers, func(a, b ServerStatus) int {
		if a.Version != b.Version {
			return a.Version - b.Version
		}
		return a.Process.PID - b.Process.PID
	})
	c.live.Servers = servers
}

// housekeeping keeps connections, logs and the capture folder in bounds.
func (c *controller) housekeeping(now time.Time) {
	for _, r := range []*release{c.current, c.candidate} {
		if r != nil {
			r.reap(now)
		}
	}
	if c.sink != nil {
		c.writer.KeepAfter(c.sink.sink.Acked())
	}
	logs, err := filepath.Glob(filepath.Join(c.dir.logs(), "*.log"))
	if err != nil {
		c.log.Error("list logs", "error", err)
	}
	for _, name := range logs {
		if err := cutLog(name); err != nil {
			c.log.Error("cut log", "error", err)
		}
	}
}

// shutdown ends every server after its requests.
func (c *controller) shutdown(drain time.Duration) {
	c.closeMirror()
	c.router.route.Store(&route{})
	for _, r := range []*release{c.current, c.candidate} {
		if r != nil {
			c.retired.Go(func() { r.retire(drain) })
		}
	}
	go func() { // retirements from before report here
		for range c.left {
		}
	}()
	c.retired.Wait()
	close(c.left)
	c.stopSink()
}
