package kserve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
)

// part is what belongs to which side of a deployment. KServe hands our labels on to what it makes for an InferenceService, so that a
// label alone does not tell.
var parts = map[schema.GroupVersionKind]string{
	gvkConfigMap: rollout.PartRouter, gvkService: rollout.PartRouter, gvkDeployment: rollout.PartRouter, api.Kind: rollout.PartServer,
	api.Graph: rollout.PartServer,
}

// Read implements providers.Typed.
func (d *deployment) Read(ctx context.Context, req providers.ReadRequest) (providers.Object, error) {
	all, err := d.ReadAll(ctx, []providers.ReadRequest{req})
	if err != nil {
		return providers.Object{}, err
	}
	return all[0], nil
}

// found is what a namespace holds: by kind, by name.
type found map[string]map[string]*unstructured.Unstructured

func (f found) get(gvk schema.GroupVersionKind, name string) *unstructured.Unstructured {
	return f[gvk.Kind][name]
}

// ReadAll implements providers.BatchReader: one LIST per kind and namespace.
func (d *deployment) ReadAll(ctx context.Context, reqs []providers.ReadRequest) ([]providers.Object, error) {
	c, err := d.cluster()
	if err != nil {
		return nil, err
	}
	there := map[string]found{}
	out := make([]providers.Object, len(reqs))
	for i, req := range reqs {
		ref, domain, err := d.recorded(c, req)
		if err != nil {
			return nil, err
		}
		if there[ref.Namespace] == nil {
			if there[ref.Namespace], err = list(ctx, c, ref.Namespace); err != nil {
				return nil, err
			}
		}
		if ref.Imported != "" {
			out[i], err = readImported(req, ref, there[ref.Namespace])
		} else {
			front := rollout.Front{Name: ref.Name, Namespace: ref.Namespace, Address: req.Address, Project: ref.Project, ClusterDomain: domain, Port: portOfRecord(req.Record.Spec)}.WithDefaults()
			out[i], err = read(req, front, there[ref.Namespace])
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", req.Address, err)
		}
	}
	return out, nil
}

// list reads all that is ours in a namespace, and the InferenceServices that were imported, which bear no label of ours yet.
func list(ctx context.Context, c *kube.Client, namespace string) (found, error) {
	out := found{}
	for _, gvk := range []schema.GroupVersionKind{gvkConfigMap, gvkService, gvkDeployment, api.Kind, api.Graph} {
		sel := kube.Selector{Labels: kube.ManagedBy + "=" + kube.FieldManager + "," + rollout.LabelPart + "=" + parts[gvk]}
		if gvk == api.Kind {
			sel = kube.Selector{}
		}
		list, err := c.List(ctx, gvk, namespace, sel)
		var missing *kube.MissingKindError
		if errors.As(err, &missing) {
			continue // KServe was removed, and its objects with it
		}
		if err != nil {
			return nil, err
		}
		out[gvk.Kind] = map[string]*unstructured.Unstructured{}
		for _, u := range list {
			out[gvk.Kind][u.GetName()] = u
		}
	}
	return out, nil
}

// recorded is the reference of a record. One without is of a deployment whose first apply got nowhere.
func (d *deployment) recorded(c *kube.Client, req providers.ReadRequest) (ref deploymentRef, domain string, err error) {
	var spec struct {
		KServe *struct {
			Namespace     string `json:"namespace"`
			ClusterDomain string `json:"cluster_domain"`
		} `json:"kserve"`
	}
	ref = deploymentRef{Name: rollout.ObjectName(req.Address, longestName), Namespace: c.Namespace()}
	if len(req.Record.Spec) > 0 && json.Unmarshal(req.Record.Spec, &spec) == nil && spec.KServe != nil {
		ref.Namespace, domain = cmpOr(spec.KServe.Namespace, ref.Namespace), spec.KServe.ClusterDomain
	}
	if len(req.Record.Ref) > 0 {
		if err := json.Unmarshal(req.Record.Ref, &ref); err != nil {
			return ref, "", fmt.Errorf("%s: read its reference: %w", req.Address, err)
		}
	}
	return ref, domain, nil
}

func portOfRecord(spec json.RawMessage) int32 {
	var s struct {
		Port int32 `json:"port"`
	}
	if len(spec) == 0 || json.Unmarshal(spec, &s) != nil {
		return 0
	}
	return s.Port
}

// read is what the cluster says of one deployment.
func read(req providers.ReadRequest, f rollout.Front, there found) (providers.Object, error) {
	config := there.get(gvkConfigMap, f.Name)
	if config == nil || f.Ours(config) != nil {
		if req.Record.Phase == resource.PhaseFailed && len(req.Record.Outputs) == 0 {
			return providers.Object{Phase: resource.PhaseFailed, Message: req.Record.Message}, nil // nothing is gone: it never came
		}
		return providers.Object{Phase: resource.PhaseMissing, Message: fmt.Sprintf("ConfigMap %s/%s is not there", f.Namespace, f.Name)}, nil
	}
	s, err := rollout.StateOf(config)
	if err != nil {
		return providers.Object{}, err
	}
	live := f.LiveOf(s)
	serves := f.VersionName(live.Current.Number)
	if why := missing(f, s, serves, there); why != "" {
		return providers.Object{Phase: resource.PhaseMissing, Message: why}, nil
	}
	o := providers.Object{Phase: resource.PhaseReady, Info: map[string]string{"endpoint": live.Endpoint}}
	if err := outputs(&o, req, live); err != nil {
		return o, err
	}
	o.Quarantined = serving.RefusedSince(s.AskedOf(f.Address), live, req.Record.Updated)
	if o.Drift, err = drift(f, there); err != nil {
		return o, err
	}
	return o, phase(&o, f, live, there.get(api.Kind, serves))
}

// missing says which of the objects is not there that a deployment consists of.
func missing(f rollout.Front, s *rollout.State, serves string, there found) string {
	type part struct {
		gvk  schema.GroupVersionKind
		name string
	}
	parts := []part{{gvkService, f.Name}, {gvkDeployment, f.Name}}
	if s.Live.Current.Number > 0 {
		parts = append(parts, part{api.Kind, serves})
		if _, graph, err := unkept(s.Good); err == nil && graph != nil {
			parts = append(parts, part{api.Graph, graphName(serves)})
		}
	}
	for _, p := range parts {
		switch u := there.get(p.gvk, p.name); {
		case u == nil:
			return fmt.Sprintf("%s %s/%s is not there", p.gvk.Kind, f.Namespace, p.name)
		case u.GetDeletionTimestamp() != nil:
			return fmt.Sprintf("%s %s/%s is being deleted", p.gvk.Kind, f.Namespace, p.name)
		}
	}
	return ""
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

// drift lists the fields that others changed. What an autoscaler owns is in objects of KServe's, of which none is looked at.
func drift(f rollout.Front, there found) ([]providers.Drift, error) {
	var out []providers.Drift
	for _, kind := range slices.Sorted(maps.Keys(there)) {
		for _, name := range slices.Sorted(maps.Keys(there[kind])) {
			u := there[kind][name]
			if f.Ours(u) != nil || u.GetLabels()[rollout.LabelPart] == "" {
				continue
			}
			changes, err := driftOf(u)
			if err != nil {
				return nil, err
			}
			out = append(out, changes...)
		}
	}
	return out, nil
}

// phase says where the deployment is.
func phase(o *providers.Object, f rollout.Front, live gateway.Live, service *unstructured.Unstructured) error {
	switch live.Phase {
	case gateway.PhaseStarting, gateway.PhaseRolling:
		o.Phase, o.Message = resource.PhaseRunning, serving.Brief(live.Message)
	case gateway.PhaseHeld:
		o.Phase, o.Message = resource.PhaseRunning, serving.Held(f.Address, live)
	case gateway.PhaseFailed, gateway.PhaseAborted, gateway.PhaseReady, gateway.PhaseStopped:
	}
	if live.Current.Number == 0 {
		if o.Phase == resource.PhaseReady {
			o.Phase, o.Message = resource.PhaseFailed, serving.Brief(live.Message)
		}
		return nil
	}
	o.Info["weights"] = fmt.Sprintf("version %d: %d %%", live.Current.Number, 100-live.Weight)
	if c := live.Candidate; c != nil {
		o.Info["weights"] += fmt.Sprintf(", version %d: %d %%", c.Number, live.Weight)
	}
	status, err := api.StatusOf(service)
	if err != nil {
		return err
	}
	if !status.Ready {
		o.Phase, o.Message = resource.PhaseFailed, fmt.Sprintf("InferenceService %s is not ready: %s", service.GetName(), status.Message)
	}
	return nil
}

// Delete implements providers.Typed: the Service goes first, so that no new request comes, then the routers with the requests in
// flight, then the servers; all by label and by what is there now, each waited for until it is gone.
func (d *deployment) Delete(ctx context.Context, req providers.DeleteRequest) error {
	c, err := d.cluster()
	if err == nil {
		err = d.remove(ctx, c, req)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	return nil
}

func (d *deployment) remove(ctx context.Context, c *kube.Client, req providers.DeleteRequest) error {
	ref, _, err := d.recorded(c, providers.ReadRequest{Address: req.Address, Record: req.Record})
	if err != nil {
		return err
	}
	f := rollout.Front{Name: ref.Name, Namespace: ref.Namespace, Address: req.Address, Project: ref.Project}.WithDefaults()
	if ref.Imported != "" {
		return d.removeImported(ctx, c, ref, req)
	}
	config, err := c.Get(ctx, kube.Ref{Version: "v1", Kind: "ConfigMap", Namespace: f.Namespace, Name: f.Name})
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	if len(req.Record.Ref) == 0 {
		if config == nil || config.GetAnnotations()[rollout.LabelAddress] != f.Address.String() {
			return nil // nothing was made
		}
		f.Project = config.GetLabels()[rollout.LabelProject]
	}
	// The ConfigMap goes last: it is what an interrupted deletion is found by again.
	for _, gvk := range []schema.GroupVersionKind{gvkService, gvkDeployment, api.Graph, api.Kind} {
		if err := d.removeAll(ctx, c, f, gvk, req); err != nil {
			return err
		}
	}
	// With it goes the Secret of the routers' token, which it owns.
	return d.removeAll(ctx, c, f, gvkConfigMap, req)
}

func (d *deployment) removeAll(ctx context.Context, c *kube.Client, f rollout.Front, gvk schema.GroupVersionKind, req providers.DeleteRequest) error {
	list, err := c.List(ctx, gvk, f.Namespace, kube.Selector{Labels: f.Selector() + "," + rollout.LabelPart + "=" + parts[gvk]})
	var missing *kube.MissingKindError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, u := range list {
		req.Emit(resource.Event{Time: d.now(), Type: resource.EventProgress, Address: req.Address.String(), Action: resource.Delete, Message: "removing " + kube.RefOf(u).String()})
		if err := remove(ctx, c, u, f.Drain+3*time.Minute); err != nil {
			return err
		}
	}
	return nil
}
