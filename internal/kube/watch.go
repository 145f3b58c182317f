package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// watchFor is how long the API server is asked to keep a watch open; that much again at random, so that many do not end at once. It says
	// where it stands about once a minute, so that one that is silent for longer than the whole is dead.
	watchFor = 5 * time.Minute
	// maxChange bounds one object on the wire; an API server takes none above 1.5 MB, and writes it with more words.
	maxChange = 16 << 20
)

// Watched says what is watched.
type Watched struct {
	Kind      schema.GroupVersionKind
	Namespace string // "" = all of them, or none has the kind
	Selector
	// Metadata is all that is wanted: objects come without spec and status, which saves most of what goes over the wire.
	Metadata bool
}

// One is an object alone.
func One(r Ref) Watched {
	return Watched{Kind: r.GVK(), Namespace: r.Namespace, Selector: Selector{Fields: "metadata.name=" + r.Name}, Metadata: true}
}

// Handler is told what a watch sees, by one goroutine. Objects may be kept, and must not be changed.
type Handler struct {
	// Listed gets all that there is: at the beginning, and again whenever changes may have been missed.
	Listed func([]*unstructured.Unstructured)
	// Open is told that the watch stands: whatever changes from what was listed on is seen.
	Open func()
	// Changed gets an object that is new or was changed, or, with gone, as it was when it was deleted or left the selection.
	Changed func(u *unstructured.Unstructured, gone bool)
	// Broken is told why nothing is seen at the moment. It is tried again.
	Broken func(error)
}

// Watch lists objects and follows their changes until ctx ends, over broken connections and restarts of the API server. It keeps none of
// them: what it takes does not grow with what it watches. It errs only with what trying again would not mend: the end of ctx, a missing right
// to watch ([ForbiddenError]), a kind that the cluster lacks, or a namespace that is not allowed.
func (c *Client) Watch(ctx context.Context, w Watched, h Handler) error {
	version, stood, backoff := "", false, firstBackoff
	open := h.Open
	h.Open = func() {
		stood = true
		open()
	}
	for {
		began := time.Now()
		err := c.watchOnce(ctx, w, &version, h)
		var again *Retryable
		var missing *MissingKindError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &missing) && stood: // an API server that has just come back does not know all kinds yet
		case errors.Is(err, errExpired):
			version = "" // it has forgotten; what there is is listed anew
		case err != nil && !errors.As(err, &again):
			if denied := (*ForbiddenError)(nil); errors.As(err, &denied) {
				c.blind.Store(right(w), true)
			}
			return err
		}
		if err == nil && time.Since(began) > time.Second {
			backoff = firstBackoff
			continue // it ended as it was asked to
		}
		if err != nil && !errors.Is(err, errExpired) {
			h.Broken(err)
		}
		if time.Since(began) > maxBackoff {
			backoff = firstBackoff
		}
		wait := time.NewTimer(max(backoff/2, afterOf(again)) + rand.N(backoff/2))
		backoff = min(2*backoff, maxBackoff)
		select {
		case <-ctx.Done():
			wait.Stop()
			return context.Cause(ctx)
		case <-wait.C:
		}
	}
}

func (c *Client) watched(ctx context.Context, w Watched) (call, mapping, error) {
	q := call{verb: "watch", ref: Ref{Group: w.Kind.Group, Version: w.Kind.Version, Kind: w.Kind.Kind, Namespace: w.Namespace}}
	if w.Namespace != "" {
		if err := c.Allow(w.Namespace); err != nil {
			return q, mapping{}, err
		}
	}
	m, err := c.mapping(ctx, w.Kind)
	if err != nil {
		return q, m, err
	}
	if m.namespaced && w.Namespace == "" {
		if err := c.Allow(""); err != nil {
			return q, m, err
		}
	}
	q.resource = m.resource
	if _, ok := c.blind.Load(right(w)); ok {
		return q, m, &ForbiddenError{Verb: q.verb, Resource: q.groupResource(), Namespace: w.Namespace, Message: "as it said before"}
	}
	return q, m, nil
}

// right names what a watch needs to be allowed. One that was refused is not asked for again.
func right(w Watched) string { return w.Kind.String() + " in " + w.Namespace }

// watchOnce lists, where nothing is known yet, and follows until the connection ends.
func (c *Client) watchOnce(ctx context.Context, w Watched, version *string, h Handler) error {
	q, m, err := c.watched(ctx, w)
	if err != nil {
		return err
	}
	if *version == "" {
		accept := accepted(w.Kind, true)
		if w.Metadata {
			accept = onlyMetas
		}
		list, at, err := c.pages(ctx, m, w.Kind, w.Namespace, w.Selector, accept)
		if err != nil {
			return err
		}
		*version = at
		h.Listed(list)
	}
	lasts := watchFor + rand.N(watchFor)
	query := w.query()
	for name, value := range map[string]string{"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": *version, "timeoutSeconds": strconv.Itoa(int(lasts.Seconds()))} {
		query.Set(name, value)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lasts+time.Minute, errSilent)
	defer cancel()
	r := request{call: q, method: http.MethodGet, path: m.path(w.Namespace, ""), query: query, accept: accepted(w.Kind, false)}
	if w.Metadata {
		r.accept = onlyMeta
	}
	if err := c.limit.Wait(ctx); err != nil {
		return err
	}
	body, err := c.open(ctx, r)
	if err != nil {
		return c.doubt(ctx, err)
	}
	c.granted.Store(q.right(), true)
	h.Open()
	err = c.follow(q, w, body, version, h)
	return errors.Join(err, body.Close())
}

var errSilent = errors.New("the API server was silent for too long")

// change is what a watch says, one after the other.
type change struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// follow reads changes until the stream ends. version is where it stands.
func (c *Client) follow(q call, w Watched, body io.Reader, version *string, h Handler) error {
	in := &io.LimitedReader{R: body, N: maxChange}
	changes := json.NewDecoder(in)
	for {
		in.N = maxChange
		var x change
		switch err := changes.Decode(&x); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &Retryable{Err: fmt.Errorf("%s: read what changed: %w", q, err)}
		}
		if x.Type == "ERROR" {
			return refusedWatch(q, x.Object)
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(withKind(x.Object, w.Kind)); err != nil {
			return &Retryable{Err: fmt.Errorf("%s: read what changed: %w", q, err)}
		}
		*version = u.GetResourceVersion()
		switch x.Type {
		case "ADDED", "MODIFIED":
			h.Changed(u, false)
		case "DELETED":
			h.Changed(u, true)
		}
	}
}

// refusedWatch is the end of a watch as the API server says it in the stream.
func refusedWatch(q call, object []byte) error {
	var status metav1.Status
	if err := json.Unmarshal(object, &status); err != nil {
		return &Retryable{Err: fmt.Errorf("%s: %w", q, err)}
	}
	err := &apierrors.StatusError{ErrStatus: status}
	if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
		return errExpired
	}
	return &Retryable{Err: fmt.Errorf("%s: %w", q, err)}
}
