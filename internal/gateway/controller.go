package gateway

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway/capture"
)

const (
	quickTick = 50 * time.Millisecond // while something is on its way
	quietTick = time.Second           // also how late a lost signal is noticed
	keepLog   = 1 << 20               // bytes of a log that stay when it is cut
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
	base      Tally // the candidate's, when its step began
	mirror    *mirror
	retiring  map[*release]bool
	retired   sync.WaitGroup
	left      chan *release // retirements that are done
	outlet    *outlet
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
	c.live.Progress.StepStarted, c.live.Progress.Tally = time.Time{}, Tally{}
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

// reload reads desired.json when it was replaced. Without one that is good,
// what runs goes on as it was, or after a restart with what is usual.
func (c *controller) reload() {
	defer c.proxy.config.CompareAndSwap(nil, &proxyConfig{limits: Desired{}.withDefaults().Limits})
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
	c.live.Name, c.live.Address = d.Name, d.Address
	resumed := c.live.Generation == d.Generation
	c.live.Generation = d.Generation
	// The sink's place is on disk before the first answer that it is owed.
	if err := c.outlet.restart(d.Sink); err != nil {
		c.settle(PhaseFailed, err.Error())
		return
	}
	c.proxy.config.Store(&proxyConfig{limits: d.Limits, capture: d.Capture.Enabled || d.Sink != nil, sink: d.Sink != nil})
	if endpoint, err := c.rebind(d.Port); err != nil {
		c.settle(PhaseFailed, err.Error())
		return
	} else {
		c.live.Endpoint = endpoint
	}
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
