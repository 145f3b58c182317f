package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// HasField reports whether the cluster's schema of a kind that a CustomResourceDefinition defines has the field at a path: "spec", "canary". A
// field that the schema lacks would be refused, or dropped. The schema is what the API server publishes; everybody who may ask for anything may read it.
func (c *Client) HasField(ctx context.Context, gvk schema.GroupVersionKind, path ...string) (bool, error) {
	q := call{verb: "read the schema of", ref: Ref{Kind: gvk.GroupVersion().String()}}
	a, err := c.do(ctx, request{call: q, method: http.MethodGet, path: "/openapi/v3" + groupPath(gvk.GroupVersion())})
	if err != nil {
		return false, err
	}
	there, err := hasField(a.body, gvk, path)
	if err != nil {
		return false, fmt.Errorf("%s: %w", q, err)
	}
	return there, nil
}

// property is as much of a schema as is looked at.
type property struct {
	Properties map[string]property       `json:"properties"`
	Kinds      []schema.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
	Open       bool                      `json:"x-kubernetes-preserve-unknown-fields"`
}

// hasField looks into what an API server publishes of a group's version.
func hasField(openapi []byte, gvk schema.GroupVersionKind, path []string) (bool, error) {
	var doc struct {
		Components struct {
			Schemas map[string]property `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(openapi, &doc); err != nil {
		return false, err
	}
	for _, at := range doc.Components.Schemas {
		if !slices.Contains(at.Kinds, gvk) {
			continue
		}
		for _, name := range path {
			next, ok := at.Properties[name]
			if !ok {
				return at.Open, nil // whatever it is told, it keeps
			}
			at = next
		}
		return true, nil
	}
	return false, fmt.Errorf("the cluster publishes none of %s", gvk.Kind)
}
