package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// fleet runs the servers of a deployment's versions: each version is a Deployment with a Service and, if it scales, an autoscaler.
type fleet struct {
	version
	client *kube.Client
	key    string
}

// newFleet completes a version by what its operation resolved.
func newFleet(c *kube.Client, v version, raw json.RawMessage, secret string) (*fleet, error) {
	if err := json.Unmarshal(raw, &v.resolved); err != nil {
		return nil, fmt.Errorf("read what was resolved: %w", err)
	}
	if v.Fetch != "" {
		var t pod.FetchTask
		if err := json.Unmarshal([]byte(v.Fetch), &t); err != nil {
			return nil, fmt.Errorf("read what to fetch: %w", err)
		}
		if t.Model != nil {
			v.ModelDir = pods.Home + "/model"
		}
		if t.Code != nil {
			v.WorkDir = pods.Home + "/code"
		}
	}
	f := &fleet{version: v, client: c}
	var err error
	if f.EnvKey, err = f.envKey(secret); err != nil {
		return nil, err
	}
	f.key, err = f.version.key()
	return f, err
}

// Key implements rollout.Servers.
func (f *fleet) Key() string { return f.key }

// Objects implements rollout.Servers.
func (f *fleet) Objects(ctx context.Context) ([]*unstructured.Unstructured, error) {
	service, err := f.service()
	if err != nil {
		return nil, err
	}
	out := []*unstructured.Unstructured{service}
	if f.Spec.Scale != nil {
		scaler, err := f.scaler()
		if err != nil {
			return nil, err
		}
		out = append(out, scaler)
	}
	replicas, err := f.keptReplicas(ctx)
	if err != nil {
		return nil, err
	}
	u, err := f.deployment(replicas)
	return append(out, u), err
}

// Up implements rollout.Servers. A *kube.CauseError says why the servers cannot work.
func (f *fleet) Up(ctx context.Context, say func(string)) (string, error) {
	service, err := f.service()
	if err != nil {
		return "", err
	}
	made, err := f.Apply(ctx, f.client, service)
	if err != nil {
		return "", err
	}
	if f.EnvKey != "" {
		secret, err := f.envSecret(rollout.OwnedBy(made.Ref))
		if err != nil {
			return "", err
		}
		if _, err := f.client.Apply(ctx, secret, kube.ApplyOptions{Force: []string{"data"}}); err != nil {
			return "", err
		}
	}
	// The dot that ends the name saves a resolver its search list.
	return fmt.Sprintf("http://%s.%s.svc.%s.:80", f.name(), f.Namespace, f.ClusterDomain), f.serve(ctx, say)
}

// serve applies the version's Deployment and autoscaler, and waits.
func (f *fleet) serve(ctx context.Context, say func(string)) error {
	replicas, err := f.keptReplicas(ctx)
	if err != nil {
		return err
	}
	u, err := f.deployment(replicas)
	if err != nil {
		return err
	}
	if err := f.scale(ctx); err != nil {
		return err
	}
	made, err := f.Apply(ctx, f.client, u)
	if err != nil {
		return err
	}
	return f.await(ctx, made.Ref, f.readyWithin()+rollout.PullAllowance, say)
}

// scale applies the autoscaler, or removes one that is no longer asked for.
func (f *fleet) scale(ctx context.Context) error {
	if f.Spec.Scale != nil {
		scaler, err := f.scaler()
		if err != nil {
			return err
		}
		_, err = f.Apply(ctx, f.client, scaler)
		return err
	}
	u, err := f.client.Get(ctx, f.ref(gvkScaler, f.name()))
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Ours(u); err != nil {
		return err
	}
	return f.client.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{})
}

func (f *fleet) ref(gvk schema.GroupVersionKind, name string) kube.Ref {
	return kube.Ref{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: f.Namespace, Name: name}
}

func (f *fleet) await(ctx context.Context, ref kube.Ref, within time.Duration, say func(string)) error {
	return f.client.Wait(ctx, []kube.Ref{ref}, within, func(p kube.Progress) {
		if !p.Ready && p.Message != "" {
			say(p.Ref.Name + ": " + p.Message)
		}
	})
}

// keptReplicas is how many servers the Deployment is applied with. Once an autoscaler decides, the field is left to it; but giving up a
// field that only we own would set it back to one, so it stays as it is until the autoscaler has written it.
func (f *fleet) keptReplicas(ctx context.Context) (*int32, error) {
	if f.Spec.Scale == nil {
		return f.replicas(), nil
	}
	u, err := f.client.Get(ctx, f.ref(gvkDeployment, f.name()))
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil
	}
	if err != nil || !weOwnReplicas(u) {
		return nil, err
	}
	n, found, err := unstructured.NestedInt64(u.Object, "spec", "replicas")
	if err != nil || !found {
		return nil, err
	}
	return new(int32(n)), nil
}

// weOwnReplicas looks into the managers of a Deployment's fields.
func weOwnReplicas(u *unstructured.Unstructured) bool {
	for _, e := range u.GetManagedFields() {
		if e.Manager != kube.FieldManager || e.Operation != "Apply" || e.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]any `json:"f:spec"`
		}
		if json.Unmarshal(e.FieldsV1.Raw, &fields) == nil {
			if _, ok := fields.Spec["f:replicas"]; ok {
				return true
			}
		}
	}
	return false
}

// Check implements rollout.Servers.
func (f *fleet) Check(ctx context.Context) (ready, gone bool, err error) {
	u, err := f.client.Get(ctx, f.ref(gvkDeployment, f.name()))
	if errors.Is(err, kube.ErrNotFound) {
		return false, true, nil
	}
	if err != nil {
		return false, false, err
	}
	return kube.Ready(u).Ready, false, nil
}

// Good implements rollout.Servers.
func (f *fleet) Good() (json.RawMessage, error) {
	u, err := f.deployment(f.replicas())
	if err != nil {
		return nil, err
	}
	return u.MarshalJSON()
}

// Restore implements rollout.Servers.
func (f *fleet) Restore(ctx context.Context, number int, good json.RawMessage, onlyMissing bool) (bool, error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(good); err != nil {
		return false, fmt.Errorf("read the Deployment that was good: %w", err)
	}
	service, err := version{Front: f.Front, Number: number}.service()
	if err != nil {
		return false, err
	}
	if onlyMissing {
		missing := false
		for _, ref := range []kube.Ref{kube.RefOf(service), kube.RefOf(u)} {
			_, err := f.client.Get(ctx, ref)
			if err != nil && !errors.Is(err, kube.ErrNotFound) {
				return false, err
			}
			missing = missing || err != nil
		}
		if !missing {
			return false, nil
		}
	}
	if _, err := f.Apply(ctx, f.client, service); err != nil {
		return false, err
	}
	made, err := f.Apply(ctx, f.client, u)
	if err != nil {
		return false, err
	}
	return true, f.await(ctx, made.Ref, rollout.PullAllowance, func(string) {})
}

// Sweep implements rollout.Servers. Variables go with the Services that own them.
func (f *fleet) Sweep(ctx context.Context, keep []int, say func(string)) error {
	for _, gvk := range []schema.GroupVersionKind{gvkScaler, gvkDeployment, serviceKind} {
		list, err := f.client.List(ctx, gvk, f.Namespace, kube.Selector{Labels: f.Selector() + "," + rollout.LabelPart + "=" + rollout.PartServer})
		if err != nil {
			return err
		}
		for _, u := range list {
			n, err := strconv.Atoi(u.GetLabels()[rollout.LabelVersion])
			if err == nil && slices.Contains(keep, n) {
				continue
			}
			say("removing " + kube.RefOf(u).String())
			if err := f.client.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{Propagation: metav1.DeletePropagationBackground}); err != nil {
				return err
			}
		}
	}
	return nil
}
