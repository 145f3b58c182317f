package kserve

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
)

var (
	gvkRevision     = schema.GroupVersionKind{Group: "serving.knative.dev", Version: "v1", Kind: "Revision"}
	gvkKnativeRoute = schema.GroupVersionKind{Group: "serving.knative.dev", Version: "v1", Kind: "Route"}
)

// revisionLabel on what Knative makes for a revision names it.
const revisionLabel = "serving.knative.dev/revision"

// revisions are Knative's of this InferenceService, by name.
func (f *fleet) revisions(ctx context.Context) (map[string]*unstructured.Unstructured, error) {
	list, err := f.client.List(ctx, gvkRevision, f.Namespace, kube.Selector{Labels: api.Label + "=" + f.name})
	if err != nil {
		return nil, err
	}
	out := map[string]*unstructured.Unstructured{}
	for _, u := range list {
		out[u.GetName()] = u
	}
	return out, nil
}

// lookAtRevisions judges servers that Knative runs by the newest revision of each component, which must be of the key: the InferenceService
// counts its generations by those of Knative's service, and calls itself ready while the revision of before serves.
func (f *fleet) lookAtRevisions(ctx context.Context, u *unstructured.Unstructured, key string, status api.Status) (condition, error) {
	c := condition{object: u}
	all, err := f.revisions(ctx)
	if err != nil {
		return c, err
	}
	parts := []string{"predictor"}
	for _, p := range []string{"transformer", "explainer"} {
		if _, found, err := unstructured.NestedMap(u.Object, "spec", p); err != nil {
			return c, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
		} else if found {
			parts = append(parts, p)
		}
	}
	for _, part := range parts {
		r := newest(all, part)
		if r != nil && r.GetAnnotations()[releaseNote] != key {
			r = nil // one with the key may be there of before; Knative makes another
		}
		if r == nil && strings.Contains(status.Message, "denied the request") {
			return c, &rollout.Unfit{Reason: status.Message} // by a webhook, and it will be again
		}
		if r == nil {
			c.why = cmpOr(status.Message, "Knative has made no revision of its "+part+" yet")
			return c, nil
		}
		state := kube.Ready(r)
		if !state.Ready {
			c.why = r.GetName() + ": " + state.Message
			// Its Deployment is what pods are found by.
			made, err := f.client.List(ctx, gvkDeployment, f.Namespace, kube.Selector{Labels: revisionLabel + "=" + r.GetName()})
			if err == nil && len(made) > 0 {
				c.object = made[0]
			}
			return c, err
		}
	}
	c.ready, c.why = status.Ready, status.Message
	return c, nil
}

// newest is the newest revision of a component, nil if there is none.
func newest(all map[string]*unstructured.Unstructured, part string) *unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, u := range all {
		if u.GetLabels()["component"] == part {
			found = append(found, u)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return slices.MaxFunc(found, func(a, b *unstructured.Unstructured) int {
		if d := a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time); d != 0 {
			return d
		}
		return slices.Compare([]byte(a.GetName()), []byte(b.GetName())) // numbered with leading zeros
	})
}
