package kubernetes

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
)

func (a *application) within() time.Duration {
	if a.spec.Timeout > 0 {
		return a.spec.Timeout
	}
	return readyWithin
}

// awaitKinds waits until the API server serves the kinds that the block's own definitions bring.
func (a *application) awaitKinds(ctx context.Context) error {
	var defs []kube.Ref
	for _, w := range a.wanted {
		if isDefinition(w.at.GVK()) && w.now != nil && !kube.Ready(w.now).Ready {
			defs = append(defs, w.at)
		}
	}
	if err := a.client.Wait(ctx, defs, a.within(), nil); err != nil {
		return err
	}
	kinds := map[schema.GroupVersionKind]bool{}
	for _, w := range a.wanted {
		if w.newKind {
			kinds[w.at.GVK()] = true
		}
	}
	for gvk := range maps.Keys(kinds) {
		if err := a.client.AwaitKind(ctx, gvk, a.within()); err != nil {
			return err
		}
	}
	return nil
}

// await returns when everything is ready as its kind is, and the conditions hold that the block names.
func (a *application) await(ctx context.Context) error {
	var list []kube.Awaited
	for _, w := range a.wanted {
		if !kube.Ready(w.now).Ready {
			list = append(list, kube.Awaited{Ref: w.at})
		}
		for _, target := range a.spec.WaitFor {
			if what, ok := kube.Targeted(target, w.key); ok {
				kind, status, _ := strings.Cut(what, "=")
				list = append(list, kube.Awaited{Ref: w.at, Condition: kube.Condition{Type: kind, Status: status}})
			}
		}
	}
	return a.client.Await(ctx, list, a.within(), func(p kube.Progress) {
		if p.Ready {
			a.say("%s is ready", p.Ref)
			return
		}
		a.say("waiting for %s: %s", p.Ref, p.Message)
	})
}

// prune takes away what is no longer asked for, now that what may stand in its place is ready.
func (a *application) prune(ctx context.Context) error {
	for len(a.leaving) > 0 {
		o := a.leaving[len(a.leaving)-1]
		if !a.spec.Prune {
			a.say("%s stays, and is not managed any more", o.Ref)
		} else {
			a.changed.Store(true)
			if err := takeAway(ctx, a.client, o, a.within(), a.say); err != nil {
				return err
			}
			a.removed++
		}
		a.leaving = a.leaving[:len(a.leaving)-1]
	}
	return nil
}

// takeAway deletes an object that we made, and gives back one that was there before.
func takeAway(ctx context.Context, c *kube.Client, o manifestObject, within time.Duration, say func(string, ...any)) error {
	var err error
	if o.Found {
		say("giving back %s, which was there before", o.Ref)
		err = c.Release(ctx, o.Ref)
	} else {
		say("removing %s", o.Ref)
		err = c.Delete(ctx, o.Ref, kube.DeleteOptions{Within: within})
	}
	var missing *kube.MissingKindError
	if errors.As(err, &missing) {
		return nil // with its kind, all of it went
	}
	return err
}
