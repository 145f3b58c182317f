package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func TestWhoWatchesTellsOfTheRecordsThatThereAre(t *testing.T) {
	b := loopBench(t)
	b.apply()
	var changed []string
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, err := b.engine().Watch(ctx, b.snapshot(), func(a resource.Address) { changed = append(changed, a.String()) })
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range seen {
		names = append(names, a.String())
	}
	if got := strings.Join(names, " "); got != "dataset.d deployment.m monitor.m" {
		t.Errorf("it watches %q", got)
	}
	if len(b.w.watchers) != 3 || slices.ContainsFunc(b.w.watchers, func(r providers.WatchRequest) bool {
		return r.Look == nil || r.Look != b.w.watchers[0].Look || r.Records[0].Record == nil
	}) {
		t.Errorf("the drivers were asked %+v", b.w.watchers)
	}
	for _, r := range b.w.watchers {
		if r.Records[0].Address.Kind == "deployment" {
			r.Changed(r.Records[0].Address)
		}
	}
	if strings.Join(changed, " ") != "deployment.m" {
		t.Errorf("told of %q", changed)
	}
}

func TestOneThatCannotWatchDoesNotKeepTheOthersFromIt(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.blind = map[string]error{"deployment.m": errors.New("no kubeconfig")}
	seen, err := b.engine().Watch(t.Context(), b.snapshot(), func(resource.Address) {})
	if err == nil || err.Error() != "watch deployment.m: no kubeconfig" || len(seen) != 2 {
		t.Errorf("%v, %v", seen, err)
	}
}

func (b *bench) snapshot() *state.Snapshot {
	b.t.Helper()
	snap, err := b.store.Snapshot(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return snap
}
