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

	"github.com/continuo-ml/continuo/daemon/internal/reply"
	"github.com/continuo-ml/continuo/daemon/internal/status"
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

func (d *Daemon) list(w http.ResponseWriter, _ *http.Request) {
	out := make([]status.Repository, 0, len(d.repos))
	for _, r := range d.repos {
		out = append(out, r.look())
	}
	reply.JSON(w, out)
}

func (d *Daemon) showStatus(r *repo, w http.ResponseWriter, _ *http.Request) { reply.JSON(w, r.look()) }

func (d *Daemon) showPlan(r *repo, w http.ResponseWriter, _ *http.Request) {
	s := r.look()
	if s.Plan == nil {
		http.Error(w, "there is no plan yet", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	report.PlanJSON(w, s.Plan) //nolint:errcheck // who went away needs no answer
}

// bare opens the project as far as its state, which needs no file to be right.
func (r *repo) bare() (*workspace.Workspace, error) {
	return workspace.Bare(workspace.Options{Root: r.work, Version: r.opts.Version})
}

// snapshot reads the state, whoever writes it now.
func (r *repo) snapshot(ctx context.Context) (*state.Snapshot, state.Store, error) {
	w, err := r.bare()
	if err != nil {
		return nil, nil, err
	}
	snap, err := w.Store.Snapshot(ctx)
	return snap, w.Store, err
}

func (d *Daemon) showVersions(r *repo, w http.ResponseWriter, req *http.Request) {
	a, ok := reply.Address(w, req)
	if !ok {
		return
	}
	snap, _, err := r.snapshot(req.Context())
	if err != nil {
		reply.Unreadable(w, r.log, err)
		return
	}
	versions := snap.Versions[a]
	if versions == nil {
		versions = []*state.Version{}
	}
	reply.JSON(w, versions)
}

func (d *Daemon) showRuns(r *repo, w http.ResponseWriter, req *http.Request) {
	snap, store, err := r.snapshot(req.Context())
	if err != nil {
		reply.Unreadable(w, r.log, err)
		return
	}
	var of []resource.Address
	if req.PathValue("address") != "" {
		a, ok := reply.Address(w, req)
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
			reply.Unreadable(w, r.log, err)
			return
		}
		out = append(out, runs...)
	}
	slices.SortFunc(out, func(a, b *state.Run) int { return b.Started.Compare(a.Started) })
	reply.JSON(w, out)
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
	send := reply.NewStream(w, reply.Events).Say
	for _, n := range past {
		if !send(eventText(n)) {
			return
		}
	}
	t := time.NewTicker(reply.Beat)
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
	reply.Status(w, http.StatusAccepted, map[string]bool{"accepted": true})
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
		reply.JSON(w, given)
	}
}
