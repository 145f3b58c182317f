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
	Tally   tally `json:"tally"`
}

// tally is what the candidate did in the present step. Errors are 5xx answers,
// timeouts and broken connections; a client's own mistakes and departures are
// not. Slow counts answers that took longer than Abort.P99.
type tally struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
	Slow     int64 `json:"slow"`
}

func (t tally) minus(u tally) tally {
	return tally{t.Requests - u.Requests, t.Errors - u.Errors, t.Slow - u.Slow}
}

// observation is all that decide may look at besides the policy.
type observation struct {
	now time.Time
	// first: there is no version yet to roll over from.
	first bool
	// ready: every server of the candidate is ready.
	ready bool
	// failed says why the candidate cannot be had; empty if it can.
	failed   string
	tally    tally // since StepStarted
	compared int   // by the shadow
	differed int
}

type move int

// Moves of the rollout machine.
const (
	wait    move = iota // stay
	shift               // give the candidate its step's weight
	promote             // the candidate becomes the current version
	hold                // stay, and say so
	abort               // back to the old version, quarantine the candidate
	fail                // back to the old version; the candidate never ran
)

// decision is what to do next and why; progress replaces the old one.
type decision struct {
	move     move
	weight   int
	message  string
	progress Progress
}

// decide is the rollout machine: a pure function of policy, progress and what
// was seen. It is called again and again, and does at most one step per call.
func decide(r Rollout, p Progress, o observation) decision {
	d := decision{progress: p}
	switch {
	case o.failed != "":
		d.move, d.message = fail, o.failed
		return d
	case !o.ready && p.StepStarted.IsZero():
		d.message = "waiting for the server to be ready"
		return d
	case o.first || r.Strategy == Rolling:
		if o.ready {
			d.move, d.weight, d.message = promote, 100, "ready"
		}
		return d
	case p.StepStarted.IsZero():
		return begin(r, p, o.now)
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
func begin(r Rollout, p Progress, now time.Time) decision {
	steps := r.steps()
	p.Step = min(max(p.Step, 0), len(steps)-1)
	p.StepStarted, p.Holding, p.Tally = now, false, tally{}
	d := decision{move: shift, weight: steps[p.Step], progress: p}
	d.message = fmt.Sprintf("%s at %d %%", r.Strategy, d.weight)
	if r.Strategy == Shadow {
		d.message = "shadow: comparing answers"
	}
	return d
}

func decideStep(r Rollout, p Progress, o observation) decision {
	steps := r.steps()
	p.Step = min(max(p.Step, 0), len(steps)-1)
	p.Tally = o.tally
	d := decision{progress: p, weight: steps[p.Step]}
	elapsed := o.now.Sub(p.StepStarted)
	over := elapsed >= r.Interval
	verdict, why := judge(r.Abort, o.tally, over)
	at := fmt.Sprintf("%s at %d %%: %s", r.Strategy, d.weight, why)
	switch verdict {
	case bad:
		d.move, d.message = abort, at
	case tooFew:
		d.message = at
		if elapsed < r.MaxWait || p.Holding {
			break
		}
		switch r.OnNoTraffic {
		case Promote:
			if o.ready {
				d.move, d.weight = promote, 100
			}
		case AbortIt:
			d.move, d.message = abort, fmt.Sprintf("%s came within %v", at, r.MaxWait)
		default:
			d.move, d.progress.Holding = hold, true
		}
	case good:
		switch {
		case !over:
			d.message = at
		case p.Step == len(steps)-1:
			if o.ready {
				d.move, d.weight, d.message = promote, 100, at
			}
		default:
			p.Step++
			return begin(r, p, o.now)
		}
	}
	return d
}

func decideShadow(r Rollout, p Progress, o observation) decision {
	d := decision{progress: p}
	d.message = fmt.Sprintf("shadow: %d answers compared, %d differed", o.compared, o.differed)
	enough := r.ShadowRequests > 0 && o.compared >= r.ShadowRequests ||
		r.ShadowDuration > 0 && o.now.Sub(p.StepStarted) >= r.ShadowDuration
	late := r.MaxWait > 0 && o.now.Sub(p.StepStarted) >= r.MaxWait
	if !p.Holding && (enough || late) {
		d.move, d.progress.Holding = hold, true
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
func judge(a Abort, t tally, over bool) (verdict, string) {
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
