package kube

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var secretGVK = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}

// IsSecret reports whether a kind is the core one whose values nobody may see. This package asks an API server for nothing but the metadata
// of such objects, also in the answer to an apply.
func IsSecret(gvk schema.GroupVersionKind) bool { return gvk.GroupKind() == secretGVK.GroupKind() }

const (
	onlyMeta      = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	onlyMetas     = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	lookManager   = FieldManager + "-look" // owns nothing
	secretValues  = "data"
	writtenValues = "stringData"
	hiddenValue   = "(secret)"
)

// accepted is what an answer about objects of a kind may hold.
func accepted(gvk schema.GroupVersionKind, list bool) string {
	switch {
	case !IsSecret(gvk):
		return ""
	case list:
		return onlyMetas
	}
	return onlyMeta
}

// lookAtSecret finds out whether a Secret exists, and its metadata, with the rights to make and change it alone: an apply that says nothing
// about it, and is not carried out.
func (c *Client) lookAtSecret(ctx context.Context, m mapping, ref Ref) (*unstructured.Unstructured, error) {
	bare := &unstructured.Unstructured{Object: map[string]any{}}
	bare.SetGroupVersionKind(ref.GVK())
	bare.SetName(ref.Name)
	body, err := bare.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", ref, err)
	}
	q := call{verb: "patch", resource: m.resource, ref: ref}
	a, err := c.do(ctx, request{call: q, method: http.MethodPatch, path: m.path(ref.Namespace, ref.Name), body: body, accept: onlyMeta,
		query: url.Values{"fieldManager": {lookManager}, "dryRun": {"All"}}, ctype: "application/apply-patch+yaml"})
	if err != nil {
		return nil, err
	}
	if a.code == http.StatusCreated {
		return nil, fmt.Errorf("get %s: %w", ref, ErrNotFound)
	}
	return decode(q, a.body, ref.GVK())
}

// getSecret reads a Secret's metadata, by the right to get it or else by those to write it.
func (c *Client) getSecret(ctx context.Context, m mapping, ref Ref) (*unstructured.Unstructured, error) {
	q := call{verb: "get", resource: m.resource, ref: ref}
	a, err := c.do(ctx, request{call: q, method: http.MethodGet, path: m.path(ref.Namespace, ref.Name), accept: onlyMeta})
	var denied *ForbiddenError
	if errors.As(err, &denied) {
		return c.lookAtSecret(ctx, m, ref)
	}
	if err != nil {
		return nil, err
	}
	return decode(q, a.body, ref.GVK())
}

// WithoutStringData moves a Secret's stringData to where the API server puts it. Under stringData nobody would own the values.
func WithoutStringData(obj *unstructured.Unstructured) error {
	written, found, err := unstructured.NestedMap(obj.Object, writtenValues)
	if err != nil {
		return fmt.Errorf("%s: %s: give a text for each name", RefOf(obj), writtenValues)
	}
	if !found {
		delete(obj.Object, writtenValues) // an empty field
		return nil
	}
	data, _, err := unstructured.NestedMap(obj.Object, secretValues)
	if err != nil {
		return fmt.Errorf("%s: %s: give base64 text for each name", RefOf(obj), secretValues)
	}
	if data == nil {
		data = map[string]any{}
	}
	for name, v := range written {
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("%s: %s.%s is no text; numbers and truths need quotes", RefOf(obj), writtenValues, name)
		}
		data[name] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	delete(obj.Object, writtenValues)
	obj.Object[secretValues] = data
	return nil
}
