package daemon

import (
	"path/filepath"
	"slices"
	"sync"

	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/internal/workspace"
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
const maxCurves = 16 // that a repository keeps in memory

// runFolder is where a run has its files on this machine, if it has any here.
func (r *repo) runFolder(id string) string {
	return filepath.Join(r.work, workspace.DotML, "runs", id)
}

// curveOf reads a run's progress up to now. The id is that of a recorded run.
func (r *repo) curveOf(id string) (*curve, error) {
	r.mu.Lock()
	c := r.curves[id]
	if c == nil {
		reader, err := runner.NewProgressReader(r.runFolder(id))
		if err != nil {
			r.mu.Unlock()
			return nil, err
		}
		c = &curve{reader: reader, stride: 1}
		if r.curves == nil {
			r.curves = map[string]*curve{}
		}
		if len(r.curves) >= maxCurves {
			delete(r.curves, slices.Min(sortedKeys(r.curves))) // ids sort by time: the oldest
		}
		r.curves[id] = c
	}
	r.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.reader.Next(c.take)
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
