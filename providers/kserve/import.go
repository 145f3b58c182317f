package kserve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/resource"
)

// Import implements providers.Importer: id is NAMESPACE/NAME or NAME of an InferenceService. It is recorded as serving the block's
// model, and keeps its name and its address; the first change of the block makes it what the block says. Nothing is changed here.
func (d *deployment) Import(ctx context.Context, id string, req providers.ApplyRequest) (providers.Result, error) {
	var spec deploymentSpec
	if err := resource.Decode(req.Spec, &spec); err != nil {
		return providers.Result{}, fmt.Errorf("%s: read its attributes: %w", req.Address, err)
	}
	res, err := d.adopt(ctx, id, spec, req)
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: import %s: %w", req.Address, id, err)
	}
	return res, nil
}

func (d *deployment) adopt(ctx context.Context, id string, spec deploymentSpec, req providers.ApplyRequest) (providers.Result, error) {
	spec = d.withImage(spec)
	if err := spec.check(); err != nil {
		return providers.Result{}, err
	}
	c, err := d.cluster()
	if err != nil {
		return providers.Result{}, err
	}
	n := spec.nest(d.settings, c.Namespace())
	namespace, name, err := rollout.Named(id, "kserve", n.Namespace)
	if err != nil {
		return providers.Result{}, err
	}
	u, err := c.Get(ctx, kube.Ref{Group: api.Kind.Group, Version: api.Kind.Version, Kind: api.Kind.Kind, Namespace: namespace, Name: name})
	if err != nil {
		return providers.Result{}, err
	}
	if owner := u.GetLabels()[pods.LabelAddress]; owner != "" {
		return providers.Result{}, fmt.Errorf("it is one of a deployment's versions already (%s)", u.GetAnnotations()[pods.LabelAddress])
	}
	status, err := api.StatusOf(u)
	if err != nil {
		return providers.Result{}, err
	}
	if !status.Ready || status.URL == "" {
		return providers.Result{}, fmt.Errorf("it is not ready (%s); import it when it serves", cmp.Or(status.Message, "it has no URL"))
	}
	ref := deploymentRef{Ref: rollout.Ref{Namespace: namespace, Name: name}, Imported: name}
	if req.State != nil {
		ref.Project = req.State.Lineage
	}
	return providers.Result{
		Ref:     ref,
		Outputs: config.DeploymentOutputs{Address: req.Address.String(), Endpoint: status.URL, Version: spec.Model.Version, Digest: spec.Model.Digest},
		Message: fmt.Sprintf("InferenceService %s is taken for version %d", name, spec.Model.Version),
	}, nil
}

// direct makes an imported InferenceService what the block says, in place: its clients know its address, and no router stands before it.
func (d *deployment) direct(ctx context.Context, c *kube.Client, spec deploymentSpec, req providers.ApplyRequest, front rollout.Front, ref deploymentRef) (providers.Result, error) {
	fail := func(err error) (providers.Result, error) {
		var unfit *rollout.Unfit
		if errors.As(err, &unfit) {
			return providers.Result{}, &providers.RunError{Err: fmt.Errorf("%s: %w; KServe keeps the servers of before while new ones do not get ready", req.Address, err), Ref: ref}
		}
		return providers.Result{}, rollout.Failure(req.Address, ref, err)
	}
	if err := ref.rollable(spec); err != nil && !req.Force {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	n := spec.nest(d.settings, c.Namespace())
	name := kube.Ref{Group: api.Kind.Group, Version: api.Kind.Version, Kind: api.Kind.Kind, Namespace: ref.Namespace, Name: ref.Imported}
	live, err := c.Get(ctx, name)
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return fail(err)
	}
	if req.Adopt && (live == nil || live.GetAnnotations()[opNote] != req.OpID) {
		return providers.Result{}, fmt.Errorf("%s: operation %s: %w", req.Address, req.OpID, providers.ErrAbsent)
	}
	raw, err := d.resolve(ctx, c, spec, n, req)
	if err != nil {
		return fail(err)
	}
	rel, err := releaseOf(front, spec, n, raw, string(d.work.Key))
	if err != nil {
		return fail(err)
	}
	rel.name = ref.Imported
	f, err := newFleet(c, rel)
	if err != nil {
		return fail(err)
	}
	notes := f.object.GetAnnotations()
	notes[opNote] = req.OpID
	f.object.SetAnnotations(notes)
	err = f.make(ctx, func() (kube.Applied, error) {
		return c.Apply(ctx, f.object, kube.ApplyOptions{Force: []string{"spec", "metadata.labels", "metadata.annotations"}})
	})
	if err != nil {
		return fail(err)
	}
	if err := f.await(ctx, f.name, f.key, false, d.sayer(req)); err != nil {
		return fail(err)
	}
	if err := f.readBack(ctx); err != nil {
		return fail(err)
	}
	u, err := c.Get(ctx, name)
	if err != nil {
		return fail(err)
	}
	status, err := api.StatusOf(u)
	if err != nil {
		return fail(err)
	}
	return providers.Result{Ref: ref, Message: fmt.Sprintf("version %d serves", spec.Model.Version),
		Outputs: config.DeploymentOutputs{Address: req.Address.String(), Endpoint: status.URL, Version: spec.Model.Version, Digest: spec.Model.Digest}}, nil
}

// opNote on an imported service names the operation that changed it last.
const opNote = "continuo.dev/operation"

// readImported is what the cluster says of an InferenceService that was imported.
func readImported(ref deploymentRef, there rollout.Objects) (providers.Object, error) {
	u := there.Get(api.Kind, ref.Imported)
	if u == nil {
		return providers.Object{Phase: resource.PhaseMissing, Message: fmt.Sprintf("InferenceService %s/%s is not there", ref.Namespace, ref.Imported)}, nil
	}
	status, err := api.StatusOf(u)
	if err != nil {
		return providers.Object{}, err
	}
	o := providers.Object{Phase: resource.PhaseReady, Info: map[string]string{"endpoint": status.URL}}
	if !status.Ready {
		o.Phase, o.Message = resource.PhaseFailed, fmt.Sprintf("InferenceService %s is not ready: %s", ref.Imported, status.Message)
	}
	changes, err := driftOf(u)
	o.Drift = rollout.Drifted(u, changes)
	return o, err
}

// removeImported deletes the InferenceService that was imported: since then it is this block's.
func (d *deployment) removeImported(ctx context.Context, c *kube.Client, ref deploymentRef, req providers.DeleteRequest) error {
	u, err := c.Get(ctx, kube.Ref{Group: api.Kind.Group, Version: api.Kind.Version, Kind: api.Kind.Kind, Namespace: ref.Namespace, Name: ref.Imported})
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	req.Emit(resource.Event{Time: d.now(), Type: resource.EventProgress, Address: req.Address.String(), Action: resource.Delete, Message: "removing " + kube.RefOf(u).String()})
	return c.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{Within: 5 * time.Minute})
}
