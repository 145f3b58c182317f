package report

import (
	"io"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// History is what an explanation may say about the past. All of it is optional.
type History struct {
	Now     time.Time
	Runs    []*state.Run    // of the explained block, ascending by id
	Signals []*state.Signal // of the explained block, by name
	Records map[resource.Address]*state.Record
}

// maxRuns is how many earlier runs an explanation lists.
const maxRuns = 5

// Explain writes why a block is in the plan: the root causes, every step
// between them and the block in the order in which they happen, what opens or
// holds the gates on the way, what follows from it, and its earlier runs.
func Explain(w io.Writer, p *planner.Plan, a resource.Address, h History, s Style) error {
	o := &out{s: s}
	v := newView(p, s)
	st := v.step(a)
	if st == nil {
		o.line(span{a.String(), Strong}, span{" has nothing to do: it is as the files say, and no input has moved.", Plain})
		v.judged(o, a, h)
		v.behind(o, a, h)
		v.follows(o, a)
	} else {
		chain := v.chain(st)
		if len(chain) > 1 || acts(st) { // else the step itself says it all
			v.causes(o, chain)
			o.line(span{"In this order:", Strong})
		}
		blocks := make([]block, len(chain))
		for i, c := range chain {
			blocks[i] = v.blockOf(c)
		}
		v.print(o, blocks)
		v.gates(o, st, chain, h)
		v.follows(o, a)
	}
	v.signals(o, a, h)
	v.pastRuns(o, a, h)
	return o.writeTo(w)
}

// chain is every step that the block's step follows from, and itself, in the
// plan's order.
func (v *view) chain(st *planner.Step) []*planner.Step {
	in := map[resource.Address]bool{}
	var visit func(st *planner.Step)
	visit = func(st *planner.Step) {
		if st == nil || in[st.Address] {
			return
		}
		in[st.Address] = true
		for _, r := range st.Reasons {
			// Only what comes before is a cause: a signal's monitor stands behind.
			if c := v.step(causedBy(r)); c != nil && v.at[c.Address] < v.at[st.Address] {
				visit(c)
			}
		}
		for _, g := range v.gatesBefore(st) {
			visit(v.step(g))
		}
		if isNew(st) {
			for _, n := range st.Needs {
				visit(v.step(n))
			}
		}
	}
	visit(st)
	var chain []*planner.Step
	for _, s := range v.p.Steps {
		if in[s.Address] {
			chain = append(chain, s)
		}
	}
	return chain
}

// causedBy reads the address out of a reason; a signal such as
// monitor.x.drift is caused by its monitor.
func causedBy(r resource.Reason) resource.Address {
	if a, err := resource.ParseAddress(r.By); err == nil {
		return a
	}
	if i := strings.LastIndexByte(r.By, '.'); i > 0 {
		if a, err := resource.ParseAddress(r.By[:i]); err == nil {
			return a
		}
	}
	return resource.Address{}
}

// causes lists the reasons that no other step of the chain explains.
func (v *view) causes(o *out, chain []*planner.Step) {
	in := map[resource.Address]bool{}
	for _, st := range chain {
		in[st.Address] = true
	}
	var rows []row
	for _, st := range chain {
		for _, r := range st.Reasons {
			if r.Code == resource.ReasonImmutable || r.Code == resource.ReasonNew || in[causedBy(r)] || pending(st, r) {
				continue
			}
			rows = append(rows, row{label: st.Address.String(), tone: Strong, value: []span{{v.causeText(st, r), Plain}}, long: true})
		}
	}
	if asked := chain[len(chain)-1]; len(rows) == 0 && isNew(asked) {
		rows = append(rows, row{label: asked.Address.String(), tone: Strong, value: []span{{sentenceOf(asked.Reasons[0]), Plain}}})
	}
	if len(rows) == 0 {
		return
	}
	title := "The cause:"
	if len(rows) > 1 {
		title = "The causes:"
	}
	o.line(span{title, Strong})
	v.table(o, rows)
	o.line()
}

func (v *view) causeText(st *planner.Step, r resource.Reason) string {
	w := movedWord(r.Code)
	if w == "" {
		return sentenceOf(r)
	}
	text := v.note(resource.Reason{Code: r.Code, Message: r.Message})
	if text != "" {
		return text
	}
	text = r.Path + " changed"
	for _, c := range st.Changes {
		if c.Path == r.Path {
			return text + " (" + spansText(v.pair(v.changeText(c.Old, c.Sensitive), v.changeText(c.New, c.Sensitive))) + ")"
		}
	}
	if r.Old != "" || r.New != "" {
		text += " (" + spansText(v.pair(reasonValue(r.Old), reasonValue(r.New))) + ")"
	}
	return text
}

// table prints rows that stand under no headline, with their own column.
func (v *view) table(o *out, rows []row) {
	column := 0
	for _, r := range rows {
		column = max(column, textWidth(v.s.Clean(r.label)))
	}
	v.rows(o, rows, rowIndent+min(column, maxColumn)+2)
}

// follows names the steps that this block causes or holds back.
func (v *view) follows(o *out, a resource.Address) {
	var names []string
	for _, c := range v.p.Steps {
		if c.Address != a && v.dependsOn(c, a) {
			names = append(names, c.Address.String())
		}
	}
	if len(names) == 0 {
		return
	}
	o.line()
	if more := len(names) - maxChanges; more > 0 && !v.s.Verbose {
		names = append(names[:maxChanges:maxChanges], Count(more)+" more")
	}
	o.wrapped(0, Plain, "What waits for it: "+strings.Join(names, ", ")+".")
}

func (v *view) dependsOn(c *planner.Step, a resource.Address) bool {
	for _, n := range c.Needs {
		if n == a {
			return true
		}
	}
	at, ok := v.at[a]
	for _, r := range c.Reasons {
		if causedBy(r) == a && (!ok || v.at[c.Address] > at) {
			return true
		}
	}
	return false
}

func (v *view) pastRuns(o *out, a resource.Address, h History) {
	if len(h.Runs) == 0 {
		return
	}
	o.line()
	o.line(span{"Earlier runs of " + a.String() + ":", Strong})
	t := NewTable("RUN", "STARTED", "TOOK", "ENDED", "BECAUSE", "METRICS")
	t.Indent = 2
	for i := len(h.Runs) - 1; i >= 0 && i >= len(h.Runs)-maxRuns; i-- {
		r := h.Runs[i]
		took := ""
		if !r.Finished.IsZero() {
			took = Duration(r.Finished.Sub(r.Started))
		}
		codes := make([]string, 0, len(r.Reasons))
		for _, x := range r.Reasons {
			codes = appendOnce(codes, strings.ReplaceAll(string(x.Code), "_", " "))
		}
		t.Row(Cell{Text: r.ID}, Cell{Text: ShortAgo(r.Started, h.Now)}, Cell{Text: took}, PhaseCell(r.Phase),
			Cell{Text: strings.Join(codes, ", ")}, Cell{Text: Metrics(r.Metrics, 4)})
	}
	t.render(o)
	if last := h.Runs[len(h.Runs)-1]; last.Phase == resource.PhaseFailed {
		o.line(span{"  ml logs " + a.Arg() + " shows what the last one said.", Faint})
	}
}
