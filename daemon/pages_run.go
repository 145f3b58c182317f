package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/runner"
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

// runPage shows one run: its progress, its numbers and its log.
func (d *Daemon) runPage(r *repo, w http.ResponseWriter, req *http.Request) {
	id := req.PathValue("run")
	snap, store, err := r.snapshot(req.Context())
	if err != nil {
		d.broken(w, r, err)
		return
	}
	a, open, ok := findRun(snap, id)
	if !ok {
		http.Error(w, "there is no such run", http.StatusNotFound)
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
	}{Repo: r.conf.Name, frame: d.frame("Run of "+a.String(), repoCrumb(r), blockCrumb(r, a), crumb{"Run " + shortRun(id), ""}), Address: a, ID: id, Open: open}
	if open {
		for _, in := range snap.Intents {
			if in.OpID == id {
				v.Run = &state.Run{ID: id, Address: a, Phase: resource.PhaseRunning, Started: in.Started, Reasons: in.Reasons}
				v.Took = time.Since(in.Started)
			}
		}
	} else if v.Run, err = wholeRun(req.Context(), store, a, id); err != nil || v.Run == nil {
		d.broken(w, r, fmt.Errorf("run %s of %s: %w", id, a, errors.Join(err, errors.New("it is not there any more"))))
		return
	} else {
		v.Took = v.Run.Finished.Sub(v.Run.Started)
	}
	if c, err := r.curveOf(id); err == nil {
		v.Progress = c.now()
		v.HasCharts = v.Progress != nil && len(v.Progress.Values) > 0 || open
	}
	v.Lines, v.Dropped, v.LogError = r.tail(req.Context(), a, id, open)
	d.page(w, "run.html", v)
}

func wholeRun(ctx context.Context, store interface {
	Runs(context.Context, resource.Address) ([]*state.Run, error)
}, a resource.Address, id string) (*state.Run, error) {
	runs, err := store.Runs(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		if run.ID == id {
			return run, nil
		}
	}
	return nil, nil
}

// tail is the end of a run's log. What cannot be had is said, and is no error of the page.
func (r *repo) tail(ctx context.Context, a resource.Address, id string, open bool) (lines []string, dropped int, problem string) {
	ctx, cancel := context.WithTimeout(ctx, findPatience)
	defer cancel()
	var buf logBuffer
	err := r.runLog(ctx, a, id, open, false, &buf)
	lines, dropped = buf.take(true)
	if err != nil && len(lines) == 0 {
		return nil, 0, firstLines(err.Error(), 3)
	}
	return lines, dropped, ""
}

// runLog writes a run's log; with follow, as it grows. A run of this machine is
// read where it lies, which needs no file of the project to be right.
func (r *repo) runLog(ctx context.Context, a resource.Address, id string, open, follow bool, to io.Writer) error {
	w, err := r.reopen(ctx)
	if err != nil {
		// The files say what is sensitive. Without them a log is shown if nothing of the block is.
		if snap, _, serr := r.snapshot(ctx); serr != nil || engine.Secretive(snap, a) {
			return errors.Join(err, serr)
		}
		return errors.Join(err, r.localLog(id, to))
	}
	defer w.Close() //nolint:errcheck // it only read
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	if open {
		id = "" // the engine finds what runs now, and who runs it
	}
	return w.Engine.Logs(ctx, snap, a, id, follow && open, logLines, to)
}

func (r *repo) localLog(id string, to io.Writer) error {
	dir := r.runFolder(id)
	if _, err := os.Stat(dir); err != nil {
		return nil //nolint:nilerr // it is not here: the other error says why it is not shown
	}
	lines, err := runner.Tail(dir, logLines)
	if err != nil {
		return err
	}
	_, err = io.WriteString(to, strings.Join(append(lines, ""), "\n"))
	return err
}

// followRun streams a run: lines of its log, its progress, and its end.
func (d *Daemon) followRun(r *repo, w http.ResponseWriter, req *http.Request) {
	id := req.PathValue("run")
	snap, _, err := r.snapshot(req.Context())
	if err != nil {
		d.broken(w, r, err)
		return
	}
	a, open, ok := findRun(snap, id)
	if !ok {
		http.Error(w, "there is no such run", http.StatusNotFound)
		return
	}
	leave, ok := d.mayFollow(w)
	if !ok {
		return
	}
	defer leave()
	ctx, cancel := context.WithCancel(req.Context())
	var buf logBuffer
	done := make(chan error, 1)
	go func() { done <- r.runLog(ctx, a, id, open, true, &buf) }()
	ended := r.relay(req.Context(), d.stream(w), id, &buf, done)
	cancel()
	if !ended { // the reader is gone: nobody is left to be told, and the log's own reader ends
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			r.log.Debug("a log that was followed", "run", id, "error", err)
		}
	}
}

// relay sends what comes until the log has ended, which it reports, or the reader is gone.
func (r *repo) relay(ctx context.Context, out *stream, id string, buf *logBuffer, done <-chan error) bool {
	flush, alive := time.NewTicker(flushEvery), time.NewTicker(beat)
	defer flush.Stop()
	defer alive.Stop()
	seen := 0
	tell := func(all bool) bool {
		if lines, dropped := buf.take(all); len(lines) > 0 || dropped > 0 {
			if !out.event("log", map[string]any{"lines": lines, "dropped": dropped}) {
				return false
			}
		}
		c, err := r.curveOf(id)
		if err != nil {
			return true // it has no progress here
		}
		p := c.now()
		if p == nil || p.Lines == seen {
			return true
		}
		seen = p.Lines
		return out.event("progress", p)
	}
	if !out.send(": hello\n\n") {
		return false
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case err := <-done:
			if tell(true) {
				out.event("end", map[string]string{"error": errText(err)})
			}
			return true
		case <-flush.C:
			if !tell(false) {
				return false
			}
		case <-alive.C:
			if !out.send(": still here\n\n") {
				return false
			}
		}
	}
}

// stream sends server-sent events.
type stream struct {
	w  io.Writer
	rc *http.ResponseController
}

// stream begins an answer that has no end.
func (d *Daemon) stream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Time{}); err != nil { // the request is read; what ends it is the reader's leaving
		d.opts.Log.Warn("events", "error", err)
	}
	return &stream{w, rc}
}

func (s *stream) send(text string) bool {
	if err := s.rc.SetWriteDeadline(time.Now().Add(beat)); err != nil {
		return false
	}
	_, err := io.WriteString(s.w, text)
	return err == nil && s.rc.Flush() == nil
}

func (s *stream) event(kind string, v any) bool {
	var b bytes.Buffer
	if json.NewEncoder(&b).Encode(v) != nil {
		return true // a number that JSON has not: this one is left out
	}
	return s.send("event: " + kind + "\ndata: " + b.String() + "\n")
}

// runsPage lists the newest runs.
func (d *Daemon) runsPage(r *repo, w http.ResponseWriter, req *http.Request) {
	snap, _, err := r.snapshot(req.Context())
	if err != nil {
		d.broken(w, r, err)
		return
	}
	rows := runRows(snap, resource.Address{}, maxRuns)
	total := 0
	for _, keys := range snap.Runs {
		total += len(keys)
	}
	d.page(w, "runs.html", struct {
		frame
		Repo  string
		Runs  []runRow
		Total int
	}{d.frame("Runs", repoCrumb(r), crumb{"Runs", ""}), r.conf.Name, rows, total})
}

// shortRun is the end of a run's id: what tells runs of one day apart.
func shortRun(id string) string { return id[max(0, len(id)-6):] }
