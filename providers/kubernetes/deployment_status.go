package kubernetes

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/resource"
)

// parts are what deployments consist of here.
func (d *deployment) parts() rollout.Parts {
	return rollout.Parts{
		Kinds:   []rollout.Kind{{GroupVersionKind: serviceKind}, {GroupVersionKind: gvkScaler}, {GroupVersionKind: gvkDeployment}},
		Version: []schema.GroupVersionKind{gvkDeployment, serviceKind},
		Health:  d.health, Drift: drift, Now: d.now, Key: d.Work.Key,
	}
}

// health counts the pods of a version.
func (d *deployment) health(o rollout.Objects, name string) (rollout.Health, error) {
	u := o.Get(gvkDeployment, name)
	text, down, err := rollout.ReadyPods(u, d.now())
	h := rollout.Health{Ready: kube.Ready(u).Ready, Info: map[string]string{"replicas": text}}
	if down != "" {
		h.Down = "no server is ready: " + down
	}
	return h, err
}

// drift lists the fields that others changed. The number of servers belongs to an autoscaler, where there is one.
func drift(o rollout.Objects, u *unstructured.Unstructured) ([]kube.FieldChange, error) {
	changes, err := kube.Drift(u)
	if err != nil || u.GetKind() != gvkDeployment.Kind || o.Get(gvkScaler, u.GetName()) == nil {
		return changes, err
	}
	var out []kube.FieldChange
	for _, c := range changes {
		if c.Path != "spec.replicas" {
			out = append(out, c)
		}
	}
	return out, nil
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
	c, err := d.Cluster()
	if err != nil {
		return nil, err
	}
	fronts := make([]rollout.Front, len(reqs))
	for i, req := range reqs {
		if _, fronts[i], err = d.recorded(req.Address, req.Record); err != nil {
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
		ref, err := importedBy(req.Record)
		if err == nil && ref != nil {
			out[i], err = d.readImported(ctx, c, ref)
		} else if err == nil {
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
	c, err := d.Cluster()
	if err != nil {
		return nil, err
	}
	var all []rollout.Told
	for _, r := range req.Records {
		_, front, err := d.recorded(r.Address, r.Record)
		if err != nil {
			return nil, err
		}
		t := rollout.Told{Address: r.Address, Front: front}
		imported, err := importedBy(r.Record)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Address, err)
		}
		if imported != nil {
			ref := imported.object()
			t.Also = &ref
		}
		all = append(all, t)
	}
	return d.parts().Watch(ctx, c, all, req), nil
}

// Delete implements providers.Typed.
func (d *deployment) Delete(ctx context.Context, req providers.DeleteRequest) error {
	c, f, err := d.recorded(req.Address, req.Record)
	if err != nil {
		return err
	}
	ref, err := importedBy(req.Record)
	switch {
	case err == nil && ref != nil:
		err = d.removeImported(ctx, c, ref, req)
	case err == nil:
		err = d.parts().Delete(ctx, c, f, req)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	return nil
}
