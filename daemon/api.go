package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func (d *Daemon) ready(w http.ResponseWriter, _ *http.Request) {
	for _, r := range d.repos {
		if r.look().Last.IsZero() {
			http.Error(w, "repository "+r.conf.Name+" has not been looked at yet", http.StatusServiceUnavailable)
			return
		}
	}
	io.WriteString(w, "ready\n") //nolint:errcheck // who went away needs no answer
}

// one finds the repository that a request names.
func (d *Daemon) one(next func(*repo, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		name := req.PathValue("repo")
		for _, r := range d.repos {
			if r.conf.Name == name {
				next(r, w, req)
				return
			}
		}
		http.Error(w, "there is no such repository", http.StatusNotFound)
	}
}

// answer encodes all of it before anything is sent: half an answer must not pass for one.
func answer(w http.ResponseWriter, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "this cannot be said as JSON: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(raw, '\n')) //nolint:errcheck // who went away needs no answer
}

func (d *Daemon) list(w http.ResponseWriter, _ *http.Request) {
	out := make([]Status, 0, len(d.repos))
	for _, r := range d.repos {
		out = append(out, r.look())
	}
	answer(w, out)
}

func (d *Daemon) showStatus(r *repo, w http.ResponseWriter, _ *http.Request) { answer(w, r.look()) }

func (d *Daemon) showPlan(r *repo, w http.ResponseWriter, _ *http.Request) {
	s := r.look()
	if s.plan == nil {
		http.Error(w, "there is no plan yet", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	report.PlanJSON(w, s.plan) //nolint:errcheck // who went away needs no answer
}

// snapshot reads the state, whoever writes it now.
func (r *repo) snapshot(ctx context.Context) (*state.Snapshot, state.Store, error) {
	w, err := workspace.Bare(workspace.Options{Root: r.work, Version: r.opts.Version})
	if err != nil {
		return nil, nil, err
	}
	snap, err := w.Store.Snapshot(ctx)
	return snap, w.Store, err
}

// address reads the address in a request's path; it answers what is none.
func address(w http.ResponseWriter, req *http.Request) (resource.Address, bool) {
	a, err := resource.ParseAddress(req.PathValue("address"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return a, err == nil
}

// recorded reads the address that a request names, and the state; it answers when there is none.
func (d *Daemon) recorded(r *repo, w http.ResponseWriter, req *http.Request) (a resource.Address, snap *state.Snapshot, ok bool) {
	if a, ok = address(w, req); !ok {
		return a, nil, false
	}
	snap, _, err := r.snapshot(req.Context())
	if err != nil {
		d.broken(w, r, err)
	}
	return a, snap, err == nil
}

func (d *Daemon) showVersions(r *repo, w http.ResponseWriter, req *http.Request) {
	a, snap, ok := d.recorded(r, w, req)
	if !ok {
		return
	}
	versions := snap.Versions[a]
	if versions == nil {
		versions = []*state.Version{}
	}
	answer(w, versions)
}

func (d *Daemon) showRuns(r *repo, w http.ResponseWriter, req *http.Request) {
	snap, store, err := r.snapshot(req.Context())
	if err != nil {
		d.broken(w, r, err)
		return
	}
	var of []resource.Address
	if req.PathValue("address") != "" {
		a, ok := address(w, req)
		if !ok {
			return
		}
		of = append(of, a)
	} else {
		for a := range snap.Records {
			of = append(of, a)
		}
	}
	out := []*state.Run{}
	for _, a := range of {
		runs, err := store.Runs(req.Context(), a)
		if err != nil {
			d.broken(w, r, err)
			return
		}
		out = append(out, runs...)
	}
	slices.SortFunc(out, func(a, b *state.Run) int { return b.Started.Compare(a.Started) })
	answer(w, out)
}

func (d *Daemon) broken(w http.ResponseWriter, r *repo, err error) {
	r.log.Error("read the state", "error", err)
	http.Error(w, "the state cannot be read now; the daemon's log says why", http.StatusInternalServerError)
}

// events streams what happens, as server-sent events.
func (d *Daemon) events(r *repo, w http.ResponseWriter, req *http.Request) {
	after, err := strconv.ParseUint(req.Header.Get("Last-Event-ID"), 10, 64)
	if err != nil {
		after = ^uint64(0) // only what comes
	}
	past, ch, ok := r.feed.follow(after)
	if !ok {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many readers", http.StatusServiceUnavailable)
		return
	}
	defer r.feed.leave(ch)
	send := d.stream(w).send
	for _, n := range past {
		if !send(eventText(n)) {
			return
		}
	}
	t := time.NewTicker(beat)
	defer t.Stop()
	if !send(": hello\n\n") {
		return
	}
	for {
		select {
		case <-req.Context().Done():
			return
		case n, ok := <-ch:
			if !ok || !send(eventText(n)) {
				return
			}
		case <-t.C:
			if !send(": still here\n\n") {
				return
			}
		}
	}
}

func eventText(n Note) string {
	raw, err := json.Marshal(n)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", n.ID, n.Type, raw)
}

func (d *Daemon) reconcile(r *repo, w http.ResponseWriter, _ *http.Request) {
	r.nudge()
	w.WriteHeader(http.StatusAccepted)
	answer(w, map[string]bool{"accepted": true})
}

func (d *Daemon) approvePlan(r *repo, w http.ResponseWriter, req *http.Request) {
	by := req.Header.Get("ML-Who")
	if name, _, ok := req.BasicAuth(); ok && by == "" {
		by = name
	}
	if by == "" {
		by = "the API"
	}
	given, err := r.approve(req.Context(), req.PathValue("plan"), by)
	switch {
	case errors.Is(err, errNotApply), errors.Is(err, engine.ErrStale), errors.Is(err, engine.ErrNotApproved):
		http.Error(w, err.Error(), http.StatusConflict)
	case errors.Is(err, state.ErrLocked):
		w.Header().Set("Retry-After", "10")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusNotFound)
	case strings.Contains(req.Header.Get("Accept"), "text/html"):
		http.Redirect(w, req, "/r/"+r.conf.Name, http.StatusSeeOther)
	default:
		answer(w, given)
	}
}
