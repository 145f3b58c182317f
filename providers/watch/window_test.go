package watch

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/continuo-ml/continuo/config"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestTrafficIsCutIntoWindows(t *testing.T) {
	t.Parallel()
	second := func(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }
	for name, c := range map[string]struct {
		window config.Window
		start  time.Time
		at     []float64 // seconds after noon
		now    float64
		want   []string
	}{
		"three requests each; the rest waits":                     {window: config.Window{Requests: 3}, at: []float64{1, 2, 3, 4, 5, 6, 7}, now: 900, want: []string{"1-3 n=3", "4-6 n=3"}},
		"ten seconds each; the last has not ended":                {window: config.Window{Duration: 10 * time.Second}, at: []float64{1, 9, 10, 12, 21}, now: 22, want: []string{"1-2 n=2", "3-4 n=2"}},
		"ten seconds each; the last has ended":                    {window: config.Window{Duration: 10 * time.Second}, at: []float64{1, 9, 21}, now: 31.5, want: []string{"1-2 n=2", "3-3 n=1"}},
		"it has ended, but its records may still be on their way": {window: config.Window{Duration: 10 * time.Second}, at: []float64{1}, now: 10.5},
		"a quiet time is one empty window":                        {window: config.Window{Duration: 10 * time.Second}, start: second(0), at: []float64{45}, now: 46, want: []string{"0-0 n=0"}},
		"no requests at all":                                      {window: config.Window{Duration: 10 * time.Second}, start: second(0), now: 12, want: []string{"0-0 n=0"}},
		"one that took long counts in the next window":            {window: config.Window{Duration: 10 * time.Second}, at: []float64{1, 11, 9}, now: 25, want: []string{"1-1 n=1", "2-3 n=2"}},
	} {
		cut := newCutter(&c.window, c.start)
		var got []string
		add := func(s *stretch) {
			if s != nil {
				got = append(got, fmt.Sprintf("%d-%d n=%d", s.From, s.To, s.Requests))
			}
		}
		for i, s := range c.at {
			ended, full := cut.take(uint64(i+1), second(s))
			add(ended)
			add(full)
		}
		add(cut.flush(second(c.now)))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestItDoesNotMatterWhenSomebodyLooks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := config.Window{Requests: rapid.IntRange(1, 5).Draw(rt, "requests")}
		if rapid.Bool().Draw(rt, "by time") {
			w = config.Window{Duration: 7 * time.Second}
		}
		n := rapid.IntRange(0, 40).Draw(rt, "n")
		times := make([]time.Time, n)
		at := noon
		for i := range times {
			at = at.Add(time.Duration(rapid.IntRange(0, 5).Draw(rt, "gap")) * time.Second)
			times[i] = at
		}
		once := newCutter(&w, time.Time{})
		var whole []stretch
		for i, x := range times {
			ended, full := once.take(uint64(i+1), x)
			for _, s := range []*stretch{ended, full} {
				if s != nil && s.Requests > 0 {
					whole = append(whole, *s)
				}
			}
		}
		// Another starts anew behind each window, as another process would.
		var parts []stretch
		next, start := uint64(1), time.Time{}
		for more := true; more; {
			more = false
			cut := newCutter(&w, start)
			for i := next - 1; i < uint64(n); i++ {
				ended, full := cut.take(i+1, times[i])
				s := full
				if ended != nil {
					s = ended
				}
				if s == nil {
					continue
				}
				if s.Requests > 0 {
					parts, next = append(parts, *s), s.To+1
				}
				if w.Duration > 0 {
					start = s.End
					if s.Requests == 0 {
						start = cut.open.Start
					}
				}
				more = true
				break
			}
		}
		if diff := cmp.Diff(whole, parts); diff != "" {
			rt.Error(diff)
		}
	})
}

func TestAWindowNeverNeedsMoreThanItCanHave(t *testing.T) {
	t.Parallel()
	if n := newCutter(&config.Window{Requests: 20}, time.Time{}).least(30); n != 20 {
		t.Errorf("of 20 requests %d are needed", n)
	}
	if n := newCutter(&config.Window{Duration: time.Hour}, time.Time{}).least(30); n != 30 {
		t.Errorf("in an hour %d are needed", n)
	}
	if c := newCutter(nil, time.Time{}); c.requests != defaultRequests || c.duration != 0 {
		t.Errorf("without a window: %+v", c)
	}
}
