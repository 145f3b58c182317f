package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// few is up to how many objects of a type are asked for one by one: those that are not in the list of ours, and all that a look wants that
	// nobody shares. The list may be as long as the namespace has objects, and each of a thousand applies begins with such a look.
	few = 3
	// listsAtOnce bounds the lists of one Find that are read side by side.
	listsAtOnce = 8
)

// Shared is where what was read during one look at the world is kept, for all who look: once per key.
type Shared interface {
	Once(key any, make func() any) any
}

// Reads is one look at a cluster: each list is read once, whoever asks for it and however often, and so is a failure. It must not outlive
// the look that it was made for: what it gives is as of then. Nobody may change the objects, for others have them, too.
type Reads struct {
	client  *Client
	answers *answers
	alone   bool // nobody shares what is read
}

// Reads begins a look. Those who pass the same shared, and reach the same cluster by the same configuration, share what they read; nil
// shares with nobody (nil itself: a nil pointer in it is somebody).
func (c *Client) Reads(shared Shared) *Reads {
	r := &Reads{client: c}
	if shared == nil {
		r.answers, r.alone = &answers{}, true
		return r
	}
	r.answers, _ = shared.Once(c.identity, func() any { return &answers{} }).(*answers)
	return r
}

// identity tells configurations apart that lead to another cluster, or there as somebody else.
type identity struct{ kubeconfig, context, host string }

type answers struct {
	mu    sync.Mutex
	lists map[listKey]*listed
}

type listKey struct {
	gvk       schema.GroupVersionKind
	namespace string
	sel       Selector
}

type listed struct {
	once  sync.Once
	items []*unstructured.Unstructured
	named map[string]*unstructured.Unstructured // namespace/name
	err   error
}

// Owned reads all objects of a kind in a namespace that bear our label ([ManagedBy]).
func (r *Reads) Owned(ctx context.Context, gvk schema.GroupVersionKind, namespace string) ([]*unstructured.Unstructured, error) {
	return r.List(ctx, gvk, namespace, ours)
}

var ours = Selector{Labels: ManagedBy + "=" + FieldManager}

// List is [Client.List], once.
func (r *Reads) List(ctx context.Context, gvk schema.GroupVersionKind, namespace string, sel Selector) ([]*unstructured.Unstructured, error) {
	// What another configuration may read, this one may not, though it has the same credentials.
	if namespace != "" {
		if err := r.client.Allow(namespace); err != nil {
			return nil, err
		}
	}
	l := r.list(ctx, listKey{gvk, namespace, sel})
	return l.items, l.err
}

func (r *Reads) list(ctx context.Context, key listKey) *listed {
	r.answers.mu.Lock()
	l := r.answers.lists[key]
	if l == nil {
		l = &listed{}
		if r.answers.lists == nil {
			r.answers.lists = map[listKey]*listed{}
		}
		r.answers.lists[key] = l
	}
	r.answers.mu.Unlock()
	l.once.Do(func() {
		if l.items, l.err = r.client.List(ctx, key.gvk, key.namespace, key.sel); l.err != nil {
			return
		}
		l.named = make(map[string]*unstructured.Unstructured, len(l.items))
		for _, u := range l.items {
			l.named[u.GetNamespace()+"/"+u.GetName()] = u
		}
	})
	return l
}

// Found is what a Find knows of one reference: the object, or why there is none. Only an error that matches [ErrNotFound], or a
// [MissingKindError], says that it is not there; any other says that nobody knows.
type Found struct {
	Object *unstructured.Unstructured
	Err    error
}

// Find reads objects that we made: one list of ours for each type and namespace, whatever their number, side by side. What is not in it
// may be gone, or may have lost our label, so it is looked for once more: one by one if it is little, else in the list of everything. A look
// that nobody shares does without lists if it wants little. The results are in the order of the references. The context's end is an error of
// each that was not read.
func (r *Reads) Find(ctx context.Context, refs []Ref) []Found {
	out := make([]Found, len(refs))
	at := make([]Ref, len(refs))
	groups := map[listKey][]int{}
	for i, ref := range refs {
		var err error
		if _, at[i], err = r.client.locate(ctx, ref, false); err != nil {
			out[i].Err = err
			continue
		}
		key := listKey{ref.GVK(), at[i].Namespace, ours}
		groups[key] = append(groups[key], i)
	}
	var g errgroup.Group
	g.SetLimit(listsAtOnce)
	for key, members := range groups {
		g.Go(func() error {
			r.find(ctx, key, at, members, out)
			return nil
		})
	}
	_ = g.Wait() // failures are told of each reference
	return out
}

// find fills in the members of one type and namespace.
func (r *Reads) find(ctx context.Context, key listKey, refs []Ref, members []int, out []Found) {
	if r.alone && len(members) <= few {
		for _, i := range members {
			out[i].Object, out[i].Err = r.client.Get(ctx, refs[i])
		}
		return
	}
	l := r.list(ctx, key)
	var absent []int
	var denied *ForbiddenError
	single := IsSecret(key.gvk) && errors.As(l.err, &denied) // one can look at each without the right to read any
	for _, i := range members {
		u := l.named[refs[i].Namespace+"/"+refs[i].Name]
		switch {
		case single:
			out[i].Object, out[i].Err = r.client.Get(ctx, refs[i])
		case l.err != nil:
			out[i].Err = l.err
		case u == nil:
			absent = append(absent, i)
		default:
			out[i] = foundOf(refs[i], u)
		}
	}
	var all *listed
	if len(absent) > few {
		all = r.list(ctx, listKey{key.gvk, key.namespace, Selector{}})
	}
	for _, i := range absent {
		if all == nil {
			out[i].Object, out[i].Err = r.client.Get(ctx, refs[i])
			continue
		}
		u := all.named[refs[i].Namespace+"/"+refs[i].Name]
		switch {
		case all.err != nil:
			out[i].Err = all.err
		case u == nil:
			out[i].Err = fmt.Errorf("list %s: %w", refs[i], ErrNotFound)
		default:
			out[i] = foundOf(refs[i], u)
		}
	}
}

func foundOf(ref Ref, u *unstructured.Unstructured) Found {
	if err := sameUID(ref, u); err != nil {
		return Found{Err: err}
	}
	return Found{Object: u}
}

// Absent reports whether an error says that an object is not there, and not that nobody knows.
func Absent(err error) bool {
	var missing *MissingKindError
	return errors.Is(err, ErrNotFound) || errors.As(err, &missing)
}
