package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/group"
)

// Options of a Store. The zero value is what commands use.
type Options struct {
	// Timeout is how long an operation waits for another process that has the
	// file open; 0 means 5 s.
	Timeout time.Duration
	// Holder names this user to others, "user@host"; "" finds it out.
	Holder string
	// Now is the clock, for tests; nil means time.Now. Times are for people and
	// decide nothing.
	Now func() time.Time
	// Term is that of the elected leader that this process is, where several processes elect one; 0 = nobody is elected. The lease is
	// taken from an earlier leader even while its process, stopped or cut off, has the OS lock, and every commit of an earlier one is refused.
	Term int64
	// Warn is told what went wrong beside an operation that succeeded, such as a
	// backup that could not be removed; nil drops it.
	Warn func(error)
}

// Store is a state in a file. It implements state.Store and holds nothing open
// between calls. Any number may stand on one file, in one process or several.
type Store struct {
	path string
	opts Options

	// file keeps the operations of this Store from waiting for each other with
	// the polling lock that is needed between processes.
	file sync.RWMutex

	queue group.Queue

	mu      sync.Mutex
	epoch   int64 // of the lease taken through this Store, 0 for none
	checked stamp // the file as it was last found or left whole
}

var _ state.Keeper = (*Store)(nil)

// Open returns the Store at path. It touches nothing: a state that is not there
// yet reads as empty and is made by the first commit.
func Open(path string, opts Options) *Store {
	if opts.Timeout == 0 {
		opts.Timeout = 5 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Holder == "" {
		opts.Holder = whoami()
	}
	return &Store{path: path, opts: opts}
}

// Path is the file's path.
func (s *Store) Path() string { return s.path }

// Where is the file's path.
func (s *Store) Where() string { return s.path }

func (s *Store) dir() string { return filepath.Dir(s.path) }

func (s *Store) warn(err error) {
	if err != nil && s.opts.Warn != nil {
		s.opts.Warn(err)
	}
}

// whoami is "user@host" as far as it can be known: it only names a holder to people.
func whoami() string {
	name, host := os.Getenv("USER"), "this machine"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// Snapshot reads everything but the runs in full and verifies each value and
// the root hash. It costs 1 pass over those pages and 1 decoding on all cores.
func (s *Store) Snapshot(ctx context.Context) (*state.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	inShort := func(bucket string) bool { return bucket != state.BucketRuns }
	entries, err := s.entries(ctx, func(p *pages, buckets map[string]bucket) ([]state.Entry, error) {
		return readAll(p, buckets, inShort)
	})
	if err != nil {
		return nil, err
	}
	if entries == nil {
		return state.EmptySnapshot(), nil
	}
	snap, err := assemble(entries, inShort)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	return snap, nil
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
	entries, err := s.entries(ctx, func(p *pages, buckets map[string]bucket) ([]state.Entry, error) {
		return readBucket(p, buckets, state.BucketRuns, prefix, nil)
	})
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if err := openEntry(&entries[i]); err != nil {
			return nil, s.explain(ctx, err)
		}
	}
	runs, err := state.LoadRuns(entries)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	return runs, nil
}

// entries opens the file for reading, checks that it is the newest, and lets
// read collect what it wants. It is nil when there is no state yet.
func (s *Store) entries(ctx context.Context, read func(*pages, map[string]bucket) ([]state.Entry, error)) ([]state.Entry, error) {
	s.file.RLock()
	defer s.file.RUnlock()
	var entries []state.Entry
	err := s.read(ctx, func(f *os.File, p *pages) error {
		buckets, err := p.buckets()
		if err != nil {
			return err
		}
		head, err := readHead(p, buckets)
		if err != nil {
			return err
		}
		if err := s.checkWitness(head, p.metas); err != nil {
			return err
		}
		// A second reader: the head's pages were visited, and none is visited twice.
		fresh := p.again()
		if buckets, err = fresh.buckets(); err != nil {
			return err
		}
		entries, err = read(fresh, buckets)
		if entries == nil {
			entries = []state.Entry{}
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, s.checkAbsent()
	}
	return entries, s.explain(ctx, err)
}

// explain turns damage into ErrCorrupt with the way out; other errors stay.
func (s *Store) explain(ctx context.Context, err error) error {
	var d damage
	switch {
	case err == nil, !errors.As(err, &d) && !errors.Is(err, state.ErrCorrupt):
		return err
	case errors.As(err, &d):
		err = fmt.Errorf("%w: state file %s: %w", state.ErrCorrupt, s.path, err)
	default:
		err = fmt.Errorf("state file %s: %w", s.path, err)
	}
	if snap := s.newestSnapshot(ctx); snap != "" {
		return fmt.Errorf("%w; the newest verified snapshot is %s, `ml state rebuild` puts it in place", err, snap)
	}
	return fmt.Errorf("%w; there is no verified snapshot, `ml state rebuild` finds again what runs", err)
}
