package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Watch has the drivers tell which objects somebody changes outside, until ctx ends. It returns when it stands, with the addresses whose
// changes are seen from then on, in order: a plan that is made afterwards misses nothing, if its changes are taken together with what is
// told. It covers the records of snap; call it again after an apply that made others.
//
// changed is called by several goroutines, now and then for an address of which a plan will see no difference, and for what an apply of this
// project changes. It must not block. Addresses that are not returned are those of drivers that do not watch, or may not: they are seen by the
// next plan. An error is of drivers that could not begin; the others watch all the same.
func (e *Engine) Watch(ctx context.Context, snap *state.Snapshot, changed func(resource.Address)) ([]resource.Address, error) {
	type group struct{ provider, kind string }
	groups := map[group][]providers.ReadRequest{}
	for _, a := range slices.SortedFunc(maps.Keys(snap.Records), resource.Address.Compare) {
		rec := snap.Records[a]
		g := group{rec.Provider, a.Kind}
		groups[g] = append(groups[g], providers.ReadRequest{Address: a, Record: rec})
	}
	var (
		mu     sync.Mutex
		out    []resource.Address
		failed []error
		begin  errgroup.Group
		look   = &providers.Look{}
	)
	for of, recs := range groups {
		driver, err := e.driver(ctx, of.provider, of.kind)
		if err != nil {
			failed = append(failed, fmt.Errorf("watch %s: %w", recs[0].Address, err))
			continue
		}
		w, ok := providers.As[providers.Watcher](driver)
		if !ok {
			continue
		}
		begin.Go(func() error {
			watched, err := w.Watch(ctx, providers.WatchRequest{Records: recs, Look: look, Changed: changed})
			mu.Lock()
			defer mu.Unlock()
			out = append(out, watched...)
			if err != nil {
				failed = append(failed, fmt.Errorf("watch %s: %w", recs[0].Address, err))
			}
			return nil
		})
	}
	_ = begin.Wait() // failures are collected
	slices.SortFunc(out, resource.Address.Compare)
	slices.SortFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return out, errors.Join(failed...)
}
