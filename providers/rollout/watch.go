package rollout

import (
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// Told is an address with what its objects are called by.
type Told struct {
	Address resource.Address
	Front   Front
	// Also, when not nil, is its only object: one that was imported, and bears no label of ours.
	Also *kube.Ref
}

// Watch is the Watch of a driver: the objects of these deployments, by one watch for each kind and namespace.
func (p Parts) Watch(ctx context.Context, c *kube.Client, all []Told, req providers.WatchRequest) []resource.Address {
	notices := c.Notices(req.Look)
	owner := map[string][]resource.Address{} // by namespace and labels
	spaces := map[string][]resource.Address{}
	routed := false
	var (
		mu    sync.Mutex
		blind = map[resource.Address]bool{}
		begin errgroup.Group
	)
	missed := func(list []resource.Address, err error) {
		var missing *kube.MissingKindError
		if err == nil || errors.As(err, &missing) {
			return // nobody can make an object of a kind that there is not
		}
		mu.Lock()
		defer mu.Unlock()
		for _, a := range list {
			blind[a] = true
		}
	}
	for _, t := range all {
		if t.Also != nil {
			begin.Go(func() error {
				missed([]resource.Address{t.Address}, notices.Named(ctx, *t.Also, func(kube.Notice) { req.Changed(t.Address) }))
				return nil
			})
			continue
		}
		key, ns := ownerKey(t.Front.Namespace, t.Front.Labels("")), t.Front.Namespace
		owner[key], spaces[ns] = append(owner[key], t.Address), append(spaces[ns], t.Address)
		routed = routed || t.Front.Route != nil
	}
	for ns, addresses := range spaces {
		tell := func(n kube.Notice) {
			of := addresses
			if n.Object != nil {
				of = owner[ownerKey(ns, n.Object.GetLabels())]
			}
			for _, a := range of {
				req.Changed(a)
			}
		}
		for _, k := range p.kinds(routed) {
			begin.Go(func() error {
				missed(addresses, notices.Owned(ctx, k.GroupVersionKind, ns, tell))
				return nil
			})
		}
	}
	_ = begin.Wait() // what is not seen is noted
	var out []resource.Address
	for _, t := range all {
		if !blind[t.Address] {
			out = append(out, t.Address)
		}
	}
	slices.SortFunc(out, resource.Address.Compare)
	return out
}
