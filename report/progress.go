package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// Progress shows events while an apply runs. On a terminal that can redraw it
// keeps a block of live lines, one per running step, and lets finished steps
// scroll up above it; elsewhere it writes a plain line per event, and progress
// of one step at most every ten seconds. It may be used by several goroutines
// at once. Close it when the apply has ended.
type Progress struct {
	s     Style
	total int
	now   func() time.Time
	size  func() (width, height int)

	mu        sync.Mutex
	w         io.Writer
	err       error // the first of writing; nothing is written after it
	began     time.Time
	done      int
	running   []*runningStep // in the order of their start
	estimates map[string]float64
	column    int // widest address so far
	drawn     int // live lines on the screen
	frame     int
	closed    bool

	stop, stopped chan struct{} // nil without live lines
}

type runningStep struct {
	address  string
	action   resource.Action
	message  string
	started  time.Time
	estimate float64 // seconds; 0 = unknown
	step, of float64
	values   map[string]float64
	logs     []string  // the last few lines
	printed  time.Time // when progress was last written as a plain line
}

const (
	frameTime    = 100 * time.Millisecond
	plainEvery   = 10 * time.Second
	keptLogs     = 5
	barCells     = 20
	shownValues  = 3
	maxLiveLines = 10
)

// ticks is the part of a clock that moves live lines.
type ticks func(time.Duration) (c <-chan time.Time, stop func())

func realTicks(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// NewProgress shows the events of an apply of total steps (0 = not known) on w.
func NewProgress(w io.Writer, s Style, total int) *Progress {
	return newProgress(w, s, total, time.Now, realTicks)
}

func newProgress(w io.Writer, s Style, total int, now func() time.Time, every ticks) *Progress {
	p := &Progress{w: w, s: s, total: total, now: now, began: now(), estimates: map[string]float64{}, size: sizeOf(w, s)}
	if !s.Live {
		return p
	}
	p.stop, p.stopped = make(chan struct{}), make(chan struct{})
	c, stop := every(frameTime)
	go func() {
		defer close(p.stopped)
		defer stop()
		for {
			select {
			case <-c:
				p.tick()
			case <-p.stop:
				return
			}
		}
	}()
	return p
}

// sizeOf asks the terminal each time, so that lines fit after it was resized.
func sizeOf(w io.Writer, s Style) func() (int, int) {
	width := s.Width
	if width <= 0 {
		width = 80
	}
	f, ok := w.(*os.File)
	return func() (int, int) {
		if ok {
			if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
				return w, h
			}
		}
		return width, 24
	}
}

// Expect takes from the plan how long steps took before and how wide their
// addresses are, so that what follows lines up and can say how much is left.
func (p *Progress) Expect(plan *planner.Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, st := range plan.Steps {
		if st.Action == resource.Noop {
			continue
		}
		name := st.Address.String()
		p.estimates[name] = st.Exec.Estimate
		p.widen(name)
	}
}

func (p *Progress) widen(address string) {
	p.column = min(max(p.column, textWidth(p.s.Clean(address))), maxColumn)
}

// Handle shows one event. A summary event is left to [Summary].
func (p *Progress) Handle(ev resource.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ev.Time.IsZero() {
		ev.Time = p.now()
	}
	if ev.Address != "" {
		p.widen(ev.Address)
	}
	switch ev.Type {
	case resource.EventStepStart:
		p.start(ev)
	case resource.EventProgress:
		p.progress(ev)
	case resource.EventLog:
		p.log(ev)
	case resource.EventStepDone:
		p.finish(ev)
	case resource.EventDiagnostic:
		p.lines(p.eventLine("!", Change, ev.Address, span{ev.Message, Plain}))
	case resource.EventSummary:
	}
}

// Say writes text above the live lines, where they do not overwrite it.
func (p *Progress) Say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines [][]span
	for _, l := range p.s.wrap(text, p.s.room(0)) {
		lines = append(lines, []span{{l, Strong}})
	}
	p.lines(lines...)
}

// Close takes the live lines off the screen, ends the redrawing and returns the
// first error of writing. It may be called again.
func (p *Progress) Close() error {
	p.mu.Lock()
	if p.closed {
		defer p.mu.Unlock()
		return p.err
	}
	p.closed = true
	if p.drawn > 0 {
		p.write([]byte(p.erase()))
	}
	p.mu.Unlock()
	if p.stop != nil {
		close(p.stop)
		<-p.stopped
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *Progress) step(address string) *runningStep {
	for _, r := range p.running {
		if r.address == address {
			return r
		}
	}
	return nil
}

// start takes note of a step. Of is, at a start, how many seconds it took before.
func (p *Progress) start(ev resource.Event) {
	r := &runningStep{address: ev.Address, action: ev.Action, message: ev.Message, started: ev.Time, estimate: ev.Of, printed: ev.Time}
	if r.estimate <= 0 {
		r.estimate = p.estimates[ev.Address]
	}
	p.drop(ev.Address)
	p.running = append(p.running, r)
	if p.s.Live {
		p.lines()
		return
	}
	text := ev.Message
	if text == "" {
		text = "started"
	}
	if r.estimate > 0 {
		text += ", about " + Duration(seconds(r.estimate))
	}
	sign, tone := p.s.symbol(ev.Action)
	p.lines(p.eventLine(sign, tone, ev.Address, span{text, Plain}))
}

func (p *Progress) drop(address string) {
	for i, r := range p.running {
		if r.address == address {
			p.running = append(p.running[:i], p.running[i+1:]...)
			return
		}
	}
}

func (p *Progress) progress(ev resource.Event) {
	r := p.step(ev.Address)
	if r == nil {
		return
	}
	r.step, r.of = ev.Step, ev.Of
	if ev.Values != nil {
		r.values = ev.Values
	}
	if p.s.Live || ev.Time.Sub(r.printed) < plainEvery {
		return
	}
	r.printed = ev.Time
	text := ev.Message
	if text == "" {
		text = stepText(r)
	}
	p.lines(p.eventLine(p.s.pick("…", "..."), Faint, ev.Address, span{text, Plain}, span{"  " + r.timing(ev.Time), Faint}))
}

func stepText(r *runningStep) string {
	text := "step " + Number(r.step)
	if r.of > 0 {
		text += " of " + Number(r.of)
	}
	return join(text, ", ", Metrics(r.values, shownValues))
}

// log keeps lines of a running step for its live line and for its failure;
// they scroll up only where everything is asked for or nothing is live.
func (p *Progress) log(ev resource.Event) {
	if r := p.step(ev.Address); r != nil && p.s.Live && !p.s.Verbose {
		r.logs = append(r.logs, ev.Message)
		if len(r.logs) > keptLogs {
			r.logs = append(r.logs[:0], r.logs[1:]...)
		}
		return
	}
	p.lines(p.eventLine(p.s.pick("│", "|"), Faint, ev.Address, span{ev.Message, Plain}))
}

func (p *Progress) eventLine(mark string, tone Tone, address string, spans ...span) []span {
	mark = p.s.Clean(mark)
	mark = strings.Repeat(" ", max(0, signWidth-textWidth(mark))) + mark + " "
	line := []span{{mark, tone}}
	if address != "" {
		line = append(line, span{p.s.pad(address, p.column), Strong}, span{"  ", Plain})
	}
	return append(line, spans...)
}

// lines writes lines that stay, above the live ones.
func (p *Progress) lines(lines ...[]span) {
	o := &out{s: p.s}
	o.b.WriteString(p.erase())
	for _, l := range lines {
		o.line(l...)
	}
	p.draw(&o.b)
	p.write(o.b.Bytes())
}

func (p *Progress) write(b []byte) {
	if p.err != nil || len(b) == 0 {
		return
	}
	if _, err := p.w.Write(b); err != nil {
		p.err = fmt.Errorf("write progress: %w", err)
	}
}

// tick moves the live lines on by a frame.
func (p *Progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frame++
	if p.closed || len(p.running) == 0 {
		return
	}
	var b bytes.Buffer
	b.WriteString(p.erase())
	p.draw(&b)
	p.write(b.Bytes())
}
