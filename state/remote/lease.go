package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/state"
)

// Acquire takes the lease with the next epoch and renews it until it is given
// back. It waits for another holder until the context ends. A holder that dies
// is followed at once by a process of the same folder, because the kernel gives
// its OS lock back, and by others when they have seen no renewal for LeaseFor by
// their own clocks. A commit of a former holder is refused.
func (s *Store) Acquire(ctx context.Context, doing string) (int64, func() error, error) {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return 0, nil, err
	}
	asks, done := patiently(ctx)
	defer done()
	lock := s.folderLock()
	epoch, err := s.await(ctx, asks, lock, doing)
	if err != nil {
		return 0, nil, errors.Join(err, lock.giveBack())
	}
	fault.Point(fault.StateLeaseAcquired)
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		s.renew(over, epoch)
	}()
	return epoch, sync.OnceValue(func() error {
		close(over)
		<-ended
		_, err := s.submit(context.Background(), state.Writer{Epoch: epoch}, []state.Op{{DropLease: true}})
		s.setEpoch(0)
		return errors.Join(err, lock.giveBack())
	}), nil
}

// patiently is ctx without its deadline: that bounds the wait for a holder, and
// not the requests.
func patiently(ctx context.Context) (asks context.Context, done func()) {
	asks, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			cancel(context.Cause(ctx))
		}
	})
	return asks, func() { stop(); cancel(nil) }
}

func (s *Store) setEpoch(epoch int64) {
	s.mu.Lock()
	s.epoch = epoch
	s.mu.Unlock()
}

// FollowAfter is how long somebody has to wait at most who wants to follow a holder
// that died, or was stopped, where its OS lock says nothing.
func (s *Store) FollowAfter() time.Duration { return s.opts.LeaseFor + 3*s.opts.Poll }

// sighting is a sign of life of a holder, and when it was first seen.
type sighting struct {
	epoch int64
	alive uint64
	since time.Time
}

// await waits until the lease is free and takes it.
func (s *Store) await(ctx, asks context.Context, lock *folderLock, doing string) (int64, error) {
	for {
		v, err := s.free(ctx, asks, lock, s.load)
		if err != nil {
			return 0, err
		}
		epoch, err := s.take(asks, v, lock, doing)
		if !errors.Is(err, ErrPassed) {
			return epoch, err
		}
	}
}

// free reads the head until nobody holds the lease: it was given back, its
// holder died in this folder, or has not been seen alive for LeaseFor. The wait
// ends with ctx, requests with asks.
func (s *Store) free(ctx, asks context.Context, lock *folderLock, read func(context.Context) (*view, error)) (*view, error) {
	tick := time.NewTicker(s.opts.Poll)
	defer tick.Stop()
	var seen sighting
	for {
		lock.try()
		v, err := read(asks)
		if err != nil {
			return nil, s.explain(asks, err)
		}
		if v.head == nil {
			return v, nil
		}
		l, err := s.lease(asks, v)
		if err != nil {
			return nil, s.explain(asks, err)
		}
		if l == nil {
			return v, nil
		}
		if l.Epoch != seen.epoch || v.Alive != seen.alive {
			seen = sighting{l.Epoch, v.Alive, s.opts.Now()}
		}
		if v.Place != "" && v.Place == lock.place() || s.opts.Now().Sub(seen.since) >= s.opts.LeaseFor {
			return v, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s, last seen alive at %s by its clock; if it is dead, who waits %s takes over: %w", state.ErrLocked,
				state.DescribeLease(l), v.Written.UTC().Format(time.RFC3339), s.opts.LeaseFor, context.Cause(ctx))
		}
	}
}

// take writes the lease into a view that was found free. It errors with
// ErrPassed when the state is another by now, the former holder's sign of life
// included.
func (s *Store) take(ctx context.Context, v *view, lock *folderLock, doing string) (int64, error) {
	s.pen.Lock()
	defer s.pen.Unlock()
	if err := s.check(ctx); err != nil {
		return 0, err
	}
	if err := s.checkCopies(ctx, v); err != nil {
		return 0, err
	}
	if err := s.checkHome(ctx, v); err != nil {
		return 0, s.explain(ctx, err)
	}
	now := s.opts.Now().UTC()
	l := &state.Lease{Epoch: v.Epoch + 1, PID: os.Getpid(), Holder: s.opts.Holder, Doing: doing, Since: now, Expires: now.Add(s.opts.LeaseFor)}
	all := state.NewOverlay(s.over(ctx, v))
	if v.version == "" {
		if err := state.Create(all, newLineage()); err != nil {
			return 0, err
		}
	}
	if _, err := state.CommitTo(all, state.Writer{Taking: true}, []state.Op{{PutLease: l}}); err != nil {
		return 0, s.explain(ctx, err)
	}
	_, err := s.publish(ctx, v, all.Changes(), func(h *head) {
		h.Alive, h.Place = 0, lock.place()
		if s.opts.Bound != nil {
			h.Home = s.home() // what is made from now on is here
		}
	})
	if err != nil {
		return 0, err
	}
	s.setEpoch(l.Epoch)
	return l.Epoch, nil
}

// checkCopies refuses to write on a head older than a snapshot beside it.
func (s *Store) checkCopies(ctx context.Context, v *view) error {
	if v.version == "" {
		return nil
	}
	var infos []Info
	err := s.patient(ctx, func() (err error) {
		infos, err = s.blobs.List(ctx, snapshotPrefix)
		return err
	})
	if err != nil {
		return fmt.Errorf("list the snapshots in %s: %w", s.Where(), err)
	}
	if len(infos) == 0 || infos[len(infos)-1].Name <= snapshotName(v.Serial) {
		return nil
	}
	copies, heads, err := s.snapshots(ctx)
	if err != nil {
		return err
	}
	return s.newerCopy(v, copies, heads)
}

// renew gives a sign of life whenever this Store has written nothing for a third
// of the time after which others take over. It ends with the lease.
func (s *Store) renew(over <-chan struct{}, epoch int64) {
	every := s.opts.LeaseFor / 3
	tick := time.NewTicker(every / 4)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		if s.idle() < every {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.opts.LeaseFor)
		held, err := s.beat(ctx, epoch)
		cancel()
		s.warn(err)
		if !held {
			return // the commits to come say so
		}
	}
}

// beat writes a sign of life, and says whether the lease is still held as far
// as can be known.
func (s *Store) beat(ctx context.Context, epoch int64) (held bool, err error) {
	s.pen.Lock()
	defer s.pen.Unlock()
	s.mu.Lock()
	v := s.last
	s.mu.Unlock()
	for range maxRaces {
		if v == nil {
			if v, err = s.load(ctx); err != nil {
				return true, fmt.Errorf("renew the lease: %w", err)
			}
		}
		if v.Epoch != epoch {
			return false, nil
		}
		_, err = s.publish(ctx, v, nil, nil)
		if !errors.Is(err, ErrPassed) {
			break
		}
		v = nil
	}
	if err != nil {
		err = fmt.Errorf("renew the lease: %w", err)
	}
	return true, err
}
