package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
)

const (
	// downFor is how long no pod may be ready before a Deployment counts as down: a node that restarts takes less.
	downFor = time.Minute
	// GoneWithin is what a deletion may take besides the time that requests in flight have.
	GoneWithin = 3 * time.Minute
)

// Parts says what the deployments of one provider consist of, and reads and deletes them by it.
type Parts struct {
	// Kinds are what the provider makes besides the ConfigMap of a deployment, in the order in which it is deleted.
	Kinds []Kind
	// Version are the kinds that a version which serves has an object of, under its name.
	Version []schema.GroupVersionKind
	// Also, when not nil, names further objects that a version has, by what Servers.Good kept of it.
	Also func(good json.RawMessage, name string) []Object
	// Remove, when not nil, deletes an object and waits until it and what it owns are gone.
	Remove func(ctx context.Context, c *kube.Client, u *unstructured.Unstructured, within time.Duration) error
	// Health tells how the servers of a version do.
	Health func(o Objects, name string) (Health, error)
	// Enters, when not nil, adds to the live state of a [Front.Single] how requests come in, and says why they do not.
	Enters func(f Front, o Objects, live gateway.Live, info map[string]string) (down string, err error)
	// Drift lists the fields of an object that others changed.
	Drift func(o Objects, u *unstructured.Unstructured) ([]kube.FieldChange, error)
	Now   func() time.Time
	Key   []byte // the project's
}

// Kind is a kind of objects that a deployment has.
type Kind struct {
	schema.GroupVersionKind
	// Part is PartRouter or PartServer; "" is both. Labels are handed on to what controllers make: an object of another part is not
	// the deployment's own.
	Part string
	// All also lists what bears no label of ours.
	All bool
}

// Object is one that a deployment has.
type Object struct {
	schema.GroupVersionKind
	Name string
}

// Health is how the servers of a version do.
type Health struct {
	Ready bool
	Down  string // why they do not serve; "" also while they just start
	Info  map[string]string
}

// Read is what the cluster says of one deployment.
func (p Parts) Read(ctx context.Context, c *kube.Client, x *Index, f Front, req providers.ReadRequest) (providers.Object, error) {
	o := x.Of(f)
	out, s, err := p.object(f, o, req)
	if err == nil && s != nil {
		err = p.resumable(ctx, c, f, o, s, &out)
	}
	return out, err
}

// object is what its objects say. The state is nil when the deployment is not there.
func (p Parts) object(f Front, o Objects, req providers.ReadRequest) (providers.Object, *State, error) {
	gone := func(format string, args ...any) (providers.Object, *State, error) {
		return providers.Object{Phase: resource.PhaseMissing, Message: fmt.Sprintf(format, args...)}, nil, nil
	}
	config := o.Get(gvkConfigMap, f.Name)
	if config == nil {
		if req.Record.Phase == resource.PhaseFailed && len(req.Record.Outputs) == 0 {
			return providers.Object{Phase: resource.PhaseFailed, Message: req.Record.Message}, nil, nil // nothing is gone: it never came
		}
		return gone("ConfigMap %s/%s is not there", f.Namespace, f.Name)
	}
	s, err := stateOf(config)
	if err != nil {
		return providers.Object{}, nil, err
	}
	if kind, name, why := p.missing(f, s, o); why != "" {
		return gone("%s %s/%s %s", kind, f.Namespace, name, why)
	}
	live := f.liveOf(s)
	out := providers.Object{Phase: resource.PhaseReady, Info: map[string]string{"endpoint": live.Endpoint}}
	if err := outputs(&out, req, live); err != nil {
		return out, s, err
	}
	out.Quarantined = serving.RefusedSince(s.askedOf(f.Address), live, req.Record.Updated)
	if out.Drift, err = p.drift(o); err != nil {
		return out, s, err
	}
	return out, s, p.phase(&out, f, live, o)
}

// missing says which object that must be there is not.
func (p Parts) missing(f Front, s *State, o Objects) (kind, name, why string) {
	var need []Object
	if !f.Single {
		need = []Object{{gvkDeployment, f.Name}, {gvkService, f.Name}}
	}
	if f.Route != nil {
		need = append(need, Object{gvkRoute, f.Name})
	}
	if n := s.Live.Current.Number; n > 0 {
		for _, gvk := range p.Version {
			need = append(need, Object{gvk, f.VersionName(n)})
		}
		if p.Also != nil {
			need = append(need, p.Also(s.Good, f.VersionName(n))...)
		}
	}
	for _, n := range need {
		switch u := o.Get(n.GroupVersionKind, n.Name); {
		case u == nil:
			return n.Kind, n.Name, "is not there"
		case u.GetDeletionTimestamp() != nil:
			return n.Kind, n.Name, "is being deleted"
		}
	}
	return "", "", ""
}

// outputs tells what serves when the record says something else.
func outputs(o *providers.Object, req providers.ReadRequest, live gateway.Live) error {
	var known struct {
		Endpoint string `json:"endpoint"`
		Version  int    `json:"version"`
		Digest   string `json:"digest"`
	}
	if len(req.Record.Outputs) > 0 {
		if err := json.Unmarshal(req.Record.Outputs, &known); err != nil {
			return fmt.Errorf("read its recorded outputs: %w", err)
		}
	}
	if live.Current.Number > 0 && (known.Endpoint != live.Endpoint || known.Version != live.Current.Number || known.Digest != live.Current.Digest) {
		o.Outputs = serving.Outputs(req.Address, live)
	}
	return nil
}

// drift lists the fields that others changed, over all objects.
func (p Parts) drift(o Objects) ([]providers.Drift, error) {
	var out []providers.Drift
	for _, key := range slices.Sorted(maps.Keys(o)) {
		changes, err := p.Drift(o, o[key])
		if err != nil {
			return nil, err
		}
		out = append(out, Drifted(o[key], changes)...)
	}
	return out, nil
}

// Drifted are the changes of an object as a plan shows them.
func Drifted(u *unstructured.Unstructured, changes []kube.FieldChange) []providers.Drift {
	var out []providers.Drift
	for _, c := range changes {
		if u.GetKind() == gvkConfigMap.Kind {
			c.Old, c.New = "as applied", "changed" // whole files
		}
		out = append(out, providers.Drift{Path: u.GetKind() + "/" + u.GetName() + ":" + c.Path, Old: c.Old, New: c.New, By: c.By})
	}
	return out
}

// phase says where the deployment is.
func (p Parts) phase(out *providers.Object, f Front, live gateway.Live, o Objects) error {
	switch live.Phase {
	case gateway.PhaseStarting, gateway.PhaseRolling:
		out.Phase, out.Message = resource.PhaseRunning, serving.Brief(live.Message)
	case gateway.PhaseHeld:
		out.Phase, out.Message = resource.PhaseRunning, serving.Held(f.Address, live)
	case gateway.PhaseFailed, gateway.PhaseAborted, gateway.PhaseReady, gateway.PhaseStopped:
	}
	if live.Current.Number == 0 {
		if out.Phase == resource.PhaseReady {
			out.Phase, out.Message = resource.PhaseFailed, serving.Brief(live.Message)
		}
		return nil
	}
	out.Info["weights"] = fmt.Sprintf("version %d: %d %%", live.Current.Number, 100-live.Weight)
	if c := live.Candidate; c != nil {
		out.Info["weights"] += fmt.Sprintf(", version %d: %d %%", c.Number, live.Weight)
	}
	h, err := p.Health(o, f.VersionName(live.Current.Number))
	if err != nil {
		return err
	}
	maps.Copy(out.Info, h.Info)
	if h.Down != "" {
		out.Phase, out.Message = resource.PhaseFailed, fmt.Sprintf("%s: %s", live.Current, h.Down)
		return nil
	}
	if f.Single {
		return p.enters(out, f, live, o)
	}
	_, down, err := ReadyPods(o.Get(gvkDeployment, f.Name), p.Now())
	if down != "" {
		out.Phase, out.Message = resource.PhaseFailed, "no router is ready: "+down
		return nil
	}
	if err == nil {
		down, err = f.throughGateway(o, out.Info)
	}
	if down != "" {
		out.Phase, out.Message = resource.PhaseFailed, down
	}
	return err
}

// enters adds what carries the requests of a deployment that is a single object.
func (p Parts) enters(out *providers.Object, f Front, live gateway.Live, o Objects) error {
	if p.Enters == nil {
		return nil
	}
	down, err := p.Enters(f, o, live, out.Info)
	if down != "" {
		out.Phase, out.Message = resource.PhaseFailed, down
	}
	return err
}

// ReadyPods counts a Deployment's pods, "1 of 2 ready", and says why there is none when there has been none for a while.
func ReadyPods(u *unstructured.Unstructured, now time.Time) (text, down string, err error) {
	var dep appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &dep); err != nil {
		return "", "", fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	all := int32(1)
	if dep.Spec.Replicas != nil {
		all = *dep.Spec.Replicas
	}
	for _, c := range dep.Status.Conditions {
		if c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionFalse && dep.Status.ReadyReplicas == 0 && now.Sub(c.LastTransitionTime.Time) > downFor {
			down = c.Message
		}
	}
	return fmt.Sprintf("%d of %d ready", dep.Status.ReadyReplicas, all), down, nil
}

// Delete removes a deployment: the Service goes first, so that no new request comes, then the routers with the requests in flight, then
// the servers; all by label and by what is there now, each waited for until it is gone.
func (p Parts) Delete(ctx context.Context, c *kube.Client, f Front, req providers.DeleteRequest) error {
	config, err := c.Get(ctx, kube.Ref{Version: "v1", Kind: "ConfigMap", Namespace: f.Namespace, Name: f.Name})
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	if len(req.Record.Ref) == 0 {
		if config == nil || config.GetAnnotations()[pods.LabelAddress] != f.Address.String() {
			return nil // nothing was made
		}
		f.Project = config.GetLabels()[pods.LabelProject]
	}
	routed := f.Route != nil
	if config != nil && !routed {
		s, err := stateOf(config)
		routed = err == nil && s.Routed // one that cannot be read is no reason to keep the rest
	}
	for _, part := range []string{PartRouter, PartServer} {
		for _, k := range p.kinds(routed)[1:] {
			if k.Part != "" && k.Part != part {
				continue
			}
			if err := p.remove(ctx, c, f, Kind{GroupVersionKind: k.GroupVersionKind, Part: part}, req); err != nil {
				return err
			}
		}
	}
	// The ConfigMap goes last: it is what an interrupted deletion is found by again. With it goes the Secret of the routers' token.
	return p.remove(ctx, c, f, Kind{GroupVersionKind: gvkConfigMap}, req)
}

func (p Parts) remove(ctx context.Context, c *kube.Client, f Front, k Kind, req providers.DeleteRequest) error {
	list, err := c.List(ctx, k.GroupVersionKind, f.Namespace, k.selector(f.Selector()))
	var missing *kube.MissingKindError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, u := range list {
		req.Emit(resource.Event{Time: p.Now(), Type: resource.EventProgress, Address: req.Address.String(), Action: resource.Delete, Message: "removing " + kube.RefOf(u).String()})
		remove := p.Remove
		if remove == nil {
			remove = deleted
		}
		if err := remove(ctx, c, u, f.Drain+GoneWithin); err != nil {
			return err
		}
	}
	return nil
}

// deleted deletes an object, and waits until it is gone with what it owns.
func deleted(ctx context.Context, c *kube.Client, u *unstructured.Unstructured, within time.Duration) error {
	return c.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{Within: within})
}
