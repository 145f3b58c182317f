package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Whatever moved, failed or was found bad: a second plan right after an apply
// does nothing, a second apply asks nothing of the world, no intent stays open,
// and what serves passed.
func TestPlanAfterAnyApplyIsEmpty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := loopBench(t)
		for n := range rapid.IntRange(1, 4).Draw(rt, "applies") {
			b.w.sources["d.csv"] = rapid.SampledFrom([]string{"one", "two!", "three"}).Draw(rt, "data")
			for _, a := range []string{"check.unit", "training.m"} {
				b.w.sources["code of "+a] = rapid.SampledFrom([]string{"", "x"}).Draw(rt, "code of "+a)
			}
			for _, a := range []string{"dataset.d", "check.unit", "validation.m"} {
				delete(b.w.bad, a)
				if rapid.IntRange(0, 3).Draw(rt, "bad "+a) == 0 {
					b.w.bad[a] = "bad"
				}
			}
			clear(b.w.fail)
			for _, a := range []string{"check.unit", "training.m", "validation.m"} {
				if rapid.IntRange(0, 5).Draw(rt, "fails "+a) == 0 {
					b.w.fail[a] = errBoom
				}
			}
			if b.record("monitor.m") != nil { // nobody watches before that
				b.w.signals["monitor.m"] = int64(n / 2)
			}
			epochs := rapid.IntRange(1, 2).Draw(rt, "epochs")
			b.write(strings.Replace(loop, "epochs = 3", fmt.Sprintf("epochs = %d", epochs), 1))
			b.apply()
			clear(b.w.fail)
			p, err := b.engine().Plan(context.Background(), PlanOptions{})
			if err != nil {
				rt.Fatal(err)
			}
			for _, st := range p.Plan.Steps {
				if st.Action != resource.Noop && st.Action != resource.Blocked {
					rt.Fatalf("planned again: %v", lines(p.Plan))
				}
			}
			b.w.took()
			b.apply()
			if calls := b.w.took(); len(calls) > 0 {
				rt.Fatalf("the second apply did %v", calls)
			}
			snap, err := b.store.Snapshot(context.Background())
			if err != nil {
				rt.Fatal(err)
			}
			if len(snap.Intents) > 0 {
				rt.Fatalf("open intents: %v", snap.Intents)
			}
			if d := snap.Records[resource.Address{Kind: "deployment", Name: "m"}]; d != nil {
				serves := false
				for _, v := range snap.Versions[resource.Address{Kind: "training", Name: "m"}] {
					serves = serves || v.Passed() && strings.Contains(string(d.Outputs), string(v.Digest))
				}
				if !serves {
					rt.Fatalf("what serves never passed: %s", d.Outputs)
				}
			}
		}
	})
}

// witness is a driver that looks into the store at every act.
type witness struct {
	*fakeDriver
	t     *testing.T
	store state.Store
	acts  *int
}

func (d *witness) intent(opID string) {
	*d.acts++
	snap, err := d.store.Snapshot(context.Background())
	if err != nil {
		d.t.Error(err)
		return
	}
	for _, in := range snap.Intents {
		if in.OpID == opID && in.Epoch == snap.Lease.Epoch {
			return
		}
	}
	d.t.Errorf("%s acts under %s, which is not in the journal", d.kind, opID)
}

func (d *witness) Apply(ctx context.Context, req providers.ApplyRequest) (providers.Result, error) {
	d.intent(req.OpID)
	return d.fakeDriver.Apply(ctx, req)
}

func (d *witness) Delete(ctx context.Context, req providers.DeleteRequest) error {
	d.intent(req.OpID)
	return d.fakeDriver.Delete(ctx, req)
}

func TestEveryActIsInTheJournalBeforeItHappens(t *testing.T) {
	b := loopBench(t)
	acts := 0
	for _, o := range []planner.Options{{}, {Replace: []resource.Address{{Kind: "deployment", Name: "m"}}}, {Destroy: true}} {
		e := b.engine()
		connect := e.Connect
		e.Parallel = 1 // the witness counts without a lock
		e.Connect = func(ctx context.Context, p string, c config.ProviderConfig) (*providers.Provider, error) {
			pr, err := connect(ctx, p, c)
			if err == nil {
				for k, d := range pr.Drivers {
					pr.Drivers[k] = &witness{d.(*fakeDriver), t, b.store, &acts}
				}
			}
			return pr, err
		}
		if _, err := applyWith(context.Background(), e, PlanOptions{Options: o}); err != nil {
			t.Fatal(err)
		}
		b.now = b.now.Add(time.Minute)
	}
	if acts != 6+2+6 {
		t.Errorf("%d acts were seen, want 14", acts)
	}
	snap, err := b.store.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(snap.Intents)+len(snap.Records) > 0 {
		t.Errorf("left: %d intents, %d records", len(snap.Intents), len(snap.Records))
	}
}
