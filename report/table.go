package report

import (
	"io"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// Cell is one cell of a table.
type Cell struct {
	Text string
	Tone Tone
}

// Table collects rows and writes them in aligned columns. An empty cell is a
// dash, so that columns can be counted by programs. On a terminal, columns
// without anything in them are left out and the last one is wrapped under itself.
type Table struct {
	Indent int
	titles []string
	right  map[int]bool
	rows   [][]Cell
}

// NewTable makes a table with these column titles.
func NewTable(titles ...string) *Table {
	return &Table{titles: titles, right: map[int]bool{}}
}

// Right aligns columns, counted from 0, to the right: numbers.
func (t *Table) Right(columns ...int) *Table {
	for _, c := range columns {
		t.right[c] = true
	}
	return t
}

// Row adds a row; missing cells are empty, those beyond the titles are dropped.
func (t *Table) Row(cells ...Cell) {
	row := make([]Cell, len(t.titles))
	copy(row, cells)
	t.rows = append(t.rows, row)
}

// Text adds a row of plain cells.
func (t *Table) Text(cells ...string) {
	row := make([]Cell, len(cells))
	for i, c := range cells {
		row[i].Text = c
	}
	t.Row(row...)
}

// Write writes titles and rows. A table without rows writes nothing.
func (t *Table) Write(w io.Writer, s Style) error {
	o := &out{s: s}
	t.render(o)
	return o.writeTo(w)
}

func (t *Table) render(o *out) {
	if len(t.rows) == 0 {
		return
	}
	if o.s.Live && !o.s.Verbose {
		t = t.withoutEmpty()
	}
	head := make([]Cell, len(t.titles))
	for i, h := range t.titles {
		head[i] = Cell{h, Faint}
	}
	all := append([][]Cell{head}, t.rows...)
	widths := make([]int, len(t.titles))
	for _, row := range all {
		for i := range row {
			if row[i].Text = o.s.Clean(row[i].Text); row[i].Text == "" {
				row[i].Text = "-"
			}
			widths[i] = max(widths[i], textWidth(row[i].Text))
		}
	}
	for i, row := range all {
		t.line(o, row, widths, i == 0)
	}
}

// withoutEmpty is the table without the columns that have nothing in any row.
func (t *Table) withoutEmpty() *Table {
	kept := &Table{Indent: t.Indent, right: map[int]bool{}, rows: make([][]Cell, len(t.rows))}
	for c, title := range t.titles {
		if !slices.ContainsFunc(t.rows, func(row []Cell) bool { return row[c].Text != "" }) {
			continue
		}
		kept.right[len(kept.titles)] = t.right[c]
		kept.titles = append(kept.titles, title)
		for i, row := range t.rows {
			kept.rows[i] = append(kept.rows[i], row[c])
		}
	}
	return kept
}

func (t *Table) line(o *out, row []Cell, widths []int, titles bool) {
	spans := []span{{strings.Repeat(" ", t.Indent), Plain}}
	used := t.Indent
	for i, c := range row {
		text := c.Text
		if i == len(row)-1 && !t.right[i] {
			t.last(o, spans, c, used, titles)
			return
		}
		pad := strings.Repeat(" ", widths[i]-textWidth(text))
		if t.right[i] {
			spans = append(spans, span{pad, Plain}, span{text, c.Tone})
		} else {
			spans = append(spans, span{text, c.Tone}, span{pad, Plain})
		}
		spans = append(spans, span{"  ", Plain})
		used += widths[i] + 2
	}
	o.line(spans...)
}

// narrow is the room below which the last column goes under its row.
const narrow = 30

// last ends a row with its last cell, wrapped on a terminal: under itself, or
// under the whole row where the others leave too little room.
func (t *Table) last(o *out, spans []span, c Cell, used int, titles bool) {
	lines := []string{c.Text}
	room := o.s.Width - used
	if o.s.Live && !titles && !o.s.Verbose && o.s.Width > 0 && textWidth(c.Text) > room {
		if room < narrow {
			o.line(spans...)
			used = t.Indent + 4
			spans = []span{{strings.Repeat(" ", used), Plain}}
		}
		lines = o.s.wrap(c.Text, o.s.room(used))
	}
	o.line(append(spans, span{lines[0], c.Tone})...)
	for _, l := range lines[1:] {
		o.line(span{strings.Repeat(" ", used), Plain}, span{l, c.Tone})
	}
}

// PhaseCell is a phase in the tone that it deserves.
func PhaseCell(p resource.Phase) Cell {
	tone := Plain
	switch p {
	case resource.PhaseReady:
		tone = Good
	case resource.PhaseFailed, resource.PhaseMissing:
		tone = Bad
	case resource.PhasePending, resource.PhaseRunning:
		tone = Active
	}
	return Cell{Text: string(p), Tone: tone}
}
