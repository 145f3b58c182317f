package local

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/proc"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// served are the recorded outputs that may move by themselves.
type served struct {
	Endpoint string `json:"endpoint"`
	Version  int    `json:"version"`
	Digest   string `json:"digest"`
}

// Read implements providers.Typed. A gateway that is gone is a missing object, so that apply starts the same version on the same
// port; a rollout that ended since the record was written shows in outputs and quarantines.
func (d *deployment) Read(_ context.Context, req providers.ReadRequest) (providers.Object, error) {
	dir, err := d.recordedDir(req.Address, req.Record.Ref)
	if err != nil {
		return providers.Object{}, err
	}
	live, err := gateway.Read(dir)
	if err != nil {
		return providers.Object{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	if !live.Alive && live.Process.PID == 0 && req.Record.Phase == resource.PhaseFailed {
		return providers.Object{Phase: resource.PhaseFailed, Message: req.Record.Message}, nil // nothing is gone: it never came
	}
	if !live.Alive {
		return providers.Object{Phase: resource.PhaseMissing, Message: goneMessage(live)}, nil
	}
	var op rolloutOp
	if _, err := durable.ReadJSON(filepath.Join(dir, opFile), &op); err != nil {
		return providers.Object{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	return d.object(req, op, live)
}

// object is the live state of a gateway that runs.
func (d *deployment) object(req providers.ReadRequest, op rolloutOp, live gateway.Live) (providers.Object, error) {
	o := providers.Object{Phase: resource.PhaseReady, Info: map[string]string{"endpoint": live.Endpoint, "replicas": replicas(live)}}
	var known served
	if len(req.Record.Outputs) > 0 {
		if err := json.Unmarshal(req.Record.Outputs, &known); err != nil {
			return o, fmt.Errorf("%s: read its recorded outputs: %w", req.Address, err)
		}
	}
	if live.Current.Number > 0 && known != (served{live.Endpoint, live.Current.Number, live.Current.Digest}) {
		o.Outputs = deploymentOutputs(req.Address, live)
	}
	o.Quarantined = refusedSince(req, op, live)
	switch live.Phase {
	case gateway.PhaseStarting, gateway.PhaseRolling:
		o.Phase, o.Message = resource.PhaseRunning, brief(live.Message)
	case gateway.PhaseHeld:
		o.Phase, o.Message = resource.PhaseRunning, heldMessage(req.Address, live)
	case gateway.PhaseFailed, gateway.PhaseAborted, gateway.PhaseReady, gateway.PhaseStopped:
		if live.Current.Number == 0 {
			o.Phase, o.Message = resource.PhaseFailed, brief(live.Message)
		}
	}
	if o.Message == "" {
		o.Message = sinkMessage(live.Sink)
	}
	if why := crashing(live); why != "" {
		o.Phase, o.Message = resource.PhaseFailed, fmt.Sprintf("%s does not stay up: %s", live.Current, why)
	}
	return o, nil
}

// goneMessage says why a deployment is missing.
func goneMessage(live gateway.Live) string {
	self, err := proc.Self()
	switch {
	case live.Process.PID == 0:
		return "it never ran here"
	case live.Phase == gateway.PhaseStopped:
		return "the gateway was stopped"
	case err == nil && self.Boot != live.Process.Boot:
		return "the gateway ended with a restart of the machine"
	}
	return "the gateway died"
}

// heldMessage says which version of the deployment waits, where, and for what.
func heldMessage(a resource.Address, live gateway.Live) string {
	text := brief(live.Message)
	if live.Shadow == nil {
		return text + "; waits for traffic"
	}
	if len(live.Shadow.Examples) > 0 {
		x := live.Shadow.Examples[0]
		text += fmt.Sprintf(", such as %s of request %s: %s became %s", x.Where, x.ID, x.Current, x.Candidate)
	}
	return fmt.Sprintf("%s; waits for a decision: strategy = \"rolling\" takes it, `ml rollback %s -to %d` takes it back", text, a.Arg(), live.Current.Number)
}

// sinkMessage says that a sink is away, and what that does.
func sinkMessage(s *gateway.SinkStatus) string {
	switch {
	case s == nil || s.Failure == "" || s.Unsent == 0:
		return ""
	case s.Full:
		return fmt.Sprintf("requests get 503: %d answers wait for the sink (%s)", s.Unsent, s.Failure)
	}
	return fmt.Sprintf("%d answers wait for the sink (%s)", s.Unsent, s.Failure)
}

// replicas counts the predictors of the version that serves, "1 of 2 ready".
func replicas(live gateway.Live) string {
	ready, all := 0, 0
	for _, s := range live.Servers {
		if s.Version == live.Current.Number && s.Role == "predictor" {
			all++
			if s.Ready {
				ready++
			}
		}
	}
	return fmt.Sprintf("%d of %d ready", ready, all)
}

// crashing says why the version that should serve does not: all of its servers have ended, again and again.
func crashing(live gateway.Live) string {
	why := ""
	for _, s := range live.Servers {
		if s.Version != live.Current.Number {
			continue
		}
		if s.Ready {
			return ""
		}
		if s.Restarts > 0 && s.LastError != "" {
			why = brief(s.LastError)
		}
	}
	return why
}

// refusal is a version that a rollout found bad while an older one serves.
type refusal struct {
	version int
	digest  string
	reason  string
	when    time.Time
}

func (r refusal) quarantine(a resource.Address) state.Quarantine {
	return state.Quarantine{Address: a, Version: r.version, Digest: resource.Digest(r.digest), Reason: r.reason, When: r.when.UTC()}
}

// refused returns why the version that an operation asked for was not taken, if that is the version's fault. It is nil when no
// version serves, when the same version serves (its new command or code is at fault), and when the port could not be had.
func refused(op rolloutOp, live gateway.Live) *refusal {
	if live.Current.Number == 0 || live.Current.Digest == op.Digest {
		return nil
	}
	switch live.Phase {
	case gateway.PhaseAborted:
		for i := len(live.Quarantined) - 1; i >= 0; i-- {
			if q := live.Quarantined[i]; q.Version.Number == op.Version && q.Version.Digest == op.Digest {
				return &refusal{op.Version, op.Digest, q.Reason, q.Time}
			}
		}
		return &refusal{op.Version, op.Digest, live.Message, live.Updated}
	case gateway.PhaseFailed:
		if op.Port == 0 || op.Port == portOf(live.Endpoint) {
			return &refusal{op.Version, op.Digest, live.Message, live.Updated}
		}
	case gateway.PhaseStarting, gateway.PhaseReady, gateway.PhaseRolling, gateway.PhaseHeld, gateway.PhaseStopped:
	}
	return nil
}

// refusedSince lists the versions that were refused after the record was last written: a rollout that was held then.
func refusedSince(req providers.ReadRequest, op rolloutOp, live gateway.Live) []state.Quarantine {
	r := refused(op, live)
	if r == nil || !r.when.After(req.Record.Updated) {
		return nil
	}
	r.reason = brief(r.reason)
	return []state.Quarantine{r.quarantine(req.Address)}
}
