package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/group"
)

// Options of a Store. The zero value is what commands use, but for Dir.
type Options struct {
	// Dir is a folder of this machine for what it remembers of the state: the
	// highest serial seen, who it is, and the OS lock that tells other processes
	// here that a holder of the lease has died. "" remembers nothing.
	Dir string
	// Project is the folder that people know, for those on other machines.
	Project string
	// LeaseFor is how long a holder of the lease may give no sign of life before
	// another takes over; 0 means 30 s. It renews it three times as often. All
	// who share a state use the same.
	LeaseFor time.Duration
	// Poll is how often a waiting Acquire looks; 0 means 1 s.
	Poll time.Duration
	// Patience is how long an operation is tried again while the place does not
	// answer; 0 means 20 s.
	Patience time.Duration
	// Holder names this user to others, "user@host"; "" finds it out.
	Holder string
	// Bound says whether a thing lives on the machine that made it and nowhere
	// else: a record's object, or, with open, the work of an intent. nil: nothing does.
	Bound func(provider string, a resource.Address, open bool) bool
	// Key tells the key of this project's sensitive values from others without
	// giving it away; "" is not asked. Keyed says whether there are such values:
	// then the state belongs to that key from the next write on.
	Key   string
	Keyed func() bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Warn is told what went wrong beside an operation that succeeded; nil drops it.
	Warn func(error)
}

// Store is a state in a place that many machines reach. It implements
// state.Keeper and is safe for concurrent use.
type Store struct {
	blobs Blobs
	opts  Options

	queue group.Queue
	// pen is held by who writes the head: a group of commits, a renewal.
	pen sync.Mutex

	mu      sync.Mutex
	parts   map[string][]state.Entry // by name, of the last view
	last    *view                    // as it was read or left last; nil = not yet
	epoch   int64                    // of the lease taken through this Store, 0 for none
	wrote   time.Time                // when this Store last wrote the head
	checked bool                     // the place keeps conditions
}

var _ state.Keeper = (*Store)(nil)

// Open returns the Store over a place. It asks it nothing: a state that is not
// there yet reads as empty and is made by the first commit.
func Open(b Blobs, opts Options) *Store {
	if opts.LeaseFor == 0 {
		opts.LeaseFor = 30 * time.Second
	}
	if opts.Poll == 0 {
		opts.Poll = time.Second
	}
	if opts.Patience == 0 {
		opts.Patience = 20 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Holder == "" {
		opts.Holder = whoami()
	}
	return &Store{blobs: b, opts: opts, parts: map[string][]state.Entry{}}
}

// Where names the place.
func (s *Store) Where() string { return s.blobs.Where() }

func (s *Store) warn(err error) {
	if err != nil && s.opts.Warn != nil {
		s.opts.Warn(err)
	}
}

// whoami is "user@host" as far as it can be known: it only names a holder to people.
func whoami() string {
	name, host := os.Getenv("USER"), "some machine"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// view is a head as it was read.
type view struct {
	*head
	version string // of the object; "" = there is none
	tail    []state.Entry
}

// over is the view as a table whose parts are fetched when they are looked at.
func (s *Store) over(ctx context.Context, v *view) *state.Overlay {
	o := state.NewOverlay(&table{s: s, ctx: ctx, refs: v.Parts})
	for _, e := range v.tail {
		o.Put(e.Bucket, e.Key, e.Value)
	}
	return o
}

// patient calls f again while the place gives no answer that counts.
func (s *Store) patient(ctx context.Context, f func() error) error {
	end := time.Now().Add(s.opts.Patience)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := f()
		if !errors.Is(err, ErrBusy) {
			return err
		}
		if time.Now().Add(wait).After(end) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		case <-timer.C:
		}
	}
}

func (s *Store) get(ctx context.Context, name string) (data []byte, version string, err error) {
	err = s.patient(ctx, func() (err error) {
		data, version, err = s.blobs.Get(ctx, name)
		return err
	})
	return data, version, err
}

// look reads the head, whatever it says. Its version is "" when there is none.
func (s *Store) look(ctx context.Context) (*view, error) {
	data, version, err := s.get(ctx, headName)
	if errors.Is(err, ErrAbsent) {
		return &view{head: &head{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state in %s: %w", s.Where(), err)
	}
	v := &view{version: version}
	if v.head, err = decodeHead(data); err != nil {
		return v, fmt.Errorf("%w (object %s)", err, headName)
	}
	if len(v.Tail) > 0 {
		if v.tail, err = unpack(v.Tail); err != nil && !errors.Is(err, state.ErrNewer) {
			err = fmt.Errorf("%w: read the latest changes in the object %s: %w", state.ErrCorrupt, headName, err)
		}
	}
	return v, err
}

// load reads the head and refuses one that is not the newest, or that ended here.
func (s *Store) load(ctx context.Context) (*view, error) {
	v, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	if v.version != "" && v.Moved != "" {
		return nil, fmt.Errorf("%w: it is no longer in %s but in %s; take the files that name its place, then `ml init -reconfigure`", state.ErrMoved, s.Where(), v.Moved)
	}
	if err := s.checkWitness(v); err != nil {
		return nil, err
	}
	if s.opts.Key != "" && v.Key != "" && v.Key != s.opts.Key {
		return nil, fmt.Errorf("%w: the sensitive values in %s are hashed with another key than this folder has in .ml/key, and would all seem changed; copy that file from where the state was written, or put what stands in it into ML_PROJECT_KEY", ErrKey, s.Where())
	}
	if v.version != "" {
		s.keep(v)
	}
	return v, nil
}

// ErrKey: the state belongs to another project key.
var ErrKey = errors.New("this is not the key of the state")

// keep remembers a view for the commits to come.
func (s *Store) keep(v *view) {
	s.mu.Lock()
	s.last = v
	s.mu.Unlock()
	s.forget(v.head)
}

// Snapshot reads everything but the runs in full, and verifies each part by its
// digest. It costs one request for the head and one for each part that this
// Store has not seen, eight at a time.
func (s *Store) Snapshot(ctx context.Context) (*state.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := s.load(ctx)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	if v.version == "" {
		return state.EmptySnapshot(), nil
	}
	snap, err := s.snapshot(ctx, v)
	return snap, s.explain(ctx, err)
}

func (s *Store) snapshot(ctx context.Context, v *view) (*state.Snapshot, error) {
	entries, err := s.entries(ctx, v, func(runs bool) bool { return !runs })
	if err != nil {
		return nil, err
	}
	snap, err := state.Load(entries, nil)
	if err != nil {
		return nil, err
	}
	if snap.Serial != v.Serial || snap.Lineage != v.Lineage {
		return nil, fmt.Errorf("%w: the head says serial %d, its entries say %d", state.ErrCorrupt, v.Serial, snap.Serial)
	}
	if snap.Lease != nil { // what is renewed is the head, and not the record
		lease := *snap.Lease
		lease.Expires = v.Written.Add(s.opts.LeaseFor)
		snap.Lease = &lease
	}
	snap.Root = v.root()
	return snap, nil
}

// entries collects a view's entries, sorted: those of the runs in full, the
// others, or both.
func (s *Store) entries(ctx context.Context, v *view, want func(runs bool) bool) ([]state.Entry, error) {
	wanted := func(p partRef) bool { return want(p.Runs) }
	if err := s.prefetch(ctx, v.Parts, wanted); err != nil {
		return nil, err
	}
	var all []state.Entry
	for _, ref := range v.Parts {
		if !wanted(ref) {
			continue
		}
		entries, err := s.part(ctx, ref)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	tail := make([]state.Entry, 0, len(v.tail))
	for _, e := range v.tail {
		if want(isRuns(e)) {
			tail = append(tail, e)
		}
	}
	return merge(all, tail, false), nil
}

// Runs reads the runs of one address, or all, oldest first, each verified.
func (s *Store) Runs(ctx context.Context, addr resource.Address) ([]*state.Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	prefix, err := state.RunsPrefix(addr)
	if err != nil {
		return nil, err
	}
	v, err := s.load(ctx)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	if prefix == "" {
		if err := s.prefetch(ctx, v.Parts, func(p partRef) bool { return p.Runs }); err != nil {
			return nil, s.explain(ctx, err)
		}
	}
	var entries []state.Entry
	err = s.over(ctx, v).Scan(state.BucketRuns, prefix, func(key string, value []byte) error {
		entries = append(entries, state.Entry{Bucket: state.BucketRuns, Key: key, Value: value})
		return nil
	})
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	runs, err := state.LoadRuns(entries)
	return runs, s.explain(ctx, err)
}

// explain adds the way out to an error about damage; other errors stay.
func (s *Store) explain(ctx context.Context, err error) error {
	if err == nil || !errors.Is(err, state.ErrCorrupt) {
		return err
	}
	err = fmt.Errorf("state in %s: %w", s.Where(), err)
	if name := s.newestSnapshot(context.WithoutCancel(ctx)); name != "" {
		return fmt.Errorf("%w; the newest verified snapshot is %s, `ml state rebuild` puts it in place", err, name)
	}
	return fmt.Errorf("%w; there is no verified snapshot, and a copy of the object has to come from the versions or backups of the place", err)
}
