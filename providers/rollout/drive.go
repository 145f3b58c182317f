package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
)

// drive brings the deployment to rest: the wanted version serves, or it was taken back, or it is held. Where it was when it died stands
// in the state.
func (r *roll) drive(ctx context.Context) error {
	s := r.state
	switch {
	case ended(s.Live.Phase):
		return r.rest(ctx) // this operation was over; what was left to do is tidying up
	case r.serves():
		return r.refresh(ctx)
	case s.Live.Current.Number == s.Asked.Number && s.Live.Current.Number > 0:
		return r.inPlace(ctx)
	}
	if c := s.Live.Candidate; c != nil && (s.CandidateKey != r.servers.Key() || !same(*c, s.Asked)) {
		if err := r.drop(ctx); err != nil {
			return err
		}
	}
	if err := r.restore(ctx); err != nil {
		return err
	}
	if s.Live.Candidate == nil {
		if refused, err := r.start(ctx); refused || err != nil {
			return err
		}
	}
	for {
		done, err := r.step(ctx)
		if err != nil {
			return err
		}
		if done {
			return r.rest(ctx)
		}
		if err := pause(ctx, watchEvery); err != nil {
			return err
		}
	}
}

// ended reports whether a rollout has come to rest in p.
func ended(p gateway.Phase) bool {
	return p == gateway.PhaseReady || p == gateway.PhaseHeld || p == gateway.PhaseAborted || p == gateway.PhaseFailed
}

func same(a, b gateway.Version) bool { return a.Number == b.Number && a.Digest == b.Digest }

// serves reports whether what was asked for is what serves.
func (r *roll) serves() bool {
	return same(r.state.Live.Current, r.state.Asked) && r.state.CurrentKey == r.servers.Key()
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// start makes the wanted version the candidate, unless it is quarantined.
func (r *roll) start(ctx context.Context) (refused bool, err error) {
	s := r.state
	if r.refusedBefore() {
		return true, r.rest(ctx)
	}
	v := s.Asked
	s.Live.Candidate, s.CandidateKey = &v, r.servers.Key()
	s.Live.Progress, s.Live.Shadow, s.Live.Weight = gateway.Progress{}, nil, 0
	s.Live.Phase, s.Live.Message = gateway.PhaseRolling, "starting "+v.String()
	if s.Live.Current.Number == 0 {
		s.Live.Phase = gateway.PhaseStarting
	}
	r.say("%s", s.Live.Message)
	return false, r.save(ctx)
}

// refusedBefore looks for a quarantine, which force lifts.
func (r *roll) refusedBefore() bool {
	s := r.state
	q := s.quarantined(s.Asked, r.servers.Key())
	if q == nil {
		return false
	}
	if !s.Forced {
		s.Live.Phase = gateway.PhaseAborted
		s.Live.Message = fmt.Sprintf("%s is quarantined since %s: %s", s.Asked, q.Time.Format(time.RFC3339), q.Reason)
		return true
	}
	var kept []gateway.Quarantine
	for _, q := range s.Live.Quarantined {
		if !s.matches(q, s.Asked, r.servers.Key()) {
			kept = append(kept, q)
		}
	}
	s.Live.Quarantined = kept
	return false
}

// step lets the rollout machine decide once, and does what it says. done says that the rollout came to rest.
func (r *roll) step(ctx context.Context) (done bool, err error) {
	s := r.state
	o, err := r.observe(ctx)
	if err != nil {
		return false, err
	}
	d := gateway.Decide(s.Policy, s.Live.Progress, o)
	s.Live.Progress = d.Progress
	if d.Message != "" {
		if r.Front.Carried && o.Failed == "" {
			d.Message, _, _ = strings.Cut(d.Message, ": ") // nobody counted
		}
		s.Live.Message = fmt.Sprintf("%s: %s", s.Live.Candidate, d.Message)
		r.say("%s", s.Live.Message)
	}
	switch d.Move {
	case gateway.MoveWait:
		if d.Progress.Holding && r.dry(o) {
			s.Live.Phase = gateway.PhaseHeld
			return true, nil
		}
	case gateway.MoveShift:
		s.Live.Phase, s.Live.Weight = gateway.PhaseRolling, d.Weight
		return r.shift(ctx)
	case gateway.MoveHold:
		s.Live.Phase = gateway.PhaseHeld
		return true, nil
	case gateway.MovePromote:
		return true, r.promote()
	case gateway.MoveAbort:
		s.quarantine(d.Message, o.Now)
		r.giveUp(gateway.PhaseAborted, s.Live.Message)
		return true, nil
	case gateway.MoveFail:
		r.giveUp(gateway.PhaseFailed, d.Message)
		return true, nil
	}
	return false, nil
}

// shift moves the weights. A Carrier that finds the candidate unfit on the way ends the rollout.
func (r *roll) shift(ctx context.Context) (done bool, err error) {
	err = r.publish(ctx)
	why, bad := unfit(err)
	if !bad {
		return false, err
	}
	r.state.quarantine(why, r.Now())
	r.giveUp(gateway.PhaseAborted, fmt.Sprintf("%s: %s", r.state.Live.Candidate, why))
	r.tell(r.state.Live.Message)
	return true, nil
}

// dry reports whether a step that was held waits in vain still: a comparison that is complete, or no request for an interval.
func (r *roll) dry(o gateway.Observation) bool {
	if r.state.Policy.Strategy == gateway.Shadow {
		return true
	}
	if r.grew.IsZero() || o.Tally.Requests > r.requests {
		r.requests, r.grew = o.Tally.Requests, o.Now
	}
	return o.Now.Sub(r.grew) >= r.state.Policy.Interval
}

// observe sees how the candidate does. Before its first step that is whether its servers come up.
func (r *roll) observe(ctx context.Context) (gateway.Observation, error) {
	s := r.state
	o := gateway.Observation{First: s.Live.Current.Number == 0}
	if s.Live.Progress.StepStarted.IsZero() {
		return r.firstLook(ctx, o)
	}
	late, err := r.route.offer(ctx, r.routes())
	if err != nil {
		return o, err
	}
	if late != nil {
		r.say("%v", late)
	}
	ready, gone, err := r.servers.Check(ctx)
	if why, bad := unfit(err); bad {
		o.Failed, o.Now = why, r.Now()
		return o, nil
	}
	if err != nil {
		return o, err
	}
	if gone {
		r.say("servers of %s were deleted by somebody else; they are made anew", s.Live.Candidate)
		return r.firstLook(ctx, o)
	}
	o.Now, o.Ready = r.Now(), ready
	o.Tally = r.route.tally(s.Asked.Number)
	if seen := r.route.shadow(); seen != nil {
		s.Live.Shadow = seen
	}
	if seen := s.Live.Shadow; seen != nil {
		o.Compared, o.Differed = seen.Compared, seen.Differed
	}
	return o, nil
}

// firstLook brings the candidate's servers up.
func (r *roll) firstLook(ctx context.Context, o gateway.Observation) (gateway.Observation, error) {
	err := r.up(ctx)
	if why, ok := unfit(err); ok {
		o.Failed = why
	} else if err != nil {
		return o, err
	}
	o.Now, o.Ready = r.Now(), err == nil
	return o, nil
}

// unfit says why a version cannot be had, if it is the version that cannot.
func unfit(err error) (string, bool) {
	var cause *kube.CauseError
	var own *Unfit
	switch {
	case errors.As(err, &own):
		return own.Reason, true
	case errors.As(err, &cause):
		return cause.Cause.String(), true
	case errors.Is(err, kube.ErrNotReady):
		return err.Error(), true
	}
	return "", false
}

// promote makes the candidate the current version. The routes move when the caller rests.
func (r *roll) promote() error {
	s := r.state
	var err error
	if s.Good, err = r.servers.Good(); err != nil {
		return fmt.Errorf("keep the servers of %s: %w", s.Live.Candidate, err)
	}
	s.Live.Current, s.CurrentKey = *s.Live.Candidate, s.CandidateKey
	s.Live.Candidate, s.CandidateKey, s.Live.Weight, s.Live.Progress = nil, "", 0, gateway.Progress{}
	s.Live.Phase, s.Live.Message = gateway.PhaseReady, "ready"
	return nil
}

// giveUp goes back to the old version.
func (r *roll) giveUp(p gateway.Phase, message string) {
	s := r.state
	s.Live.Candidate, s.CandidateKey, s.Live.Weight = nil, "", 0
	s.Live.Phase, s.Live.Message = p, message
}

// drop takes a candidate away that is no longer wanted.
func (r *roll) drop(ctx context.Context) error {
	s := r.state
	r.say("%s is no longer wanted; all requests go to %s", s.Live.Candidate, s.Live.Current)
	s.Live.Candidate, s.CandidateKey, s.Live.Weight, s.Live.Progress = nil, "", 0, gateway.Progress{}
	if err := r.publish(ctx); err != nil {
		return err
	}
	if err := r.drain(ctx); err != nil {
		return err
	}
	return r.sweep(ctx)
}

// rest tells the routers and the state how it ended, lets requests finish, and removes what serves no more.
func (r *roll) rest(ctx context.Context) error {
	if err := r.publish(ctx); err != nil {
		return err
	}
	if err := r.drain(ctx); err != nil {
		return err
	}
	if err := r.sweep(ctx); err != nil || r.state.Live.Current.Number == 0 || r.Front.Carried {
		return err
	}
	router := kube.Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: r.Front.Namespace, Name: r.Front.Name}
	if err := r.await(ctx, router, PullAllowance); err != nil {
		return err
	}
	// A router that started meanwhile may have mounted the routes of before.
	return r.route.spread(ctx, r.routes())
}

// drain waits until no version that left the routes has requests in flight, for as long as the block allows.
func (r *roll) drain(ctx context.Context) error {
	s := r.state
	deadline := r.Now().Add(r.Front.Drain)
	for {
		var busy int64
		for _, v := range r.route.versions() {
			if v != s.Live.Current.Number && (s.Live.Candidate == nil || v != s.Live.Candidate.Number) {
				busy += r.route.inFlight(v)
			}
		}
		if busy == 0 || r.Now().After(deadline) {
			return nil
		}
		r.say("%d requests finish at the version that leaves", busy)
		if err := pause(ctx, watchEvery/2); err != nil {
			return err
		}
		if _, err := r.route.offer(ctx, r.routes()); err != nil {
			return err
		}
	}
}

// refresh makes the objects of the version that serves what they should be.
func (r *roll) refresh(ctx context.Context) error {
	s := r.state
	if s.Live.Candidate != nil {
		if err := r.drop(ctx); err != nil {
			return err
		}
	}
	err := r.up(ctx)
	why, bad := unfit(err)
	switch {
	case bad:
		s.Live.Phase, s.Live.Message = gateway.PhaseFailed, fmt.Sprintf("%s: %s", s.Live.Current, why)
	case err != nil:
		return err
	default:
		s.Live.Phase, s.Live.Message = gateway.PhaseReady, "ready"
	}
	return r.rest(ctx)
}
