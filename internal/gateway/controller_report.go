package gateway

import (
	"path/filepath"
	"reflect"
	"slices"
	"time"
)

// publish writes state.json when something other than counts changed, and
// counts once a second. When the disk fails, serving goes on and the next
// call tries again.
func (c *controller) publish(now time.Time) {
	c.describe()
	c.live.Sink = c.outlet.status()
	l := c.live
	c.public.Store(&l)
	quiet := c.written
	quiet.Progress.Tally, quiet.Message, quiet.Shadow, quiet.Sink, quiet.Updated = l.Progress.Tally, l.Message, l.Shadow, l.Sink, l.Updated
	moved := !reflect.DeepEqual(quiet, l)
	counted := l.Progress.Tally != c.written.Progress.Tally || l.Message != c.written.Message || !reflect.DeepEqual(l.Shadow, c.written.Shadow) || !reflect.DeepEqual(l.Sink, c.written.Sink)
	if !moved && (!counted || now.Sub(c.wroteAt) < time.Second) {
		return
	}
	l.Updated = now.UTC()
	s := stateFile{Live: l}
	if c.current != nil {
		s.Serving = c.current.stored()
	}
	if c.candidate != nil {
		s.Trying = c.candidate.stored()
	}
	c.wroteAt = now
	if err := writeJSON(c.dir.state(), s); err != nil {
		c.log.Error("write state.json", "error", err)
		return
	}
	c.written = l
}

// describe fills in what follows from the releases.
func (c *controller) describe() {
	c.live.Current, c.live.Candidate = Version{}, nil
	var servers []ServerStatus
	if c.current != nil {
		c.live.Current = c.current.spec.Model
		servers = append(servers, c.current.statuses()...)
	}
	if c.candidate != nil {
		v := c.candidate.spec.Model
		c.live.Candidate = &v
		servers = append(servers, c.candidate.statuses()...)
	}
	for r := range c.retiring {
		servers = append(servers, r.statuses()...)
	}
	slices.SortFunc(servers, func(a, b ServerStatus) int {
		if a.Version != b.Version {
			return a.Version - b.Version
		}
		return a.Process.PID - b.Process.PID
	})
	c.live.Servers = servers
}

// housekeeping keeps connections, logs and the capture folder in bounds.
func (c *controller) housekeeping(now time.Time) {
	for _, r := range []*release{c.current, c.candidate} {
		if r != nil {
			r.reap(now)
		}
	}
	c.outlet.keep()
	logs, err := filepath.Glob(filepath.Join(c.dir.logs(), "*.log"))
	if err != nil {
		c.log.Error("list logs", "error", err)
	}
	for _, name := range logs {
		if err := cutLog(name); err != nil {
			c.log.Error("cut log", "error", err)
		}
	}
}

// shutdown ends every server after its requests.
func (c *controller) shutdown(drain time.Duration) {
	c.closeMirror()
	c.router.route.Store(&route{})
	for _, r := range []*release{c.current, c.candidate} {
		if r != nil {
			c.retired.Go(func() { r.retire(drain) })
		}
	}
	go func() { // retirements from before report here
		for range c.left {
		}
	}()
	c.retired.Wait()
	close(c.left)
}
