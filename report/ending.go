package report

import (
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// How a step that ended is told: one line that stays, above the live ones.

func (p *Progress) finish(ev resource.Event) {
	r := p.step(ev.Address)
	p.drop(ev.Address)
	p.done++
	mark, tone, text := p.ending(ev)
	var remarks []span
	if m := Metrics(ev.Values, shownValues+1); m != "" {
		remarks = append(remarks, span{m, Faint})
	}
	if ev.Message != "" && ev.Message != "done" && !ev.Failed && !ev.Blocked {
		remarks = append(remarks, span{ev.Message, Plain})
	}
	lines := p.remarked(p.eventLine(mark, tone, ev.Address), span{text, toneOf(ev)}, remarks)
	if r != nil && ev.Failed {
		for _, l := range r.logs {
			lines = append(lines, []span{{strings.Repeat(" ", rowIndent) + p.s.pick("│ ", "| ") + l, Faint}})
		}
	}
	p.lines(lines...)
}

// remarked puts what happened and the remarks on one line; on a terminal that is
// too narrow for them, on further lines under what happened.
func (p *Progress) remarked(head []span, text span, remarks []span) [][]span {
	at := spansWidth(p.s, head)
	width, _ := p.size()
	lines := [][]span{append(head, text)}
	used := at + textWidth(p.s.Clean(text.text))
	for _, r := range remarks {
		last := &lines[len(lines)-1]
		w := 2 + textWidth(p.s.Clean(r.text))
		if !p.s.Live || used+w < width {
			*last = append(*last, span{"  " + r.text, r.tone})
			used += w
			continue
		}
		for _, l := range p.s.wrap(r.text, max(width-at-1, 20)) {
			lines = append(lines, []span{{strings.Repeat(" ", at), Plain}, {l, r.tone}})
			used = at + textWidth(l)
		}
	}
	return lines
}

func toneOf(ev resource.Event) Tone {
	if ev.Failed || ev.Blocked || notPassed(ev) {
		return Bad
	}
	return Plain
}

// notPassed reads from the event's data whether the step ran well and judged badly.
func notPassed(ev resource.Event) bool {
	passed, ok := ev.Data["passed"].(bool)
	return ok && !passed
}

func (p *Progress) ending(ev resource.Event) (mark string, tone Tone, text string) {
	if ev.Action == resource.Noop {
		return p.s.pick("·", "-"), Faint, "unchanged"
	}
	took := ""
	if ev.Seconds > 0 {
		took = Duration(seconds(ev.Seconds))
	}
	switch {
	case ev.Failed:
		return p.s.pick("✗", "x"), Bad, join(join("failed", " after ", took), ": ", ev.Message)
	case ev.Blocked:
		return p.s.pick("⛔", "!"), Bad, join("blocked", ": ", brief(ev.Message))
	case notPassed(ev):
		return p.s.pick("✗", "x"), Bad, join("did not pass", ", after ", took)
	}
	return p.s.pick("✓", "ok"), Good, join(pastWord(ev.Action), " in ", took)
}

func pastWord(a resource.Action) string {
	switch a { //nolint:exhaustive // the others are regular enough
	case resource.Create:
		return "created"
	case resource.Update:
		return "updated"
	case resource.Replace:
		return "replaced"
	case resource.Delete:
		return "destroyed"
	case resource.Move:
		return "moved"
	case resource.Import:
		return "imported"
	case resource.Forget:
		return "forgotten"
	case resource.RunIt:
		return "ran"
	}
	return "done"
}
