package bolt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/state"
)

const (
	// pollEvery is how often a waiting Acquire tries the lock.
	pollEvery = 50 * time.Millisecond
	// leaseFor is what a lease says of its end. Nothing takes a lease away when it
	// is over: the OS lock alone does that, when its holder dies.
	leaseFor = 24 * time.Hour
)

func (s *Store) lockPath() string { return filepath.Join(s.dir(), "lock") }

// Acquire takes the OS lock beside the state, waiting for it until the context
// ends, and then writes the lease with the next epoch. The kernel gives the lock
// back when this process dies, however it dies; a lease record that is left
// behind stops nobody. A commit of the former holder is refused from then on.
// An elected leader waits for no earlier one: see Options.Term.
func (s *Store) Acquire(ctx context.Context, doing string) (int64, func() error, error) {
	lock, err := s.lock(ctx)
	if err != nil {
		return 0, nil, err
	}
	ctx = context.WithoutCancel(ctx) // it bounded the wait; a slow disk is no holder
	lease := &state.Lease{PID: os.Getpid(), Holder: s.opts.Holder, Doing: doing, Since: s.opts.Now().UTC(), Term: s.opts.Term}
	lease.Expires = lease.Since.Add(leaseFor)
	// Who it is stands there before anything else: a later leader must know whom it does not wait for.
	err = fence.Check(ctx)
	if err == nil {
		err = signLock(lock, lease)
	}
	if err != nil {
		return 0, nil, errors.Join(err, lock.Unlock())
	}
	_, err = s.submit(ctx, state.Writer{Taking: true, Term: s.opts.Term}, func(h state.Head) []state.Op {
		lease.Epoch = h.Epoch + 1
		return []state.Op{{PutLease: lease}}
	})
	if err == nil {
		err = signLock(lock, lease)
	}
	if err != nil {
		return 0, nil, errors.Join(err, lock.Unlock())
	}
	fault.Point(fault.StateLeaseAcquired)
	s.setEpoch(lease.Epoch)
	return lease.Epoch, sync.OnceValue(func() error { return s.release(ctx, lock, lease.Epoch) }), nil
}

func (s *Store) setEpoch(epoch int64) {
	s.mu.Lock()
	s.epoch = epoch
	s.mu.Unlock()
}

// lock takes the OS lock. A lock file that somebody deleted locks nothing, so
// the one we got must still have its name.
func (s *Store) lock(ctx context.Context) (*flock.Flock, error) {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, err
	}
	if err := durable.MkdirAll(s.dir(), 0o755); err != nil {
		return nil, fmt.Errorf("lock the state: %w", err)
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		lock := flock.New(s.lockPath(), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
		got, err := lock.TryLock()
		if err != nil {
			return nil, fmt.Errorf("lock the state: %w", errors.Join(err, lock.Close()))
		}
		if got {
			held, err := lock.Stat()
			now, err2 := os.Lstat(s.lockPath())
			if err == nil && err2 == nil && os.SameFile(held, now) {
				return lock, nil
			}
		}
		if err := lock.Close(); err != nil {
			return nil, fmt.Errorf("lock the state: %w", err)
		}
		if !got && s.outlives(s.signed()) {
			// A lock file without a name locks nothing: the next try makes a new one.
			if err := durable.RemoveIfThere(s.lockPath()); err != nil {
				return nil, fmt.Errorf("take the lock from an earlier leader: %w", err)
			}
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s: %w", state.ErrLocked, s.holder(), context.Cause(ctx))
		}
	}
}

// release ends the lease and gives the lock back even when that fails.
func (s *Store) release(ctx context.Context, lock *flock.Flock, epoch int64) error {
	_, err := s.submit(ctx, state.Writer{Epoch: epoch, Term: s.opts.Term}, func(state.Head) []state.Op {
		return []state.Op{{DropLease: true}}
	})
	s.setEpoch(0)
	if errors.Is(err, fence.ErrLost) {
		return errors.Join(err, lock.Unlock()) // whatever stands there is for the next leader to read
	}
	return errors.Join(err, signLock(lock, nil), lock.Unlock())
}

// outlives says whether the holder of the lock is a leader from before this one.
func (s *Store) outlives(l *state.Lease) bool {
	return l != nil && l.Term != 0 && l.Term < s.opts.Term
}

// signLock writes the holder into the lock file, for those who wait: the lease in
// the state cannot be read while somebody hangs with the state open. A file that
// has another name's place by now is the next holder's, and left alone.
func signLock(lock *flock.Flock, l *state.Lease) (err error) {
	var text []byte
	if l != nil {
		if text, err = json.Marshal(l); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(lock.Path(), os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the holder into the lock: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	here, err := f.Stat()
	mine, err2 := lock.Stat()
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("write the holder into the lock: %w", err)
	}
	if !os.SameFile(here, mine) {
		return nil
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.Write(text)
	}
	if err != nil {
		return fmt.Errorf("write the holder into the lock: %w", err)
	}
	return nil
}

// signed is the holder that the lock file names; nil when it names nobody.
func (s *Store) signed() *state.Lease {
	var l state.Lease
	raw, err := os.ReadFile(s.lockPath())
	if err != nil || json.Unmarshal(raw, &l) != nil {
		return nil
	}
	return &l
}

// holder describes who has the lock, as far as the lock file tells.
func (s *Store) holder() string {
	l := s.signed()
	if l == nil {
		return "its holder has not said who it is yet"
	}
	return state.DescribeLease(l)
}

// describeUser names who may have the state file open, for messages.
func (s *Store) describeUser() string {
	text := ""
	if pids := lockers(s.path); len(pids) > 0 {
		text = fmt.Sprintf(": process %v", pids[0])
		for _, p := range pids[1:] {
			text += fmt.Sprintf(", %v", p)
		}
	}
	if l := s.signed(); l != nil {
		text += "; the lease: " + state.DescribeLease(l)
	}
	return text
}
