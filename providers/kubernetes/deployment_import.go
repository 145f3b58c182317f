package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// opNote on an imported Deployment names the operation that changed it last.
const opNote = "continuo.dev/operation"

// deploymentRef is what a record keeps of a deployment.
type deploymentRef struct {
	rollout.Ref
	// Imported names a Deployment that was there before, and that keeps its name; its Service is not touched.
	Imported string `json:"imported,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
}

// importedBy is the reference of a record of an imported Deployment; nil when it was not imported.
func importedBy(rec *state.Record) (*deploymentRef, error) {
	if rec == nil || len(rec.Ref) == 0 {
		return nil, nil
	}
	var ref deploymentRef
	if err := json.Unmarshal(rec.Ref, &ref); err != nil {
		return nil, fmt.Errorf("read its reference: %w", err)
	}
	if ref.Imported == "" {
		return nil, nil
	}
	return &ref, nil
}

func (r *deploymentRef) object() kube.Ref {
	return kube.Ref{Group: gvkDeployment.Group, Version: gvkDeployment.Version, Kind: gvkDeployment.Kind, Namespace: r.Namespace, Name: r.Imported}
}

// Import implements providers.Importer: id is NAMESPACE/NAME or NAME of a Deployment. It is recorded as serving the block's model, and keeps
// its name and its Service; the first change of the block makes it what the block says. Nothing is changed here.
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
	if err := spec.check(); err != nil {
		return providers.Result{}, err
	}
	c, err := d.Cluster()
	if err != nil {
		return providers.Result{}, err
	}
	nest := spec.nest(d.Settings, c.Namespace())
	namespace, object, err := rollout.Named(id, "kubernetes", nest.Namespace)
	if err != nil {
		return providers.Result{}, err
	}
	ref := deploymentRef{Ref: rollout.Ref{Namespace: namespace, Name: object}, Imported: object}
	u, err := c.Get(ctx, ref.object())
	if err != nil {
		return providers.Result{}, err
	}
	live, err := importable(u)
	if err != nil {
		return providers.Result{}, err
	}
	if n := live.Spec.Replicas; n != nil && int(*n) != spec.Replicas {
		return providers.Result{}, fmt.Errorf("it has %d replicas, and the block says %d, to which the next change would set it: set replicas = %d", *n, spec.Replicas, *n)
	}
	if ref.Endpoint, err = d.service(ctx, c, live, cmp.Or(nest.ClusterDomain, "cluster.local")); err != nil {
		return providers.Result{}, err
	}
	if req.State != nil {
		ref.Project = req.State.Lineage
	}
	return providers.Result{Ref: ref, Outputs: ref.outputs(req.Address, spec.Model),
		Message: fmt.Sprintf("Deployment %s is taken for version %d", object, spec.Model.Version)}, nil
}

func (r *deploymentRef) outputs(a resource.Address, m *config.Model) config.DeploymentOutputs {
	return config.DeploymentOutputs{Address: a.String(), Endpoint: r.Endpoint, Version: m.Version, Digest: m.Digest}
}

// importable decodes a Deployment that may be taken over.
func importable(u *unstructured.Unstructured) (*appsv1.Deployment, error) {
	var live appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &live); err != nil {
		return nil, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	ready := kube.Ready(u)
	switch n := len(live.Spec.Template.Spec.Containers); {
	case live.Labels[pods.LabelAddress] != "":
		return nil, fmt.Errorf("it is one of a deployment's own already (%s)", live.Annotations[pods.LabelAddress])
	case n != 1:
		return nil, fmt.Errorf("its pods have %d containers; which of them is the server cannot be told", n)
	case !ready.Ready:
		return nil, fmt.Errorf("it is not ready (%s); import it when it serves", ready.Message)
	}
	return &live, nil
}

// service is where a Deployment's pods answer: at the one Service that selects them.
func (d *deployment) service(ctx context.Context, c *kube.Client, live *appsv1.Deployment, domain string) (string, error) {
	list, err := c.List(ctx, serviceKind, live.Namespace, kube.Selector{})
	if err != nil {
		return "", err
	}
	var found []string
	for _, u := range list {
		var s corev1.Service
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &s); err != nil {
			return "", fmt.Errorf("read %s: %w", kube.RefOf(u), err)
		}
		if len(s.Spec.Selector) == 0 || len(s.Spec.Ports) == 0 || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(live.Spec.Template.Labels)) {
			continue
		}
		url := fmt.Sprintf("http://%s.%s.svc.%s", s.Name, s.Namespace, domain)
		if port := s.Spec.Ports[0].Port; port != 80 {
			url += fmt.Sprintf(":%d", port)
		}
		found = append(found, url)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d Services select its pods (%s); which of them its clients use must be clear: there has to be one", len(found), strings.Join(found, ", "))
	}
	return found[0], nil
}

// direct makes an imported Deployment what the block says, in place: its clients know its Service, and no router stands before it. What the
// block does not speak of stays as it was.
func (d *deployment) direct(ctx context.Context, spec deploymentSpec, req providers.ApplyRequest, ref *deploymentRef) (providers.Result, error) {
	fail := func(err error) (providers.Result, error) {
		var cause *kube.CauseError
		if errors.As(err, &cause) || errors.Is(err, kube.ErrNotReady) {
			err = fmt.Errorf("%w; the pods of before serve on while new ones do not get ready", err)
		}
		return providers.Result{}, rollout.Failure(req.Address, ref, err)
	}
	if err := spec.checkImported(ref, req.Force); err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	c, err := d.Cluster()
	if err != nil {
		return fail(err)
	}
	live, err := c.Get(ctx, ref.object())
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return fail(err)
	}
	if req.Adopt && (live == nil || live.GetAnnotations()[opNote] != req.OpID) {
		return providers.Result{}, fmt.Errorf("%s: operation %s: %w", req.Address, req.OpID, providers.ErrAbsent)
	}
	if live == nil {
		return fail(fmt.Errorf("the imported Deployment %s/%s is gone, with what only it knew; make it again, or `ml state rm` the block and let a new one be made", ref.Namespace, ref.Imported))
	}
	f, u, err := d.inPlace(ctx, c, spec, req, ref, live)
	if err != nil {
		return fail(err)
	}
	if f.EnvKey != "" {
		secret, err := f.envSecret(rollout.OwnedBy(kube.RefOf(live)))
		if err != nil {
			return fail(err)
		}
		if _, err := c.Apply(ctx, secret, kube.ApplyOptions{Force: []string{"data"}}); err != nil {
			return fail(err)
		}
	}
	made, err := c.Apply(ctx, u, kube.ApplyOptions{Force: []string{"spec", "metadata.labels", "metadata.annotations"}})
	if err != nil {
		return fail(err)
	}
	say := func(text string) {
		req.Emit(resource.Event{Time: d.now(), Type: resource.EventProgress, Address: req.Address.String(), Action: req.Action, Message: serving.Brief(text)})
	}
	if err := f.await(ctx, made.Ref, f.readyWithin()+rollout.PullAllowance, say); err != nil {
		return fail(err)
	}
	return providers.Result{Ref: ref, Outputs: ref.outputs(req.Address, spec.Model), Message: fmt.Sprintf("version %d serves", spec.Model.Version)}, nil
}

// checkImported says what cannot be had without a router.
func (s deploymentSpec) checkImported(ref *deploymentRef, force bool) error {
	if err := s.check(); err != nil {
		return err
	}
	const instead = "destroy it and let a new one be made"
	switch {
	case s.Rollout != nil && s.Rollout.Strategy != gateway.Rolling && !force:
		return fmt.Errorf("rollout.strategy: Deployment %s was imported and has no router before it, so %s is not possible; use rolling, or %s", ref.Imported, s.Rollout.Strategy, instead)
	case s.Transformer != nil:
		return fmt.Errorf("transformer: Deployment %s was imported with one container; %s", ref.Imported, instead)
	case s.Scale != nil:
		return fmt.Errorf("scale: Deployment %s was imported; who scales it stays as it was: remove the block, or %s", ref.Imported, instead)
	case s.Kubernetes != nil && s.Kubernetes.Route != nil:
		return fmt.Errorf("kubernetes.route: Deployment %s was imported and has no router before it; %s", ref.Imported, instead)
	}
	return nil
}

// inPlace is the version as the imported Deployment: with its name, its selector, and the name and port of its container.
func (d *deployment) inPlace(ctx context.Context, c *kube.Client, spec deploymentSpec, req providers.ApplyRequest, ref *deploymentRef, live *unstructured.Unstructured) (*fleet, *unstructured.Unstructured, error) {
	var was appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &was); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", kube.RefOf(live), err)
	}
	if len(was.Spec.Template.Spec.Containers) == 0 {
		return nil, nil, fmt.Errorf("%s has no container", kube.RefOf(live))
	}
	nest := spec.nest(d.Settings, c.Namespace())
	front, err := d.front(spec, nest, req)
	if err != nil {
		return nil, nil, err
	}
	raw, _, err := d.resolve(ctx, spec, req)
	if err != nil {
		return nil, nil, err
	}
	v := version{Front: front, Spec: spec, Nest: nest, Number: spec.Model.Version, CodeDigest: req.Probed["code"]}
	server := was.Spec.Template.Spec.Containers[0]
	if len(server.Ports) > 0 {
		v.Port = int(server.Ports[0].ContainerPort) // its Service goes there
	}
	f, err := newFleet(c, v, raw, string(d.Work.Key))
	if err != nil {
		return nil, nil, err
	}
	u, err := f.deployment(f.replicas())
	if err != nil {
		return nil, nil, err
	}
	var dep appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &dep); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	dep.Name, dep.Spec.Selector = ref.Imported, was.Spec.Selector
	maps.Copy(dep.Spec.Template.Labels, was.Spec.Template.Labels)
	dep.Spec.Template.Spec.Containers[0].Name = server.Name
	if len(server.Ports) > 0 {
		dep.Spec.Template.Spec.Containers[0].Ports[0].Name = server.Ports[0].Name
	}
	dep.Annotations[opNote] = req.OpID
	delete(dep.Annotations, kube.AnnotationApplied)
	u, err = rollout.Remembered(gvkDeployment, dep)
	return f, u, err
}

// readImported is what the cluster says of a Deployment that was imported.
func (d *deployment) readImported(ctx context.Context, c *kube.Client, ref *deploymentRef) (providers.Object, error) {
	u, err := c.Get(ctx, ref.object())
	if errors.Is(err, kube.ErrNotFound) {
		return providers.Object{Phase: resource.PhaseMissing, Message: fmt.Sprintf("Deployment %s/%s is not there", ref.Namespace, ref.Imported)}, nil
	}
	if err != nil {
		return providers.Object{}, err
	}
	text, down, err := rollout.ReadyPods(u, d.now())
	if err != nil {
		return providers.Object{}, err
	}
	o := providers.Object{Phase: resource.PhaseReady, Info: map[string]string{"endpoint": ref.Endpoint, "replicas": text}}
	if down != "" {
		o.Phase, o.Message = resource.PhaseFailed, "no server is ready: "+down
	}
	changes, err := kube.Drift(u)
	o.Drift = rollout.Drifted(u, changes)
	return o, err
}

// removeImported deletes the Deployment that was imported: since then it is this block's. Its Service stays.
func (d *deployment) removeImported(ctx context.Context, c *kube.Client, ref *deploymentRef, req providers.DeleteRequest) error {
	u, err := c.Get(ctx, ref.object())
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	req.Emit(resource.Event{Time: d.now(), Type: resource.EventProgress, Address: req.Address.String(), Action: resource.Delete, Message: "removing " + kube.RefOf(u).String()})
	return c.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{Within: rollout.GoneWithin})
}
