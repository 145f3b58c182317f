package site

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/reply"
	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Limits of pages about runs.
const (
	maxRuns      = 200 // in a list
	flushEvery   = 250 * time.Millisecond
	findPatience = 10 * time.Second
)

// runRow is a run in a list.
type runRow struct {
	ID      string
	Address resource.Address
	Phase   resource.Phase
	Trigger bool
	Version int
	Started time.Time
	Took    time.Duration
}

// runRows are the newest runs, those that go on first; of one address, or of all.
func runRows(snap *state.Snapshot, of resource.Address, limit int) []runRow {
	var out []runRow
	for a, keys := range snap.Runs {
		if !of.IsZero() && a != of {
			continue
		}
		for _, k := range keys {
			out = append(out, runRow{k.ID, a, k.Phase, k.Trigger, k.Version, k.Started, k.Finished.Sub(k.Started)})
		}
	}
	for _, in := range snap.Intents {
		if in.Action == resource.RunIt && (of.IsZero() || in.Address == of) {
			out = append(out, runRow{ID: in.OpID, Address: in.Address, Phase: resource.PhaseRunning, Trigger: in.Trigger, Started: in.Started})
		}
	}
	slices.SortFunc(out, func(a, b runRow) int {
		if (a.Phase == resource.PhaseRunning) != (b.Phase == resource.PhaseRunning) {
			if a.Phase == resource.PhaseRunning {
				return -1
			}
			return 1
		}
		return strings.Compare(b.ID, a.ID)
	})
	return out[:min(len(out), limit)]
}

// findRun finds whose run an id is. open says that it goes on.
func findRun(snap *state.Snapshot, id string) (a resource.Address, open, ok bool) {
	for _, in := range snap.Intents {
		if in.OpID == id && in.Action == resource.RunIt {
			return in.Address, true, true
		}
	}
	for a, keys := range snap.Runs {
		if slices.ContainsFunc(keys, func(k state.RunKey) bool { return k.ID == id }) {
			return a, false, true
		}
	}
	return a, false, false
}

// aRun is a run that a request names.
type aRun struct {
	id   string
	of   resource.Address
	open bool // it goes on
	snap *state.Snapshot
}

// named finds the run that a request names; it answers when there is none. What is
// found is recorded, so its id is no path to anywhere.
func (p *project) named(w http.ResponseWriter, req *http.Request) (aRun, bool) {
	snap, err := p.Snapshot(req.Context())
	if err != nil {
		reply.Unreadable(w, p.log, err)
		return aRun{}, false
	}
	r := aRun{id: req.PathValue("run"), snap: snap}
	ok := false
	if r.of, r.open, ok = findRun(snap, r.id); !ok {
		http.Error(w, "there is no such run", http.StatusNotFound)
	}
	return r, ok
}

// runPage shows one run: its progress, its numbers and its log.
func (s *Site) runPage(p *project, w http.ResponseWriter, req *http.Request) {
	x, ok := p.named(w, req)
	if !ok {
		return
	}
	run, took, err := p.look(req.Context(), x)
	if err != nil {
		reply.Unreadable(w, p.log, err)
		return
	}
	v := struct {
		frame
		Repo      string
		Address   resource.Address
		ID        string
		Open      bool
		Run       *state.Run
		Took      time.Duration
		Progress  *progress
		Lines     []string
		Dropped   int
		LogError  string
		HasCharts bool
	}{
		Repo: p.name, Address: x.of, ID: x.id, Open: x.open, Run: run, Took: took,
		frame: s.frame("Run of "+x.of.String(), p.crumb(), p.blockCrumb(x.of), crumb{"Run " + shortRun(x.id), ""}),
	}
	if c, err := p.curveOf(x.id); err == nil {
		v.Progress = c.now()
		v.HasCharts = v.Progress != nil && len(v.Progress.Values) > 0 || x.open
	}
	v.Lines, v.Dropped, v.LogError = p.tail(req.Context(), x.of, x.id, x.open)
	s.page(w, "run.html", v)
}

// look reads what is recorded of a run, and how long it took, or has taken by now.
func (p *project) look(ctx context.Context, x aRun) (*state.Run, time.Duration, error) {
	if x.open {
		for _, in := range x.snap.Intents {
			if in.OpID == x.id {
				return &state.Run{ID: x.id, Address: x.of, Phase: resource.PhaseRunning, Started: in.Started, Reasons: in.Reasons}, time.Since(in.Started), nil
			}
		}
	}
	runs, err := p.Runs(ctx, x.of)
	for _, r := range runs {
		if r.ID == x.id {
			return r, r.Finished.Sub(r.Started), nil
		}
	}
	return nil, 0, fmt.Errorf("run %s of %s: %w", x.id, x.of, errors.Join(err, errors.New("it is not there any more")))
}

// tail is the end of a run's log. What cannot be had is said, and is no error of the page.
func (p *project) tail(ctx context.Context, a resource.Address, id string, open bool) (lines []string, dropped int, problem string) {
	ctx, cancel := context.WithTimeout(ctx, findPatience)
	defer cancel()
	var buf logBuffer
	err := p.WriteLog(ctx, a, id, open, false, &buf)
	lines, dropped = buf.take(true)
	if err != nil && len(lines) == 0 {
		return nil, 0, status.ErrorText(err, 3)
	}
	return lines, dropped, ""
}

// followRun streams a run: lines of its log, its progress, and its end.
func (s *Site) followRun(p *project, w http.ResponseWriter, req *http.Request) {
	x, ok := p.named(w, req)
	if !ok {
		return
	}
	leave, ok := s.MayFollow(w)
	if !ok {
		return
	}
	defer leave()
	ctx, cancel := context.WithCancel(req.Context())
	var buf logBuffer
	done := make(chan error, 1)
	go func() { done <- p.WriteLog(ctx, x.of, x.id, x.open, true, &buf) }()
	ended := p.relay(req.Context(), reply.NewStream(w, reply.Events), x.id, &buf, done)
	cancel()
	if !ended { // the reader is gone: nobody is left to be told, and the log's own reader ends
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			p.log.Debug("a log that was followed", "run", x.id, "error", err)
		}
	}
}

// relay sends what comes until the log has ended, which it reports, or the reader is gone.
func (p *project) relay(ctx context.Context, out *reply.Stream, id string, buf *logBuffer, done <-chan error) bool {
	flush, alive := time.NewTicker(flushEvery), time.NewTicker(reply.Beat)
	defer flush.Stop()
	defer alive.Stop()
	seen := 0
	tell := func(all bool) bool {
		if lines, dropped := buf.take(all); len(lines) > 0 || dropped > 0 {
			if !out.Event("log", map[string]any{"lines": lines, "dropped": dropped}) {
				return false
			}
		}
		c, err := p.curveOf(id)
		if err != nil {
			return true // it has no progress here
		}
		p := c.now()
		if p == nil || p.Lines == seen {
			return true
		}
		seen = p.Lines
		return out.Event("progress", p)
	}
	if !out.Say(": hello\n\n") {
		return false
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case err := <-done:
			if tell(true) {
				out.Event("end", map[string]string{"error": status.ErrorText(err, 5)})
			}
			return true
		case <-flush.C:
			if !tell(false) {
				return false
			}
		case <-alive.C:
			if !out.Say(": still here\n\n") {
				return false
			}
		}
	}
}

// runsPage lists the newest runs.
func (s *Site) runsPage(p *project, w http.ResponseWriter, req *http.Request) {
	snap, err := p.Snapshot(req.Context())
	if err != nil {
		reply.Unreadable(w, p.log, err)
		return
	}
	rows := runRows(snap, resource.Address{}, maxRuns)
	total := 0
	for _, keys := range snap.Runs {
		total += len(keys)
	}
	s.page(w, "runs.html", struct {
		frame
		Repo  string
		Runs  []runRow
		Total int
	}{s.frame("Runs", p.crumb(), crumb{"Runs", ""}), p.name, rows, total})
}

// shortRun is the end of a run's id: what tells runs of one day apart.
func shortRun(id string) string { return id[max(0, len(id)-6):] }
