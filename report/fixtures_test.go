package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// The plans below are made by hand in the form that the planner gives them.

var planTime = time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)

func addr(s string) resource.Address {
	a, err := resource.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func addrs(names ...string) []resource.Address {
	out := make([]resource.Address, len(names))
	for i, n := range names {
		out[i] = addr(n)
	}
	return out
}

func digest(of string) string { return string(resource.DigestOf([]byte(of))) }

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func newPlan(steps ...*planner.Step) *planner.Plan {
	p := &planner.Plan{
		FormatVersion: planner.FormatVersion, Lineage: "01JNB3", Serial: 12, Created: planTime, Complete: true,
		ConfigDigest: resource.DigestOf([]byte("config")), Steps: steps,
	}
	s := &p.Summary
	for _, st := range steps {
		switch st.Action {
		case resource.Create:
			s.Create++
		case resource.Update:
			s.Update++
		case resource.Replace:
			s.Replace++
		case resource.Delete:
			s.Delete++
		case resource.RunIt:
			s.Run++
		case resource.Blocked:
			s.Blocked++
		case resource.Move:
			s.Move++
		case resource.Import:
			s.Import++
		case resource.Forget:
			s.Forget++
		case resource.Noop:
			s.Noop++
		}
		if len(st.Gate) > 0 && st.Action == resource.RunIt {
			s.Gates++
		}
	}
	return p
}

func step(address string, action resource.Action, reasons ...resource.Reason) *planner.Step {
	a := addr(address)
	return &planner.Step{Address: a, Kind: a.Kind, Provider: "local", Action: action, Reasons: reasons}
}

func because(code resource.Code, message string) resource.Reason {
	return resource.Reason{Code: code, Message: message}
}

var tumorGate = []string{"recall ≥ 0.93", "accuracy ≥ 0.90 and within 0.02 of the champion"}

// quickstart is the first plan of a new project.
func quickstart() *planner.Plan {
	first := because(resource.ReasonNew, "not made yet")
	notRun := because(resource.ReasonNew, "has not run yet")
	data := step("dataset.tumors", resource.Create, first)
	data.After = raw(map[string]any{
		"source": "data/wdbc.csv", "target": "diagnosis", "format": nil, "id": nil,
		"expect": []any{map[string]any{"name": "no_nulls"}, map[string]any{"name": "enough"}},
		"split":  []any{map[string]any{"name": "train", "fraction": 0.75}, map[string]any{"name": "test", "fraction": 0.25}},
	})
	check := step("check.unit", resource.RunIt, notRun)
	check.After = raw(map[string]any{"command": []any{"python3", "-m", "unittest", "-q"}, "sources": []any{"*.py", "tests/**"}})
	train := step("training.tumors", resource.RunIt, notRun)
	train.After = raw(map[string]any{
		"command": []any{"python3", "train.py"}, "params": map[string]any{"epochs": 300, "learning_rate": 0.1},
		"inputs": map[string]any{"train": map[string]any{"digest": nil, "path": nil, "rows": nil}}, "timeout": "10m0s", "nodes": 1,
	})
	train.AfterUnknown = []string{"inputs.train", "model"}
	train.Needs, train.GatedBy = addrs("check.unit", "dataset.tumors"), addrs("validation.tumors")
	valid := step("validation.tumors", resource.RunIt, notRun)
	valid.Gate, valid.Needs = tumorGate, addrs("training.tumors")
	valid.After = raw(map[string]any{"command": []any{"python3", "validate.py"}, "model": nil,
		"threshold": []any{map[string]any{"metric": "recall", "min": 0.93}, map[string]any{"metric": "accuracy", "min": 0.9}}})
	valid.AfterUnknown = []string{"model"}
	deploy := step("deployment.tumors", resource.Create, first)
	deploy.After = raw(map[string]any{"command": []any{"python3", "serve.py"}, "model": nil, "replicas": 1, "drain": "30s"})
	deploy.AfterUnknown, deploy.Needs, deploy.GatedBy = []string{"model", "endpoint"}, addrs("validation.tumors"), addrs("validation.tumors")
	monitor := step("monitor.tumors", resource.Create, first)
	monitor.After = raw(map[string]any{"deployment": "deployment.tumors", "window": map[string]any{"requests": 200},
		"drift": map[string]any{"method": "auto", "share": 0.5, "confirm": 2}})
	monitor.Needs, monitor.GatedBy = addrs("deployment.tumors"), addrs("validation.tumors")
	return newPlan(data, check, train, valid, deploy, monitor)
}

// dataChanged is the plan after new rows have come: the whole loop moves.
func dataChanged() *planner.Plan {
	content := digest("wdbc 2")
	data := step("dataset.tumors", resource.Update, resource.Reason{
		Code: resource.ReasonDataChanged, Path: "content", Old: digest("wdbc 1"), New: content, Message: "data/wdbc.csv changed (12 KB → 13 KB)"})
	data.Changes = []planner.Change{{Path: "content", Old: raw(digest("wdbc 1")), New: raw(content)}}
	train := step("training.tumors", resource.RunIt,
		resource.Reason{Code: resource.ReasonDataChanged, Path: "inputs.train", Old: digest("train 1"), New: digest("train 2"), By: "dataset.tumors", Message: "data changed"},
		resource.Reason{Code: resource.ReasonParamsChanged, Path: "params.epochs", Old: "300", New: "400", Message: "parameter changed"})
	train.Changes = []planner.Change{
		{Path: "inputs.train", Old: raw(digest("train 1")), New: raw(digest("train 2"))},
		{Path: "params.epochs", Old: raw(300), New: raw(400)},
		{Path: "timeout", Old: raw("5m0s"), New: raw("10m0s"), Role: resource.RolePolicy},
	}
	train.Needs, train.GatedBy, train.AfterUnknown = addrs("dataset.tumors"), addrs("validation.tumors"), []string{"model"}
	train.Exec.Estimate = 150
	valid := step("validation.tumors", resource.RunIt, resource.Reason{
		Code: resource.ReasonUpstreamChanged, Path: "model", Old: digest("model 3"), By: "training.tumors", Message: "upstream changed: known after training.tumors"})
	valid.Changes = []planner.Change{{Path: "model", Old: raw(digest("model 3")), Unknown: true}}
	valid.Gate, valid.Needs, valid.AfterUnknown = tumorGate, addrs("training.tumors"), []string{"model"}
	valid.Exec.Estimate = 2.4
	deploy := step("deployment.tumors", resource.Update, resource.Reason{
		Code: resource.ReasonConfigChanged, Path: "model", Old: digest("model 3"), By: "validation.tumors", Message: "configuration changed: known after validation.tumors"})
	deploy.Changes = []planner.Change{{Path: "model", Old: raw(digest("model 3")), Unknown: true}}
	deploy.Needs, deploy.GatedBy, deploy.AfterUnknown = addrs("validation.tumors"), addrs("validation.tumors"), []string{"model"}
	return newPlan(data, train, valid, deploy)
}

// gateClosed: nothing has passed yet, so what needs the model waits.
func gateClosed() *planner.Plan {
	bad := "validation.tumors did not pass: recall 0.912 is below 0.93"
	deploy := step("deployment.tumors", resource.Blocked,
		resource.Reason{Code: resource.ReasonGateClosed, By: "validation.tumors", Message: bad},
		because(resource.ReasonNew, "not made yet"))
	monitor := step("monitor.tumors", resource.Blocked,
		resource.Reason{Code: resource.ReasonGateClosed, By: "deployment.tumors", Message: "deployment.tumors is blocked by validation.tumors"},
		because(resource.ReasonNew, "not made yet"))
	return newPlan(deploy, monitor)
}

// replaceImmutable has one replace, one removal, one move, one import, one forget.
func replaceImmutable() *planner.Plan {
	deploy := step("deployment.tumors", resource.Replace,
		resource.Reason{Code: resource.ReasonConfigChanged, Path: "format", Old: "sklearn", New: "onnx", Message: "configuration changed"},
		resource.Reason{Code: resource.ReasonConfigChanged, Path: "replicas", Old: "1", New: "3", Message: "configuration changed"},
		resource.Reason{Code: resource.ReasonImmutable, Path: "format", Old: "sklearn", New: "onnx", Message: "format cannot be changed in place"})
	deploy.Provider = "kserve.eu"
	deploy.Exec.DeleteFirst = true
	deploy.Changes = []planner.Change{
		{Path: "env.REGION", New: raw("eu-central-1")},
		{Path: "format", Old: raw("sklearn"), New: raw("onnx"), Replaces: true},
		{Path: "replicas", Old: raw(1), New: raw(3)},
	}
	gone := step("deployment.old", resource.Delete, because(resource.ReasonRemoved, "no file declares it any more"))
	from := addr("training.cancer")
	moved := step("training.tumors", resource.Move, resource.Reason{Code: resource.ReasonMoved, Old: "training.cancer", New: "training.tumors", Message: "moved from training.cancer"})
	moved.From = &from
	imported := step("deployment.legacy", resource.Import, because(resource.ReasonImported, "an import block names inferenceservice/legacy"))
	forget := step("notifier.team", resource.Forget, because(resource.ReasonRemoved, "a removed block says to forget it; the object itself stays"))
	return newPlan(moved, imported, deploy, gone, forget)
}

// anewInPart has an object of which one part cannot be changed in place.
func anewInPart() *planner.Plan {
	at := "objects.Job.batch/load.spec.template.spec.containers"
	load := step("manifest.cache", resource.Replace,
		resource.Reason{Code: resource.ReasonConfigChanged, Path: at, Old: "[1]", New: "[2]", Message: "configuration changed"},
		resource.Reason{Code: resource.ReasonImmutable, Path: "Job.batch/load:spec.template", Message: "Job.batch/load, for spec.template cannot be changed in place; the rest stays"})
	load.Provider = "kubernetes"
	load.Changes = []planner.Change{{Path: at, Old: raw([]int{1}), New: raw([]int{2})}}
	return newPlan(load)
}

// tenThousand are equal checks of one for_each, and trainings that differ.
func tenThousand() *planner.Plan {
	var steps []*planner.Step
	for i := range 10000 {
		st := step(fmt.Sprintf("check.c[%d]", i), resource.Create, because(resource.ReasonNew, "not made yet"))
		st.After = raw(map[string]any{"command": []any{"true"}})
		steps = append(steps, st)
	}
	for i := range 40 {
		st := step(fmt.Sprintf("training.t[\"k%02d\"]", i), resource.RunIt, resource.Reason{
			Code: resource.ReasonParamsChanged, Path: "params.seed", Old: fmt.Sprint(i), New: fmt.Sprint(i + 1), Message: "parameter changed"})
		st.Changes = []planner.Change{{Path: "params.seed", Old: raw(i), New: raw(i + 1)}}
		steps = append(steps, st)
	}
	return newPlan(steps...)
}

// secrets has sensitive values, which must not come out anywhere.
func secrets() *planner.Plan {
	team := step("notifier.team", resource.Update,
		resource.Reason{Code: resource.ReasonConfigChanged, Path: "url", Old: "(sensitive)", New: "(sensitive)", Message: "configuration changed"})
	team.Changes = []planner.Change{{Path: "url", Old: raw("hunter2"), New: raw("hunter3"), Sensitive: true}}
	made := step("notifier.other", resource.Create, because(resource.ReasonNew, "not made yet"))
	made.After = raw(map[string]any{"type": "webhook", "url": "(sensitive)"})
	return newPlan(team, made)
}

// hostile has names and values that try to forge output.
func hostile() *planner.Plan {
	a := resource.Address{Kind: "dataset", Name: "x", Key: resource.StringKey("a\x1b[2K\rPlan: 0 to add\u202egnp.exe")}
	st := &planner.Step{Address: a, Kind: "dataset", Provider: "local", Action: resource.Update, Reasons: []resource.Reason{
		{Code: resource.ReasonDataChanged, Path: "source", Old: "a\nNo changes.", New: "b\x1b[31m", Message: "data\r\nPlan: 0 to add, 0 to change\u2028."},
		{Code: resource.ReasonSignal, By: "monitor.x.\u200bdrift", Message: "bad \xff\xfe bytes \a"},
	}}
	st.Changes = []planner.Change{{Path: "env.\x1b]0;title\a", Old: raw("x\u2066y"), New: raw("x")}, {Path: "source", Old: raw("a\nNo changes."), New: raw("b\x1b[31m")}}
	p := newPlan(st)
	p.Diagnostics = []planner.Diagnostic{{Severity: "warning", Summary: "odd\x1b[1mname", Detail: "line one\nline two\x1b[0m", File: "a\x1b.ml.hcl", Line: 3}}
	return p
}

// everything shows drift, held no-ops, long values, wide runes, warnings.
func everything() *planner.Plan {
	held := step("deployment.tumors", resource.Noop, resource.Reason{
		Code: resource.ReasonPinned, Path: "model", Old: "2", New: "4", Message: "pinned at version 2 by ann@lab; version 4 is held until `ml unpin deployment.tumors`"})
	later := step("training.churn", resource.Noop, because(resource.ReasonDeferred, "deferred until 2026-03-02 10:00:00 UTC: cooldown of 1h0m0s"))
	scaled := step("deployment.churn", resource.Update,
		resource.Reason{Code: resource.ReasonLiveChanged, Path: "replicas", Old: "2", New: "5", By: "kubectl", Message: "changed outside of ml"},
		resource.Reason{Code: resource.ReasonLiveChanged, Path: "image", Old: "a", New: "b", By: "kubectl", Message: "changed outside of ml"})
	scaled.Provider = "kubernetes"
	again := step("training.prices", resource.RunIt,
		resource.Reason{Code: resource.ReasonSignal, Path: "retrain.on", Old: "2", New: "3", By: "monitor.prices.drift", Message: "17 of 30 columns drifted in 2 windows in a row (share 0.57, limit 0.5)"},
		resource.Reason{Code: resource.ReasonSchedule, Path: "retrain.schedule", New: "2026-03-02T03:00:00Z", Message: "due since 2026-03-02 03:00 UTC"},
		resource.Reason{Code: resource.ReasonCodeChanged, Path: "code", Old: digest("code 1"), New: digest("code 2"), Message: "code changed"},
		resource.Reason{Code: resource.ReasonConfigChanged, Path: "command", Old: `["python3"]`, New: `["python3"]`, Message: "configuration changed"})
	again.Changes = []planner.Change{
		{Path: "code", Old: raw(digest("code 1")), New: raw(digest("code 2"))},
		{Path: "command", Old: raw([]string{"python3", "train.py"}), New: raw(append([]string{"python3", "train.py"}, strings.Split(strings.Repeat("--feature 価格 ", 30), " ")...))},
	}
	p := newPlan(held, later, scaled, again)
	p.Summary.Noop = 2
	p.Drift = []planner.DriftEntry{
		{Address: addr("deployment.churn"), By: "kubectl", Changes: []planner.Change{
			{Path: "replicas", Old: raw(2), New: raw(5)}, {Path: "image", Old: raw("registry/churn@" + digest("a")), New: raw("registry/churn:latest")}}},
		{Address: addr("deployment.prices"), Message: "the process is gone since the last reboot"},
	}
	p.Diagnostics = []planner.Diagnostic{{Severity: "warning", Summary: "A virtual environment is active but not passed on",
		Detail: "Add pass_env = [\"VIRTUAL_ENV\"] to training.prices, or the command runs with the system's Python.", Address: "training.prices", File: "main.ml.hcl", Line: 12}}
	return p
}
