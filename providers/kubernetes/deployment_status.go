package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// liveKinds are listed once per namespace, whatever the number of deployments in it.
var liveKinds = []schema.GroupVersionKind{gvkDeployment, serviceKind, gvkConfigMap, gvkScaler}

// downFor is how long no server may be ready before the deployment counts as failed: a node that restarts takes less.
const downFor = time.Minute

// group is the objects of one deployment, by kind and name.
type group map[string]*unstructured.Unstructured

func groupKey(kind, name string) string { return kind + "/" + name }

func (g group) get(gvk schema.GroupVersionKind, name string) *unstructured.Unstructured {
	return g[groupKey(gvk.Kind, name)]
}

// Read implements providers.Typed.
func (d *deployment) Read(ctx context.Context, req providers.ReadRequest) (providers.Object, error) {
	all, err := d.ReadAll(ctx, []providers.ReadRequest{req})
	if err != nil {
		return providers.Object{}, err
	}
	return all[0], nil
}

// ReadAll implements providers.BatchReader: one LIST per kind and namespace.
func (d *deployment) ReadAll(ctx context.Context, reqs []providers.ReadRequest) ([]providers.Object, error) {
	c, err := d.Cluster()
	if err != nil {
		return nil, err
	}
	fronts := make([]front, len(reqs))
	var namespaces []string
	for i, req := range reqs {
		if fronts[i], err = d.recorded(c, req.Address, req.Record.Ref, req.Record.Spec); err != nil {
			return nil, err
		}
		if !slices.Contains(namespaces, fronts[i].Namespace) {
			namespaces = append(namespaces, fronts[i].Namespace)
		}
	}
	groups := map[string]group{}
	for _, namespace := range namespaces {
		if err := d.list(ctx, c, namespace, groups); err != nil {
			return nil, err
		}
	}
	out := make([]providers.Object, len(reqs))
	for i, req := range reqs {
		g := groups[ownerKey(fronts[i].Namespace, fronts[i].labels(""))]
		if out[i], err = d.object(req, fronts[i], g); err == nil {
			err = d.resumable(ctx, c, fronts[i], g, &out[i])
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", req.Address, err)
		}
	}
	return out, nil
}

func ownerKey(namespace string, labels map[string]string) string {
	return namespace + "\x00" + labels[pods.LabelProject] + "\x00" + labels[pods.LabelAddress]
}

func (d *deployment) list(ctx context.Context, c *kube.Client, namespace string, into map[string]group) error {
	for _, gvk := range liveKinds {
		list, err := c.List(ctx, gvk, namespace, kube.Selector{Labels: kube.ManagedBy + "=" + kube.FieldManager + "," + labelPart})
		if err != nil {
			return err
		}
		for _, u := range list {
			key := ownerKey(namespace, u.GetLabels())
			if into[key] == nil {
				into[key] = group{}
			}
			into[key][groupKey(gvk.Kind, u.GetName())] = u
		}
	}
	return nil
}

// recorded is the front of a record. A record without a reference is of a deployment whose first apply got nowhere.
func (d *deployment) recorded(c *kube.Client, a resource.Address, raw, spec json.RawMessage) (front, error) {
	f := front{Name: objectName(a), Address: a, Port: 80, Drain: recordedDrain(spec)}
	var nested struct {
		Port       int `json:"port"`
		Kubernetes *struct {
			ClusterDomain string `json:"cluster_domain"`
		} `json:"kubernetes"`
	}
	if len(spec) > 0 && json.Unmarshal(spec, &nested) == nil {
		if nested.Kubernetes != nil {
			f.ClusterDomain = nested.Kubernetes.ClusterDomain
		}
		if nested.Port > 0 {
			f.Port = int32(nested.Port)
		}
	}
	f.serverSettings = f.withDefaults(d.Settings, c.Namespace())
	if len(raw) == 0 {
		return f, nil
	}
	var ref deploymentRef
	if err := json.Unmarshal(raw, &ref); err != nil {
		return f, fmt.Errorf("%s: read its reference: %w", a, err)
	}
	f.Name, f.Namespace, f.Project = ref.Name, ref.Namespace, ref.Project
	return f, nil
}

// recordedDrain is the drain of a recorded spec.
func recordedDrain(spec json.RawMessage) time.Duration {
	var s struct {
		Drain string `json:"drain"`
	}
	if len(spec) == 0 || json.Unmarshal(spec, &s) != nil {
		return defaultDrain
	}
	drain, err := resource.ParseDuration(s.Drain)
	if err != nil || drain <= 0 {
		return defaultDrain
	}
	return drain
}

// object is what the cluster says of one deployment.
func (d *deployment) object(req providers.ReadRequest, f front, g group) (providers.Object, error) {
	config := g.get(gvkConfigMap, f.Name)
	if config == nil {
		if req.Record.Phase == resource.PhaseFailed && len(req.Record.Outputs) == 0 {
			return providers.Object{Phase: resource.PhaseFailed, Message: req.Record.Message}, nil // nothing is gone: it never came
		}
		return providers.Object{Phase: resource.PhaseMissing, Message: fmt.Sprintf("ConfigMap %s/%s is not there", f.Namespace, f.Name)}, nil
	}
	s, err := rolloutOf(config)
	if err != nil {
		return providers.Object{}, err
	}
	live := s.Live
	live.Name, live.Address, live.Endpoint, live.Admin = f.Name, f.Address.String(), f.endpoint(), f.admin()
	if gone := missing(f, live, g); gone != "" {
		return providers.Object{Phase: resource.PhaseMissing, Message: gone}, nil
	}
	o := providers.Object{Phase: resource.PhaseReady, Info: map[string]string{"endpoint": live.Endpoint}}
	if err := outputs(&o, req, live); err != nil {
		return o, err
	}
	o.Quarantined = serving.RefusedSince(s.asked(f.Address), live, req.Record.Updated)
	if o.Drift, err = drift(g); err != nil {
		return o, err
	}
	d.phase(&o, f, live, g)
	return o, nil
}

// missing says which object that must be there is not.
func missing(f front, live gateway.Live, g group) string {
	need := []struct {
		gvk  schema.GroupVersionKind
		name string
	}{{gvkDeployment, f.Name}, {serviceKind, f.Name}}
	if n := live.Current.Number; n > 0 {
		need = append(need, need...)
		need[2].name, need[3].name = f.versionName(n), f.versionName(n)
	}
	for _, n := range need {
		u := g.get(n.gvk, n.name)
		if u == nil {
			return fmt.Sprintf("%s %s/%s is not there", n.gvk.Kind, f.Namespace, n.name)
		}
		if u.GetDeletionTimestamp() != nil {
			return fmt.Sprintf("%s %s/%s is being deleted", n.gvk.Kind, f.Namespace, n.name)
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

// drift lists the fields that others changed, over all objects. The number of servers belongs to an autoscaler, where there is one.
func drift(g group) ([]providers.Drift, error) {
	var out []providers.Drift
	keys := make([]string, 0, len(g))
	for key := range g {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		u := g[key]
		changes, err := kube.Drift(u)
		if err != nil {
			return nil, err
		}
		scaled := u.GetKind() == gvkDeployment.Kind && g.get(gvkScaler, u.GetName()) != nil
		for _, c := range changes {
			if scaled && c.Path == "spec.replicas" {
				continue
			}
			if u.GetKind() == gvkConfigMap.Kind {
				c.Old, c.New = "as applied", "changed" // whole files
			}
			out = append(out, providers.Drift{Path: u.GetKind() + "/" + u.GetName() + ":" + c.Path, Old: c.Old, New: c.New, By: c.By})
		}
	}
	return out, nil
}

// phase says where the deployment is.
func (d *deployment) phase(o *providers.Object, f front, live gateway.Live, g group) {
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
		return
	}
	name := f.versionName(live.Current.Number)
	text, down := servers(g.get(gvkDeployment, name), d.now())
	o.Info["replicas"] = text
	if down != "" {
		o.Phase, o.Message = resource.PhaseFailed, fmt.Sprintf("no server of %s is ready: %s", live.Current, down)
		return
	}
	if _, down := servers(g.get(gvkDeployment, f.Name), d.now()); down != "" {
		o.Phase, o.Message = resource.PhaseFailed, "no router is ready: "+down
	}
}

// servers counts a Deployment's pods, "1 of 2 ready", and says since when and why there is none.
func servers(u *unstructured.Unstructured, now time.Time) (text, down string) {
	var dep appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &dep); err != nil {
		return "", ""
	}
	all := int32(1)
	if dep.Spec.Replicas != nil {
		all = *dep.Spec.Replicas
	}
	text = fmt.Sprintf("%d of %d ready", dep.Status.ReadyReplicas, all)
	for _, c := range dep.Status.Conditions {
		if c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionFalse && dep.Status.ReadyReplicas == 0 && now.Sub(c.LastTransitionTime.Time) > downFor {
			down = c.Message
		}
	}
	return text, down
}

// Delete implements providers.Typed: the Service goes first, so that no new request comes, then the routers with the requests in
// flight, then the servers; all by label and by what is there now, each waited for until it is gone.
func (d *deployment) Delete(ctx context.Context, req providers.DeleteRequest) error {
	c, err := d.Cluster()
	if err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	f, err := d.recorded(c, req.Address, req.Record.Ref, req.Record.Spec)
	if err != nil {
		return err
	}
	if len(req.Record.Ref) == 0 {
		if f.Project, err = projectOf(ctx, c, f); err != nil {
			return fmt.Errorf("%s: %w", req.Address, err)
		}
	}
	for _, part := range []string{partRouter, partServer} {
		for _, gvk := range []schema.GroupVersionKind{serviceKind, gvkScaler, gvkDeployment, gvkConfigMap} {
			if gvk == gvkConfigMap && part == partRouter {
				continue // it is what an interrupted deletion is found by again
			}
			if err := d.deleteAll(ctx, c, f, gvk, labelPart+"="+part, req); err != nil {
				return fmt.Errorf("%s: %w", req.Address, err)
			}
		}
	}
	// Last, and with it the Secret of the routers' token, which it owns.
	if err := d.deleteAll(ctx, c, f, gvkConfigMap, labelPart, req); err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	return nil
}

func (d *deployment) deleteAll(ctx context.Context, c *kube.Client, f front, gvk schema.GroupVersionKind, part string, req providers.DeleteRequest) error {
	list, err := c.List(ctx, gvk, f.Namespace, kube.Selector{Labels: f.selector() + "," + part})
	if err != nil {
		return err
	}
	for _, u := range list {
		req.Emit(resource.Event{Time: d.now(), Type: resource.EventProgress, Address: req.Address.String(), Action: resource.Delete, Message: "removing " + kube.RefOf(u).String()})
		if err := c.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{Within: f.Drain + goneWithin}); err != nil {
			return err
		}
	}
	return nil
}

// projectOf is whose the objects of that name are, when no record says so.
func projectOf(ctx context.Context, c *kube.Client, f front) (string, error) {
	u, err := c.Get(ctx, kube.Ref{Version: "v1", Kind: "ConfigMap", Namespace: f.Namespace, Name: f.Name})
	if errors.Is(err, kube.ErrNotFound) {
		return "none", nil // matches nothing
	}
	if err != nil {
		return "", err
	}
	if u.GetAnnotations()[pods.LabelAddress] != f.Address.String() {
		return "none", nil
	}
	return u.GetLabels()[pods.LabelProject], nil
}
