// Package serving holds what the providers that roll deployments out by the gateway's rollout machine have in common: how the end of a
// rollout becomes the result of a step, so that it means and says the same wherever the servers run.
package serving

import (
	"fmt"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Asked is what an operation wanted to serve.
type Asked struct {
	Address resource.Address
	Version int
	Digest  string
	// Innocent says that a failure of the rollout was not the version's fault: the port could not be had.
	Innocent bool
}

// Outcome turns how a rollout came to rest into the result of the step: ready, held, or taken back with a bad verdict and a quarantine
// while what served before serves on. Any other end is an error in one line.
func Outcome(asked Asked, live gateway.Live, now time.Time) (providers.Result, error) {
	res := providers.Result{Outputs: Outputs(asked.Address, live)}
	switch live.Phase {
	case gateway.PhaseReady:
		res.Message = fmt.Sprintf("%s serves", live.Current)
		return res, nil
	case gateway.PhaseHeld:
		res.Held, res.Message = true, Held(asked.Address, live)
		return res, nil
	case gateway.PhaseAborted, gateway.PhaseFailed:
		r := Refused(asked, live)
		if r == nil && live.Current.Number > 0 {
			return providers.Result{}, fmt.Errorf("%s; what served before serves on", Brief(live.Message))
		}
		if r == nil {
			return providers.Result{}, fmt.Errorf("%s", Brief(live.Message))
		}
		r.Reason = Brief(r.Reason)
		res.Quarantined = append(res.Quarantined, r.Quarantine(asked.Address))
		res.Verdict = &resource.Verdict{
			Message: fmt.Sprintf("version %d was taken back: %s; %s serves on", r.Version, r.Reason, live.Current),
			Subject: resource.Digest(r.Digest), Time: now,
		}
		res.Message = res.Verdict.Message
		return res, nil
	case gateway.PhaseStopped, gateway.PhaseStarting, gateway.PhaseRolling:
	}
	return providers.Result{}, fmt.Errorf("the gateway was stopped in the middle of the rollout; apply again")
}

// Outputs are the outputs of a deployment as it serves now.
func Outputs(a resource.Address, live gateway.Live) config.DeploymentOutputs {
	out := config.DeploymentOutputs{Address: a.String(), Endpoint: live.Endpoint, Version: live.Current.Number, Digest: live.Current.Digest}
	if live.Admin != "" {
		out.Metrics = live.Admin + "/metrics"
	}
	return out
}

// Held says which version of the deployment waits, where, and for what.
func Held(a resource.Address, live gateway.Live) string {
	text := Brief(live.Message)
	if live.Shadow == nil {
		return text + "; waits for traffic"
	}
	if len(live.Shadow.Examples) > 0 {
		x := live.Shadow.Examples[0]
		text += fmt.Sprintf(", such as %s of request %s: %s became %s", x.Where, x.ID, x.Current, x.Candidate)
	}
	return fmt.Sprintf("%s; waits for a decision: strategy = \"rolling\" takes it, `ml rollback %s -to %d` takes it back", text, a.Arg(), live.Current.Number)
}

// Refusal is a version that a rollout found bad while an older one serves.
type Refusal struct {
	Version int
	Digest  string
	Reason  string
	When    time.Time
}

// Quarantine is the refusal as the state keeps it.
func (r Refusal) Quarantine(a resource.Address) state.Quarantine {
	return state.Quarantine{Address: a, Version: r.Version, Digest: resource.Digest(r.Digest), Reason: r.Reason, When: r.When.UTC()}
}

// Refused returns why the version that an operation asked for was not taken, if that is the version's fault. It is nil when no
// version serves, and when the same version serves (its new command or code is at fault).
func Refused(asked Asked, live gateway.Live) *Refusal {
	if live.Current.Number == 0 || live.Current.Digest == asked.Digest {
		return nil
	}
	switch live.Phase {
	case gateway.PhaseAborted:
		for i := len(live.Quarantined) - 1; i >= 0; i-- {
			if q := live.Quarantined[i]; q.Version.Number == asked.Version && q.Version.Digest == asked.Digest {
				return &Refusal{asked.Version, asked.Digest, q.Reason, q.Time}
			}
		}
		return &Refusal{asked.Version, asked.Digest, live.Message, live.Updated}
	case gateway.PhaseFailed:
		if !asked.Innocent {
			return &Refusal{asked.Version, asked.Digest, live.Message, live.Updated}
		}
	case gateway.PhaseStarting, gateway.PhaseReady, gateway.PhaseRolling, gateway.PhaseHeld, gateway.PhaseStopped:
	}
	return nil
}

// RefusedSince lists the versions that were refused after the record was last written: a rollout that was held then.
func RefusedSince(asked Asked, live gateway.Live, written time.Time) []state.Quarantine {
	r := Refused(asked, live)
	if r == nil || !r.When.After(written) {
		return nil
	}
	r.Reason = Brief(r.Reason)
	return []state.Quarantine{r.Quarantine(asked.Address)}
}

// longestLastWord bounds what a message quotes of a server's log, in bytes.
const longestLastWord = 160

// Brief is a gateway's message in one line: of the log lines that it may quote only the last, which says most.
func Brief(message string) string {
	line, quoted, _ := strings.Cut(message, "\n")
	line = strings.TrimSuffix(strings.TrimSuffix(line, ":"), "; its last lines")
	quoted = strings.TrimSpace(quoted)
	last := strings.TrimSpace(quoted[strings.LastIndexByte(quoted, '\n')+1:])
	if last == "" {
		return line
	}
	if len(last) > longestLastWord {
		last = strings.ToValidUTF8(last[:longestLastWord], "") + "…"
	}
	return line + ": " + last
}
