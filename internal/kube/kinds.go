package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Ref names one object. UID, when set, means this very object and none that came after it under the same name.
type Ref struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

// GVK is the reference's kind.
func (r Ref) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}

// String is "Deployment ns/name".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// RefOf names an object that was read or is to be applied.
func RefOf(u *unstructured.Unstructured) Ref {
	gvk := u.GroupVersionKind()
	return Ref{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: u.GetNamespace(), Name: u.GetName(), UID: string(u.GetUID())}
}

// mapping is how the cluster serves a kind.
type mapping struct {
	resource   schema.GroupVersionResource
	namespaced bool
}

// path is the URL path of one object, or of all when name is "".
func (m mapping) path(namespace, name string) string {
	p := groupPath(m.resource.GroupVersion())
	if m.namespaced && namespace != "" {
		p += "/namespaces/" + namespace
	}
	p += "/" + m.resource.Resource
	if name != "" {
		p += "/" + name
	}
	return p
}

func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// kinds remembers which resources a group's version has. One request per version that is used, none for the others.
type kinds struct {
	mu    sync.Mutex
	known map[schema.GroupVersion]map[string]mapping
}

// mapping finds a kind. What is not known is asked for once more: a CustomResourceDefinition may have come since.
func (c *Client) mapping(ctx context.Context, gvk schema.GroupVersionKind) (mapping, error) {
	if m, ok := builtin[gvk]; ok {
		return m, nil
	}
	gv := gvk.GroupVersion()
	c.kinds.mu.Lock()
	m, ok := c.kinds.known[gv][gvk.Kind]
	c.kinds.mu.Unlock()
	if ok {
		return m, nil
	}
	served, err := c.discover(ctx, gv)
	if errors.Is(err, ErrNotFound) {
		return mapping{}, &MissingKindError{Kind: gvk}
	}
	if err != nil {
		return mapping{}, err
	}
	c.kinds.mu.Lock()
	if c.kinds.known == nil {
		c.kinds.known = map[schema.GroupVersion]map[string]mapping{}
	}
	c.kinds.known[gv] = served
	c.kinds.mu.Unlock()
	if m, ok = served[gvk.Kind]; !ok {
		return mapping{}, &MissingKindError{Kind: gvk}
	}
	return m, nil
}

// forget drops what is known of a version: a kind that was there may be gone.
func (c *Client) forget(gv schema.GroupVersion) {
	c.kinds.mu.Lock()
	defer c.kinds.mu.Unlock()
	delete(c.kinds.known, gv)
}

func (c *Client) discover(ctx context.Context, gv schema.GroupVersion) (map[string]mapping, error) {
	q := call{verb: "look up", ref: Ref{Kind: gv.String()}}
	a, err := c.do(ctx, request{call: q, method: http.MethodGet, path: groupPath(gv)})
	if err != nil {
		return nil, err
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(a.body, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", q, err)
	}
	served := map[string]mapping{}
	for _, r := range list.APIResources {
		if !strings.Contains(r.Name, "/") { // a subresource
			served[r.Kind] = mapping{resource: gv.WithResource(r.Name), namespaced: r.Namespaced}
		}
	}
	return served, nil
}

// Has reports whether the cluster serves a kind.
func (c *Client) Has(ctx context.Context, gvk schema.GroupVersionKind) (bool, error) {
	_, err := c.mapping(ctx, gvk)
	var missing *MissingKindError
	if errors.As(err, &missing) {
		return false, nil
	}
	return err == nil, err
}

// locate resolves a reference: its mapping, and the namespace filled in. write says that something would be changed.
func (c *Client) locate(ctx context.Context, ref Ref, write bool) (mapping, Ref, error) {
	if ref.Name == "" || ref.Kind == "" || ref.Version == "" {
		return mapping{}, ref, fmt.Errorf("object %s %q: give apiVersion, kind and name", ref.GVK(), ref.Name)
	}
	if !plain(ref.Name) || !plain(ref.Namespace) {
		return mapping{}, ref, fmt.Errorf("object %s: name and namespace cannot hold '/', '%%' or be a dot", ref)
	}
	// A namespace that is named is refused before anything is asked, discovery included.
	if ref.Namespace != "" {
		if err := c.Allow(ref.Namespace); err != nil {
			return mapping{}, ref, err
		}
	}
	m, err := c.mapping(ctx, ref.GVK())
	if err != nil {
		return m, ref, err
	}
	switch {
	case m.namespaced && ref.Namespace == "":
		ref.Namespace = c.namespace
	case !m.namespaced:
		ref.Namespace = ""
		if write {
			return m, ref, c.Allow("")
		}
	}
	return m, ref, nil
}

// Locate fills in the namespace of a reference that is to be written: the configuration's where there is none, none where the kind has none.
// It refuses what may not be touched.
func (c *Client) Locate(ctx context.Context, ref Ref) (Ref, error) {
	_, at, err := c.locate(ctx, ref, true)
	return at, err
}

// AwaitKind returns when the API server answers for a kind, as it does a moment after its CustomResourceDefinition is established.
func (c *Client) AwaitKind(ctx context.Context, gvk schema.GroupVersionKind, within time.Duration) error {
	err := poll(ctx, within, nil, func(ctx context.Context, _ *Bell) (bool, error) {
		m, err := c.mapping(ctx, gvk)
		if err == nil {
			q := call{verb: "list", resource: m.resource, ref: Ref{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: c.namespace}}
			_, err = c.do(ctx, request{call: q, method: http.MethodGet, path: m.path(c.namespace, ""), query: url.Values{"limit": {"1"}}})
		}
		var missing *MissingKindError
		var denied *ForbiddenError
		switch {
		case errors.As(err, &missing):
			return false, nil
		case errors.As(err, &denied):
			return true, nil // it is there to be forbidden
		}
		return err == nil, err
	})
	if errors.Is(err, errLate) {
		return fmt.Errorf("wait for kind %s in %s: the API server does not serve it after %s, though its definition is established", gvk.Kind, gvk.GroupVersion(), within)
	}
	return err
}

func plain(name string) bool {
	return !strings.ContainsAny(name, "/%?#") && name != "." && name != ".."
}
