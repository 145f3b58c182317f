package report

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// blockOf renders one step.
func (v *view) blockOf(st *planner.Step) block {
	sign, tone := v.s.symbol(st.Action)
	return block{sign: sign, tone: tone, address: st.Address.String(), phrase: v.phrase(st, tone), rows: v.stepRows(st), step: st}
}

// phrase says in a few words what happens and why: "run: data changed".
func (v *view) phrase(st *planner.Step, tone Tone) []span {
	verb, why := Verb(st), v.why(st)
	spans := []span{{verb, tone}}
	if why != "" && verb != "" {
		why = ": " + why
	}
	spans = append(spans, span{why, Plain})
	if gates := v.gatesBefore(st); len(gates) > 0 && acts(st) {
		spans = append(spans, span{", if " + addresses(gates, " and ") + " " + passes(gates), Plain})
	}
	if st.Exec.Estimate > 0 && acts(st) {
		spans = append(spans, span{v.s.sep() + "≈ " + Duration(seconds(st.Exec.Estimate)) + " from earlier runs", Faint})
	}
	if st.Provider != "" && st.Provider != "local" && acts(st) {
		spans = append(spans, span{v.s.sep() + "on " + st.Provider, Faint})
	}
	return spans
}

func passes(gates []resource.Address) string {
	if len(gates) == 1 {
		return "passes"
	}
	return "pass"
}

// Verb says in a word or a few what a step does; "" for one that does nothing.
func Verb(st *planner.Step) string {
	switch {
	case st.Exec.AdoptRun != "":
		return "use an earlier run again"
	case st.Exec.Judge:
		return "judge again without running"
	case st.Exec.RecordOnly && st.Action != resource.Move:
		return "note in the record only"
	}
	switch st.Action {
	case resource.Create:
		return "create"
	case resource.Update:
		return "update"
	case resource.Replace:
		if st.Exec.DeleteFirst {
			return "destroy and create again"
		}
		return "replace"
	case resource.Delete:
		return "destroy"
	case resource.RunIt:
		if isNew(st) {
			return "run for the first time"
		}
		return "run"
	case resource.Blocked:
		return "blocked"
	case resource.Move:
		if st.From != nil {
			return "move from " + st.From.String()
		}
		return "move"
	case resource.Import:
		return "import"
	case resource.Forget:
		return "forget, and leave it running"
	case resource.Noop:
	}
	return ""
}

// gatesBefore are the gates that this step waits for. A training also names the
// gates that will judge it; those come after it and decide nothing about it.
func (v *view) gatesBefore(st *planner.Step) []resource.Address {
	var before []resource.Address
	for _, g := range st.GatedBy {
		if i, ok := v.at[g]; ok && i < v.at[st.Address] {
			before = append(before, g)
		}
	}
	return before
}

const knownText = "(known after"

// maxChanges and maxAttributes bound the rows of changes and of attributes that are shown unless
// everything is asked for.
const (
	maxChanges    = 8
	maxAttributes = 4
)

func (v *view) stepRows(st *planner.Step) []row {
	var rows []row
	if len(st.Gate) > 0 {
		rows = append(rows, row{label: "gate:", tone: Note, value: []span{{strings.Join(st.Gate, ", "), Plain}}, long: true})
	}
	seen := map[string]bool{}
	changes := map[string]*planner.Change{}
	for i := range st.Changes {
		changes[st.Changes[i].Path] = &st.Changes[i]
	}
	replaces := map[string]bool{}
	for _, r := range st.Reasons {
		if r.Code == resource.ReasonImmutable {
			replaces[r.Path] = true
		}
	}
	var moved []row
	_, single := onlySentence(st)
	for _, r := range st.Reasons {
		switch {
		case r.Code == resource.ReasonNew, r.Code == resource.ReasonMoved && st.Action == resource.Move:
		case r.Code == resource.ReasonLiveChanged && seen["\x00live"]:
		case r.Code == resource.ReasonLiveChanged:
			seen["\x00live"] = true
			rows = append(rows, v.putBack(st))
		case r.Code == resource.ReasonImmutable && r.Path != "" && changes[r.Path] == nil && r.Old+r.New == "":
			rows = append(rows, row{label: "made anew", value: []span{{r.Message, Plain}}, long: true}) // a part of it, as its driver says
		case movedWord(r.Code) != "" || r.Code == resource.ReasonImmutable:
			if r.Path != "" && !seen[r.Path] {
				seen[r.Path] = true
				moved = append(moved, v.movedRow(st, r, changes[r.Path], replaces[r.Path]))
			} else if r.Path == "" {
				rows = append(rows, textRow(r))
			}
		case isSentence(r) && single:
		default:
			rows = append(rows, v.reasonRow(r))
		}
	}
	if isNew(st) || len(st.Changes) == 0 && st.Action == resource.Create {
		return append(append(rows, v.limited(moved, maxChanges)...), v.attributes(st)...)
	}
	for i := range st.Changes {
		if c := &st.Changes[i]; !seen[c.Path] {
			moved = append(moved, v.movedRow(st, resource.Reason{Path: c.Path}, c, replaces[c.Path]))
		}
	}
	return append(rows, v.limited(moved, maxChanges)...)
}

func (v *view) limited(rows []row, limit int) []row {
	if v.s.Verbose || len(rows) <= limit+1 {
		return rows
	}
	more := row{label: "…", tone: Faint, value: []span{{Count(len(rows)-limit) + " more", Faint}}}
	return append(rows[:limit:limit], more)
}

// movedRow shows one input that moved: its path, before and after, and whose doing it is.
func (v *view) movedRow(st *planner.Step, r resource.Reason, c *planner.Change, replaces bool) row {
	out := row{label: r.Path, note: v.note(r)}
	before, after := reasonValue(r.Old), reasonValue(r.New)
	unknown := false
	if c != nil {
		before, after = v.changeText(c.Old, c.Sensitive), v.changeText(c.New, c.Sensitive)
		unknown, replaces = c.Unknown, replaces || c.Replaces
	}
	unknown = unknown || (r.New == "" && c == nil && slices.Contains(st.AfterUnknown, r.Path))
	if unknown {
		after = v.knownAfter(st, r)
		out.note = ""
	}
	out.value = v.pair(before, after)
	if replaces {
		out.alert = "# forces replacement"
	}
	return out
}

// note is what a reason says beyond its path and values.
func (v *view) note(r resource.Reason) string {
	var parts []string
	plain := r.Message == "" || r.Code == resource.ReasonImmutable
	if w := movedWord(r.Code); w != "" && !plain {
		msg := strings.TrimSuffix(strings.SplitN(r.Message, ":", 2)[0], " changed")
		plain = msg == w || msg == strings.TrimSuffix(w, "s")
	}
	if !plain {
		parts = append(parts, r.Message)
	}
	if r.By != "" && !strings.Contains(r.Message, r.By) || plain && r.By != "" {
		parts = append(parts, "by "+r.By)
	}
	return strings.Join(parts, ", ")
}

// reasonRow shows a reason that is no moved input.
func (v *view) reasonRow(r resource.Reason) row {
	switch {
	case r.Code == resource.ReasonSignal && r.By != "":
		return row{label: r.By, value: []span{{r.Message, Plain}}, long: true}
	case (r.Code == resource.ReasonSchedule || r.Code == resource.ReasonMaxAge) && r.Path != "":
		return row{label: r.Path, value: []span{{r.Message, Plain}}, long: true}
	}
	return textRow(r)
}

func textRow(r resource.Reason) row { return row{value: []span{{sentenceOf(r), Plain}}} }

// sentenceOf is a reason as one sentence, with the values and the cause that its
// message leaves out.
func sentenceOf(r resource.Reason) string {
	text := r.Message
	if text == "" {
		text = codeWord(r.Code)
	}
	if r.Code == resource.ReasonGateClosed {
		text = brief(text)
	}
	if r.Old != "" && r.New != "" && r.Path != "" && !strings.Contains(text, r.New) {
		text += " (" + reasonValue(r.Old) + " → " + reasonValue(r.New) + ")"
	}
	if r.By != "" && !strings.Contains(text, r.By) {
		text += ", by " + r.By
	}
	return text
}

// putBack sums up what an update takes back; the values stand in the section on drift.
func (v *view) putBack(st *planner.Step) row {
	var paths []string
	for _, r := range st.Reasons {
		if r.Code == resource.ReasonLiveChanged && r.Path != "" {
			paths = append(paths, r.Path)
		}
	}
	if len(paths) == 0 {
		return textRow(st.Reasons[0])
	}
	return row{label: "put back", value: []span{{strings.Join(paths, ", "), Plain}}, long: true}
}

// knownAfter says which step an unknown value waits for: the one that the
// reason names, the gate before this step, the only step it needs, or itself.
func (v *view) knownAfter(st *planner.Step, r resource.Reason) string {
	who := r.By
	if who == "" {
		if gates := v.gatesBefore(st); len(gates) > 0 {
			who = gates[len(gates)-1].String()
		}
	}
	if who == "" {
		var acting []string
		for _, n := range st.Needs {
			if acts(v.step(n)) {
				acting = append(acting, n.String())
			}
		}
		if len(acting) == 1 {
			who = acting[0]
		}
	}
	if who == "" && len(st.Needs) == 0 {
		who = st.Kind
	}
	if who == "" {
		who = "apply"
	}
	return knownText + " " + who + ")"
}

func (v *view) changeText(raw json.RawMessage, sensitive bool) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	if sensitive {
		return sensitiveText
	}
	return valueText(raw)
}

// pair renders before → after; a digest's algorithm is said once.
func (v *view) pair(before, after string) []span {
	unset := span{"unset", Faint}
	if strings.HasPrefix(before, "sha256:") {
		after = strings.TrimPrefix(after, "sha256:")
	}
	if !v.s.Verbose && v.s.Width > 0 {
		half := max((v.s.Width-2*rowIndent-20)/2, 12)
		room := half + max(half-textWidth(v.s.Clean(after)), 0)
		other := half + max(half-textWidth(v.s.Clean(before)), 0)
		before = v.s.cut(before, room)
		if !strings.HasPrefix(after, knownText) {
			after = v.s.cut(after, other)
		}
	}
	spans := []span{{before, Bad}, {" → ", Faint}, {after, Good}}
	if before == "" {
		spans[0] = unset
	}
	if after == "" {
		spans[2] = unset
	}
	if strings.HasPrefix(after, knownText) {
		spans[2].tone = Faint
	}
	return spans
}
