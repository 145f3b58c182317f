package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// MaxMarkdown is how long a comment may be, in bytes and so in characters: below what every forge takes.
const MaxMarkdown = 60_000

// MarkdownOptions say what a comment holds beside the plan. All of it is optional.
type MarkdownOptions struct {
	// Project is the project's path in its repository; "" and "." are the root. It is in the [Marker].
	Project string
	// URL is a page with the whole plan; without one, the comment says how to see it.
	URL string
	// AsOf is when live state was recorded, if the plan did not read it.
	AsOf time.Time
	// Foreign is for a stranger's pull request: actions, counts and names of fields, and no value, message or verdict.
	Foreign bool
	// Metrics are those of candidates that were trained for this pull request.
	Metrics []MetricChange
	// Next says in one sentence how it goes on, and Commands what a comment may ask for.
	Next     string
	Commands []CommentCommand
	// Nodes and Edges are the graph to draw; without them, it is that of the steps.
	Nodes []Node
	Edges []Edge
}

// MetricChange is one metric of a candidate beside the champion's.
type MetricChange struct {
	Address resource.Address // the block that judges, or the training
	Metric  string
	Before  *float64 // the champion's; nil = there is none
	After   *float64 // the candidate's; nil = it has none
	Gate    string   // what must hold, "≥ 0.93", or ""
	Passed  *bool    // nil = not judged
}

// CommentCommand is a command that a comment may hold, and what it does.
type CommentCommand struct{ Text, Does string }

// How much of a comment its parts may take. What does not fit is counted, and stands in the whole plan.
const (
	maxSteps       = 60
	maxStepRows    = 4
	stepBytes      = 24_000
	sectionBytes   = 6_000
	graphBytes     = 8_000
	maxGraph       = 60 // blocks that a drawing can be read with
	maxForeignPath = 12
)

// Markdown writes the plan as the comment of a pull request: a hidden marker, one line with the counts, the steps with their reasons,
// gates, metrics, what changed outside, diagnostics, what to do next, and folded the whole plan and its graph. It is never longer than
// [MaxMarkdown]; what is left out is counted. No text of a file or a person can mention anybody, link, or be markup; sensitive
// values are masked.
func Markdown(w io.Writer, p *planner.Plan, o MarkdownOptions) error {
	m := &comment{view: newView(p, Style{Unicode: true}), o: o}
	head, next := m.head(), m.next()
	m.room = MaxMarkdown - len(head) - len(next) - 1
	var parts []string
	add := func(limit int, section func(room int) string) {
		text := section(min(limit, m.room-2)) // a blank line before it
		if text != "" && len(text)+2 <= m.room {
			m.room -= len(text) + 1
			parts = append(parts, text)
		}
	}
	if Failed(p) {
		add(stepBytes, m.diagnostics)
	}
	add(stepBytes, m.stepList)
	add(sectionBytes, m.metrics)
	add(sectionBytes, m.driftList)
	if !Failed(p) {
		add(sectionBytes, m.diagnostics)
	}
	parts = append(parts, next)
	add(graphBytes, m.graph)
	add(MaxMarkdown, m.whole)
	var b strings.Builder
	b.WriteString(head)
	for _, part := range parts {
		if part != "" {
			b.WriteString("\n" + part)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write comment: %w", err)
	}
	return nil
}

// comment is a plan on its way to a forge.
type comment struct {
	*view
	o    MarkdownOptions
	room int // bytes that are left
}

func (m *comment) head() string {
	title := "### ml plan"
	if p := projectPath(m.o.Project); p != "." {
		title += " for " + mdCode(p)
	}
	facts := []string{"**" + Total(m.p) + "**"}
	if m.p.Commit != "" {
		commit, dirty := strings.CutSuffix(m.p.Commit, "+dirty")
		short := strings.TrimSuffix(cutRunes(commit, 13), "…")
		if dirty {
			short += "+dirty"
		}
		facts = append(facts, "commit "+mdCode(short))
	}
	if !m.o.AsOf.IsZero() {
		facts = append(facts, "live state as of "+m.o.AsOf.UTC().Format("2006-01-02 15:04:05")+" UTC")
	}
	text := Marker(m.o.Project) + "\n" + title + "\n\n" + strings.Join(facts, " · ") + "\n"
	if m.o.Foreign {
		text += "\nThis pull request comes from a fork: what would change is named, and no value is shown.\n"
	}
	return text
}

// more says where the rest is.
func (m *comment) more() string {
	if m.o.URL != "" {
		return mdLink("the whole plan", m.o.URL)
	}
	return "`ml plan` shows the whole plan"
}

// list is a section of items under a heading, as many as there is room for.
func (m *comment) list(room int, heading, what string, items []string) string {
	if len(items) == 0 {
		return ""
	}
	var b strings.Builder
	if heading != "" {
		b.WriteString("**" + heading + "**\n\n")
	}
	const rest = 120 // for the line that counts what is left out, beside the link
	for i, item := range items {
		if b.Len()+len(item)+rest+len(m.more()) > room {
			fmt.Fprintf(&b, "- … %s more %s; %s\n", Count(len(items)-i), what, m.more())
			break
		}
		b.WriteString(item)
	}
	if b.Len() > room {
		return ""
	}
	return b.String()
}

func (m *comment) driftList(room int) string {
	if n := len(m.p.Drift); n > 0 && m.o.Foreign {
		return fmt.Sprintf("%s changed outside of ml.\n", Plural(n, "block was", "blocks were"))
	}
	var items []string
	for _, d := range m.p.Drift {
		item := "- " + mdCode(d.Address.String())
		if d.Message != "" || len(d.Changes) == 0 {
			item += " " + mdCode(orElse(d.Message, "gone"))
		}
		if d.By != "" {
			item += " by " + mdCode(d.By)
		}
		item += "\n"
		for i, c := range d.Changes {
			if i == maxStepRows {
				item += fmt.Sprintf("  - … %s more\n", Count(len(d.Changes)-i))
				break
			}
			item += "  - " + mdCode(c.Path) + ": " + mdPair(m.changeText(c.Old, c.Sensitive), m.changeText(c.New, c.Sensitive)) + "\n"
		}
		items = append(items, item)
	}
	return m.list(room, "Changed outside of ml", "blocks", items)
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func mdPair(before, after string) string {
	return mdCode(orElse(before, "unset")) + " → " + mdCode(orElse(after, "unset"))
}

func (m *comment) diagnostics(room int) string {
	var items []string
	for _, d := range m.p.Diagnostics {
		item := "- **Warning**"
		if d.Severity == "error" {
			item = "- **Error**"
		}
		if !m.o.Foreign {
			item += ": " + mdCode(d.Summary)
		}
		if d.File != "" {
			item += " at " + mdCode(fmt.Sprintf("%s:%d", d.File, d.Line))
		}
		if d.Address != "" && !m.o.Foreign {
			item += " in " + mdCode(d.Address)
		}
		item += "\n"
		if lines := strings.TrimSpace(d.Detail); lines != "" && !m.o.Foreign {
			for i, l := range strings.Split(lines, "\n") {
				if i == maxStepRows {
					item += "  - …\n"
					break
				}
				item += "  - " + mdCode(l) + "\n"
			}
		}
		items = append(items, item)
	}
	return m.list(room, "", "diagnostics", items)
}

func (m *comment) metrics(room int) string {
	if len(m.o.Metrics) == 0 || m.o.Foreign {
		return ""
	}
	number := func(f *float64) string {
		if f == nil {
			return "none"
		}
		return "`" + Number(*f) + "`"
	}
	head := "| judged by | metric | champion | candidate | must be | |\n| --- | --- | --- | --- | --- | --- |\n"
	var b strings.Builder
	b.WriteString(head)
	for i, c := range m.o.Metrics {
		verdict := ""
		if c.Passed != nil {
			verdict = map[bool]string{true: "✓", false: "✗"}[*c.Passed]
		}
		gate := ""
		if c.Gate != "" {
			gate = mdCell(c.Gate)
		}
		row := fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", mdCell(c.Address.String()), mdCell(c.Metric), number(c.Before), number(c.After), gate, verdict)
		if b.Len()+len(row)+100 > room {
			fmt.Fprintf(&b, "\n%s more metrics are left out.\n", Count(len(m.o.Metrics)-i))
			break
		}
		b.WriteString(row)
	}
	if b.Len() > room || b.Len() == len(head) {
		return ""
	}
	return b.String()
}

// next says how it goes on.
func (m *comment) next() string {
	var b strings.Builder
	switch {
	case m.o.Next != "":
		b.WriteString(mdPlain(cutRunes(m.o.Next, 500)) + "\n")
	case Failed(m.p):
		b.WriteString("Next: mend the errors above and push again.\n")
	case Changes(m.p):
		b.WriteString("Next: after the merge, `ml apply` does this")
		if d := m.together(); d > 0 && !m.o.Foreign {
			b.WriteString(", in about " + Duration(d))
		}
		b.WriteString(".\n")
	}
	if len(m.o.Commands) > 0 {
		b.WriteString("\nA comment with one of these lines asks for more:\n\n")
	}
	for i, c := range m.o.Commands {
		if i == 10 {
			break
		}
		b.WriteString("- " + mdCode(c.Text) + " " + mdPlain(cutRunes(c.Does, 200)) + "\n")
	}
	return b.String()
}
