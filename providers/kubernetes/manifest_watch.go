package kubernetes

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// Watch implements providers.Watcher: by one watch for each kind and namespace. Secrets need a right to list them that this program does
// without; a manifest with one is told of the rest, and is not among those that are seen wholly.
func (m *manifests) Watch(ctx context.Context, req providers.WatchRequest) ([]resource.Address, error) {
	c, err := m.Cluster()
	if err != nil {
		return nil, err
	}
	type place struct {
		kind      schema.GroupVersionKind
		namespace string
	}
	there := map[place]map[string][]resource.Address{} // by name
	of := map[resource.Address][]place{}
	for _, r := range req.Records {
		ref, err := manifestRefOf(r.Record.Ref)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Address, err)
		}
		for _, o := range ref.Objects {
			at := place{o.GVK(), o.Namespace}
			if there[at] == nil {
				there[at] = map[string][]resource.Address{}
			}
			there[at][o.Name] = append(there[at][o.Name], r.Address)
			of[r.Address] = append(of[r.Address], at)
		}
	}
	notices := c.Notices(req.Look)
	seen := map[place]*bool{}
	var begin errgroup.Group
	begin.SetLimit(atOnce)
	for at, names := range there {
		stands := new(bool)
		seen[at] = stands
		begin.Go(func() error {
			*stands = notices.Owned(ctx, at.kind, at.namespace, func(n kube.Notice) { tellOf(n, names, req.Changed) }) == nil
			return nil
		})
	}
	_ = begin.Wait() // what does not stand is noted
	var out []resource.Address
	for _, r := range req.Records {
		if !slices.ContainsFunc(of[r.Address], func(at place) bool { return !*seen[at] }) {
			out = append(out, r.Address)
		}
	}
	return out, nil
}

// tellOf tells whose object changed; everybody, when it is not known which did.
func tellOf(n kube.Notice, names map[string][]resource.Address, changed func(resource.Address)) {
	if n.Object != nil {
		for _, a := range names[n.Object.GetName()] {
			changed(a)
		}
		return
	}
	for _, list := range names {
		for _, a := range list {
			changed(a)
		}
	}
}
