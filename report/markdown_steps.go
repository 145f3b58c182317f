package report

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

func (m *comment) stepList(room int) string {
	if m.o.Foreign {
		return m.list(room, "", "blocks", m.foreignSteps())
	}
	var items []string
	blocks := m.fold()
	for i, b := range blocks {
		if i == maxSteps && len(blocks) > maxSteps+1 {
			items = append(items, fmt.Sprintf("- … %s more lines; %s\n", Count(len(blocks)-i), m.more()))
			break
		}
		items = append(items, m.item(b))
	}
	return m.list(room, "", "steps", items)
}

// item is one step: sign, address, what happens and why, and under it what moved.
func (m *comment) item(b block) string {
	if b.more > 0 {
		return fmt.Sprintf("- %s … %s more instances of %s\n", mdCode(b.sign), Count(b.more), mdCode(b.step.Address.Block().String()))
	}
	line := "- " + mdCode(b.sign) + " **" + mdCode(b.address) + "** " + m.phraseOf(b) + "\n"
	rows := b.rows
	if isNew(b.step) { // what a new block is made of stands in the whole plan
		rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.label != "gate:" && r.label != "" })
	}
	for i, r := range rows {
		if i == maxStepRows && len(rows) > maxStepRows+1 {
			line += fmt.Sprintf("  - … %s more\n", Count(len(rows)-i))
			break
		}
		line += "  - " + rowOf(r) + "\n"
	}
	return line
}

func rowOf(r row) string {
	var text string
	switch label := strings.TrimSuffix(r.label, ":"); {
	case r.label == "gate:":
		text = "gate: "
	case label != "":
		text = mdCode(label) + ": "
	}
	if len(r.value) == 3 && r.value[1].text == " → " {
		text += mdPair(r.value[0].text, r.value[2].text)
	} else {
		text += mdCode(strings.TrimRight(spansText(r.value), "\n"))
	}
	if r.alert != "" {
		text += ", **forces replacement**"
	}
	if r.note != "" {
		text += " · " + mdCode(r.note)
	}
	return text
}

// phraseOf is what the terminal's headline says, with our words as text and all others as code.
func (m *comment) phraseOf(b block) string {
	st := b.step
	text := Verb(st)
	if st.Action == resource.Move && st.From != nil && !st.Exec.Judge && st.Exec.AdoptRun == "" {
		text = "move from " + mdCode(st.From.String())
	}
	if b.like != "" {
		return text + ", like " + mdCode(b.like)
	}
	words, sentence := whyParts(st)
	why := strings.Join(words, ", ")
	if sentence != "" {
		if why != "" {
			why += ", "
		}
		why += mdCode(sentence)
	}
	if why != "" && text != "" {
		text += ": "
	}
	text += why
	if gates := m.gatesBefore(st); len(gates) > 0 && acts(st) {
		names := make([]string, len(gates))
		for i, g := range gates {
			names[i] = mdCode(g.String())
		}
		text += ", if " + strings.Join(names, " and ") + " " + passes(gates)
	}
	if st.Exec.Estimate > 0 && acts(st) {
		text += " · ≈ " + Duration(seconds(st.Exec.Estimate)) + " from earlier runs"
	}
	if st.Provider != "" && st.Provider != "local" && acts(st) {
		text += " · on " + mdCode(st.Provider)
	}
	return text
}

// foreignSteps names blocks, what happens to them, why in our own words, and the fields that move: nothing that a file, a record or the
// world says. Keys of instances are values, too.
func (m *comment) foreignSteps() []string {
	type group struct {
		block  resource.Address
		action resource.Action
		n      int
		words  []string
		paths  []string
	}
	var groups []*group
	at := map[string]*group{}
	for _, st := range m.p.Steps {
		key := st.Address.Block().String() + " " + string(st.Action)
		g := at[key]
		if g == nil {
			g = &group{block: st.Address.Block(), action: st.Action}
			at[key] = g
			groups = append(groups, g)
		}
		g.n++
		words, _ := whyParts(st)
		for _, w := range words {
			g.words = appendOnce(g.words, w)
		}
		for _, r := range st.Reasons {
			if w := codeWord(r.Code); w != "" {
				g.words = appendOnce(g.words, w)
			}
		}
		for _, c := range st.Changes {
			if len(g.paths) <= maxForeignPath {
				g.paths = appendOnce(g.paths, c.Path)
			}
		}
	}
	items := make([]string, 0, len(groups))
	for _, g := range groups {
		sign, _ := m.s.symbol(g.action)
		item := "- " + mdCode(sign) + " **" + mdCode(withoutKeys(g.block)) + "** " + foreignVerb(g.action)
		if g.n > 1 {
			item += ", " + Plural(g.n, "instance", "instances")
		}
		if len(g.words) > 0 {
			item += ": " + strings.Join(g.words, ", ")
		}
		item += "\n"
		for i, p := range g.paths {
			switch i {
			case 0:
				item += "  - " + mdCode(p)
			case maxForeignPath:
				item += " …"
			default:
				item += ", " + mdCode(p)
			}
		}
		if len(g.paths) > 0 {
			item += "\n"
		}
		items = append(items, item)
	}
	return items
}

// withoutKeys is an address without the keys of the modules around it.
func withoutKeys(a resource.Address) string {
	var b strings.Builder
	depth, quoted := 0, false
	for _, r := range a.Block().String() {
		switch {
		case r == '"' && depth > 0:
			quoted = !quoted
		case r == '[' && !quoted:
			depth++
		case r == ']' && !quoted && depth > 0:
			depth--
		case depth == 0:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func foreignVerb(a resource.Action) string {
	switch a {
	case resource.Create, resource.Update, resource.Replace, resource.Delete, resource.Move, resource.Import, resource.Forget:
		return string(a)
	case resource.RunIt:
		return "run"
	case resource.Blocked:
		return "blocked"
	case resource.Noop:
	}
	return "stays as it is"
}

// graph draws the steps, or what the caller gave.
func (m *comment) graph(room int) string {
	nodes, edges := m.o.Nodes, m.o.Edges
	if len(nodes) == 0 {
		nodes, edges = m.stepGraph()
	}
	if len(edges) == 0 || len(nodes) > maxGraph || m.o.Foreign {
		return ""
	}
	var b bytes.Buffer
	if err := GraphMermaid(&b, nodes, edges); err != nil {
		return "" // an edge that leads out: the picture is left out, the plan is whole
	}
	text := mdDetails("Graph", mdFence("mermaid", b.String()))
	if len(text) > room {
		return ""
	}
	return text
}

func (m *comment) stepGraph() ([]Node, []Edge) {
	var nodes []Node
	var edges []Edge
	for _, st := range m.p.Steps {
		nodes = append(nodes, Node{Address: st.Address, Action: st.Action})
		for _, n := range st.Needs {
			if m.step(n) != nil {
				edges = append(edges, Edge{From: n, To: st.Address})
			}
		}
	}
	return nodes, edges
}

// whole is the plan as a terminal shows it, folded, as many lines as there is room for.
func (m *comment) whole(room int) string {
	if m.o.Foreign || len(m.p.Steps)+len(m.p.Drift) == 0 {
		return ""
	}
	var b bytes.Buffer
	if err := PlanText(&b, m.p, Style{Unicode: true, Width: 110, NoHint: true}); err != nil {
		return "" // a buffer does not fail
	}
	text, cut := b.String(), ""
	frame := len(mdDetails("The whole plan", mdFence("text", ""))) + longestRun(text, '`')*2 + 200 + len(m.more())
	if limit := room - frame; len(text) > limit {
		if limit < 500 {
			return ""
		}
		text = text[:strings.LastIndexByte(text[:limit], '\n')+1]
		cut = "\nThis is cut here; " + m.more() + ".\n"
	}
	if text == "" {
		return ""
	}
	return mdDetails("The whole plan", mdFence("text", text)+cut)
}
