package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const (
	pageSize  = 500
	firstPoll = 200 * time.Millisecond
	maxPoll   = 2 * time.Second
	moment    = 3 // looks, after which a wait is worth a watch
)

// Get reads one object, of a Secret the metadata alone. Its absence matches [ErrNotFound]; so does another object of that name when the
// reference has a UID.
func (c *Client) Get(ctx context.Context, ref Ref) (*unstructured.Unstructured, error) {
	m, ref, err := c.locate(ctx, ref, false)
	if err != nil {
		return nil, err
	}
	u, err := c.read(ctx, m, ref)
	if err != nil {
		return nil, err
	}
	if err := sameUID(ref, u); err != nil {
		return nil, err
	}
	return u, nil
}

func sameUID(ref Ref, u *unstructured.Unstructured) error {
	if ref.UID != "" && string(u.GetUID()) != ref.UID {
		return fmt.Errorf("get %s: it is another object of that name now (uid %s, not %s): %w", ref, u.GetUID(), ref.UID, ErrNotFound)
	}
	return nil
}

func (c *Client) read(ctx context.Context, m mapping, ref Ref) (*unstructured.Unstructured, error) {
	if IsSecret(ref.GVK()) {
		return c.getSecret(ctx, m, ref)
	}
	q := call{verb: "get", resource: m.resource, ref: ref}
	a, err := c.do(ctx, request{call: q, method: http.MethodGet, path: m.path(ref.Namespace, ref.Name)})
	if err != nil {
		return nil, err
	}
	return decode(q, a.body, ref.GVK())
}

// Selector narrows a List.
type Selector struct {
	Labels string // app=x,tier!=y
	Fields string // involvedObject.name=x
}

// List reads all objects of a kind in a namespace ("" = all of them, which must be allowed), in pages and as of one moment; of Secrets the
// metadata alone.
func (c *Client) List(ctx context.Context, gvk schema.GroupVersionKind, namespace string, sel Selector) ([]*unstructured.Unstructured, error) {
	if namespace != "" {
		if err := c.Allow(namespace); err != nil {
			return nil, err
		}
	}
	m, err := c.mapping(ctx, gvk)
	if err != nil {
		return nil, err
	}
	if m.namespaced && namespace == "" {
		if err := c.Allow(""); err != nil {
			return nil, err
		}
	}
	// A list of many pages can outlive the history of the API server: then it begins anew, once.
	out, _, err := c.pages(ctx, m, gvk, namespace, sel, accepted(gvk, true))
	if errors.Is(err, errExpired) {
		out, _, err = c.pages(ctx, m, gvk, namespace, sel, accepted(gvk, true))
	}
	return out, err
}

var errExpired = errors.New("the list took longer than the API server remembers")

// pages reads a list page by page; version is the state of the cluster that it shows.
func (c *Client) pages(ctx context.Context, m mapping, gvk schema.GroupVersionKind, namespace string, sel Selector, accept string) (out []*unstructured.Unstructured, version string, _ error) {
	q := call{verb: "list", resource: m.resource, ref: Ref{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: namespace}}
	query := sel.query()
	query.Set("limit", strconv.Itoa(pageSize))
	for {
		a, err := c.do(ctx, request{call: q, method: http.MethodGet, path: m.path(namespace, ""), query: query, accept: accept})
		if err != nil {
			return nil, "", err
		}
		var page struct {
			Metadata metav1.ListMeta   `json:"metadata"`
			Items    []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(a.body, &page); err != nil {
			return nil, "", fmt.Errorf("%s: read the API server's answer: %w", q, err)
		}
		for _, raw := range page.Items {
			// Items of built-in kinds come without apiVersion and kind.
			u := &unstructured.Unstructured{}
			if err := u.UnmarshalJSON(withKind(raw, gvk)); err != nil {
				return nil, "", fmt.Errorf("%s: read an item: %w", q, err)
			}
			out = append(out, u)
		}
		if page.Metadata.Continue == "" {
			return out, page.Metadata.ResourceVersion, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
}

// query is the selector as a request has it.
func (s Selector) query() url.Values {
	query := url.Values{}
	if s.Labels != "" {
		query.Set("labelSelector", s.Labels)
	}
	if s.Fields != "" {
		query.Set("fieldSelector", s.Fields)
	}
	return query
}

// DeleteOptions are the choices of a deletion.
type DeleteOptions struct {
	// Propagation says what happens to what the object owns: Foreground (the default) waits for it.
	Propagation metav1.DeletionPropagation
	// Grace overrides how long pods get to end; nil = their own.
	Grace *int64
	// Within bounds the wait until the object is gone; 0 = 2 min, below 0 = no wait.
	Within time.Duration
}

// Delete removes the object with the reference's UID and waits until it is gone. What is gone, or is another object by now, is
// no error. When it does not go in time the error names the finalizers that hold it.
func (c *Client) Delete(ctx context.Context, ref Ref, o DeleteOptions) error {
	if ref.UID == "" {
		return fmt.Errorf("delete %s: its uid is not given, and another one of that name must not be deleted instead", ref)
	}
	if o.Propagation == "" {
		o.Propagation = metav1.DeletePropagationForeground
	}
	if o.Within == 0 {
		o.Within = 2 * time.Minute
	}
	m, ref, err := c.locate(ctx, ref, true)
	if err != nil {
		return err
	}
	uid := types.UID(ref.UID)
	body, err := json.Marshal(metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		GracePeriodSeconds: o.Grace, PropagationPolicy: &o.Propagation, Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil {
		return fmt.Errorf("delete %s: %w", ref, err)
	}
	_, err = c.do(ctx, request{call: call{verb: "delete", resource: m.resource, ref: ref}, method: http.MethodDelete,
		path: m.path(ref.Namespace, ref.Name), body: body, ctype: "application/json"})
	if errors.Is(err, ErrNotFound) || isOther(err) {
		return nil
	}
	if err != nil || o.Within < 0 {
		return err
	}
	return c.gone(ctx, ref, o.Within)
}

// Release gives back what was applied to the object with the reference's UID: fields that nobody else owns go, the others stay, and so
// does the object. What is gone, or is another object by now, is no error.
func (c *Client) Release(ctx context.Context, ref Ref) error {
	if ref.UID == "" {
		return fmt.Errorf("release %s: its uid is not given, and another one of that name must not be changed instead", ref)
	}
	m, ref, err := c.locate(ctx, ref, true)
	if err != nil {
		return err
	}
	bare := &unstructured.Unstructured{Object: map[string]any{}}
	bare.SetGroupVersionKind(ref.GVK())
	bare.SetName(ref.Name)
	bare.SetUID(types.UID(ref.UID)) // without it, an apply to what is gone would make it anew
	body, err := bare.MarshalJSON()
	if err != nil {
		return fmt.Errorf("release %s: %w", ref, err)
	}
	_, err = c.do(ctx, request{call: call{verb: "patch", resource: m.resource, ref: ref, moved: true}, method: http.MethodPatch, path: m.path(ref.Namespace, ref.Name),
		query: url.Values{"fieldManager": {FieldManager}}, body: body, ctype: "application/apply-patch+yaml", accept: accepted(ref.GVK(), false)})
	if errors.Is(err, errMoved) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// gone waits until the object no longer exists.
func (c *Client) gone(ctx context.Context, ref Ref, within time.Duration) error {
	var last *unstructured.Unstructured
	err := poll(ctx, within, func(ctx context.Context) *Bell { return c.Bell(ctx, One(ref)) }, func(ctx context.Context, _ *Bell) (bool, error) {
		u, err := c.Get(ctx, ref)
		if errors.Is(err, ErrNotFound) {
			return true, nil
		}
		last = u
		return false, err
	})
	if errors.Is(err, errLate) {
		return fmt.Errorf("delete %s: it is still there after %s%s", ref, within, heldBy(last))
	}
	return err
}

// heldBy says what keeps an object that is to be deleted.
func heldBy(u *unstructured.Unstructured) string {
	if u == nil {
		return ""
	}
	if len(u.GetFinalizers()) > 0 {
		return ": held by finalizers " + strings.Join(u.GetFinalizers(), ", ") + "; whoever set them has to let go"
	}
	if at := u.GetDeletionTimestamp(); at != nil {
		return ": its end is due at " + at.UTC().Format(time.RFC3339)
	}
	return ": its deletion was not recorded"
}

// errLate: a poll's time is over.
var errLate = errors.New("timed out")

// poll calls f, ever less often, until it says done, errs, or the time is over ([errLate]). An error that passes by itself is waited out
// like a "not yet"; when it was the last thing seen, it is the result. What takes longer than a moment is looked at when the bell rings, and
// seldom besides; hang makes it, and may be nil.
func poll(ctx context.Context, within time.Duration, hang func(context.Context) *Bell, f func(context.Context, *Bell) (bool, error)) error {
	ctx, quiet := context.WithCancel(ctx)
	defer quiet()
	end := time.NewTimer(within)
	defer end.Stop()
	var bell *Bell
	for looks, pause := 0, firstPoll; ; looks, pause = looks+1, min(pause*3/2, maxPoll) {
		if looks == moment && hang != nil {
			bell = hang(ctx)
		}
		done, err := f(ctx, bell)
		var again *Retryable
		if done || err != nil && !errors.As(err, &again) {
			return err
		}
		tick := time.NewTimer(bell.Next(max(pause, afterOf(again))))
		select {
		case <-ctx.Done():
			tick.Stop()
			return context.Cause(ctx)
		case <-end.C:
			tick.Stop()
			if err != nil {
				return err
			}
			return errLate
		case <-bell.C():
			tick.Stop()
			if err := bell.Settle(ctx); err != nil {
				return err
			}
		case <-tick.C:
		}
	}
}

func afterOf(r *Retryable) time.Duration {
	if r == nil {
		return 0
	}
	return r.After
}
