package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// FieldManager owns what this program applies.
const FieldManager = "continuo"

// ManagedBy is the label that marks it, with FieldManager as the value.
const ManagedBy = "app.kubernetes.io/managed-by"

// contested bounds how often an apply that takes fields over begins anew because somebody else wrote in between.
const contested = 5

// ApplyOptions are the choices of an apply.
type ApplyOptions struct {
	DryRun bool
	// Force lists fields, with all below them, that are taken from other managers: "spec.replicas". No other field is.
	Force []string
}

// Applied is an object as the API server has it after an apply.
type Applied struct {
	Ref     Ref
	Object  *unstructured.Unstructured
	Created bool
}

// Apply makes the object's fields what they are here, and leaves all others alone. A field that another manager owns is a
// [ConflictError], and nothing is changed, unless Force names it.
//
// Server-side apply forces all fields of a request or none, and a request without some of our fields would give those up. So the
// conflicts are looked at first, and the forced request carries the resourceVersion that they were found at: the API server
// refuses it if anything has changed since, and then it begins anew. What is forced is exactly what was looked at.
func (c *Client) Apply(ctx context.Context, obj *unstructured.Unstructured, o ApplyOptions) (Applied, error) {
	obj = Prune(obj)
	m, ref, err := c.locate(ctx, RefOf(obj), true)
	if err != nil {
		return Applied{}, err
	}
	obj.SetNamespace(ref.Namespace)
	if len(o.Force) == 0 {
		return c.patch(ctx, m, ref, obj, o.DryRun, false)
	}
	for range contested {
		a, again, err := c.takeOver(ctx, m, ref, obj, o)
		if !again {
			return a, err
		}
	}
	return Applied{}, &Retryable{Err: fmt.Errorf("apply %s: somebody else changed it %d times meanwhile", ref, contested)}
}

// takeOver applies once; again says that the object moved between looking and forcing.
func (c *Client) takeOver(ctx context.Context, m mapping, ref Ref, obj *unstructured.Unstructured, o ApplyOptions) (_ Applied, again bool, _ error) {
	live, err := c.Get(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		a, err := c.patch(ctx, m, ref, obj, o.DryRun, false)
		return a, false, err
	}
	if err != nil {
		return Applied{}, false, err
	}
	at := obj.DeepCopy()
	at.SetResourceVersion(live.GetResourceVersion())
	a, err := c.patch(ctx, m, ref, at, o.DryRun, false)
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		var others []Conflict
		for _, f := range conflict.Conflicts {
			if !covered(f.Path, o.Force) {
				others = append(others, f)
			}
		}
		if len(others) > 0 {
			return Applied{}, false, &ConflictError{Ref: ref, Conflicts: others}
		}
		a, err = c.patch(ctx, m, ref, at, o.DryRun, true)
	}
	if errors.Is(err, errMoved) {
		return Applied{}, true, nil
	}
	return a, false, err
}

// covered reports whether a path is one of the listed ones or lies below it.
func covered(path string, listed []string) bool {
	for _, l := range listed {
		l = strings.TrimPrefix(l, ".")
		if rest, ok := strings.CutPrefix(path, l); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// errMoved: the object no longer has the resourceVersion that the request rests on.
var errMoved = errors.New("the object has changed meanwhile")

func (c *Client) patch(ctx context.Context, m mapping, ref Ref, obj *unstructured.Unstructured, dryRun, force bool) (Applied, error) {
	body, err := json.Marshal(obj.Object)
	if err != nil {
		return Applied{}, fmt.Errorf("apply %s: %w", ref, err)
	}
	query := url.Values{"fieldManager": {FieldManager}, "fieldValidation": {"Strict"}}
	if dryRun {
		query.Set("dryRun", "All")
	}
	if force {
		query.Set("force", "true")
	}
	r := request{call: call{verb: "patch", resource: m.resource, ref: ref, moved: obj.GetResourceVersion() != ""}, method: http.MethodPatch,
		path: m.path(ref.Namespace, ref.Name), query: query, body: body, ctype: "application/apply-patch+yaml", accept: accepted(ref.GVK(), false)}
	a, err := c.do(ctx, r)
	if err != nil {
		return Applied{}, err
	}
	got, err := decode(r.call, a.body, ref.GVK())
	if err != nil {
		return Applied{}, err
	}
	return Applied{Ref: RefOf(got), Object: got, Created: a.code == http.StatusCreated}, nil
}

func decode(q call, body []byte, gvk schema.GroupVersionKind) (*unstructured.Unstructured, error) {
	if accepted(gvk, false) != "" {
		body = withKind(bytes.TrimSpace(body), gvk) // metadata comes under a kind of its own
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(body); err != nil {
		return nil, fmt.Errorf("%s: read the API server's answer: %w", q, err)
	}
	if u.GroupVersionKind() != gvk {
		return nil, fmt.Errorf("%s: the API server answered with a %s", q, u.GroupVersionKind())
	}
	return u, nil
}
