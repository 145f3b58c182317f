package kube

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Notices tell what changes in a cluster, as far as a plan may see it: what was asked for, labels and notes, whether an object is ready, its
// coming and going. What only counts, such as an autoscaler's measurements, is none. There is one watch for each type and namespace, whoever
// asks; of each object a number is kept.
type Notices struct {
	client *Client
	all    *watches
}

// Notice is an object that changed; with Gone, as it was. With nothing known of an object, as after an API server that could not be
// reached at first, Object is nil: whatever is watched there may have changed.
type Notice struct {
	Object *unstructured.Unstructured
	Gone   bool
}

type watches struct {
	mu  sync.Mutex
	all map[listKey]*noticed
}

// noticed is one watch, with those that it tells.
type noticed struct {
	mu    sync.Mutex
	tell  []func(Notice)
	known map[string]uint64
	// first is closed when it stands, or was refused, or has failed for the first time.
	first  chan struct{}
	once   sync.Once
	failed bool  // before anything was listed
	err    error // why it does not stand
}

// Notices begins to look. Those who pass the same shared, and reach the same cluster by the same configuration, share what they watch; nil
// shares with nobody.
func (c *Client) Notices(shared Shared) *Notices {
	n := &Notices{client: c, all: &watches{}}
	if shared != nil {
		n.all, _ = shared.Once(noticesOf(c.identity), func() any { return &watches{} }).(*watches)
	}
	return n
}

type noticesOf identity

// Owned tells of the objects of a kind in a namespace that bear our label ([ManagedBy]), until ctx ends. It returns when
// nothing that changes is missed any more, or with why that is not so: it is not allowed, or the cluster lacks the kind; or it cannot be
// reached now, and then it is tried again and again. All who share must end together.
func (n *Notices) Owned(ctx context.Context, kind schema.GroupVersionKind, namespace string, tell func(Notice)) error {
	return n.watch(ctx, listKey{kind, namespace, ours}, tell)
}

// Named is Owned for one object that has no label of ours.
func (n *Notices) Named(ctx context.Context, r Ref, tell func(Notice)) error {
	return n.watch(ctx, listKey{r.GVK(), r.Namespace, One(r).Selector}, tell)
}

func (n *Notices) watch(ctx context.Context, key listKey, tell func(Notice)) error {
	n.all.mu.Lock()
	w := n.all.all[key]
	if w == nil {
		if n.all.all == nil {
			n.all.all = map[listKey]*noticed{}
		}
		w = &noticed{first: make(chan struct{}), err: errNotYet}
		n.all.all[key] = w
		go w.run(ctx, n.client, key)
	}
	n.all.mu.Unlock()
	w.mu.Lock()
	w.tell = append(w.tell, tell)
	w.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-w.first:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// errNotYet: a watch has not begun.
var errNotYet = errors.New("it is not watched yet")

func (w *noticed) run(ctx context.Context, c *Client, key listKey) {
	tried := func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.failed = w.failed || err != nil && w.known == nil
		w.err = err
		w.once.Do(func() { close(w.first) })
	}
	// What ends it is no affair of those who were told that it stands: they look besides, in their own time.
	tried(c.Watch(ctx, Watched{Kind: key.gvk, Namespace: key.namespace, Selector: key.sel}, Handler{
		Listed: w.listed, Changed: w.changed, Open: func() { tried(nil) }, Broken: tried,
	}))
}

// listed compares what is there with what was there when it was last seen.
func (w *noticed) listed(all []*unstructured.Unstructured) {
	now := make(map[string]uint64, len(all))
	var out []Notice
	for _, u := range all {
		key := u.GetNamespace() + "/" + u.GetName()
		now[key] = printOf(u)
		if before, ok := w.known[key]; w.known != nil && (!ok || before != now[key]) {
			out = append(out, Notice{Object: u})
		}
	}
	for key := range w.known {
		if _, ok := now[key]; !ok {
			out = append(out, Notice{}) // what it was is not kept
			break
		}
	}
	w.mu.Lock()
	if w.failed {
		out = append(out, Notice{})
	}
	w.failed, w.known = false, now
	w.mu.Unlock()
	w.say(out...)
}

func (w *noticed) changed(u *unstructured.Unstructured, gone bool) {
	key := u.GetNamespace() + "/" + u.GetName()
	if gone {
		delete(w.known, key)
		w.say(Notice{Object: u, Gone: true})
		return
	}
	now := printOf(u)
	if before, ok := w.known[key]; ok && before == now {
		return
	}
	w.known[key] = now
	w.say(Notice{Object: u})
}

func (w *noticed) say(list ...Notice) {
	w.mu.Lock()
	tell := w.tell[:len(w.tell):len(w.tell)]
	w.mu.Unlock()
	for _, n := range list {
		for _, t := range tell {
			t(n)
		}
	}
}

// printOf is a number for what of an object may move a plan.
func printOf(u *unstructured.Unstructured) uint64 {
	seen := make(map[string]any, len(u.Object))
	for k, v := range u.Object {
		if k != "status" && k != "metadata" {
			seen[k] = v
		}
	}
	seen["metadata"] = []any{u.GetUID(), u.GetLabels(), u.GetAnnotations(), u.GetDeletionTimestamp() != nil}
	r := Ready(u)
	h := fnv.New64a()
	// Maps are written in order. What cannot be written counts by its version alone.
	if err := json.NewEncoder(h).Encode([]any{seen, r.Ready, r.Failed}); err != nil {
		h.Write([]byte(u.GetResourceVersion())) // a hash never errors
	}
	return h.Sum64()
}
