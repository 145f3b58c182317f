package report

import (
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// Node is a block of a graph; Action is what a plan does to it, or "".
type Node struct {
	Address resource.Address
	Action  resource.Action
}

// Edge says that To needs From. Feedback edges are signals: read from the
// record, they order nothing and are drawn dashed. Label may name the signal.
type Edge struct {
	From, To resource.Address
	Feedback bool
	Label    string
}

// GraphText writes a line per block, in the order given, with what it needs and
// the signals that it listens to.
func GraphText(w io.Writer, nodes []Node, edges []Edge, s Style) error {
	o := &out{s: s}
	v := &view{s: s}
	blocks := make([]block, 0, len(nodes))
	for _, n := range nodes {
		var needs, signals []string
		for _, e := range sortedEdges(edges) {
			switch {
			case e.To != n.Address:
			case e.Feedback:
				signals = append(signals, join(e.From.String(), ".", e.Label))
			default:
				needs = append(needs, e.From.String())
			}
		}
		sign, tone := "", Plain
		if n.Action != "" {
			sign, tone = s.symbol(n.Action)
		}
		b := block{sign: sign, tone: tone, address: n.Address.String(), phrase: []span{{"", Plain}}}
		if len(needs) > 0 {
			b.phrase = append(b.phrase, span{s.pick("← ", "<- ") + strings.Join(needs, ", ") + "  ", Plain})
		}
		if len(signals) > 0 {
			b.phrase = append(b.phrase, span{s.pick("⇠ ", "<.. ") + strings.Join(signals, ", "), Note})
		}
		blocks = append(blocks, b)
	}
	v.print(o, blocks)
	return o.writeTo(w)
}

// GraphDOT writes the graph for Graphviz.
func GraphDOT(w io.Writer, nodes []Node, edges []Edge) error {
	var b strings.Builder
	b.WriteString("digraph ml {\n  rankdir = LR;\n  node [shape = box, style = rounded, fontname = \"sans-serif\"];\n")
	for _, n := range nodes {
		fmt.Fprintf(&b, "  %s;\n", dotID(n.Address.String()))
	}
	for _, e := range sortedEdges(edges) {
		var attrs []string
		if e.Feedback {
			attrs = append(attrs, "style = dashed", "constraint = false")
		}
		if e.Label != "" {
			attrs = append(attrs, "label = "+dotID(e.Label))
		}
		tail := ""
		if len(attrs) > 0 {
			tail = " [" + strings.Join(attrs, ", ") + "]"
		}
		fmt.Fprintf(&b, "  %s -> %s%s;\n", dotID(e.From.String()), dotID(e.To.String()), tail)
	}
	b.WriteString("}\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write graph: %w", err)
	}
	return nil
}

// dotID quotes a DOT identifier. Backslashes are doubled: labels take escapes.
func dotID(s string) string {
	s = Style{Unicode: true}.Clean(s)
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// GraphMermaid writes the graph as a Mermaid flowchart, which forges render.
func GraphMermaid(w io.Writer, nodes []Node, edges []Edge) error {
	ids := make(map[resource.Address]string, len(nodes))
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for i, n := range nodes {
		ids[n.Address] = fmt.Sprintf("n%d", i)
		fmt.Fprintf(&b, "  n%d[\"%s\"]\n", i, mermaidText(n.Address.String()))
	}
	for _, e := range sortedEdges(edges) {
		from, to := ids[e.From], ids[e.To]
		if from == "" || to == "" {
			return fmt.Errorf("draw graph: the edge from %s to %s leads out of the graph", e.From, e.To)
		}
		arrow := "-->"
		if e.Feedback {
			arrow = "-.->"
		}
		if e.Label != "" {
			arrow += "|\"" + mermaidText(e.Label) + "\"|"
		}
		fmt.Fprintf(&b, "  %s %s %s\n", from, arrow, to)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write graph: %w", err)
	}
	return nil
}

// mermaidText writes as entities what would end a label or start markup or a directive, which Mermaid obeys wherever it stands.
func mermaidText(s string) string {
	s = Style{Unicode: true}.Clean(s)
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", "`", "#96;", "%", "#37;", "{", "#123;", "}", "#125;").Replace(s)
}

func sortedEdges(edges []Edge) []Edge {
	out := append([]Edge(nil), edges...)
	sort.SliceStable(out, func(i, j int) bool {
		if c := out[i].To.Compare(out[j].To); c != 0 {
			return c < 0
		}
		if c := out[i].From.Compare(out[j].From); c != 0 {
			return c < 0
		}
		return out[i].Label < out[j].Label
	})
	return out
}
