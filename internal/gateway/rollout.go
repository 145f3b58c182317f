package gateway

import (
	"fmt"
	"math"
	"time"
)

// Progress is where a rollout is: all that a restarted gateway needs.
type Progress struct {
	// Step is the index into Rollout.Steps.
	Step int `json:"step"`
	// StepStarted is zero until the candidate is ready for its step. A
	// restarted gateway begins the step again.
	StepStarted time.Time `json:"step_started,omitzero"`
	// Holding says that the step waits for requests beyond MaxWait, or that a
	// shadow comparison is complete.
	Holding bool  `json:"holding,omitempty"`
	Tally   Tally `json:"tally"`
}

// Tally is what a version did while it was watched. Errors are 5xx answers,
// timeouts and broken connections; a client's own mistakes and departures are
// not. Slow counts answers that took longer than Abort.P99.
type Tally struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
	Slow     int64 `json:"slow"`
}

func (t Tally) minus(u Tally) Tally {
	return Tally{t.Requests - u.Requests, t.Errors - u.Errors, t.Slow - u.Slow}
}

// Observation is all that Decide may look at besides the policy.
type Observation struct {
	Now time.Time
	// First: there is no version yet to roll over from.
	First bool
	// Ready: every server of the candidate is ready.
	Ready bool
	// Failed says why the candidate cannot be had; empty if it can.
	Failed string
	// Tally is what the candidate did since Progress.StepStarted.
	Tally Tally
	// Compared and Differed are the answers that a shadow looked at.
	Compared, Differed int
}

// Move is what a rollout does next.
type Move int

// Moves of the rollout machine.
const (
	MoveWait    Move = iota // stay
	MoveShift               // give the candidate its step's weight
	MovePromote             // the candidate becomes the current version
	MoveHold                // stay, and say so
	MoveAbort               // back to the old version, quarantine the candidate
	MoveFail                // back to the old version; the candidate never ran
)

// Decision is what to do next and why. Weight is the candidate's share of the
// traffic in percent, Progress replaces the one that was given.
type Decision struct {
	Move     Move
	Weight   int
	Message  string
	Progress Progress
}

// Decide is the rollout machine: a pure function of policy, progress and what
// was seen. It is called again and again, and does at most one step per call.
// The policy must have its defaults (Rollout.WithDefaults) and be valid.
func Decide(r Rollout, p Progress, o Observation) Decision {
	d := Decision{Progress: p}
	switch {
	case o.Failed != "":
		d.Move, d.Message = MoveFail, o.Failed
		return d
	case !o.Ready && p.StepStarted.IsZero():
		d.Message = "waiting for the server to be ready"
		return d
	case o.First || r.Strategy == Rolling:
		if o.Ready {
			d.Move, d.Weight, d.Message = MovePromote, 100, "ready"
		}
		return d
	case p.StepStarted.IsZero():
		return begin(r, p, o.Now)
	case r.Strategy == Shadow:
		return decideShadow(r, p, o)
	}
	return decideStep(r, p, o)
}

// steps are the weights that a strategy goes through.
func (r Rollout) steps() []int {
	switch r.Strategy {
	case Canary:
		return r.Steps
	case Shadow:
		return []int{0}
	default:
		return []int{100}
	}
}

// begin starts the clock and the traffic of the step that p names.
func begin(r Rollout, p Progress, now time.Time) Decision {
	steps := r.steps()
	p.Step = min(max(p.Step, 0), len(steps)-1)
	p.StepStarted, p.Holding, p.Tally = now, false, Tally{}
	d := Decision{Move: MoveShift, Weight: steps[p.Step], Progress: p}
	d.Message = fmt.Sprintf("%s at %d %%", r.Strategy, d.Weight)
	if r.Strategy == Shadow {
		d.Message = "shadow: comparing answers"
	}
	return d
}

func decideStep(r Rollout, p Progress, o Observation) Decision {
	steps := r.steps()
	p.Step = min(max(p.Step, 0), len(steps)-1)
	p.Tally = o.Tally
	d := Decision{Progress: p, Weight: steps[p.Step]}
	elapsed := o.Now.Sub(p.StepStarted)
	over := elapsed >= r.Interval
	verdict, why := judge(r.Abort, o.Tally, over)
	at := fmt.Sprintf("%s at %d %%: %s", r.Strategy, d.Weight, why)
	switch verdict {
	case bad:
		d.Move, d.Message = MoveAbort, at
	case tooFew:
		d.Message = at
		if elapsed < r.MaxWait || p.Holding {
			break
		}
		switch r.OnNoTraffic {
		case Promote:
			if o.Ready {
				d.Move, d.Weight = MovePromote, 100
			}
		case AbortIt:
			d.Move, d.Message = MoveAbort, fmt.Sprintf("%s came within %v", at, r.MaxWait)
		default:
			d.Move, d.Progress.Holding = MoveHold, true
		}
	case good:
		switch {
		case !over:
			d.Message = at
		case p.Step == len(steps)-1:
			if o.Ready {
				d.Move, d.Weight, d.Message = MovePromote, 100, at
			}
		default:
			p.Step++
			return begin(r, p, o.Now)
		}
	}
	return d
}

func decideShadow(r Rollout, p Progress, o Observation) Decision {
	d := Decision{Progress: p}
	d.Message = fmt.Sprintf("shadow: %d answers compared, %d differed", o.Compared, o.Differed)
	enough := r.ShadowRequests > 0 && o.Compared >= r.ShadowRequests ||
		r.ShadowDuration > 0 && o.Now.Sub(p.StepStarted) >= r.ShadowDuration
	late := r.MaxWait > 0 && o.Now.Sub(p.StepStarted) >= r.MaxWait
	if !p.Holding && (enough || late) {
		d.Move, d.Progress.Holding = MoveHold, true
	}
	return d
}

type verdict int

const (
	tooFew verdict = iota
	good
	bad
)

// judge gives a step's verdict with its evidence. Before the step is over it
// only calls bad what is bad beyond chance (the lower end of a 99 % interval),
// since looking often at few requests would abort good versions too.
func judge(a Abort, t Tally, over bool) (verdict, string) {
	if t.Requests < int64(a.MinRequests) {
		return tooFew, fmt.Sprintf("%d of the %d requests that a verdict needs", t.Requests, a.MinRequests)
	}
	if a.ErrorRate != nil && exceeds(t.Errors, t.Requests, *a.ErrorRate, over) {
		return bad, fmt.Sprintf("%d of %d requests failed, more than %.4g %%", t.Errors, t.Requests, *a.ErrorRate*100)
	}
	if a.P99 != nil && exceeds(t.Slow, t.Requests, 0.01, over) {
		return bad, fmt.Sprintf("%d of %d requests took longer than %v (p99 allows %d)", t.Slow, t.Requests, *a.P99, t.Requests/100)
	}
	return good, fmt.Sprintf("%d requests, %d failed", t.Requests, t.Errors)
}

// exceeds reports whether count of n is more than the allowed share. For the
// 99th percentile by nearest rank that is exact: it lies above a limit if and
// only if more than n/100 values do.
func exceeds(count, n int64, allowed float64, over bool) bool {
	if n == 0 || count == 0 {
		return false
	}
	share := float64(count) / float64(n)
	if !over {
		share = wilsonLower(share, float64(n))
	}
	return share > allowed
}

// wilsonLower is the lower end of the one-sided 99 % score interval of a
// share p of n. Wilson 1927, equation 9 with z = 2.326.
func wilsonLower(p, n float64) float64 {
	const z = 2.326
	centre := p + z*z/(2*n)
	half := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return (centre - half) / (1 + z*z/n)
}
