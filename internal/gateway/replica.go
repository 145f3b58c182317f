package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// maxDeaths is how often in a row a server may die before its release
	// counts as failed. A release that serves is kept trying for ever.
	maxDeaths  = 3
	maxRebinds = 10               // ports lost to others, not counted as deaths
	stableFor  = 30 * time.Second // up this long, earlier deaths are forgiven
	minBackoff = 100 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// replica keeps one server (and its transformer, if the release has one)
// alive until it is cancelled. The two live and die together, because the
// transformer was told the predictor's port.
type replica struct {
	release *release
	index   int
	cancel  context.CancelFunc
	done    chan struct{}

	mu       sync.Mutex
	statuses []ServerStatus
	deaths   int // in a row
	failure  string
	everUp   bool
	upstream *upstream // nil unless ready
}

// run is the replica's goroutine.
func (r *replica) run(ctx context.Context) {
	defer close(r.done)
	backoff, rebinds := minBackoff, 0
	for first := true; ; first = false {
		if !first {
			r.release.restarted()
		}
		started := time.Now()
		lost, err := r.once(ctx, !first)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > stableFor {
			backoff = minBackoff
		}
		if lost && rebinds < maxRebinds {
			rebinds++
			continue
		}
		r.died(err, time.Since(started) > stableFor)
		timer := time.NewTimer(backoff/2 + rand.N(backoff))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// once starts the servers, serves until one of them ends or ctx does, and
// stops the rest. lost says that a start failed over a taken port.
func (r *replica) once(ctx context.Context, restart bool) (lost bool, err error) {
	var running []*process
	defer func() {
		for i := len(running) - 1; i >= 0; i-- { // the transformer first
			running[i].stop(killGrace)
		}
		r.ended()
	}()
	spec := r.release.spec
	env := map[string]string{}
	if spec.Model.Dir != "" {
		env["ML_MODEL_DIR"] = spec.Model.Dir
	}
	chain := []struct {
		role   string
		server Server
	}{{"predictor", spec.Server}}
	if spec.Transformer != nil {
		chain = append(chain, struct {
			role   string
			server Server
		}{"transformer", *spec.Transformer})
	}
	for i, link := range chain {
		p, err := startProcess(r.release.spawner, link.server, env, r.logName(link.role))
		if err != nil {
			return false, err
		}
		running = append(running, p)
		r.started(i, link.role, p, restart)
		readiness := spec.Readiness
		if i < len(chain)-1 {
			readiness.Path = "" // the path is that of the front server
		}
		if err := p.awaitReady(ctx, readiness); err != nil {
			return p.hasExited() && p.lostPort(), fmt.Errorf("%s: %w", link.role, err)
		}
		env["PREDICTOR_HOST"] = loopback(p.port)
	}
	r.up(running[len(running)-1].port)
	return false, awaitEnd(ctx, running)
}

// awaitEnd waits until ctx ends or one of the processes does.
func awaitEnd(ctx context.Context, running []*process) error {
	last := running[len(running)-1]
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-running[0].exited:
		return fmt.Errorf("predictor: %w", running[0].death())
	case <-last.exited:
		return fmt.Errorf("transformer: %w", last.death())
	}
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (r *replica) logName(role string) string {
	name := fmt.Sprintf("v%d-%d", r.release.spec.Model.Number, r.index)
	if role != "predictor" {
		name += "." + role
	}
	return filepath.Join(r.release.logs, name+".log")
}

// started notes a process before it is ready.
func (r *replica) started(i int, role string, p *process, restart bool) {
	r.mu.Lock()
	if i == len(r.statuses) {
		r.statuses = append(r.statuses, ServerStatus{Version: r.release.spec.Model.Number, Replica: r.index, Role: role})
	}
	s := &r.statuses[i]
	s.Process, s.Port, s.Ready = p.id, p.port, false
	if restart {
		s.Restarts++
	}
	r.mu.Unlock()
	r.release.changed()
}

// up lets traffic in.
func (r *replica) up(port int) {
	r.mu.Lock()
	r.upstream = newUpstream(loopback(port), r.release)
	r.everUp = true
	for i := range r.statuses {
		r.statuses[i].Ready = true
	}
	r.mu.Unlock()
	r.release.changed()
}

// ended lets no more traffic in.
func (r *replica) ended() {
	r.mu.Lock()
	u := r.upstream
	r.upstream = nil
	for i := range r.statuses {
		r.statuses[i].Ready = false
	}
	r.mu.Unlock()
	if u != nil {
		u.close()
	}
	r.release.changed()
}

// died counts a death and keeps its cause. A server that ran for long first
// starts the count anew.
func (r *replica) died(err error, stable bool) {
	r.mu.Lock()
	if stable {
		r.deaths = 0
	}
	r.deaths++
	for i := range r.statuses {
		r.statuses[i].LastError = err.Error()
	}
	if len(r.statuses) == 0 {
		r.statuses = []ServerStatus{{Version: r.release.spec.Model.Number, Replica: r.index, Role: "predictor", LastError: err.Error()}}
	}
	// Waiting out the readiness timeout once is enough; dying may be chance.
	if r.deaths >= maxDeaths || errors.Is(err, errNotReady) && !r.everUp {
		times := ""
		if r.deaths > 1 {
			times = fmt.Sprintf(" %d times in a row", r.deaths)
		}
		r.failure = strings.TrimSpace(fmt.Sprintf("%s did not stay up%s: %v", r.release.spec.Model, times, err))
	}
	r.mu.Unlock()
	r.release.changed()
}
