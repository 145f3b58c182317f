package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/leader"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/state"
)

// LeaderConfig says how several daemons on the same data agree on who works.
type LeaderConfig struct {
	// For is how long the one who works may be silent before another takes over.
	For time.Duration
	// Kubernetes is the Lease that they share; nil = files in the data folder.
	Kubernetes *LeaseConfig
}

// LeaseConfig names a Lease. Empty fields are the pod's own, or the usual.
type LeaseConfig struct {
	Namespace  string `hcl:"namespace,optional"`
	Name       string `hcl:"name,optional"`
	Kubeconfig string `hcl:"kubeconfig,optional"`
	Context    string `hcl:"context,optional"`
}

type leaderBlock struct {
	Duration   string       `hcl:"duration,optional"`
	Kubernetes *LeaseConfig `hcl:"kubernetes,block"`
}

// Bounds of a lease. A shorter one is lost at every hiccup of a disk or an API server.
const (
	usualLease    = 15 * time.Second
	minLease      = 2 * time.Second
	maxLease      = 10 * time.Minute
	penPatience   = 30 * time.Second
	seizePatience = 5 * time.Second
	takeOverAgain = time.Second
)

func (c *checker) leader(b *leaderBlock) *LeaderConfig {
	if b == nil {
		return nil
	}
	l := &LeaderConfig{For: usualLease, Kubernetes: b.Kubernetes}
	if b.Duration != "" {
		if l.For = c.duration(b.Duration, nil, "leader.duration"); l.For < minLease || l.For > maxLease {
			c.fail(nil, "The lease is too short or too long", "leader.duration = %q: from %s to %s.", b.Duration, minLease, maxLease)
		}
	}
	if k := l.Kubernetes; k != nil {
		k.Kubeconfig = c.path(k.Kubeconfig)
		if k.Name == "" {
			k.Name = "ml-daemon"
		}
	}
	return l
}

// election is what one daemon among several knows of who leads.
type election struct {
	mu    sync.Mutex
	term  *leader.Term
	leads string // another one, as far as it is known
}

func (e *election) begin(t *leader.Term) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term = t
}

func (e *election) saw(p leader.Post) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leads = p.Holder
}

// guard errors unless this daemon leads now.
func (e *election) guard() error {
	e.mu.Lock()
	t, leads := e.term, e.leads
	e.mu.Unlock()
	if t != nil {
		return t.Guard()
	}
	if leads == "" {
		leads = "nobody yet"
	}
	return fmt.Errorf("%w: it stands by, and the one that leads is %s", fence.ErrLost, leads)
}

// elect works while this daemon leads, and stands by before. It does not stand by again: what it knows is old by then, and a new process begins
// with what is there.
func (d *Daemon) elect(ctx context.Context) error {
	board, err := d.board(ctx)
	if err != nil {
		return fmt.Errorf("leader: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "somewhere"
	}
	c := leader.Candidate{Board: board, For: d.conf.Leader.For, Log: d.opts.Log, Seen: d.election.saw, Name: fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:8])}
	err = c.Lead(ctx, func(ctx context.Context, t *leader.Term) error {
		for _, r := range d.repos {
			if err := r.begin(t.Number); err != nil {
				return err
			}
		}
		d.election.begin(t)
		return d.work(ctx)
	})
	if errors.Is(err, fence.ErrLost) {
		return fmt.Errorf("%w; start it again, and it stands by", err)
	}
	return err
}

func (d *Daemon) board(ctx context.Context) (leader.Board, error) {
	k := d.conf.Leader.Kubernetes
	if k == nil {
		return leader.Files{Dir: filepath.Join(d.conf.Data, "leader")}, nil
	}
	c, err := kube.Connect(ctx, kube.Config{
		Kubeconfig: k.Kubeconfig, Context: k.Context, Namespace: k.Namespace, Version: d.opts.Version, RetryFor: -1, AnswerWithin: d.conf.Leader.For / 3,
	})
	if err != nil {
		return nil, err
	}
	return kube.LeaseBoard{Client: c, Namespace: k.Namespace, Name: k.Name}, nil
}

// begin reads what the last leader left. It is the new term's first act.
func (r *repo) begin(term int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.term, r.kept = term, kept{}
	if _, err := durable.ReadJSON(r.file(), &r.kept); err != nil {
		return err
	}
	if r.box == nil {
		return nil
	}
	return r.box.Reread()
}

// takeOver waits until no earlier leader is in the middle of writing, and has the state refuse all that one would still write. One that was
// stopped with a file half written is waited for, and said so; one that was stopped anywhere else is not.
func (r *repo) takeOver(ctx context.Context) error {
	if r.term == 0 {
		return nil
	}
	said := ""
	for {
		err := r.seize(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, fence.ErrLost) {
			return err
		}
		if !errors.Is(err, state.ErrLocked) && !errors.Is(err, errPen) {
			return err
		}
		if said != err.Error() {
			said = err.Error()
			r.log.Warn("waits to take over", "why", err)
			r.say(func(s *status.Repository) {
				s.Phase, s.Message = status.Starting, "waits to take over: "+status.FirstLines(said, 3)
			})
		}
		if err := pause(ctx, takeOverAgain); err != nil {
			return err
		}
	}
}

func (r *repo) seize(ctx context.Context) error {
	put, err := r.penWithin(seizePatience)
	if err != nil {
		return err
	}
	if err := put(); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(r.work, workspace.DotML)); errors.Is(err, os.ErrNotExist) {
		return nil // nothing was ever recorded
	}
	w, err := workspace.Bare(r.options(""))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, w.Patience(seizePatience))
	defer cancel()
	_, release, err := w.Store.Acquire(ctx, "take over")
	if err != nil {
		return err
	}
	return release()
}

// errPen: another process has it.
var errPen = errors.New("another process is in the middle of writing this repository's files")

// pen is held while files of this repository are written, and for nothing that takes long or asks anybody: a process that is stopped with it is
// waited for. Whoever has it and is still allowed to write is the only one. Without an election there is nobody to keep out.
func (r *repo) pen() (put func() error, err error) { return r.penWithin(penPatience) }

func (r *repo) penWithin(d time.Duration) (put func() error, err error) {
	if r.term == 0 {
		return noPen()
	}
	if err := durable.MkdirAll(r.dir, 0o755); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	l := flock.New(filepath.Join(r.dir, "pen"))
	got, err := l.TryLockContext(ctx, 20*time.Millisecond)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w (%s); it may have been stopped there", errPen, l.Path())
	}
	if !got {
		return nil, errors.Join(err, l.Close())
	}
	if err := r.guard(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l.Close, nil
}

func noPen() (put func() error, err error) { return func() error { return nil }, nil }

// standby lets nobody but the leader answer for repositories: what a daemon that stands by knows of them is nothing.
func (d *Daemon) standby(next http.Handler) http.Handler {
	if d.election == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := d.election.guard(); err != nil && r.URL.Path != "/healthz" && r.URL.Path != "/metrics" && !strings.HasPrefix(r.URL.Path, "/web/") {
			w.Header().Set("Retry-After", "5")
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r.WithContext(fence.With(r.Context(), d.election.guard)))
	})
}
