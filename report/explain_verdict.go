package report

import (
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// gates says of every gate before the block what opens it, how it judged last,
// and what happens when it stays closed.
func (v *view) gates(o *out, st *planner.Step, chain []*planner.Step, h History) {
	names := map[resource.Address]bool{}
	for _, c := range chain {
		if len(c.Gate) > 0 {
			names[c.Address] = true
		}
		for _, r := range c.Reasons {
			if r.Code == resource.ReasonGateClosed {
				names[causedBy(r)] = true
			}
		}
	}
	var list []resource.Address
	for a := range names {
		if rec := h.Records[a]; v.step(a) != nil && len(v.step(a).Gate) > 0 || rec != nil && rec.Verdict != nil {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, resource.Address.Compare)
	for _, a := range list {
		o.line()
		o.line(span{"The gate " + a.String() + ":", Strong})
		v.table(o, v.gateRows(a, st, h))
	}
}

func (v *view) gateRows(a resource.Address, st *planner.Step, h History) []row {
	var rows []row
	plain := func(label, text string) {
		rows = append(rows, row{label: label, value: []span{{text, Plain}}, long: true})
	}
	g := v.step(a)
	if g != nil && len(g.Gate) > 0 {
		plain("opens when", strings.Join(g.Gate, ", "))
	}
	if a != st.Address && g != nil && acts(g) && st.Action != resource.Create {
		plain("if it does not", st.Address.String()+" stays as it is")
	} else if a != st.Address && g != nil && acts(g) {
		plain("if it does not", st.Address.String()+" is not made")
	}
	if rec := h.Records[a]; rec != nil && rec.Verdict != nil {
		rows = append(rows, v.verdictRows(a, rec.Verdict, acts(g), h.Now)...)
	}
	return rows
}

// judged says how the block itself judged last: a bad verdict is the only thing
// to say about a block that has nothing to do, and what to do about it.
func (v *view) judged(o *out, a resource.Address, h History) {
	rec := h.Records[a]
	if rec == nil || rec.Verdict == nil {
		return
	}
	rows := v.verdictRows(a, rec.Verdict, false, h.Now)
	if rec.Verdict.Bad() && len(h.Runs) > 0 {
		rows = append(rows,
			row{label: "its output", value: []span{{"ml logs " + a.Arg(), Plain}}},
			row{label: "once more", value: []span{{"ml apply -replace " + a.Arg() + " runs it on the same inputs", Plain}}})
	}
	o.line()
	o.line(span{"The verdict of " + a.String() + ":", Strong})
	v.table(o, rows)
}

// behind says which bad verdicts a block without a step stands behind: it keeps
// what it has because they hold back what is newer.
func (v *view) behind(o *out, a resource.Address, h History) {
	rec := h.Records[a]
	if rec == nil {
		return
	}
	for _, dep := range rec.Deps {
		if last := h.Records[dep]; last != nil && last.Verdict.Bad() {
			o.line()
			o.line(span{"It stays as it is behind " + dep.String() + ":", Strong})
			v.table(o, v.verdictRows(dep, last.Verdict, false, h.Now))
		}
	}
}

// verdictRows says how a block judged last and on what grounds. again: the plan
// judges it anew, so that nobody has to open it.
func (v *view) verdictRows(a resource.Address, last *resource.Verdict, again bool, now time.Time) []row {
	word := "passed"
	if last.Bad() {
		word = "did not pass"
	}
	when := ""
	if !last.Time.IsZero() && !now.IsZero() {
		when = " " + Ago(last.Time, now)
	}
	rows := []row{{label: "judged last", value: []span{{join(word+when, ": ", last.Message), Plain}}, long: true}}
	if last.Bad() && !again {
		rows = append(rows, row{label: "to open it", value: []span{{"other data, code or parameters, here or upstream, or other bounds; the same inputs are not judged twice", Plain}}, long: true})
	}
	return append(rows, v.findingRows(a, last)...)
}

// signals says how a monitor's windows were judged.
func (v *view) signals(o *out, a resource.Address, h History) {
	if len(h.Signals) == 0 {
		return
	}
	var rows []row
	grounds := false
	for _, s := range h.Signals {
		grounds = grounds || len(s.Evidence) > 0
		tone := Plain
		switch s.State { //nolint:exhaustive // the other states are plain
		case resource.SignalBad, resource.SignalError:
			tone = Bad
		case resource.SignalGood:
			tone = Good
		}
		text := strings.ReplaceAll(string(s.State), "_", " ")
		if !s.Time.IsZero() && !h.Now.IsZero() {
			text += " " + Ago(s.Time, h.Now)
		}
		rows = append(rows, row{label: s.Name, tone: tone, value: []span{{join(text, ": ", strings.TrimPrefix(s.Message, s.Name+": ")), Plain}}, long: true})
	}
	if grounds {
		rows = append(rows, row{label: "all of it", value: []span{{"ml monitor " + a.Arg() + " -json has every column, statistic and bound", Plain}}, long: true})
	}
	o.line()
	o.line(span{"Its signals:", Strong})
	v.table(o, rows)
}
