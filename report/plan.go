package report

import (
	"io"
	"strings"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// PlanText writes the plan as people read it: what changed outside, a line per
// step with its reasons under it, diagnostics, what to do next, and as the last
// line the counts, "Plan: 1 to add, 2 to change, 0 to destroy, 1 to run, 1 gate."
// or "No changes. …".
func PlanText(w io.Writer, p *planner.Plan, s Style) error {
	o := &out{s: s}
	v := newView(p, s)
	v.drift(o)
	v.steps(o)
	v.diagnostics(o)
	v.next(o)
	// Never wrapped: scripts read the last line.
	o.line(span{Total(p), Strong})
	return o.writeTo(w)
}

// view is a plan with what rendering looks up in it.
type view struct {
	p  *planner.Plan
	s  Style
	at map[resource.Address]int // position of each step
}

func newView(p *planner.Plan, s Style) *view {
	v := &view{p: p, s: s, at: make(map[resource.Address]int, len(p.Steps))}
	for i, st := range p.Steps {
		v.at[st.Address] = i
	}
	return v
}

func (v *view) step(a resource.Address) *planner.Step {
	if i, ok := v.at[a]; ok {
		return v.p.Steps[i]
	}
	return nil
}

// acts says whether apply does anything for the step.
func acts(st *planner.Step) bool {
	return st != nil && st.Action != resource.Noop && st.Action != resource.Blocked
}

// block is a step as it is printed: a headline and rows of detail.
type block struct {
	sign    string
	tone    Tone
	address string
	phrase  []span
	rows    []row

	// What a view without columns makes its own phrase of.
	step *planner.Step
	like string // the address of the instance that has the same rows
	more int    // so many instances follow that are not shown
}

// row is one line of detail: what, its value, and a remark.
type row struct {
	label string
	tone  Tone // of the label
	value []span
	note  string
	alert string // printed after the value, in a warning tone
	long  bool   // the value is wrapped rather than cut
	lines bool   // a long value's lines stay lines: what a command said
}

const (
	signWidth   = 3
	rowIndent   = 6
	maxColumn   = 40 // widest address column; longer addresses push their own line only
	foldSame    = 12 // equal instances of one block that are shown
	foldSimilar = 3  // instances that differ in values only
)

func (v *view) steps(o *out) {
	blocks := v.fold()
	if len(blocks) == 0 {
		return
	}
	v.print(o, blocks)
	o.line()
}

// print lines up the blocks: the phrase of a headline and the values of its
// rows start in one column.
func (v *view) print(o *out, blocks []block) {
	column := 0
	for _, b := range blocks {
		if len(b.phrase) > 0 {
			column = max(column, textWidth(v.s.Clean(b.address)))
		}
		for _, r := range b.rows {
			column = max(column, textWidth(v.s.Clean(r.label))+rowIndent-signWidth-1)
		}
	}
	limit := maxColumn
	if v.s.Width > 0 {
		limit = min(limit, v.s.Width/2-signWidth)
	}
	column = min(column, max(limit, 12))
	for _, b := range blocks {
		v.headline(o, b, column)
		v.rows(o, b.rows, signWidth+1+column+2)
	}
}

// headline prints sign, address and phrase; a phrase that is too long goes on
// under itself, and loses its tones.
func (v *view) headline(o *out, b block, column int) {
	sign := v.s.Clean(b.sign)
	sign = strings.Repeat(" ", max(0, signWidth-textWidth(sign))) + sign + " "
	head := []span{{sign, b.tone}, {v.s.pad(b.address, column), Strong}, {"  ", Plain}}
	used := signWidth + 1 + max(column, textWidth(v.s.Clean(b.address))) + 2
	room := v.s.room(used)
	if room == 0 || spansWidth(v.s, b.phrase) <= room {
		o.line(append(head, b.phrase...)...)
		return
	}
	at := signWidth + 1 + column + 2
	for i, l := range v.s.wrap(spansText(b.phrase), room) {
		if i == 0 {
			o.line(append(head, span{l, Plain})...)
			continue
		}
		o.line(span{strings.Repeat(" ", at) + l, Plain})
	}
}

// rows prints the rows of one step with their values from column at; remarks
// line up where they fit and go to a line of their own where they do not.
func (v *view) rows(o *out, rows []row, at int) {
	widest := 0
	for _, r := range rows {
		if r.note != "" {
			widest = max(widest, spansWidth(v.s, r.value))
		}
	}
	room := v.s.room(at)
	for _, r := range rows {
		if r.label == "" {
			o.wrapped(rowIndent, r.tone, v.s.Clean(spansText(r.value)))
			continue
		}
		head := []span{{strings.Repeat(" ", rowIndent), Plain}, {v.s.pad(r.label, at-rowIndent-2), r.tone}, {"  ", Plain}}
		if r.long {
			v.longRow(o, head, r, at)
			continue
		}
		line := append(head, r.value...)
		used := spansWidth(v.s, r.value)
		if r.alert != "" {
			line = append(line, span{"  " + r.alert, Change})
		}
		note := v.s.Clean(r.note)
		switch pad := max(widest-used, 0); {
		case note == "":
		case room == 0 || used+pad+2+textWidth(note) <= room:
			line = append(line, span{strings.Repeat(" ", pad+2) + note, Faint})
		case used+2+textWidth(note) <= room:
			line = append(line, span{"  " + note, Faint})
		default:
			o.line(line...)
			o.wrapped(at, Faint, note)
			continue
		}
		o.line(line...)
	}
}

func (v *view) longRow(o *out, head []span, r row, at int) {
	pars := []string{spansText(r.value)}
	if r.lines {
		pars = strings.Split(strings.TrimRight(pars[0], "\n"), "\n")
	}
	for i, par := range pars {
		for j, l := range v.s.wrap(par, v.s.room(at)) {
			if i+j == 0 {
				o.line(append(head, span{l, r.value[0].tone})...)
				continue
			}
			o.line(span{strings.Repeat(" ", at) + l, r.value[0].tone})
		}
	}
}

func spansText(spans []span) string {
	var b strings.Builder
	for _, sp := range spans {
		b.WriteString(sp.text)
	}
	return b.String()
}

func spansWidth(s Style, spans []span) int { return textWidth(s.Clean(spansText(spans))) }

// drift lists first what someone else changed.
func (v *view) drift(o *out) {
	if len(v.p.Drift) == 0 {
		return
	}
	o.line(span{"Changed outside of ml:", Strong})
	blocks := make([]block, 0, len(v.p.Drift))
	for _, d := range v.p.Drift {
		b := block{sign: v.s.pick("≠", "!"), tone: Change, address: d.Address.String()}
		msg := d.Message
		if msg == "" && len(d.Changes) == 0 {
			msg = "gone"
		}
		b.phrase = []span{{msg, Plain}}
		if d.By != "" {
			b.phrase = append(b.phrase, span{joinNote(msg, "by "+d.By), Faint})
		}
		for _, c := range d.Changes {
			b.rows = append(b.rows, row{label: c.Path, value: v.pair(v.changeText(c.Old, c.Sensitive), v.changeText(c.New, c.Sensitive))})
		}
		blocks = append(blocks, b)
	}
	v.print(o, blocks)
	o.line()
}

func joinNote(before, note string) string {
	if before == "" {
		return note
	}
	return " " + note
}

func (v *view) diagnostics(o *out) {
	for _, d := range v.p.Diagnostics {
		title, tone := "Error", Bad
		if d.Severity == "warning" {
			title, tone = "Warning", Change
		}
		o.line(span{title, tone}, span{": " + d.Summary, Strong})
		if where := place(d); where != "" {
			o.line(span{"  " + where, Faint})
		}
		if d.Detail != "" {
			o.wrapped(2, Plain, d.Detail)
		}
		o.line()
	}
}

func place(d planner.Diagnostic) string {
	where := ""
	if d.File != "" {
		where = "on " + d.File
		if d.Line > 0 {
			where += " line " + Count(d.Line)
		}
	}
	if d.Address != "" {
		if where != "" {
			where += ", "
		}
		where += "in " + d.Address
	}
	return where
}
