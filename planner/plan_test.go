package planner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

const project = `
dataset "d" { source = "d.csv" }
check "unit" { command = ["true"] }
training "m" {
  depends_on = [check.unit]
  command    = ["train"]
  inputs     = { train = dataset.d }
  params     = { epochs = 3 }
  retrain { on = [monitor.m.drift] }
}
validation "m" {
  model = training.m.model
  threshold "recall" { min = 0.5 }
}
deployment "m" {
  model   = validation.m.model
  command = ["serve"]
}
monitor "m" {
  deployment = deployment.m
  reference  = dataset.d
  drift {}
}
`

// with replaces text in the project's files.
func with(old, now string) string {
	if !strings.Contains(project, old) {
		panic("the project does not hold " + old)
	}
	return strings.Replace(project, old, now, 1)
}

const retrain = "retrain { on = [monitor.m.drift] }"

func TestEachActionAndReason(t *testing.T) {
	behind := []string{"run validation.m upstream_changed", "update deployment.m upstream_changed"}
	for name, c := range map[string]struct {
		files string // before; "" = project
		first func(*world)
		then  string       // files afterwards; "" = the same
		now   func(*world) // what moved
		with  planner.Options
		want  []string
	}{
		"nothing moved": {},
		"new content retrains and moves what depends on it": {
			now:  func(w *world) { w.sources["dataset.d"] = "two" },
			want: []string{"update dataset.d data_changed", "run training.m data_changed", "run validation.m upstream_changed", "update deployment.m upstream_changed", "update monitor.m data_changed"},
		},
		"new code":        {now: func(w *world) { w.sources["training.m"] = "x" }, want: append([]string{"run training.m code_changed"}, behind...)},
		"a new parameter": {then: with("epochs = 3", "epochs = 4"), want: append([]string{"run training.m params_changed"}, behind...)},
		"a new command":   {then: with(`["train"]`, `["train", "-v"]`), want: append([]string{"run training.m config_changed"}, behind...)},
		"a timeout is policy: noted, nothing runs": {then: with(`["train"]`, "[\"train\"]\n  timeout = \"1h\""), want: []string{"update training.m config_changed"}},
		"a threshold is judged again":              {then: with("min = 0.5", "min = 0.6"), want: []string{"update validation.m config_changed", "update deployment.m upstream_changed"}},
		"prevent_destroy is noted":                 {then: with(`check "unit" { command = ["true"] }`, "check \"unit\" {\n command = [\"true\"]\n lifecycle { prevent_destroy = true }\n}"), want: []string{"update check.unit config_changed"}},
		"a signal that turned bad":                 {now: signal(1), want: append([]string{"run training.m signal"}, behind...)},
		"a signal seen before asks no more":        {now: signal(0)},
		"a signal that is new in on takes its present epoch as seen": {
			files: with(retrain, ""), first: signal(4), then: project, want: []string{"update training.m config_changed"},
		},
		"a signal that is new in on asks when it rises again": {
			files: with(retrain, ""), first: func(w *world) { signal(4)(w); w.files(project); w.apply() }, then: project, now: signal(5),
			want: append([]string{"run training.m signal"}, behind...),
		},
		"a signal taken out of on is forgotten": {then: with(retrain, ""), want: []string{"update training.m config_changed"}},
		"the schedule's slot is due": {
			files: with(retrain, `retrain { schedule = "0 3 * * *" }`), now: later(24 * time.Hour), want: append([]string{"run training.m schedule"}, behind...),
		},
		"the schedule's slot is not due": {files: with(retrain, `retrain { schedule = "0 3 * * *" }`), now: later(time.Hour)},
		"the schedule keeps its time zone": {
			files: with(retrain, "retrain {\n schedule = \"0 15 * * *\"\n time_zone = \"America/New_York\"\n }"), now: later(7 * time.Hour),
		},
		"too old":         {files: with(retrain, `retrain { max_age = "48h" }`), now: later(48 * time.Hour), want: append([]string{"run training.m max_age"}, behind...)},
		"not too old yet": {files: with(retrain, `retrain { max_age = "48h" }`), now: later(47 * time.Hour)},
		"the cooldown holds data back": {
			files: with(retrain, `retrain { cooldown = "2h" }`), now: func(w *world) { w.sources["dataset.d"] = "two" },
			want: []string{"update dataset.d data_changed", "noop training.m deferred,data_changed"},
		},
		"the cooldown does not hold code back": {
			files: with(retrain, `retrain { cooldown = "2h" }`), now: func(w *world) { w.sources["dataset.d"], w.sources["training.m"] = "two", "x" },
			want: []string{"update dataset.d data_changed", "run training.m code_changed,data_changed", "run validation.m upstream_changed", "update deployment.m upstream_changed", "update monitor.m data_changed"},
		},
		"a budget of nothing holds data back for ever": {
			files: with(retrain, "retrain {\n budget {\n runs = 0\n per = \"24h\"\n }\n }"), now: func(w *world) { w.sources["dataset.d"] = "two" },
			want: []string{"update dataset.d data_changed", "noop training.m deferred,data_changed"},
		},
		"a used-up budget holds a signal back": {
			files: with(retrain, "retrain {\n on = [monitor.m.drift]\n budget {\n runs = 1\n per = \"24h\"\n }\n }"),
			first: func(w *world) { signal(1)(w); w.apply() }, now: signal(2), want: []string{"noop training.m deferred,signal"},
		},
		"a budget frees itself": {
			files: with(retrain, "retrain {\n on = [monitor.m.drift]\n budget {\n runs = 1\n per = \"24h\"\n }\n }"),
			first: func(w *world) { signal(1)(w); w.apply() }, now: func(w *world) { signal(2)(w); later(25 * time.Hour)(w) }, want: append([]string{"run training.m signal"}, behind...),
		},
		"somebody edited the object": {
			now:  live("deployment.m", planner.Object{Phase: resource.PhaseReady, Drift: []planner.Change{{Path: "replicas", Old: []byte(`"1"`), New: []byte(`"5"`)}}}),
			want: []string{"update deployment.m live_changed"},
		},
		"the object is gone":              {now: live("deployment.m", planner.Object{Phase: resource.PhaseMissing}), want: []string{"create deployment.m missing"}},
		"a dataset's frozen copy is gone": {now: live("dataset.d", planner.Object{Phase: resource.PhaseMissing}), want: []string{"create dataset.d missing"}},
		"a dataset at another provider":   {then: with(`{ source = "d.csv" }`, "{\n source = \"d.csv\"\n provider = \"pods\"\n}"), want: []string{"replace dataset.d immutable"}},
		"an attribute taken out": {files: `check "a" {
			command = ["true"]
			env     = { A = "1" }
		}`, then: `check "a" { command = ["true"] }`, want: []string{"run check.a config_changed"}},
		"what is not known yet of a block that is no target": {
			then: with(`check "unit" { command = ["true"] }`, "dataset \"e\" { source = \"e.csv\" }\ncheck \"unit\" {\n command = [\"true\"]\n env = { ROWS = dataset.e.rows }\n}"), with: planner.Options{Targets: as("check.unit"), Only: true},
			want: []string{"blocked check.unit gate_closed,upstream_changed"},
		},
		"the object's last apply failed": {now: live("deployment.m", planner.Object{Phase: resource.PhaseFailed}), want: []string{"update deployment.m failed_before"}},
		"the live state cannot be read":  {now: live("deployment.m", planner.Object{Err: "no route"}), want: []string{"error: deployment.m: The live state cannot be read"}},
		"the sources cannot be read":     {now: func(w *world) { w.sources["error of dataset.d"] = "no such file" }, want: []string{"error: dataset.d: The sources cannot be read"}},
		"a run asked for":                {with: planner.Options{Replace: as("training.m")}, want: append([]string{"run training.m requested"}, behind...)},
		"an object asked for":            {with: planner.Options{Replace: as("deployment.m")}, want: []string{"replace deployment.m requested"}},
		"a run that errored waits for a request": {
			first: func(w *world) { w.sources["training.m"], w.fail["training.m"] = "x", true; w.apply() },
			want:  []string{"noop training.m failed_before"},
		},
		"a run that errored when it was asked for waits for another request": {
			first: func(w *world) { w.fail["check.unit"] = true; w.apply(planner.Options{Replace: as("check.unit")}) },
			want:  []string{"noop check.unit failed_before"},
		},
		"a run that errored has attempts left": {
			files: with(`["train"]`, "[\"train\"]\n  retries = 1"), first: func(w *world) { w.sources["training.m"], w.fail["training.m"] = "x", true; w.apply() },
			want: append([]string{"run training.m failed_before,code_changed"}, behind...),
		},
		"inputs that ran before are taken over": {
			first: func(w *world) { w.sources["training.m"] = "x"; w.apply(); w.sources["training.m"] = "" },
			want:  []string{"update training.m code_changed,adopted", "run validation.m upstream_changed", "update deployment.m upstream_changed"},
		},
		"blocks taken out of the files go in reverse order": {
			then: `check "unit" { command = ["true"] }`,
			want: []string{"delete monitor.m removed", "delete deployment.m removed", "delete validation.m removed", "delete training.m removed", "delete dataset.d removed"},
		},
		"a removed block may be forgotten": {
			files: `check "a" { command = ["true"] }`, then: "removed {\n from = check.a\n lifecycle { destroy = false }\n}", want: []string{"forget check.a removed"},
		},
		"destroy goes against the recorded dependencies": {
			with: planner.Options{Destroy: true},
			want: []string{"delete monitor.m requested", "delete deployment.m requested", "delete validation.m requested", "delete training.m requested", "delete dataset.d requested", "delete check.unit requested"},
		},
		"destroy of a target takes its users along": {
			with: planner.Options{Destroy: true, Targets: as("validation.m")},
			want: []string{"delete monitor.m requested", "delete deployment.m requested", "delete validation.m requested"},
		},
		"a target brings what it needs": {
			now: func(w *world) { w.sources["dataset.d"], w.sources["check.unit"] = "two", "x" }, with: planner.Options{Targets: as("dataset.d")},
			want: []string{"update dataset.d data_changed"},
		},
		"only the target": {
			now: func(w *world) { w.sources["dataset.d"], w.sources["training.m"] = "two", "x" }, with: planner.Options{Targets: as("training.m"), Only: true},
			want: []string{"run training.m code_changed"},
		},
		"refresh only looks": {
			now: func(w *world) { w.sources["dataset.d"] = "two" }, with: planner.Options{RefreshOnly: true},
		},
		"without a refresh the recorded contents stand": {now: func(w *world) { w.sources["dataset.d"], w.noLive = "two", true }},
		"a moved block": {
			files: `check "a" { command = ["true"] }`, then: "check \"b\" { command = [\"true\"] }\nmoved {\n from = check.a\n to = check.b\n}", want: []string{"move check.b moved"},
		},
		"a moved block that also changed": {
			files: `check "a" { command = ["true"] }`, then: "check \"b\" { command = [\"false\"] }\nmoved {\n from = check.a\n to = check.b\n}", want: []string{"run check.b moved,config_changed"},
		},
		"a moved instance": {
			files: `check "a" { command = ["true"] }`, then: "check \"a\" {\n for_each = toset([\"x\"])\n command = [\"true\"]\n}\nmoved {\n from = check.a\n to = check.a[\"x\"]\n}",
			want: []string{`move check.a["x"] moved`},
		},
		"a moved block takes every instance along": {
			files: "check \"a\" {\n for_each = toset([\"x\", \"y\"])\n command = [\"true\"]\n}", then: "check \"b\" {\n for_each = toset([\"x\", \"y\"])\n command = [\"true\"]\n}\nmoved {\n from = check.a\n to = check.b\n}",
			want: []string{`move check.b["x"] moved`, `move check.b["y"] moved`},
		},
		"an instance taken out": {
			files: "check \"a\" {\n for_each = toset([\"x\", \"y\"])\n command = [\"true\"]\n}", then: "check \"a\" {\n for_each = toset([\"y\"])\n command = [\"true\"]\n}",
			want: []string{`delete check.a["x"] removed`},
		},
		"prevent_destroy outlives its block": {
			files: "check \"a\" {\n command = [\"true\"]\n lifecycle { prevent_destroy = true }\n}", then: `check "b" { command = ["true"] }`,
			want: []string{"error: check.a: This block must not be destroyed", "run check.b new"},
		},
		"prevent_destroy keeps destroy off": {
			files: "check \"a\" {\n command = [\"true\"]\n lifecycle { prevent_destroy = true }\n}", with: planner.Options{Destroy: true},
			want: []string{"error: check.a: This block must not be destroyed"},
		},
		"prevent_destroy keeps a replacement off": {
			files: with(`["serve"]`, "[\"serve\"]\n lifecycle { prevent_destroy = true }"), with: planner.Options{Replace: as("deployment.m")},
			want: []string{"error: deployment.m: This block must not be destroyed"},
		},
		"ignored changes": {
			files: with(`["serve"]`, "[\"serve\"]\n env = { A = \"1\" }\n lifecycle { ignore_changes = [env] }"), then: with(`["serve"]`, "[\"serve\"]\n env = { A = \"2\" }\n lifecycle { ignore_changes = [env] }"),
		},
		"replace_triggered_by": {
			files: "check \"a\" { command = [\"true\"] }\nnotifier \"n\" {\n type = \"log\"\n lifecycle { replace_triggered_by = [check.a] }\n}", now: func(w *world) { w.sources["check.a"] = "x" },
			want: []string{"run check.a code_changed", "replace notifier.n upstream_changed"},
		},
		"replace_triggered_by of a run": {
			files: "check \"a\" { command = [\"true\"] }\ncheck \"b\" {\n command = [\"true\"]\n lifecycle { replace_triggered_by = [check.a] }\n}", now: func(w *world) { w.sources["check.a"] = "x" },
			want: []string{"run check.a code_changed", "run check.b upstream_changed"},
		},
		"replace_triggered_by waits for no cooldown": {
			files: "check \"a\" { command = [\"true\"] }\ntraining \"b\" {\n command = [\"true\"]\n retrain { cooldown = \"2h\" }\n lifecycle { replace_triggered_by = [check.a] }\n}", now: func(w *world) { w.sources["check.a"] = "x" },
			want: []string{"run check.a code_changed", "run training.b upstream_changed"},
		},
		"an immutable attribute": {
			files: with(`["serve"]`, "[\"serve\"]\n format = \"a\""), then: with(`["serve"]`, "[\"serve\"]\n format = \"b\""),
			want: []string{"replace deployment.m config_changed,immutable"},
		},
		"an unknown that feeds an immutable attribute": {
			files: with(`["serve"]`, "[\"serve\"]\n format = \"v${training.m.version}\""), now: func(w *world) { w.sources["training.m"] = "x" },
			want: []string{"run training.m code_changed", "run validation.m upstream_changed", "replace deployment.m upstream_changed,upstream_changed,immutable"},
		},
		"another provider": {
			then: with(`["serve"]`, "[\"serve\"]\n provider = \"pods\""), want: []string{"replace deployment.m immutable"},
		},
		"pinned": {
			first: func(w *world) { w.pin(1); w.sources["training.m"] = "x" },
			want:  []string{"run training.m code_changed", "run validation.m upstream_changed", "noop deployment.m pinned"},
		},
		"quarantined": {
			now: func(w *world) { w.quarantineNext() }, want: []string{"noop deployment.m quarantined"},
		},
		"a check that failed blocks what needs it": {
			first: func(w *world) {
				w.bad["check.unit"] = true
				w.sources["check.unit"] = "x"
				w.apply()
				w.sources["training.m"] = "x"
			},
			want: []string{"blocked training.m gate_closed,code_changed"},
		},
		"a closed gate does not keep policy from being noted": {
			first: func(w *world) { w.bad["check.unit"] = true; w.sources["check.unit"] = "x"; w.apply() },
			then:  with(`["train"]`, "[\"train\"]\n  timeout = \"1h\""), want: []string{"update training.m config_changed"},
		},
		"a version that did not pass changes nothing behind the gate": {
			first: func(w *world) { w.bad["validation.m"] = true; w.sources["training.m"] = "x"; w.apply() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.files
			if before == "" {
				before = project
			}
			w := newWorld(t, before)
			w.apply()
			if c.first != nil {
				c.first(w)
			}
			if c.then != "" {
				w.files(c.then)
			}
			if c.now != nil {
				c.now(w)
			}
			want := c.want
			if want == nil {
				want = []string{}
			}
			p := w.build(c.with)
			if diff := cmp.Diff(want, lines(p)); diff != "" {
				t.Fatalf("plan (-want +got):\n%s", diff)
			}
			needsComeFirst(t, p)
		})
	}
}

func as(s string) []resource.Address { return []resource.Address{address(s)} }

func later(d time.Duration) func(*world) { return func(w *world) { w.now = w.now.Add(d) } }

func live(addr string, o planner.Object) func(*world) {
	return func(w *world) { w.objects[address(addr)] = o }
}

func signal(epoch int64) func(*world) {
	return func(w *world) {
		m := address("monitor.m")
		w.signals[m] = []*state.Signal{{Address: m, Name: "drift", State: resource.SignalBad, Epoch: epoch, Message: "drifted"}}
	}
}

// pin holds the deployment at the version that it serves.
func (w *world) pin(version int) {
	a := address("deployment.m")
	v, err := state.DecodeValue(w.snap.Records[a].Spec, w.conf.Block(a).Kind.Body().Type())
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := state.EncodeValue(v.GetAttr("model"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.snap.Pins[a] = &state.Pin{Address: a, Version: version, Model: raw, Who: "ada"}
}

// quarantineNext makes version 2 pass, and quarantines it at the deployment
// before that serves it.
func (w *world) quarantineNext() {
	w.sources["training.m"] = "x"
	w.apply(planner.Options{Targets: []resource.Address{address("validation.m")}})
	v := w.snap.Versions[address("training.m")][1]
	a := address("deployment.m")
	w.snap.Quarantines[a] = []*state.Quarantine{{Address: a, Version: 2, Digest: v.Digest, Reason: "error rate 0.4"}}
}

func needsComeFirst(t testing.TB, p *planner.Plan) {
	t.Helper()
	at := map[resource.Address]int{}
	for i, st := range p.Steps {
		for _, n := range st.Needs {
			if _, ok := at[n]; !ok {
				t.Fatalf("%s needs %s, which does not come before it", st.Address, n)
			}
		}
		at[st.Address] = i
	}
}
