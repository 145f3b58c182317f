package local

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/proc"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
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
		o.Outputs = serving.Outputs(req.Address, live)
	}
	o.Quarantined = serving.RefusedSince(op.asked(live), live, req.Record.Updated)
	switch live.Phase {
	case gateway.PhaseStarting, gateway.PhaseRolling:
		o.Phase, o.Message = resource.PhaseRunning, serving.Brief(live.Message)
	case gateway.PhaseHeld:
		o.Phase, o.Message = resource.PhaseRunning, serving.Held(req.Address, live)
	case gateway.PhaseFailed, gateway.PhaseAborted, gateway.PhaseReady, gateway.PhaseStopped:
		if live.Current.Number == 0 {
			o.Phase, o.Message = resource.PhaseFailed, serving.Brief(live.Message)
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
			why = serving.Brief(s.LastError)
		}
	}
	return why
}
