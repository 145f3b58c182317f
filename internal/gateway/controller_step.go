package gateway

import (
	"fmt"
	"slices"
	"time"
)

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
	o := Observation{
		Now: now, First: c.current == nil, Ready: c.candidate.isReady(), Failed: c.candidate.failure(),
		Tally: c.candidate.tally().minus(c.base),
	}
	if c.mirror != nil {
		seen := c.mirror.comparison()
		c.live.Shadow = &seen
	}
	if seen := c.live.Shadow; seen != nil {
		o.Compared, o.Differed = seen.Compared, seen.Differed
	}
	d := Decide(c.desired.Rollout, c.live.Progress, o)
	c.live.Progress = d.Progress
	if d.Message != "" {
		c.live.Message = fmt.Sprintf("%s: %s", c.candidate.spec.Model, d.Message)
	}
	switch d.Move {
	case MoveWait:
	case MoveShift:
		c.shift(d.Weight)
	case MoveHold:
		c.live.Phase = PhaseHeld
		c.closeMirror()
	case MovePromote:
		c.promote(now)
	case MoveAbort:
		c.quarantine(d.Message, now)
		c.giveUp(PhaseAborted, c.live.Message)
	case MoveFail:
		c.giveUp(PhaseFailed, d.Message)
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
