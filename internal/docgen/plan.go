package main

import (
	"fmt"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

type action struct {
	action       resource.Action
	symbol, text string
}

// actions lists the actions in the order in which a life meets them.
func actions() []action {
	return []action{
		{resource.Create, "+", "Makes an object that is not there yet."},
		{resource.Update, "~", "Changes an object in place."},
		{resource.Replace, "-/+", "Makes a new object in place of the old one, because an immutable attribute moved or it was asked for."},
		{resource.Delete, "-", "Removes an object, or the record of a run. Model versions stay until `ml prune`."},
		{resource.RunIt, "▶", "Executes a run: a check, a training, a validation, a batch inference."},
		{resource.Blocked, "⛔", "Cannot happen: something that it needs has a bad verdict or failed. What serves goes on serving."},
		{resource.Move, "→", "Renames a record after a `moved` block; nothing outside changes."},
		{resource.Import, "←", "Takes an object that exists already under management."},
		{resource.Forget, "×", "Drops the record after a `removed` block and leaves the object running."},
		{resource.Noop, "·", "Does nothing; it is listed when there is a reason to know, such as a pin."},
	}
}

type reason struct {
	code resource.Code
	text string
}

func reasons() []reason {
	return []reason{
		{resource.ReasonNew, "The block is not in the state yet."},
		{resource.ReasonConfigChanged, "An attribute of the block moved; `path` names it."},
		{resource.ReasonCodeChanged, "The content of the files in `sources` moved."},
		{resource.ReasonDataChanged, "A dataset or split that it reads has another digest; `by` names it."},
		{resource.ReasonParamsChanged, "Parameters, seed or tuning moved."},
		{resource.ReasonUpstreamChanged, "Something else that it refers to moved, such as the model to judge; `by` names it."},
		{resource.ReasonSignal, "A monitor in `retrain { on }` turned bad since the last run; `by` names it."},
		{resource.ReasonSchedule, "A slot of `retrain { schedule }` is due."},
		{resource.ReasonMaxAge, "The current version is older than `retrain { max_age }`."},
		{resource.ReasonLiveChanged, "Someone changed the object outside of ml; the step puts it back."},
		{resource.ReasonMissing, "The record knows the object, the world does not: deleted by hand, or gone with a reboot."},
		{resource.ReasonFailedBefore, "The last attempt errored, and `retries` allows another; or the object was left half-made."},
		{resource.ReasonRequested, "Asked for on the command line: `-replace`, `ml destroy`."},
		{resource.ReasonRemoved, "The block is gone from the files."},
		{resource.ReasonPinned, "`ml rollback` pinned a version; newer ones wait for `ml unpin`."},
		{resource.ReasonImmutable, "An attribute moved that cannot change in place, so the object is replaced."},
		{resource.ReasonGateClosed, "Something that it needs has a bad verdict."},
		{resource.ReasonDeferred, "`cooldown`, `budget` or `min_new_rows` holds the run back; the message says until when."},
		{resource.ReasonQuarantined, "The version failed its rollout at this deployment and is not tried again; a newer one, or `ml rollback -to` it, ends that."},
		{resource.ReasonAdopted, "An earlier successful run with the very same inputs becomes current again without running."},
		{resource.ReasonMoved, "A `moved` block gave the record a new address."},
		{resource.ReasonImported, "An `import` block, or `ml import`, names the object."},
	}
}

func planPage() string {
	var b strings.Builder
	b.WriteString(`# The plan

` + "`ml plan` shows one line per step with its symbol, the reasons and the field changes under it. `ml plan -json` is one document ([schema](schemas/plan.json)):" + `

| field | |
| --- | --- |
| ` + "`format_version`" + ` | 1.0; a field may be added in 1.x, none changes its meaning |
| ` + "`lineage`, `serial`" + ` | which state the plan was made from |
| ` + "`config_digest`, `commit`" + ` | which files; the commit has ` + "`+dirty`" + ` when a tracked or a configuration file of the project folder differs from it (of a plan that does something) |
| ` + "`complete`" + ` | false when ` + "`-target`" + ` left something out |
| ` + "`summary`" + ` | the number of steps by action, and of gates |
| ` + "`steps`" + ` | every step that does something, and every no-op that has a reason, in the order of execution |
| ` + "`drift`" + ` | what someone else changed |
| ` + "`diagnostics`" + ` | warnings and errors |

A step has ` + "`address`, `kind`, `provider`, `action`, `reasons`, `before`, `after`, `after_unknown` (paths known only after an earlier step), `changes`, `needs` (steps that end first), `gated_by` (verdicts still to come that decide whether it happens)" + ` and, if it judges, ` + "`gate`" + `. Sensitive values are masked.

## Actions

| action | shown as | |
| --- | --- | --- |
`)
	for _, a := range actions() {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", a.action, a.symbol, a.text)
	}
	b.WriteString("\n## Reason codes\n\nA reason has `code`, `message`, and where they apply `path`, `old`, `new` and `by`. Scripts read the code; the message is for people and may change.\n\n| code | |\n| --- | --- |\n")
	for _, r := range reasons() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.code, r.text)
	}
	return b.String()
}
