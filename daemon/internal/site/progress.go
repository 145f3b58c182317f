package site

import (
	"slices"
	"sync"

	"github.com/continuo-ml/continuo/internal/runner"
)

// curve is the progress of a run, thinned evenly when it is long. It is read on
// from where it was, so that a look at a run of hours costs what is new.
type curve struct {
	mu     sync.Mutex
	reader *runner.ProgressReader
	last   runner.Progress
	lines  int
	points []runner.Progress
	stride int
}

// Limits of curves.
const maxCurves = 16 // of a project that are kept in memory

// curveOf reads a run's progress up to now. The id is that of a recorded run.
func (p *project) curveOf(id string) (*curve, error) {
	c, err := p.curve(id)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.reader.Next(c.take)
}

func (p *project) curve(id string) (*curve, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.curves[id]; c != nil {
		return c, nil
	}
	reader, err := runner.NewProgressReader(p.RunFolder(id))
	if err != nil {
		return nil, err
	}
	if len(p.curves) >= maxCurves {
		delete(p.curves, slices.Min(sortedKeys(p.curves))) // ids sort by time: the oldest
	}
	c := &curve{reader: reader, stride: 1}
	p.curves[id] = c
	return c, nil
}

func (c *curve) take(p runner.Progress) {
	c.last = p
	if c.lines%c.stride == 0 {
		c.points = append(c.points, p)
	}
	c.lines++
	if len(c.points) < 2*maxPoints {
		return
	}
	n := 0
	for i := 0; i < len(c.points); i += 2 {
		c.points[n] = c.points[i]
		n++
	}
	c.points, c.stride = c.points[:n], 2*c.stride
}

// progress is how far a run is, for its page.
type progress struct {
	Step    float64            `json:"step"`
	Of      float64            `json:"of,omitempty"`
	Lines   int                `json:"lines"`
	Values  map[string]float64 `json:"values,omitempty"`
	Percent int                `json:"percent"`
}

// now is the newest line; nil when there was none.
func (c *curve) now() *progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines == 0 {
		return nil
	}
	p := &progress{Step: c.last.Step, Of: c.last.Of, Lines: c.lines, Values: c.last.Values}
	if p.Of > 0 {
		p.Percent = int(min(100, 100*p.Step/p.Of))
	}
	return p
}

// charts draws every number that the command told, over its steps.
func (c *curve) charts() charts {
	c.mu.Lock()
	defer c.mu.Unlock()
	points := c.points
	if n := len(points); n > 0 && (c.lines-1)%c.stride != 0 {
		points = append(slices.Clone(points), c.last) // the newest is always there
	}
	x := make([]float64, len(points))
	for i, p := range points {
		x[i] = p.Step
		if i > 0 && x[i] <= x[i-1] {
			x[i] = x[i-1] + 1 // it began again, or counts no steps
		}
	}
	al := newAlbum("step", x)
	for i, p := range points {
		for _, name := range sortedKeys(p.Values) {
			al.chart(name).set(name, false, i, p.Values[name])
		}
	}
	return al.done("numbers")
}
