package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Ref is what a record keeps of a deployment.
type Ref struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Project   string `json:"project,omitempty"`
}

// Ref finds the deployment again.
func (f Front) Ref() Ref { return Ref{Namespace: f.Namespace, Name: f.Name, Project: f.Project} }

// Kept is f under the name that a record has: a block that was renamed keeps its objects.
func (f Front) Kept(prior *state.Record) (Front, error) {
	if prior == nil || len(prior.Ref) == 0 {
		return f, nil
	}
	var ref Ref
	if err := json.Unmarshal(prior.Ref, &ref); err != nil {
		return f, fmt.Errorf("read its reference: %w", err)
	}
	if ref.Name != "" && ref.Namespace == f.Namespace {
		f.Name = ref.Name
	}
	return f, nil
}

// Recorded is f as a record says that it was applied. block names the nested block of its provider. A record without a reference is of a
// deployment whose first apply got nowhere.
func (f Front) Recorded(rec *state.Record, block string) (Front, error) {
	var spec struct {
		Port  int32  `json:"port"`
		Drain string `json:"drain"`
	}
	var nested map[string]json.RawMessage
	var own struct {
		Namespace     string `json:"namespace"`
		ClusterDomain string `json:"cluster_domain"`
		Route         *struct {
			Gateway string `json:"gateway"`
		} `json:"route"`
	}
	if len(rec.Spec) > 0 {
		if err := errors.Join(json.Unmarshal(rec.Spec, &spec), json.Unmarshal(rec.Spec, &nested)); err != nil {
			return f, fmt.Errorf("read its recorded attributes: %w", err)
		}
	}
	if raw := nested[block]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &own); err != nil {
			return f, fmt.Errorf("read its recorded block %s: %w", block, err)
		}
	}
	f.Port, f.ClusterDomain = spec.Port, own.ClusterDomain
	if own.Route != nil {
		f.Route = &Route{Gateway: own.Route.Gateway} // what reading it back needs
	}
	if own.Namespace != "" {
		f.Namespace = own.Namespace
	}
	if drain, err := resource.ParseDuration(spec.Drain); err == nil {
		f.Drain = drain
	}
	if len(rec.Ref) > 0 {
		var ref Ref
		if err := json.Unmarshal(rec.Ref, &ref); err != nil {
			return f, fmt.Errorf("read its reference: %w", err)
		}
		f.Name, f.Namespace, f.Project = ref.Name, ref.Namespace, ref.Project
	}
	return f.WithDefaults(), nil
}

// Apply is the Apply of a driver: it completes r by what the block and the step say, runs it, and returns when the rollout came to rest.
// ref is what the record keeps.
func Apply(ctx context.Context, r Request, spec config.Deployment, req providers.ApplyRequest, ref any) (providers.Result, error) {
	if err := r.Front.CheckForce(); err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	r.OpID, r.Adopt, r.Force = req.OpID, req.Adopt, req.Force
	r.Asked = gateway.Version{Number: spec.Model.Version, Digest: spec.Model.Digest}
	r.Policy, r.Capture = PolicyOf(spec.Rollout, req.Force), gateway.Capture{Enabled: true}
	if r.Front.Carried {
		r.Policy.Abort = gateway.Abort{} // nobody counts requests
	}
	if c := spec.Capture; c != nil {
		r.Capture = gateway.Capture{Enabled: c.Enabled, MaxBytes: c.MaxMB << 20}
	}
	if spec.Sink != nil {
		r.Sink = &gateway.Sink{URL: spec.Sink.URL}
	}
	r.Say = func(text string) {
		req.Emit(resource.Event{Time: r.Now(), Type: resource.EventProgress, Address: req.Address.String(), Action: req.Action, Message: serving.Brief(text)})
	}
	s, err := Run(ctx, r)
	if err != nil {
		if s == nil {
			ref = nil
		}
		return providers.Result{}, Failure(req.Address, ref, err)
	}
	res, err := serving.Outcome(s.askedOf(req.Address), r.Front.liveOf(s), r.Now())
	if err != nil {
		return providers.Result{}, &providers.RunError{Err: fmt.Errorf("%s: %w", req.Address, err), Ref: ref}
	}
	res.Ref = ref
	return res, nil
}

// Failure says whose error it is, and whether another try by itself may mend it. ref is nil before anything was made.
func Failure(a resource.Address, ref any, err error) error {
	err = fmt.Errorf("%s: %w", a, err)
	var again *kube.Retryable
	switch {
	case errors.As(err, &again):
		return &providers.RetryableError{Err: err, After: again.After}
	case oci.Retryable(err):
		return &providers.RetryableError{Err: err}
	case ref == nil, errors.Is(err, context.Canceled):
		return err
	}
	// The reference is what finds the objects again that are there by now.
	return &providers.RunError{Err: err, Ref: ref}
}
