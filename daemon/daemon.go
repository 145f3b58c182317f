package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/daemon/internal/mirror"
	"github.com/continuo-ml/continuo/daemon/internal/outbox"
	"github.com/continuo-ml/continuo/daemon/internal/site"
	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/fence"
)

// Options are what the program brings.
type Options struct {
	Version string
	Exe     []string // the command line that starts this program
	Environ func() []string
	Log     *slog.Logger
	Now     func() time.Time
	// Patience bounds one look at a git server or a forge; 0 is two minutes.
	Patience time.Duration
	// Forges makes the client for a repository's forge; a seam for tests.
	Forges func(*ForgeConfig) (Forge, error)
}

// Daemon keeps the repositories of one file applied.
type Daemon struct {
	conf  *Config
	opts  Options
	repos []*repo
	meter *meters
	times times

	states, tails chan struct{} // slots for those who read a state, or follow a log
	election      *election     // nil = there is but one
}

// New prepares the loops; nothing runs yet. It errors when a repository cannot
// be what the file says.
func New(conf *Config, opts Options) (*Daemon, error) {
	d := &Daemon{
		conf: conf, opts: opts, meter: newMeters(opts.Version), times: patient,
		states: make(chan struct{}, maxStates), tails: make(chan struct{}, maxTails),
	}
	if conf.Leader != nil {
		d.election = &election{}
	}
	senders, err := d.senders(context.Background()) // it reaches nobody yet
	if err != nil {
		return nil, fmt.Errorf("notifiers: %w", err)
	}
	for _, c := range conf.Repositories {
		r, err := d.newRepo(c, senders)
		if err != nil {
			return nil, fmt.Errorf("repository %q: %w", c.Name, err)
		}
		d.repos = append(d.repos, r)
	}
	return d, nil
}

func (d *Daemon) newRepo(c *Repository, senders map[string]notify) (*repo, error) {
	dir := filepath.Join(d.conf.Data, c.Name)
	cred := mirror.Credentials{Username: c.Username, SSHKey: c.SSHKey, KnownHosts: c.KnownHosts}
	if c.Password.Set() {
		cred.Password = c.Password.Read
	}
	m, err := mirror.New(c.URL, filepath.Join(dir, "git"), cred)
	if err != nil {
		return nil, err
	}
	m.Whole = c.Verify != nil
	r := &repo{
		conf: c, dir: dir, work: filepath.Join(dir, "work"), mirror: m, opts: d.opts, meter: d.meter,
		log: d.opts.Log.With("repository", c.Name), wake: make(chan struct{}, 1), wakePulls: make(chan struct{}, 1), moved: make(chan struct{}, 1), arrived: make(chan struct{}, 1),
		feed: newFeed(), tidings: newTidings(), public: d.conf.Public, senders: senders, guard: func() error { return nil },
	}
	if d.election != nil {
		r.guard = d.election.guard
	}
	if c.Forge != nil {
		if r.forge, err = d.opts.Forges(c.Forge); err != nil {
			return nil, err
		}
	}
	if _, err := durable.ReadJSON(r.file(), &r.kept); err != nil {
		return nil, err
	}
	if c.Notify != nil {
		if r.box, err = r.openBox(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Run works until ctx ends; it returns when every loop has come to rest. Runs
// that are detached go on, and the next daemon collects them.
func (d *Daemon) Run(ctx context.Context) error {
	if err := durable.MkdirAll(d.conf.Data, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	// A second daemon on the same folder would do everything twice; those that elect one of them share it.
	lock := flock.New(filepath.Join(d.conf.Data, "lock"))
	try, work := lock.TryLock, d.work
	if d.conf.Leader != nil {
		try, work = lock.TryRLock, d.elect
	}
	held, err := try()
	switch {
	case err != nil:
		return fmt.Errorf("data folder: %w", err)
	case !held:
		return fmt.Errorf("another daemon works in %s; each needs a data folder of its own, or all of them a leader block", d.conf.Data)
	}
	defer lock.Unlock() //nolint:errcheck // the kernel frees it with the process
	return work(ctx)
}

// work runs every loop until ctx ends.
func (d *Daemon) work(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range d.repos {
		g.Go(func() error { return r.run(ctx) })
		if r.forge != nil && r.conf.Mode != Observe {
			g.Go(func() error { return r.runPulls(ctx) })
			g.Go(func() error { return r.runTell(ctx) })
		}
		if r.box != nil {
			g.Go(func() error { return r.box.Run(ctx) }) // who is told must not keep the work
		}
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// repo is one repository and its loop.
type repo struct {
	conf   *Repository
	dir    string // all that is kept for it
	work   string // the files of the commit that is applied, and the state in .ml
	mirror *mirror.Mirror
	forge  Forge
	opts   Options
	log    *slog.Logger
	meter  *meters
	feed   *feed

	wake, wakePulls chan struct{}
	moved           chan struct{} // somebody changed an object
	arrived         chan struct{} // data was laid down in a local folder
	places          []dataPlace   // the loop's own: where data lies
	unwatched       string        // the loop's own: why not all of it is watched
	watching        *watched      // the loop's own
	public          string        // address under which people reach the daemon
	hooked          deliveries
	tidings         *tidings
	apart           string // two commits of which the first does not follow the second, as the loop found
	rowsSeen        seen
	box             *outbox.Outbox // nil tells nobody
	senders         map[string]notify
	term            int64       // of the leader that this daemon is; 0 = nobody is elected
	guard           fence.Guard // errors when this daemon may not write any more
	// git is held while the copy of the repository is written to.
	git sync.Mutex

	mu     sync.Mutex
	kept   kept
	status status.Repository
	quiet  time.Time         // until then the forge takes no request
	shown  []config.VarInput // variables that the branch does not call sensitive
	blocks []site.Block      // of the files that were loaded last
	loaded bool              // the branch's files, at least once
}

// kept is what outlives the daemon. All else is found again.
type kept struct {
	Observed  status.Revision  `json:"observed"`
	Attempted status.Revision  `json:"attempted"`
	Applied   status.Revision  `json:"applied"`
	Trusted   status.Revision  `json:"trusted,omitzero"`   // the newest whose signatures were good
	Root      string           `json:"root,omitempty"`     // verify.trust, as it was taken over
	Failures  int              `json:"failures,omitempty"` // in a row
	Pulls     map[int]keptPull `json:"pulls,omitempty"`
}

func (r *repo) file() string { return filepath.Join(r.dir, "daemon.json") }

// keep changes what outlives the daemon, durably.
func (r *repo) keep(change func(*kept)) error {
	put, err := r.pen()
	if err != nil {
		return fmt.Errorf("keep what was done: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.kept)
	fault.Point(fault.DaemonKeepBefore)
	if err := errors.Join(durable.WriteJSON(r.file(), r.kept), put()); err != nil {
		return err
	}
	fault.Point(fault.DaemonKeepAfter)
	return nil
}

// openVars are the variables that a pull request may know: none before the branch was loaded once.
func (r *repo) openVars() []config.VarInput {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shown
}

func (r *repo) recall() kept {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept
}

// patience bounds one look at a git server or a forge.
func (r *repo) patience() time.Duration { return cmp.Or(r.opts.Patience, fetchPatience) }

// nudge makes the loops look now.
func (r *repo) nudge() {
	poke(r.wake)
	r.nudgePulls()
}

func (r *repo) nudgePulls() { poke(r.wakePulls) }

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it will look anyway
	}
}
