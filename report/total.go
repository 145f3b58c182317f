package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// Total is the last line of a plan: "Plan: 1 to add, 2 to change, 0 to destroy,
// 1 to run, 1 gate.", with replacements, blocked steps, moves, imports and
// forgotten records where there are any, or "No changes. …" and why, or "No plan. …".
func Total(p *planner.Plan) string {
	s := p.Summary
	if !s.Acts() {
		if Failed(p) {
			return "No plan. Nothing can be applied until the errors above are mended."
		}
		return "No changes. " + whyNone(p)
	}
	parts := []string{
		Count(s.Create) + " to add", Count(s.Update) + " to change", Count(s.Delete) + " to destroy",
		Count(s.Run) + " to run", plural(s.Gates, "gate"),
	}
	return "Plan: " + strings.Join(append(parts, rareCounts(s)...), ", ") + "."
}

// rareCounts are those that a plan's last line names only where there are any.
func rareCounts(s planner.Summary) []string {
	return someCounts([]counted{{s.Replace, "to replace"}, {s.Blocked, "blocked"}, {s.Move, "to move"}, {s.Import, "to import"}, {s.Forget, "to forget"}})
}

// Counts says what a plan does in the words of [Total], without what it does not:
// "1 to add, 2 to run".
func Counts(s planner.Summary) string {
	parts := someCounts([]counted{{s.Create, "to add"}, {s.Update, "to change"}, {s.Delete, "to destroy"}, {s.Run, "to run"}})
	if parts = append(parts, rareCounts(s)...); len(parts) == 0 {
		return "no changes"
	}
	return strings.Join(parts, ", ")
}

type counted struct {
	n    int
	what string
}

func someCounts(all []counted) (parts []string) {
	for _, c := range all {
		if c.n > 0 {
			parts = append(parts, Count(c.n)+" "+c.what)
		}
	}
	return parts
}

// Changes says whether apply would do anything.
func Changes(p *planner.Plan) bool { return slices.ContainsFunc(p.Steps, acts) }

func whyNone(p *planner.Plan) string {
	held := 0
	for _, st := range p.Steps {
		if st.Action == resource.Noop {
			held++
		}
	}
	switch {
	case !p.Complete:
		return "Everything that -target names is as the files say."
	case held == 1:
		return "One block is held as it is, for the reason above."
	case held > 1:
		return fmt.Sprintf("%s blocks are held as they are, for the reasons above.", Count(held))
	case len(p.Drift) > 0:
		return "What changed outside is not managed by the files."
	}
	return "Everything is as the files say, and no input has moved."
}

// Failed says whether the plan holds an error: nothing of it may be applied.
func Failed(p *planner.Plan) bool {
	for _, d := range p.Diagnostics {
		if d.Severity == "error" {
			return true
		}
	}
	return false
}

// next says in one line what to do with the plan.
func (v *view) next(o *out) {
	if !v.p.Complete {
		o.wrapped(0, Faint, "Only what -target names and needs is planned; plan without -target afterwards.")
	}
	if v.s.NoHint {
		return
	}
	if text := v.nextText(); text != "" {
		o.wrapped(0, Faint, text)
	}
}

func (v *view) nextText() string {
	var first, run, blocked *planner.Step
	doing := 0
	for _, st := range v.p.Steps {
		switch {
		case st.Action == resource.Blocked && blocked == nil:
			blocked = st
		case acts(st):
			doing++
			if first == nil {
				first = st
			}
			if st.Action == resource.RunIt && run == nil && !isNew(st) {
				run = st
			}
		}
	}
	switch {
	case Failed(v.p):
		return "Next: mend the errors above, then ml plan again."
	case doing == 0 && blocked != nil:
		return "Next: ml explain " + blocked.Address.Arg() + " shows what opens the gate."
	case doing == 0:
		return ""
	}
	if run == nil {
		run = first
	}
	text := "Next: ml apply does this"
	if d := v.together(); d > 0 {
		text += ", in about " + Duration(d)
	}
	if isNew(run) && blocked == nil {
		return text + "."
	}
	if blocked != nil {
		run = blocked
	}
	return text + "; ml explain " + run.Address.Arg() + " tells the whole story."
}

func isNew(st *planner.Step) bool {
	return len(st.Reasons) > 0 && st.Reasons[0].Code == resource.ReasonNew
}

// together is how long the runs take when each starts as soon as it can: the
// longest chain of estimates. 0 when any run has none.
func (v *view) together() time.Duration {
	ends := make(map[resource.Address]float64, len(v.p.Steps))
	longest := 0.0
	for _, st := range v.p.Steps {
		if !acts(st) {
			continue
		}
		if st.Action == resource.RunIt && st.Exec.Estimate <= 0 && !st.Exec.Judge {
			return 0
		}
		start := 0.0
		for _, n := range st.Needs {
			start = max(start, ends[n])
		}
		ends[st.Address] = start + st.Exec.Estimate
		longest = max(longest, ends[st.Address])
	}
	return seconds(longest)
}
