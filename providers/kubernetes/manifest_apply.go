package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
)

// application is one apply of a manifest.
type application struct {
	m       *manifests
	client  *kube.Client
	spec    config.Manifest
	req     providers.ApplyRequest
	project string
	shared  *providers.Look // of a plan's preflight; nil while applying
	many    bool            // so many blocks are looked at that all objects of a type are listed once
	prior   manifestRef
	wanted  []*object        // in the order of their making
	leaving []manifestObject // no longer asked for, and still there as far as is known
	removed int
	changed atomic.Bool // something was changed in the cluster
}

// prepare builds what is asked for and looks at what is there. It changes nothing.
func (a *application) prepare(ctx context.Context) error {
	if a.req.State != nil {
		a.project = a.req.State.Lineage
	}
	var err error
	if a.req.Prior != nil {
		if a.prior, err = manifestRefOf(a.req.Prior.Ref); err != nil {
			return err
		}
	}
	if a.wanted, err = a.objects(ctx); err != nil {
		return err
	}
	if err := a.compareAll(ctx); err != nil {
		return err
	}
	for _, o := range a.prior.Objects {
		if !slices.ContainsFunc(a.wanted, func(w *object) bool { return w.at.UID == o.UID }) {
			a.leaving = append(a.leaving, o)
		}
	}
	return nil
}

// compareAll reads what is there of it.
func (a *application) compareAll(ctx context.Context) error {
	reads := readsOf(a.client, a.shared)
	var refs []kube.Ref
	var asked []*object
	for _, w := range a.wanted {
		if !w.newKind {
			refs, asked = append(refs, w.at), append(asked, w)
		}
	}
	var failed []error
	for i, f := range a.find(ctx, reads, refs) {
		w := asked[i]
		if f.Err != nil && !kube.Absent(f.Err) {
			failed = append(failed, f.Err)
			continue
		}
		if f.Object == nil {
			continue
		}
		w.live, w.at.UID = f.Object, string(f.Object.GetUID())
		if err := a.owner(w); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return a.refused(failed, len(a.wanted))
	}
	a.settle()
	scaled, err := a.scaled(ctx, reads)
	if err != nil {
		return err
	}
	for _, w := range a.wanted {
		a.compare(w, scaled)
	}
	return nil
}

// find looks for objects by their names, whoever made them.
func (a *application) find(ctx context.Context, reads *kube.Reads, refs []kube.Ref) []kube.Found {
	if !a.many {
		return reads.Find(ctx, refs)
	}
	out := make([]kube.Found, len(refs))
	for i, r := range refs {
		all, err := reads.List(ctx, r.GVK(), r.Namespace, kube.Selector{})
		out[i].Err = err
		for _, u := range all {
			if u.GetName() == r.Name {
				out[i].Object = u
			}
		}
	}
	return out
}

// settle finds out which objects have to wait for a namespace that this block makes.
func (a *application) settle() {
	for _, w := range a.wanted {
		w.newSpace = slices.ContainsFunc(a.wanted, func(n *object) bool { return isNamespace(n) && n.at.Name == w.at.Namespace && n.live == nil })
	}
}

// owner finds out whose an object is that is there already. That of another block is refused; one that nobody's is becomes partly ours, as
// far as nobody else owns the fields, and is given back in the end.
func (a *application) owner(w *object) error {
	prior, known := a.prior.byUID(w.at.UID)
	labels, want := w.live.GetLabels(), a.labels()
	switch {
	case known:
		w.found = prior.Found
	case labels[kube.ManagedBy] != kube.FieldManager || labels[pods.LabelAddress] == "":
		w.found = true
	case labels[pods.LabelAddress] == want[pods.LabelAddress] && (labels[pods.LabelProject] == want[pods.LabelProject] || labels[pods.LabelProject] == "" || a.project == ""):
		w.found = w.live.GetAnnotations()[noteFound] != ""
	default:
		return fmt.Errorf("%s belongs to %s of project %q: an object has one block; remove it from one of the two", w.at, ownerOf(w.live), labels[pods.LabelProject])
	}
	return nil
}

func ownerOf(u *unstructured.Unstructured) string {
	if a := u.GetAnnotations()[pods.LabelAddress]; a != "" {
		return a
	}
	return u.GetLabels()[pods.LabelAddress]
}

// compare decides whether anything is to be done for an object, and which fields of ours others have changed: those are taken back, for a plan
// has named them. What others own besides is left to them, and is a conflict if the block wants it otherwise.
func (a *application) compare(w *object, scaled scalers) {
	a.note(w)
	if w.live == nil || w.live.GetDeletionTimestamp() != nil {
		return
	}
	var drift []kube.FieldChange
	for _, c := range kube.DriftFrom(w.asked(), w.live, nil) {
		if c.Path == replicasPath && scaled.own(w.at) {
			continue
		}
		drift = append(drift, c)
	}
	if applied := w.live.GetAnnotations()[noteApplied]; applied == w.digest && len(drift) == 0 {
		w.same, w.now = true, w.live
		return
	}
	if scaled.own(w.at) {
		scaled.keep(w)
	}
	for _, c := range a.taken(w) {
		w.force = append(w.force, c.Path)
	}
}

// asked is the object without the notes that each operation writes.
func (o *object) asked() *unstructured.Unstructured {
	u := o.object.DeepCopy()
	notes := u.GetAnnotations()
	for _, n := range []string{noteOperation, noteApplied, noteFound} {
		delete(notes, n)
	}
	u.SetAnnotations(notes)
	return u
}

// taken are the fields that were applied before and that others have changed since.
func (a *application) taken(w *object) []kube.FieldChange {
	if a.req.Prior == nil {
		return nil
	}
	before, err := recordedObjects(a.req.Prior.Spec)
	if err != nil || before[w.key] == nil {
		return nil // then each such field is a conflict, which says whose it is
	}
	return kube.DriftFrom(before[w.key], w.live, isHashed)
}

// begun reports whether the operation has changed anything yet.
func (a *application) begun() bool {
	return slices.ContainsFunc(a.wanted, func(w *object) bool {
		return w.live != nil && w.live.GetAnnotations()[noteOperation] == a.req.OpID
	})
}

// each calls f for the objects, several at a time, and returns all failures.
func each(ctx context.Context, list []*object, f func(context.Context, *object) error) []error {
	var mu sync.Mutex
	var failed []error
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, w := range list {
		g.Go(func() error {
			if err := f(ctx, w); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
			return nil
		})
	}
	_ = g.Wait() // failures are collected
	return failed
}

func (a *application) those(which func(*object) bool) []*object {
	var out []*object
	for _, w := range a.wanted {
		if !w.same && which(w) {
			out = append(out, w)
		}
	}
	return out
}

// try has the API server check all that it can check, without effect.
func (a *application) try(ctx context.Context) error {
	failed := each(ctx, a.those(func(w *object) bool { return !w.later() }), a.dry)
	if len(failed) > 0 {
		return a.refused(failed, len(a.wanted))
	}
	return nil
}

// dry tries one object. That it has to be made anew is no failure where the approved plan says so, nor to a plan that is being made.
func (a *application) dry(ctx context.Context, w *object) error {
	_, err := a.client.Apply(ctx, w.object, kube.ApplyOptions{DryRun: true, Force: w.force})
	if fixed := (*kube.ImmutableError)(nil); errors.As(err, &fixed) && !w.found && (a.req.OpID == "" || a.anew(w)) {
		w.fixed = fixed
		return nil
	}
	return a.explain(w, err)
}

// explain says what can be done about a refusal.
func (a *application) explain(w *object, err error) error {
	var conflict *kube.ConflictError
	var fixed *kube.ImmutableError
	switch {
	case errors.As(err, &conflict):
		return kube.Foreign(conflict, w.key, "")
	case errors.As(err, &fixed):
		return fmt.Errorf("%w: plan again, and the plan will say that it is made anew", err)
	}
	return err
}

// make applies the objects in their order. What waits for a namespace or a kind of the block's own is tried once that is there.
func (a *application) make(ctx context.Context) error {
	for rank := rankNamespace; rank <= rankGuard; rank++ {
		list := a.those(func(w *object) bool { return w.rank == rank })
		if failed := each(ctx, list, a.apply); len(failed) > 0 {
			return a.halfway(failed)
		}
		if rank != rankDefinition {
			continue
		}
		if err := a.awaitKinds(ctx); err != nil {
			return a.halfway([]error{err})
		}
		if failed := each(ctx, a.those(func(w *object) bool { return w.later() && w.rank > rank }), a.dry); len(failed) > 0 {
			return a.halfway(failed)
		}
	}
	return nil
}

// halfway is the error of an apply that has changed some of the objects.
func (a *application) halfway(failed []error) error {
	var done []string
	for _, w := range a.wanted {
		if !w.same && w.now != nil {
			done = append(done, w.at.String())
		}
	}
	all := &several{text: lines(failed), all: failed}
	if len(done) == 0 {
		return all
	}
	if len(done) > 5 {
		done = append(done[:5], fmt.Sprintf("%d more", len(done)-5))
	}
	return fmt.Errorf("%w (applied by then: %s; the next apply goes on)", all, strings.Join(done, ", "))
}

func (a *application) apply(ctx context.Context, w *object) error {
	going := w.live != nil && w.live.GetDeletionTimestamp() != nil // what is applied to it would go with it
	if going {
		a.say("waiting until %s is gone, which is being deleted", w.at)
	} else if w.fixed != nil {
		a.say("removing %s, which is made anew: %s cannot be changed in place", w.at, strings.Join(w.fixed.Fields, ", "))
	}
	a.changed.Store(true) // even if no answer comes
	if going || w.fixed != nil {
		if err := a.client.Delete(ctx, w.at, kube.DeleteOptions{Within: a.within()}); err != nil {
			return err
		}
		w.force = nil // nobody owns anything of what is made
	}
	made, err := a.client.Apply(ctx, w.object, kube.ApplyOptions{Force: w.force})
	if err != nil {
		return a.explain(w, err)
	}
	w.now, w.at, w.created = made.Object, made.Ref, made.Created
	return nil
}
