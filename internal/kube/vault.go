package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// vaultType is the type of the Secrets of a vault. Nothing else has it, and a
	// vault reads the values of no other.
	vaultType = "continuo.dev/state"
	// VaultLabel names the vault that a Secret belongs to.
	VaultLabel  = "continuo.dev/state"
	vaultObject = "continuo.dev/object" // annotation: the object's own name
	vaultKey    = "data"

	// VaultLimit is the largest object, in bytes: a Secret holds one MiB.
	VaultLimit = 1_000_000
)

// Vault keeps named bytes in Secrets of its own type in one namespace, each
// replaced only by who saw what was there. It is for the program's own state:
// the values of other Secrets are never asked for.
type Vault struct {
	c    *Client
	name string
}

// VaultObject is what a list tells of an object. Bytes are not told.
type VaultObject struct {
	Name    string
	Created time.Time
}

// ErrPassed: an object of a vault is no longer the one that the writer saw.
var ErrPassed = errors.New("somebody else wrote it meanwhile")

// Vault returns the vault of a name in the client's namespace.
func (c *Client) Vault(name string) *Vault { return &Vault{c: c, name: name} }

type vaultSecret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metav1.ObjectMeta `json:"metadata"`
	Type       string            `json:"type"`
	Data       map[string][]byte `json:"data"`
}

// request is about one object, or all when it is "".
func (v *Vault) request(ctx context.Context, verb, object string) (request, error) {
	ref := Ref{Version: "v1", Kind: "Secret", Namespace: v.c.namespace, Name: v.name + "." + strings.ReplaceAll(object, "/", ".")}
	m, ref, err := v.c.locate(ctx, ref, verb != "get" && verb != "list")
	if err != nil {
		return request{}, err
	}
	q := call{verb: verb, resource: m.resource, ref: ref}
	if object == "" {
		q.ref.Name = ""
	}
	return request{call: q, path: m.path(ref.Namespace, q.ref.Name)}, nil
}

// Get reads an object and its version. It errors with ErrNotFound, and with a
// Retryable after one try.
func (v *Vault) Get(ctx context.Context, object string) ([]byte, string, error) {
	r, err := v.request(ctx, "get", object)
	if err != nil {
		return nil, "", err
	}
	r.method = http.MethodGet
	a, err := v.c.once(ctx, r)
	if err != nil {
		return nil, "", err
	}
	var s vaultSecret
	if err := json.Unmarshal(a.body, &s); err != nil {
		return nil, "", fmt.Errorf("%s: read the API server's answer: %w", r.call, err)
	}
	if s.Type != vaultType || s.Metadata.Labels[VaultLabel] != v.name {
		return nil, "", fmt.Errorf("%s: that Secret is of the type %q and nothing of this program's: choose another name", r.call, s.Type)
	}
	return s.Data[vaultKey], s.Metadata.ResourceVersion, nil
}

// Put writes an object if its version is still at, "" being that there is none,
// and returns the new version. It errors with ErrPassed when it is not. A
// Retryable says that it is not known whether it was done: nothing is repeated.
func (v *Vault) Put(ctx context.Context, object string, data []byte, at string) (string, error) {
	r, err := v.request(ctx, "update", object)
	if err != nil {
		return "", err
	}
	s := vaultSecret{APIVersion: "v1", Kind: "Secret", Type: vaultType, Data: map[string][]byte{vaultKey: data}, Metadata: metav1.ObjectMeta{
		Name: r.ref.Name, Namespace: r.ref.Namespace, ResourceVersion: at,
		Labels: map[string]string{VaultLabel: v.name, ManagedBy: FieldManager}, Annotations: map[string]string{vaultObject: object},
	}}
	if r.body, err = json.Marshal(s); err != nil {
		return "", err
	}
	r.method, r.ctype, r.query = http.MethodPut, "application/json", url.Values{"fieldManager": {FieldManager}}
	r.accept = onlyMeta
	if at == "" {
		r.verb, r.method, r.path = "create", http.MethodPost, strings.TrimSuffix(r.path, "/"+r.ref.Name)
	}
	a, err := v.c.once(ctx, r)
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), at != "" && errors.Is(err, ErrNotFound):
		return "", fmt.Errorf("%s: %w", r.call, ErrPassed)
	case err != nil:
		return "", err
	}
	if err := json.Unmarshal(a.body, &s); err != nil {
		return "", &Retryable{Err: fmt.Errorf("%s: read the API server's answer: %w", r.call, err), Unknown: true}
	}
	return s.Metadata.ResourceVersion, nil
}

// Delete removes an object; one that is not there is no error.
func (v *Vault) Delete(ctx context.Context, object string) error {
	r, err := v.request(ctx, "delete", object)
	if err != nil {
		return err
	}
	r.method = http.MethodDelete
	if _, err = v.c.once(ctx, r); errors.Is(err, ErrNotFound) {
		err = nil
	}
	return err
}

// List returns the vault's objects, of their Secrets the metadata alone.
func (v *Vault) List(ctx context.Context) ([]VaultObject, error) {
	all, err := v.c.List(ctx, secretGVK, v.c.namespace, Selector{Labels: VaultLabel + "=" + v.name})
	if err != nil {
		return nil, err
	}
	var out []VaultObject
	for _, u := range all {
		out = append(out, VaultObject{Name: u.GetAnnotations()[vaultObject], Created: u.GetCreationTimestamp().Time})
	}
	return out, nil
}
