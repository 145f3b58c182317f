package watch

import (
	"time"

	"github.com/continuo-ml/continuo/config"
)

// defaultRequests is the window of a monitor that names none.
const defaultRequests = 200

// stretch is one window of a deployment's traffic. From and To are the sequence numbers of its first and last request, 0 when it
// had none; Start and End are their times, or the bounds of a window that is cut by time.
type stretch struct {
	From     uint64    `json:"from"`
	To       uint64    `json:"to"`
	Requests int       `json:"requests"`
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
}

// cutter cuts the requests that a signal counts into windows, in the order in which they were captured. Windows of time are
// aligned to multiples of their length, so that it does not matter when somebody looks; a request that was captured after the
// end of its window, because it took long, counts in the next one.
type cutter struct {
	requests int
	duration time.Duration
	open     stretch
}

// newCutter continues after a window that ended at start; a zero start is the first window.
func newCutter(w *config.Window, start time.Time) *cutter {
	c := &cutter{requests: defaultRequests}
	if w != nil && (w.Requests > 0 || w.Duration > 0) {
		c.requests, c.duration = w.Requests, w.Duration
	}
	if c.duration > 0 && !start.IsZero() {
		c.bound(start)
	}
	return c
}

// bound opens the window of time that t lies in.
func (c *cutter) bound(t time.Time) {
	start := t.UTC().Truncate(c.duration)
	c.open = stretch{Start: start, End: start.Add(c.duration)}
}

// take counts a request. A window that ended before it is returned as ended; one that it completes as full. Never both.
func (c *cutter) take(seq uint64, t time.Time) (ended, full *stretch) {
	if c.duration > 0 {
		switch {
		case c.open.End.IsZero():
			c.bound(t)
		case !t.Before(c.open.End):
			done := c.open
			ended = &done
			c.bound(t)
		}
	}
	if c.open.Requests == 0 {
		c.open.From = seq
		if c.duration == 0 {
			c.open.Start = t.UTC()
		}
	}
	c.open.To = seq
	c.open.Requests++
	if c.duration > 0 {
		return ended, nil
	}
	c.open.End = t.UTC()
	if c.open.Requests < c.requests {
		return nil, nil
	}
	done := c.open
	c.open = stretch{}
	return nil, &done
}

// flush returns the open window if now is past its end, and goes on with the one that now lies in.
func (c *cutter) flush(now time.Time) *stretch {
	if c.duration == 0 || c.open.End.IsZero() || now.Before(c.open.End.Add(captureLag)) {
		return nil
	}
	done := c.open
	c.bound(now)
	return &done
}

// captureLag is how long after an answer its record may become readable.
const captureLag = time.Second

// due reports whether a window can be complete when so many requests at most came after the last one.
func (c *cutter) due(unseen uint64, now time.Time) bool {
	if c.duration == 0 {
		return unseen >= uint64(c.requests)
	}
	if c.open.End.IsZero() {
		return unseen > 0
	}
	return !now.Before(c.open.End.Add(captureLag))
}

// least is how many samples a window needs: what is asked for, but never more than it can have.
func (c *cutter) least(samples int) int {
	if c.duration == 0 {
		return max(1, min(samples, c.requests))
	}
	return max(1, samples)
}
