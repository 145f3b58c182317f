package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handClock is moved by the test.
type handClock struct {
	mu  sync.Mutex
	t   time.Time
	c   chan time.Time
	end chan struct{}
}

func newHandClock() *handClock {
	return &handClock{t: planTime, c: make(chan time.Time), end: make(chan struct{})}
}

func (h *handClock) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.t
}

func (h *handClock) every(time.Duration) (<-chan time.Time, func()) {
	return h.c, func() { close(h.end) }
}

func (h *handClock) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.t = h.t.Add(d)
}

// screen is a terminal that knows just what Progress uses: newline, carriage
// return, cursor up and clear to the end. It fails on anything else.
type screen struct {
	t     *testing.T
	lines []string
	row   int
	raw   bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.raw.Write(b)
	text := string(b)
	for text != "" {
		var up int
		switch {
		case strings.HasPrefix(text, "\x1b[J"):
			s.lines = s.lines[:s.row]
			text = text[3:]
		case strings.HasPrefix(text, "\x1b["):
			if n, err := fmt.Sscanf(text, "\x1b[%dA", &up); n != 1 || err != nil {
				s.t.Errorf("unknown control sequence in %q", text)
				return len(b), nil
			}
			if s.row -= up; s.row < 0 {
				s.t.Errorf("the cursor went %d lines above the start", -s.row)
				return len(b), nil
			}
			text = text[strings.IndexByte(text, 'A')+1:]
		case text[0] == '\r':
			text = text[1:]
		default:
			end := strings.IndexByte(text, '\n')
			if end < 0 {
				s.t.Errorf("a line does not end: %q", text)
				return len(b), nil
			}
			s.lines = append(s.lines[:s.row], text[:end])
			s.row++
			text = text[end+1:]
		}
	}
	return len(b), nil
}

func (s *screen) String() string { return strings.Join(s.lines, "\n") + "\n" }

func at(sec float64) time.Time { return planTime.Add(seconds(sec)) }

// story is what an engine says during an apply.
func story() []resource.Event {
	long := "epoch 3: " + strings.Repeat("loss is falling ", 12)
	return []resource.Event{
		{Time: at(0), Type: resource.EventStepStart, Address: "dataset.tumors", Action: resource.Update, Message: "updating"},
		{Time: at(0.1), Type: resource.EventStepStart, Address: "check.unit", Action: resource.RunIt, Message: "running"},
		{Time: at(0.4), Type: resource.EventStepDone, Address: "dataset.tumors", Action: resource.Update, Message: "569 rows", Seconds: 0.4},
		{Time: at(1.1), Type: resource.EventStepDone, Address: "check.unit", Action: resource.RunIt, Message: "done", Seconds: 1},
		{Time: at(1.2), Type: resource.EventStepStart, Address: "training.tumors", Action: resource.RunIt, Message: "running", Of: 150},
		{Time: at(2), Type: resource.EventLog, Address: "training.tumors", Message: long},
		{Time: at(5), Type: resource.EventProgress, Address: "training.tumors", Message: "step 30 of 300, loss 0.7", Step: 30, Of: 300, Values: map[string]float64{"loss": 0.7}},
		{Time: at(12), Type: resource.EventProgress, Address: "training.tumors", Message: "step 60 of 300, loss 0.4", Step: 60, Of: 300, Values: map[string]float64{"loss": 0.4}},
		{Time: at(12.5), Type: resource.EventProgress, Address: "training.tumors", Message: "step 61 of 300, loss 0.4", Step: 61, Of: 300, Values: map[string]float64{"loss": 0.4}},
		{Time: at(12.6), Type: resource.EventDiagnostic, Address: "notifier.team", Message: "alert not delivered: connection refused"},
	}
}

func ending() []resource.Event {
	return []resource.Event{
		{Time: at(60), Type: resource.EventStepDone, Address: "training.tumors", Action: resource.RunIt, Message: "version 4", Seconds: 58.8, Values: map[string]float64{"recall": 0.9531, "accuracy": 0.951}},
		{Time: at(60), Type: resource.EventStepStart, Address: "validation.tumors", Action: resource.RunIt, Message: "running"},
		{Time: at(62), Type: resource.EventStepDone, Address: "validation.tumors", Action: resource.RunIt, Message: "recall 0.912 is below 0.93", Seconds: 2, Data: map[string]any{"passed": false}},
		{Time: at(62), Type: resource.EventStepDone, Address: "deployment.tumors", Action: resource.Update, Message: "validation.tumors did not pass", Blocked: true},
		{Time: at(62), Type: resource.EventStepStart, Address: "training.other", Action: resource.RunIt},
		{Time: at(63), Type: resource.EventLog, Address: "training.other", Message: "Traceback\x1b[31m"},
		{Time: at(63), Type: resource.EventStepDone, Address: "training.other", Action: resource.RunIt, Message: "exit code 1", Failed: true, Seconds: 1},
	}
}

func TestPlainProgressIsALinePerEvent(t *testing.T) {
	for _, s := range []Style{{Unicode: true}, {}} {
		var b bytes.Buffer
		p := NewProgress(&b, s, 6)
		p.Expect(dataChanged())
		for _, ev := range append(story(), ending()...) {
			p.Handle(ev)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsAny(b.Bytes(), "\x1b\r") {
			t.Error("a pipe got control codes")
		}
		golden(t, map[bool]string{true: "progress_plain.txt", false: "progress_ascii.txt"}[s.Unicode], b.Bytes())
	}
}

func TestLiveProgressRedrawsInPlace(t *testing.T) {
	clock := newHandClock()
	scr := &screen{t: t}
	p := newProgress(scr, Style{Unicode: true, Width: 90, Live: true}, 6, clock.now, clock.every)
	p.Expect(dataChanged())
	var b strings.Builder
	frame := func(title string) {
		p.tick() // by hand: the test must know when the frame is drawn
		b.WriteString("--- " + title + "\n" + scr.String())
	}
	events := story()
	for _, ev := range events[:2] {
		p.Handle(ev)
	}
	clock.move(300 * time.Millisecond)
	frame("two steps run")
	for _, ev := range events[2:6] {
		p.Handle(ev)
	}
	clock.move(1800 * time.Millisecond)
	frame("they are done, the training runs and has said nothing but a log line")
	for _, ev := range events[6:] {
		p.Handle(ev)
	}
	clock.move(11 * time.Second)
	frame("it tells its progress")
	for _, ev := range ending() {
		p.Handle(ev)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-clock.end:
	case <-time.After(5 * time.Second):
		t.Fatal("the ticker goes on after Close")
	}
	b.WriteString("--- all is done\n" + scr.String())
	for _, l := range strings.Split(scr.raw.String(), "\n") {
		if strings.Contains(l, "⠋") && textWidth(l) > 89+8 {
			t.Errorf("a live line is wider than the terminal: %q", l)
		}
	}
	golden(t, "progress_live.txt", []byte(b.String()))
}

func TestWhatIsSaidOfAnEndedStepFitsTheScreen(t *testing.T) {
	for name, c := range map[string]struct {
		s    Style
		want []string
	}{
		"a terminal": {Style{Unicode: true, Width: 50, Live: true}, []string{
			"  ✓ training.tumors  ran in 1s  recall 0.9",
			"                     version 4 of the model,",
			"                     which is the current one",
		}},
		"a pipe": {Style{Unicode: true, Width: 50}, []string{"  ✓ training.tumors  ran in 1s  recall 0.9  version 4 of the model, which is the current one"}},
	} {
		clock, scr := newHandClock(), &screen{t: t}
		p := newProgress(scr, c.s, 1, clock.now, clock.every)
		p.Handle(resource.Event{Type: resource.EventStepDone, Address: "training.tumors", Action: resource.RunIt, Seconds: 1, Values: map[string]float64{"recall": 0.9}, Message: "version 4 of the model, which is the current one"})
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(strings.Join(scr.lines, "\n")); got != strings.TrimSpace(strings.Join(c.want, "\n")) {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

func TestWhatIsSaidWhileLinesAreLiveStaysAboveThem(t *testing.T) {
	clock, scr := newHandClock(), &screen{t: t}
	p := newProgress(scr, Style{Unicode: true, Width: 60, Live: true}, 2, clock.now, clock.every)
	p.Handle(resource.Event{Type: resource.EventStepStart, Address: "training.a", Action: resource.RunIt, Message: "running"})
	p.Say("Stopping: nothing new starts; what runs goes on in the background.")
	clock.c <- clock.now() // a redraw
	clock.c <- clock.now() // taken up only after the one before it was drawn
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(strings.Join(scr.lines, "\n")); got != "Stopping: nothing new starts; what runs goes on in the\nbackground." {
		t.Errorf("the screen shows:\n%s", got)
	}
}

func TestManyRunningStepsFitTheScreen(t *testing.T) {
	clock := newHandClock()
	scr := &screen{t: t}
	p := newProgress(scr, Style{Width: 80, Live: true}, 100, clock.now, clock.every)
	for i := range 50 {
		p.Handle(resource.Event{Type: resource.EventStepStart, Address: fmt.Sprintf("check.c[%d]", i), Action: resource.RunIt, Message: "running"})
	}
	if n := len(scr.lines); n != maxLiveLines+2 {
		t.Errorf("%d live lines, want %d and the two that count:\n%s", n, maxLiveLines, scr)
	}
	if !strings.Contains(scr.String(), "and 40 more running") {
		t.Errorf("the rest is not counted:\n%s", scr)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if len(scr.lines) != 0 {
		t.Errorf("Close left lines behind:\n%s", scr)
	}
}

func TestProgressTakesEventsFromManyGoroutines(t *testing.T) {
	clock := newHandClock()
	scr := &screen{t: t}
	p := newProgress(scr, Style{Width: 80, Live: true}, 0, clock.now, clock.every)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			a := fmt.Sprintf("check.c[%d]", g)
			p.Handle(resource.Event{Type: resource.EventStepStart, Address: a, Action: resource.RunIt})
			for i := range 100 {
				p.Handle(resource.Event{Type: resource.EventProgress, Address: a, Step: float64(i), Of: 100, Values: map[string]float64{"loss": math.NaN()}})
			}
			p.Handle(resource.Event{Type: resource.EventStepDone, Address: a, Action: resource.RunIt, Seconds: 1})
		}()
	}
	for range 20 {
		clock.c <- clock.now()
	}
	wg.Wait()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatalf("the second Close: %v", err)
	}
	if p.frame != 20 {
		t.Errorf("20 ticks drew %d frames", p.frame)
	}
	if n := len(scr.lines); n != 8 {
		t.Errorf("%d lines stay, want one per step:\n%s", n, scr)
	}
}

func TestProgressReportsThatItCannotWrite(t *testing.T) {
	p := NewProgress(brokenWriter{}, Style{}, 0)
	p.Handle(resource.Event{Type: resource.EventStepDone, Address: "check.unit"})
	p.Handle(resource.Event{Type: resource.EventStepDone, Address: "check.unit"})
	if err := p.Close(); !errors.Is(err, errBroken) {
		t.Errorf("Close returned %v", err)
	}
}

func TestEventsAreALineOfJSONEach(t *testing.T) {
	var b bytes.Buffer
	e := EventJSON(&b)
	e.Handle(resource.Event{Time: planTime, Type: resource.EventProgress, Address: "training.tumors", Message: "two\nlines <b>", Step: 3, Of: math.Inf(1),
		Values: map[string]float64{"loss": math.NaN(), "recall": 0.5}, Data: map[string]any{"nested": []any{math.Inf(-1), 1.5}}})
	e.Handle(resource.Event{Time: planTime, Type: resource.EventSummary, Message: "done"})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	want := `{"time":"2026-03-02T09:30:00Z","type":"progress","address":"training.tumors","message":"two\nlines <b>","step":3,"values":{"loss":null,"recall":0.5},"data":{"nested":[null,1.5]}}
{"time":"2026-03-02T09:30:00Z","type":"summary","message":"done"}
`
	if b.String() != want {
		t.Errorf("got  %swant %s", b.String(), want)
	}
	for _, l := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if !json.Valid([]byte(l)) {
			t.Errorf("not JSON: %s", l)
		}
	}
	broken := EventJSON(brokenWriter{})
	broken.Handle(resource.Event{})
	if err := broken.Close(); !errors.Is(err, errBroken) {
		t.Errorf("Close returned %v", err)
	}
}
