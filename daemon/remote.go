package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/reply"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/daemonclient"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// What `ml … -daemon URL` asks for.
const (
	maxStates = 2               // that are written out at once: a large one is tens of MiB
	maxTails  = 50              // logs that are followed at once
	freshRows = 2 * time.Second // as long, rows that were read are given to others who ask
)

// seen are the rows that somebody asked for last.
type seen struct {
	mu   sync.Mutex // held while they are read: many who ask cost one look
	at   time.Time
	last *daemonclient.Blocks
}

// showBlocks tells how all blocks stand now, as `ml status` does beside the state.
func (d *Daemon) showBlocks(r *repo, w http.ResponseWriter, req *http.Request) {
	if !r.lookedAt(w) {
		return
	}
	blocks, err := r.blocksNow(req.Context())
	if err != nil {
		reply.Unreadable(w, r.log, err)
		return
	}
	reply.JSON(w, blocks)
}

// lookedAt answers that nothing is known yet, before the files were loaded once.
func (r *repo) lookedAt(w http.ResponseWriter) bool {
	r.mu.Lock()
	loaded := r.loaded
	r.mu.Unlock()
	if loaded {
		return true
	}
	w.Header().Set("Retry-After", "5")
	http.Error(w, "repository "+r.conf.Name+" has not been looked at yet; ask again in a moment", http.StatusServiceUnavailable)
	return false
}

func (r *repo) blocksNow(ctx context.Context) (*daemonclient.Blocks, error) {
	r.rowsSeen.mu.Lock()
	defer r.rowsSeen.mu.Unlock()
	now := r.opts.Now()
	if s := &r.rowsSeen; s.last != nil && now.Sub(s.at) < freshRows && r.look().Last.Before(s.at) {
		return s.last, nil
	}
	out, err := r.readBlocks(ctx)
	if err != nil {
		return nil, err
	}
	r.rowsSeen.last, r.rowsSeen.at = out, now
	return out, nil
}

// readBlocks asks the providers. Files with errors cannot say whom to ask: then it is as the last cycle found it.
func (r *repo) readBlocks(ctx context.Context) (_ *daemonclient.Blocks, err error) {
	out := &daemonclient.Blocks{Waiting: []daemonclient.Waiting{}}
	w, werr := r.reopen(ctx)
	if werr != nil {
		if ctx.Err() != nil {
			return nil, werr
		}
		out.Rows = daemonclient.RowsOf(r.look().Blocks)
		return out, nil
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := w.Engine.Status(ctx, snap)
	if err != nil {
		return nil, err
	}
	out.Rows = daemonclient.RowsOf(rows)
	out.Waiting, err = waitingOf(w, snap)
	return out, err
}

func waitingOf(w *workspace.Workspace, snap *state.Snapshot) ([]daemonclient.Waiting, error) {
	list, err := w.Waiting(snap)
	out := make([]daemonclient.Waiting, 0, len(list))
	for _, p := range list {
		out = append(out, daemonclient.Waiting{
			ID: p.ID(), Plan: p.Digest, Who: p.Who, Created: p.Plan.Created, Expires: p.Expires().UTC(),
			Commit: p.Plan.Commit, Summary: p.Plan.Summary, Approval: p.Approval,
		})
	}
	return out, err
}

// showState gives what a plan in another place reads: the recorded state, verified, and the variables that a pull request would get. Neither
// the key of sensitive values nor a variable that the branch calls sensitive is in it.
func (d *Daemon) showState(r *repo, w http.ResponseWriter, req *http.Request) {
	if !r.lookedAt(w) {
		return
	}
	select {
	case d.states <- struct{}{}:
		defer func() { <-d.states }()
	case <-req.Context().Done():
		return
	}
	raw, err := r.stateNow(req.Context())
	if err != nil {
		reply.Unreadable(w, r.log, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(raw) //nolint:errcheck // who went away needs no answer
}

func (r *repo) stateNow(ctx context.Context) ([]byte, error) {
	snap, _, err := r.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	vars, err := workspace.KeptVars(r.openVars())
	if err != nil {
		return nil, err
	}
	if vars == nil {
		vars = []engine.SavedVar{}
	}
	return (&daemonclient.State{Path: r.conf.Path, AsOf: r.look().Last, Vars: vars}).Encode(snap)
}

// maxLines is how much of a log one answer holds.
const maxLines = 100_000

// mayFollow gives a reader who stays one of the places, and the function that gives it back; it answers who gets none.
func (d *Daemon) mayFollow(w http.ResponseWriter) (leave func(), ok bool) {
	select {
	case d.tails <- struct{}{}:
		return func() { <-d.tails }, true
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many readers", http.StatusServiceUnavailable)
		return nil, false
	}
}

// showLog gives a log's last lines, and with follow what comes, until the log or the reader is done.
func (d *Daemon) showLog(r *repo, w http.ResponseWriter, req *http.Request) {
	a, ok := reply.Address(w, req)
	if !ok || !r.lookedAt(w) {
		return
	}
	q := req.URL.Query()
	lines, err := strconv.Atoi(q.Get("lines"))
	if err != nil || lines < 1 || lines > maxLines {
		lines = 1000
	}
	follow := q.Get("follow") == "true"
	if follow {
		leave, ok := d.mayFollow(w)
		if !ok {
			return
		}
		defer leave()
	}
	out := reply.NewStream(w, "text/plain; charset=utf-8")
	if err := r.logs(req.Context(), a, q.Get("run"), follow, lines, out); err != nil && out.Sent() == 0 {
		http.Error(w, err.Error(), http.StatusNotFound)
	}
}

func (r *repo) logs(ctx context.Context, a resource.Address, run string, follow bool, lines int, to io.Writer) error {
	w, err := r.reopen(ctx)
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // it only read
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	return w.Engine.Logs(ctx, snap, a, run, follow, lines, to)
}
