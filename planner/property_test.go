package planner_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

var update = flag.Bool("update", false, "write the golden files")

// drawn is a random project: layers of datasets, checks, trainings with gates
// and deployments, each using some of those before it.
func drawn(t *rapid.T) string {
	var b strings.Builder
	n := rapid.IntRange(1, 3).Draw(t, "datasets")
	for i := range n {
		fmt.Fprintf(&b, "dataset \"d%d\" { source = \"d%d.csv\" }\n", i, i)
	}
	checks := rapid.IntRange(0, 2).Draw(t, "checks")
	for i := range checks {
		fmt.Fprintf(&b, "check \"c%d\" {\n command = [\"true\"]\n inputs = { d = dataset.d%d }\n}\n", i, rapid.IntRange(0, n-1).Draw(t, "of"))
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "trainings") {
		deps := ""
		if checks > 0 && rapid.Bool().Draw(t, "checked") {
			deps = fmt.Sprintf(" depends_on = [check.c%d]\n", rapid.IntRange(0, checks-1).Draw(t, "by"))
		}
		fmt.Fprintf(&b, "training \"t%d\" {\n%s command = [\"train\"]\n inputs = { d = dataset.d%d }\n params = { n = %d }\n}\n",
			i, deps, rapid.IntRange(0, n-1).Draw(t, "on"), rapid.IntRange(1, 2).Draw(t, "n"))
		model := fmt.Sprintf("training.t%d.model", i)
		if rapid.Bool().Draw(t, "gated") {
			fmt.Fprintf(&b, "validation \"t%d\" {\n model = %s\n threshold \"s\" { min = 0.%d }\n}\n", i, model, rapid.IntRange(1, 2).Draw(t, "min"))
			model = fmt.Sprintf("validation.t%d.model", i)
		}
		if rapid.Bool().Draw(t, "served") {
			fmt.Fprintf(&b, "deployment \"t%d\" {\n model = %s\n command = [\"serve\"]\n}\n", i, model)
		}
	}
	return b.String()
}

// move changes something in the world, at random.
func (w *world) move(t *rapid.T) {
	w.bad, w.fail = map[string]bool{}, map[string]bool{}
	for _, b := range w.conf.Blocks {
		a := b.Addr.String()
		if rapid.IntRange(0, 3).Draw(t, "moves "+a) == 0 {
			w.sources[a] = rapid.StringMatching(`[ab]{1,2}`).Draw(t, "content of "+a)
		}
		w.bad[a] = rapid.IntRange(0, 3).Draw(t, "bad "+a) == 0
		w.fail[a] = rapid.IntRange(0, 5).Draw(t, "fails "+a) == 0
	}
}

// check runs a property on worlds that went through some applies.
func check(t *testing.T, prop func(t *rapid.T, w *world)) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, drawn(rt))
		w.open = func(blk *config.Block, recs map[resource.Address]*state.Record, outcomes map[resource.Address]planner.Outcome) {
			mayRun(rt, w, blk, recs, outcomes)
		}
		for range rapid.IntRange(0, 3).Draw(rt, "applies") {
			w.move(rt)
			w.apply()
			if rapid.Bool().Draw(rt, "edited") {
				w.files(drawn(rt))
			}
		}
		w.move(rt)
		prop(rt, w)
	})
}

// mayRun fails when a block runs although something that it needs is missing,
// errored in this very apply, or has a bad verdict that nothing good is held behind.
func mayRun(t *rapid.T, w *world, blk *config.Block, recs map[resource.Address]*state.Record, outcomes map[resource.Address]planner.Outcome) {
	for _, d := range blk.Deps {
		rec := recs[d]
		if rec == nil || len(rec.Outputs) == 0 {
			t.Fatalf("%s runs although %s never came to be", blk.Addr, d)
		}
		gate := d.Kind == "validation"
		held := gate && !strings.Contains(string(rec.Outputs), `"model":null`)
		if rec.Verdict.Bad() && !held && !(d.Kind == "training" && rec.Version > 0) {
			t.Fatalf("%s runs although %s has a bad verdict: %s", blk.Addr, d, rec.Verdict.Message)
		}
		if o := outcomes[d]; o.Failed != "" && !held && rec.Version == 0 {
			t.Fatalf("%s runs although %s failed just now", blk.Addr, d)
		}
	}
}

func TestAGateNeverOpensOnAnError(t *testing.T) {
	check(t, func(_ *rapid.T, w *world) { w.apply() })
}

func TestNeedsComeBeforeTheirUsers(t *testing.T) {
	check(t, func(rt *rapid.T, w *world) {
		var o planner.Options
		o.Destroy = rapid.IntRange(0, 3).Draw(rt, "destroy") == 0
		if rapid.IntRange(0, 3).Draw(rt, "targeted") == 0 {
			o.Targets = []resource.Address{rapid.SampledFrom(w.conf.Blocks).Draw(rt, "target").Addr}
		}
		needsComeFirst(w.t, w.build(o))
	})
}

func TestAnAppliedPlanLeavesNothingToDo(t *testing.T) {
	check(t, func(rt *rapid.T, w *world) {
		w.apply()
		for _, st := range w.build().Steps {
			if st.Action != resource.Noop && st.Action != resource.Blocked {
				rt.Fatalf("planned again: %v", lines(w.build()))
			}
		}
	})
}

func TestEqualInputGivesEqualBytes(t *testing.T) {
	check(t, func(rt *rapid.T, w *world) {
		in := w.input(planner.Options{})
		before := mustJSON(w.t, in.Prior)
		one, err := json.Marshal(planner.Build(in))
		if err != nil {
			rt.Fatal(err)
		}
		for range 3 {
			two, err := json.Marshal(planner.Build(shuffled(in)))
			if err != nil {
				rt.Fatal(err)
			}
			if string(one) != string(two) {
				rt.Fatalf("two plans of one input:\n%s\n%s", one, two)
			}
		}
		if after := mustJSON(w.t, in.Prior); after != before {
			rt.Fatalf("planning changed its input:\n%s", cmp.Diff(before, after))
		}
	})
}

// shuffled is the same input in fresh maps, filled in Go's random order.
func shuffled(in planner.Input) planner.Input {
	snap := *in.Prior
	snap.Records, snap.Versions, snap.Runs = clone(snap.Records), clone(snap.Versions), clone(snap.Runs)
	for a, r := range snap.Records {
		c := *r
		c.Parts, c.Policy, c.Judge = clone(r.Parts), clone(r.Policy), clone(r.Judge)
		snap.Records[a] = &c
	}
	in.Prior = &snap
	in.Live.Probes, in.Live.Objects, in.Live.Signals = clone(in.Live.Probes), clone(in.Live.Objects), clone(in.Live.Signals)
	return in
}

func clone[M ~map[K]V, K comparable, V any](m M) M {
	if m == nil {
		return nil
	}
	out := make(M, 2*len(m))
	maps.Copy(out, m)
	return out
}

func TestAWholePlanAsJSON(t *testing.T) {
	w := newWorld(t, project+"\nnotifier \"n\" {\n type = \"webhook\"\n secret = \"hunter2\"\n url = \"https://example.com\"\n}\ncheck \"gone\" { command = [\"true\"] }\n")
	w.apply()
	w.files(with("epochs = 3", "epochs = 4") + "\nnotifier \"n\" {\n type = \"webhook\"\n secret = \"hunter3\"\n url = \"https://example.com\"\n}\n")
	w.sources["dataset.d"] = "two"
	live("deployment.m", planner.Object{Phase: resource.PhaseReady, By: "kubectl", Drift: []planner.Change{{Path: "replicas", Old: []byte("1"), New: []byte("5")}}})(w)
	p := w.build()
	p.ConfigDigest = "sha256:of-the-files"
	got := mustJSON(t, p) + "\n"
	golden := filepath.Join("testdata", "plan.golden.json")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the plan differs; look whether that is right, then run with -update (-want +got):\n%s", diff)
	}
}
