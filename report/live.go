package report

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// The live block of a Progress: it is erased and drawn again as one write, so
// that it never flickers, and no line of it is ever wider than the terminal,
// so that erasing it never leaves a rest.

// erase moves the cursor to the start of the live block and clears what follows.
func (p *Progress) erase() string {
	if p.drawn == 0 {
		return ""
	}
	n := p.drawn
	p.drawn = 0
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", n)
}

// draw appends the live block and remembers its height.
func (p *Progress) draw(b *bytes.Buffer) {
	if !p.s.Live || p.closed || len(p.running) == 0 {
		return
	}
	width, height := p.size()
	limit := max(1, min(maxLiveLines, height-3))
	o := &out{s: p.s}
	now := p.now()
	for i, r := range p.running {
		if i == limit {
			o.line(cutSpans(p.s, []span{{fmt.Sprintf("    and %s more running", Count(len(p.running)-limit)), Faint}}, width-1)...)
			p.drawn++
			break
		}
		o.line(cutSpans(p.s, p.liveLine(r, now), width-1)...)
		p.drawn++
	}
	if p.total > 1 {
		text := fmt.Sprintf("    %s of %s done, %s", Count(min(p.done, p.total)), Count(p.total), Duration(now.Sub(p.began).Truncate(time.Second)))
		o.line(cutSpans(p.s, []span{{text, Faint}}, width-1)...)
		p.drawn++
	}
	b.Write(o.b.Bytes())
}

func (p *Progress) liveLine(r *runningStep, now time.Time) []span {
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	if !p.s.Unicode {
		frames = []rune(`|/-\`)
	}
	line := p.eventLine(string(frames[p.frame%len(frames)]), Active, r.address)
	if r.of > 0 {
		line = append(line, p.bar(r.step/r.of)...)
	} else {
		text := r.message
		if r.step > 0 {
			text = "step " + Number(r.step)
		}
		line = append(line, span{text, Plain})
	}
	if m := Metrics(r.values, shownValues); m != "" {
		line = append(line, span{"  " + m, Plain})
	}
	line = append(line, span{"  " + r.timing(now), Faint})
	if len(r.logs) > 0 {
		line = append(line, span{"  " + strings.TrimSpace(r.logs[len(r.logs)-1]), Faint})
	}
	return line
}

// timing says how long a step has run and how much is left: by its own progress
// if it tells, else by how long it took before.
func (r *runningStep) timing(now time.Time) string {
	ran := max(now.Sub(r.started), 0)
	text := Duration(ran.Truncate(time.Second))
	left := time.Duration(0)
	if r.of > 0 && r.step > 0 && r.step < r.of {
		left = time.Duration(float64(ran) * (r.of - r.step) / r.step)
	} else if r.of == 0 && r.estimate > 0 {
		left = seconds(r.estimate) - ran
	}
	if left >= time.Second {
		text += ", about " + Duration(left.Round(time.Second)) + " left"
	}
	return text
}

// bar draws a share; one that is out of range or no number is drawn at its end.
func (p *Progress) bar(share float64) []span {
	if !(share > 0) {
		share = 0
	}
	share = min(share, 1)
	full := int(share * barCells)
	percent := fmt.Sprintf(" %3d %%", int(share*100))
	if !p.s.Unicode {
		return []span{{"[" + strings.Repeat("#", full) + strings.Repeat(".", barCells-full) + "]" + percent, Active}}
	}
	return []span{{strings.Repeat("━", full), Active}, {strings.Repeat("─", barCells-full), Faint}, {percent, Plain}}
}

// cutSpans shortens a line to n columns.
func cutSpans(s Style, spans []span, n int) []span {
	var out []span
	for _, sp := range spans {
		sp.text = s.Clean(sp.text)
		w := textWidth(sp.text)
		if w > n {
			sp.text = s.cut(sp.text, max(n, 0))
			if n <= 0 {
				return out
			}
			return append(out, sp)
		}
		n -= w
		out = append(out, sp)
	}
	return out
}
