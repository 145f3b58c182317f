package planner_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// reference is the digest of the data that the monitor was last applied with.
func (w *world) reference() string {
	w.t.Helper()
	return strings.Trim(w.snap.Records[address("monitor.m")].Parts["reference"], `"`)
}

func (w *world) wantRan(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.ran); diff != "" {
		w.t.Fatalf("ran (-want +got):\n%s", diff)
	}
}

func digestOf(s string) string { return string(resource.DigestOf([]byte(s))) }

func TestAReferenceStaysWithTheVersionThatServes(t *testing.T) {
	w := newWorld(t, project)
	w.apply()
	before := w.reference()

	// New data whose model does not pass: version 1 serves on, and so does its reference.
	w.sources["dataset.d"], w.bad["validation.m"] = "two", true
	if got := lines(w.build()); got[len(got)-1] != "update monitor.m data_changed" {
		t.Fatalf("the reference moves if the version passes: %v", got)
	}
	w.apply()
	w.wantRan("update dataset.d", "run training.m", "run validation.m")
	if w.reference() != before {
		t.Fatalf("windows of version 1 are judged against data that it never saw: %s", w.reference())
	}
	if got := lines(w.build()); len(got) > 0 {
		t.Fatalf("planned again: %v", got)
	}

	// Newer data still, and a model that passes: both move together.
	w.sources["dataset.d"], w.bad["validation.m"] = "three", false
	w.apply()
	w.wantRan("update dataset.d", "run training.m", "run validation.m", "update deployment.m", "update monitor.m")
	if w.reference() != digestOf("three") {
		t.Fatalf("the reference is %s", w.reference())
	}
}

func TestAReferenceGoesBackWithTheVersionThatServes(t *testing.T) {
	w := newWorld(t, project)
	w.sources["dataset.d"] = "one"
	w.apply()
	w.pin(1)
	back := w.snap.Pins[address("deployment.m")]
	clear(w.snap.Pins)
	w.sources["dataset.d"] = "two"
	w.apply()
	w.snap.Pins[back.Address] = back
	w.apply(planner.Options{Targets: as("deployment.m"), Only: true}) // by itself the monitor is as recorded still
	if diff := cmp.Diff([]string{"noop deployment.m pinned", "update monitor.m data_changed"}, lines(w.build())); diff != "" {
		t.Fatalf("plan (-want +got):\n%s", diff)
	}
	w.apply()
	if w.reference() != digestOf("one") {
		t.Fatalf("windows of version 1 are judged against data that it never saw: %s", w.reference())
	}
	if diff := cmp.Diff([]string{"noop deployment.m pinned"}, lines(w.build())); diff != "" {
		t.Fatalf("plan (-want +got):\n%s", diff)
	}
	// Data that no version was trained on yet does not move it either.
	w.sources["dataset.d"], w.bad["validation.m"] = "three", true
	w.apply()
	if w.reference() != digestOf("one") {
		t.Fatalf("the reference is %s", w.reference())
	}
	clear(w.snap.Pins)
	w.apply()
	if w.reference() != digestOf("two") {
		t.Fatalf("version 2 serves again, with its own reference: %s", w.reference())
	}
}

func TestAReferenceMovesAtOnceWhen(t *testing.T) {
	files := func(reference string) string {
		return with(`dataset "d" { source = "d.csv" }`, "dataset \"d\" { source = \"d.csv\" }\ndataset \"e\" { source = \"e.csv\" }") + "\n" + reference
	}
	for name, c := range map[string]struct {
		before, then string
		now          func(*world)
		want         []string
	}{
		"nothing that serves was trained on it": {
			before: strings.Replace(files(""), "reference  = dataset.d", "reference  = dataset.e", 1),
			now:    func(w *world) { w.sources["dataset.e"] = "two" },
			want:   []string{"update dataset.e data_changed", "update monitor.m data_changed"},
		},
		"somebody names other data": {
			before: files(""), then: strings.Replace(files(""), "reference  = dataset.d", "reference  = dataset.e", 1),
			now:  func(w *world) { w.sources["dataset.e"] = "two"; w.apply(planner.Options{Targets: as("dataset.e")}) },
			want: []string{"update monitor.m data_changed"},
		},
		"only other data of the training moved without passing": {
			before: strings.Replace(files(""), "reference  = dataset.d", "reference  = dataset.e", 1),
			now: func(w *world) {
				w.sources["dataset.d"], w.bad["validation.m"] = "two", true
				w.apply()
				w.sources["dataset.e"] = "two"
			},
			want: []string{"update dataset.e data_changed", "update monitor.m data_changed"},
		},
		"somebody names other data that the version was not trained on": {
			before: strings.Replace(files(""), "{ train = dataset.d }", "{ train = dataset.d, more = dataset.e }", 1),
			then:   strings.NewReplacer("{ train = dataset.d }", "{ train = dataset.d, more = dataset.e }", "reference  = dataset.d", "reference  = dataset.e").Replace(files("")),
			now:    func(w *world) { w.sources["dataset.e"], w.bad["validation.m"] = "two", true; w.apply() },
			want:   []string{"update monitor.m data_changed"},
		},
		"the bytes of the new version are those of the old": {
			before: files(""), now: func(w *world) {
				w.sameModel = true
				w.sources["dataset.d"] = "two"
				w.apply()
				if w.reference() != digestOf("two") {
					w.t.Fatal("the model that serves was trained on the new data as well")
				}
			},
			want: []string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.before)
			w.sameModel = strings.HasPrefix(name, "the bytes")
			w.apply()
			c.now(w)
			if c.then != "" {
				w.files(c.then)
			}
			if diff := cmp.Diff(c.want, lines(w.build())); diff != "" {
				t.Fatalf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAMovedTrainingKeepsTheReferenceOfItsVersions(t *testing.T) {
	w := newWorld(t, project)
	w.apply()
	w.sources["dataset.d"], w.bad["validation.m"] = "two", true
	w.apply()
	w.files(strings.NewReplacer(`training "m"`, `training "n"`, "training.m", "training.n").Replace(project) + "moved {\n from = training.m\n to = training.n\n}\n")
	if diff := cmp.Diff([]string{"move training.n moved"}, lines(w.build())); diff != "" {
		t.Fatalf("plan (-want +got):\n%s", diff)
	}
}

func TestNewLabelsAreNoChangeOfTheMonitor(t *testing.T) {
	w := newWorld(t, with("drift {}", "performance {\n labels = dataset.labels\n label = \"y\"\n metric \"recall\" { min = 0.9 }\n }")+"\ndataset \"labels\" { source = \"l.csv\" }\n")
	w.apply()
	w.sources["dataset.labels"] = "more"
	if diff := cmp.Diff([]string{"update dataset.labels data_changed"}, lines(w.build())); diff != "" {
		t.Fatalf("plan (-want +got):\n%s", diff)
	}
}

func TestWhatAnotherBlockGaveIsUpstreamChanged(t *testing.T) {
	const base = `
dataset "d" { source = "d.csv" }
training "base" { command = ["train"] }
training "fine" {
  command = ["tune"]
  inputs  = { base = training.base.model, rows = dataset.d }
  env     = { METRIC = "v${training.base.version}" }
  retrain {
    cooldown     = "2h"
    min_new_rows = 10
  }
}
deployment "a" {
  model   = training.base.model
  command = ["serve"]
}
deployment "b" {
  model   = training.base.model
  command = ["front"]
  env     = { BACKEND = deployment.a.endpoint }
}
`
	w := newWorld(t, base)
	w.rows["dataset.d"] = 100
	w.apply()
	w.sources["training.base"] = "new code"
	p := w.build()
	want := []string{
		"run training.base code_changed", "update deployment.a upstream_changed",
		"update deployment.b upstream_changed", "noop training.fine deferred,upstream_changed,upstream_changed",
	}
	if diff := cmp.Diff(want, lines(p)); diff != "" {
		t.Fatalf("plan (-want +got):\n%s", diff)
	}
	for _, r := range stepOf(t, p, "deployment.a").Reasons {
		if r.By != "training.base" {
			t.Errorf("caused by %q: %+v", r.By, r)
		}
	}
	// After the cooldown it runs, and needs no new rows for it: it is not data that moved.
	later(3 * 60 * 60 * 1e9)(w)
	w.apply()
	if !strings.Contains(strings.Join(w.ran, " "), "run training.fine") {
		t.Fatalf("ran %v", w.ran)
	}
}
