package kserve

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// parts are what deployments consist of here. KServe hands our labels on to what it makes for an InferenceService, so that a Service or a
// Deployment is ours only as a router's. InferenceServices that were imported bear no label of ours yet.
func (d *deployment) parts() rollout.Parts {
	return rollout.Parts{
		Kinds:   []rollout.Kind{{GroupVersionKind: api.Graph}, {GroupVersionKind: gvkService, Part: rollout.PartRouter}, {GroupVersionKind: gvkDeployment, Part: rollout.PartRouter}, {GroupVersionKind: api.Kind, Part: rollout.PartServer, All: true}},
		Version: []schema.GroupVersionKind{api.Kind},
		Also:    withGraph, Remove: remove,
		Health: health, Enters: enters, Now: d.now, Key: d.work.Key,
		// What an autoscaler owns is in objects of KServe's, of which none is looked at.
		Drift: func(o rollout.Objects, u *unstructured.Unstructured) ([]kube.FieldChange, error) {
			if u.GetKind() == api.Kind.Kind && u.GetLabels()[api.VisibilityLabel] == api.ClusterLocal {
				return stagedDrift(o, u)
			}
			if ofGraph(u) {
				return nil, nil
			}
			changes, err := driftOf(u)
			if err == nil && u.GetAnnotations()[api.TagAnnotation] != "" {
				more, err := driftOfShare(o, u)
				return append(changes, more...), err
			}
			return changes, err
		},
	}
}

// withGraph names the graph of a version that had one when it took over.
func withGraph(good json.RawMessage, name string) []rollout.Object {
	if _, graph, err := unkept(good); err == nil && graph != nil {
		return []rollout.Object{{GroupVersionKind: api.Graph, Name: graphName(name)}}
	}
	return nil
}

// ofGraph reports whether KServe made an object for a graph: it hands on our labels, and even what we remember of the graph.
func ofGraph(u *unstructured.Unstructured) bool {
	return slices.ContainsFunc(u.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.Kind == api.Graph.Kind })
}

// health is what KServe says of a version.
func health(o rollout.Objects, name string) (rollout.Health, error) {
	status, err := api.StatusOf(o.Get(api.Kind, name))
	h := rollout.Health{Ready: status.Ready, Info: status.Shares()}
	if !status.Ready && !status.Routed {
		h.Down = fmt.Sprintf("InferenceService %s is not ready: %s", name, cmp.Or(status.Message, "KServe does not say why"))
	}
	return h, err
}

// Read implements providers.Typed.
func (d *deployment) Read(ctx context.Context, req providers.ReadRequest) (providers.Object, error) {
	all, err := d.ReadAll(ctx, []providers.ReadRequest{req})
	if err != nil {
		return providers.Object{}, err
	}
	return all[0], all[0].Err
}

// ReadAll implements providers.BatchReader: one LIST per kind and namespace.
func (d *deployment) ReadAll(ctx context.Context, reqs []providers.ReadRequest) ([]providers.Object, error) {
	c, err := d.cluster()
	if err != nil {
		return nil, err
	}
	fronts, refs := make([]rollout.Front, len(reqs)), make([]deploymentRef, len(reqs))
	for i, req := range reqs {
		if fronts[i], refs[i], err = d.recorded(c, req.Address, req.Record); err != nil {
			return nil, err
		}
	}
	parts := d.parts()
	there, err := parts.List(ctx, c.Reads(providers.LookOf(reqs)), fronts...)
	if err != nil {
		return nil, err
	}
	out := make([]providers.Object, len(reqs))
	for i, req := range reqs {
		if refs[i].Imported != "" {
			out[i], err = readImported(refs[i], there.In(refs[i].Namespace))
		} else {
			out[i], err = parts.Read(ctx, c, there, fronts[i], req)
		}
		if err != nil {
			out[i].Err = fmt.Errorf("%s: %w", req.Address, err)
		}
	}
	return out, nil
}

// Watch implements providers.Watcher.
func (d *deployment) Watch(ctx context.Context, req providers.WatchRequest) ([]resource.Address, error) {
	c, err := d.cluster()
	if err != nil {
		return nil, err
	}
	var all []rollout.Told
	for _, r := range req.Records {
		front, ref, err := d.recorded(c, r.Address, r.Record)
		if err != nil {
			return nil, err
		}
		t := rollout.Told{Address: r.Address, Front: front}
		if ref.Imported != "" {
			t.Also = &kube.Ref{Group: api.Kind.Group, Version: api.Kind.Version, Kind: api.Kind.Kind, Namespace: ref.Namespace, Name: ref.Imported}
		}
		all = append(all, t)
	}
	return d.parts().Watch(ctx, c, all, req), nil
}

// recorded is what stands before the versions of a record, and its reference.
func (d *deployment) recorded(c *kube.Client, a resource.Address, rec *state.Record) (rollout.Front, deploymentRef, error) {
	f, err := rollout.Front{Name: rollout.ObjectName(a, longestName), Namespace: c.Namespace(), Address: a}.Recorded(rec, "kserve")
	var ref deploymentRef
	if err == nil && len(rec.Ref) > 0 {
		err = json.Unmarshal(rec.Ref, &ref)
	}
	if err != nil {
		return f, ref, fmt.Errorf("%s: %w", a, err)
	}
	f = carriedBy(f, ref.Canary)
	if ref.Canary == bySpec {
		f = ref.single(f)
	}
	return f, ref, nil
}

// Delete implements providers.Typed.
func (d *deployment) Delete(ctx context.Context, req providers.DeleteRequest) error {
	c, err := d.cluster()
	if err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	f, ref, err := d.recorded(c, req.Address, req.Record)
	if err != nil {
		return err
	}
	if ref.Imported != "" {
		err = d.removeImported(ctx, c, ref, req)
	} else {
		err = d.parts().Delete(ctx, c, f, req)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	return nil
}
