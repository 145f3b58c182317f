package site

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

// Limits of a plan's page.
const (
	maxStepViews = 300
	maxShownDiff = 8
	maxDiffText  = 300
)

// stepView is a step as its page shows it.
type stepView struct {
	*planner.Step
	Href     string
	Verb     string
	Why      []string
	Diff     []diffRow
	MoreDiff []diffRow
	GatesOn  []resource.Address // verdicts that it waits for
	About    string             // how long earlier runs took
}

// diffRow is one field before and after.
type diffRow struct {
	Path, Old, New string
	Replaces       bool
}

// stepViews are the steps that act, then the no-ops that have a reason.
func stepViews(repo string, p *planner.Plan) (out []stepView, more int) {
	at := map[resource.Address]int{}
	for i, st := range p.Steps {
		at[st.Address] = i
	}
	for _, acting := range []bool{true, false} {
		for _, st := range p.Steps {
			if (st.Action != resource.Noop) == acting {
				if len(out) == maxStepViews {
					more++
					continue
				}
				out = append(out, viewOf(repo, st, at))
			}
		}
	}
	return out, more
}

func viewOf(repo string, st *planner.Step, at map[resource.Address]int) stepView {
	v := stepView{Step: st, Href: pageOf(repo, st.Address), Verb: verbOf(st)}
	for _, r := range st.Reasons {
		if r.Code == resource.ReasonNew {
			continue // the verb says so
		}
		if text := reasonText(r); !slices.Contains(v.Why, text) {
			v.Why = append(v.Why, text)
		}
	}
	for _, c := range st.Changes {
		row := diffRow{Path: c.Path, Old: valueText(c.Old, "unset"), New: valueText(c.New, "unset"), Replaces: c.Replaces}
		if c.Unknown {
			row.New = "known after apply"
		}
		if len(v.Diff) < maxShownDiff {
			v.Diff = append(v.Diff, row)
		} else {
			v.MoreDiff = append(v.MoreDiff, row)
		}
	}
	for _, g := range st.GatedBy {
		// Those behind it decide what becomes of its result, not whether it happens.
		if i, ok := at[g]; ok && i < at[st.Address] {
			v.GatesOn = append(v.GatesOn, g)
		}
	}
	if s := st.Exec.Estimate; s > 0 && st.Action == resource.RunIt {
		v.About = report.Duration(time.Duration(s * float64(time.Second)))
	}
	return v
}

// verbOf says what the name of the action does not.
func verbOf(st *planner.Step) string {
	verb := report.Verb(st)
	switch {
	case st.Action == resource.Noop && verb == "":
		return "stays as it is"
	case !strings.Contains(verb, " "):
		return ""
	}
	return verb
}

// reasonText is a reason in a sentence.
func reasonText(r resource.Reason) string {
	text := r.Message
	if text == "" {
		text = strings.TrimSpace(strings.ReplaceAll(string(r.Code), "_", " ") + " " + r.Path)
	}
	if r.By != "" && !strings.Contains(text, r.By) {
		text += ", by " + r.By
	}
	return text
}

func valueText(raw json.RawMessage, none string) string {
	if len(raw) == 0 || string(raw) == "null" {
		return none
	}
	return cut(report.Value(raw), maxDiffText)
}

func sortByRank(rows []blockRow) {
	slices.SortStableFunc(rows, func(a, b blockRow) int { return b.State.rank - a.State.rank })
}

// Gated says what opens the gates of a step, in words.
func (v stepView) Gated() string {
	names := make([]string, len(v.GatesOn))
	for i, a := range v.GatesOn {
		names[i] = a.String()
	}
	return fmt.Sprintf("only if %s %s", strings.Join(names, " and "), map[bool]string{true: "passes", false: "pass"}[len(names) == 1])
}
