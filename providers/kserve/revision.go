package kserve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

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
	var c condition
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
		if r == nil || r.GetAnnotations()[releaseNote] != key { // one of before may be there, even with the key, and asleep
			if strings.Contains(status.Message, "denied the request") {
				return c, &rollout.Unfit{Reason: status.Message} // by a webhook, and it will be again
			}
			c.why = cmp.Or(status.Message, "Knative has made no revision of its "+part+" yet")
			return c, nil
		}
		if c.object, err = f.madeFor(ctx, r); err != nil {
			return c, err
		}
		if state := kube.Ready(r); !state.Ready {
			c.why = r.GetName() + ": " + state.Message
			return c, nil
		}
	}
	c.ready, c.why = status.Ready, status.Message
	return c, nil
}

// madeFor is the Deployment of a revision, by which its pods are found and no others'; the revision itself while there is none.
func (f *fleet) madeFor(ctx context.Context, revision *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	made, err := f.client.List(ctx, gvkDeployment, f.Namespace, kube.Selector{Labels: revisionLabel + "=" + revision.GetName()})
	if err != nil || len(made) == 0 {
		return revision, err
	}
	return made[0], nil
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

// prove sends the golden request to servers that Knative runs: to a pod and, where the way there is known, through Knative's ingress, which
// wakes one if all sleep. What is to be proved and cannot be is not taken for good.
func (f *fleet) prove(ctx context.Context) error {
	if f.nested.Golden == nil || f.forced {
		return nil
	}
	target, err := f.pod(ctx)
	var asleep *rollout.Unfit
	if low, _ := f.spec.replicas(f.nested); errors.As(err, &asleep) && low == 0 {
		if f.ingress == "" {
			return &rollout.Unfit{Reason: asleep.Reason + `: they sleep, and what would wake one is not known; set knative_ingress in provider "kserve"`}
		}
		err = nil
	}
	if err == nil {
		err = f.ask(ctx, target)
	}
	if err != nil || f.ingress == "" {
		return err
	}
	url, err := f.ownURL(ctx)
	if err != nil {
		return err
	}
	status, answer, err := f.question(ctx, http.DefaultTransport, f.ingress, strings.TrimPrefix(strings.TrimPrefix(url, "http://"), "https://"))
	if err != nil {
		return fmt.Errorf("golden request: reach Knative's ingress: %w; knative_ingress in provider \"kserve\" says where it is", err)
	}
	return f.verdict("the golden request through Knative's ingress", status, answer)
}

// ownURL waits until the wanted version has an address to itself, and returns it: that of its Route or, where others share the Route, the
// one that the newest revision has.
func (f *fleet) ownURL(ctx context.Context) (url string, err error) {
	end := time.NewTimer(followWithin)
	defer end.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		r, revisions, err := f.knativeRoute(ctx)
		if err != nil {
			return "", err
		}
		why := "its route is not ready: " + r.Message
		u := revisions[r.Latest]
		switch {
		case r.Ready && !f.Single:
			return r.URL, nil
		case r.Ready && u != nil && u.GetAnnotations()[releaseNote] == f.key:
			return r.LatestURL, nil
		case r.Ready:
			why = fmt.Sprintf("the newest revision of its route is %q", r.Latest)
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-end.C:
			return "", fmt.Errorf("%s has no address of its own after %s: %s", f.name, followWithin, why)
		case <-tick.C:
		}
	}
}

// knativeRoute is the Route of the component that answers, empty when there is none yet, and the revisions.
func (f *fleet) knativeRoute(ctx context.Context) (api.Route, map[string]*unstructured.Unstructured, error) {
	u, err := f.client.Get(ctx, kube.Ref{Group: gvkKnativeRoute.Group, Version: gvkKnativeRoute.Version, Kind: gvkKnativeRoute.Kind, Namespace: f.Namespace, Name: f.name + "-" + f.part()})
	if errors.Is(err, kube.ErrNotFound) {
		return api.Route{Message: "Knative has not made it yet"}, nil, nil
	}
	if err != nil {
		return api.Route{}, nil, err
	}
	r, err := api.RouteOf(u)
	if err != nil {
		return r, nil, err
	}
	revisions, err := f.revisions(ctx)
	return r, revisions, err
}
