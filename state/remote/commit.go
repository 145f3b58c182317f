package remote

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/group"
)

// maxRaces is how often a write begins anew because somebody else was faster.
const maxRaces = 20

// Commit applies all ops or none and returns when the head that says so is
// written. Commits that come while one is being written share the next write.
// When it errors with ErrBusy, the place gave no answer and whether it was
// written is not known; the next reader sees. After any other error it was not.
func (s *Store) Commit(ctx context.Context, base uint64, ops ...state.Op) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	epoch := s.epoch
	s.mu.Unlock()
	return s.submit(ctx, state.Writer{Base: base, Epoch: epoch}, ops)
}

func (s *Store) submit(ctx context.Context, w state.Writer, ops []state.Op) (uint64, error) {
	c := &group.Commit{Writer: w, Ops: func(state.Head) []state.Op { return ops }}
	return s.queue.Submit(ctx, c, func(all []*group.Commit) { s.write(context.WithoutCancel(ctx), all) })
}

// write commits a group and leaves the outcome in each of its members.
func (s *Store) write(ctx context.Context, commits []*group.Commit) {
	s.pen.Lock()
	defer s.pen.Unlock()
	if err := s.writeGroup(ctx, commits); err != nil {
		group.Fail(commits, s.explain(ctx, err))
	}
}

func (s *Store) writeGroup(ctx context.Context, commits []*group.Commit) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	v := s.last
	s.mu.Unlock()
	for fresh, races := v == nil, 0; races < maxRaces; races++ {
		var err error
		if fresh {
			if v, err = s.load(ctx); err != nil {
				return err
			}
		}
		good, bad, changes, err := s.apply(ctx, v, commits)
		if (err != nil || bad > 0) && !fresh {
			fresh = true // on what was read a while ago nobody is refused
			for _, c := range commits {
				c.Err = nil
			}
			continue
		}
		if err != nil || good == 0 {
			return err
		}
		_, err = s.publish(ctx, v, changes, nil)
		if !errors.Is(err, ErrPassed) {
			return err
		}
		fresh = true
	}
	return fmt.Errorf("%w: others write to %s all the time; try again", state.ErrConflict, s.Where())
}

// apply puts the commits one on top of the other on a view.
func (s *Store) apply(ctx context.Context, v *view, commits []*group.Commit) (good, bad int, changes []state.Entry, err error) {
	all := state.NewOverlay(s.over(ctx, v))
	if v.version == "" {
		if err := state.Create(all, rand.Text()); err != nil {
			return 0, 0, nil, err
		}
	}
	for _, c := range commits {
		if c.Apply(all); c.Err == nil {
			good++
			continue
		}
		bad++
		if errors.Is(c.Err, state.ErrCorrupt) || errors.Is(c.Err, ErrBusy) {
			c.Err, err = nil, c.Err // it is nothing that this commit did
			return 0, 0, nil, err
		}
	}
	return good, bad, all.Changes(), nil
}

// publish makes the next head of a view and its changes, and puts it in the
// place of the view's. It errors with ErrPassed when that is no longer there.
// The caller has the pen.
func (s *Store) publish(ctx context.Context, v *view, changes []state.Entry, more func(*head)) (*view, error) {
	next, tail, err := s.next(ctx, v, changes)
	if err != nil {
		return nil, err
	}
	if more != nil {
		more(next)
	}
	if next.Key == "" && s.opts.Keyed != nil && s.opts.Keyed() {
		next.Key = s.opts.Key
	}
	s.mu.Lock()
	if s.epoch != 0 && s.epoch == next.Epoch {
		next.Alive++
	}
	s.mu.Unlock()
	fault.Point(fault.StateCommitBefore)
	if err := fence.Check(ctx); err != nil { // the last moment at which nothing is written
		return nil, err
	}
	version, err := s.swap(ctx, v.version, next)
	fault.Point(fault.StateCommitAfter)
	if err != nil {
		return nil, err
	}
	done := &view{head: next, version: version, tail: tail}
	s.mu.Lock()
	s.wrote = s.opts.Now()
	s.last = done
	if version == "" { // somebody wrote on top of ours already
		s.last = nil
	}
	s.mu.Unlock()
	s.forget(next)
	s.warn(s.writeWitness(next.Head))
	return done, nil
}

// next is the head after the changes: they stand in its tail, or, when that is
// long, in new parts, which are written first.
func (s *Store) next(ctx context.Context, v *view, changes []state.Entry) (*head, []state.Entry, error) {
	h := *v.head
	h.Write, h.Written = rand.Text(), s.opts.Now().UTC()
	if v.Write != "" {
		h.Writes = append([]string{v.Write}, v.Writes[:min(len(v.Writes), keepWrites-1)]...)
	}
	if len(changes) == 0 {
		return &h, v.tail, nil
	}
	tail := merge(v.tail, changes, true)
	packed, _, err := pack(tail)
	if err != nil {
		return nil, nil, fmt.Errorf("pack the changes: %w", err)
	}
	if len(packed) > maxTail {
		if h.Parts, err = s.fold(ctx, v.Parts, tail); err != nil {
			return nil, nil, err
		}
		tail, packed = nil, nil
	}
	h.Tail = packed
	for _, e := range changes {
		if e.Bucket == state.BucketMeta && e.Key == state.HeadKey {
			if err := json.Unmarshal(e.Value, &h.Head); err != nil {
				return nil, nil, fmt.Errorf("read the new head: %w", err)
			}
		}
	}
	return &h, tail, nil
}

// swap replaces the head that has the version at, and returns the new version,
// "" when ours was written and somebody wrote on top of it. While answers are
// lost it sends the same again: the condition lets one of them through at most.
// What became of it is then read back.
func (s *Store) swap(ctx context.Context, at string, next *head) (string, error) {
	data, err := encodeHead(next)
	if err != nil {
		return "", err
	}
	if limit := s.blobs.Limit(); len(data) > limit {
		return "", fmt.Errorf("the head has %d bytes, and %s takes %d: the state is too large for that place", len(data), s.Where(), limit)
	}
	lost := false
	version := ""
	err = s.patient(ctx, func() error {
		var err error
		version, err = s.blobs.Put(ctx, headName, data, at)
		lost = lost || errors.Is(err, ErrBusy)
		return err
	})
	if err == nil || !errors.Is(err, ErrPassed) && !lost {
		return version, err
	}
	now, rerr := s.look(ctx)
	switch {
	case rerr != nil && !lost:
		return "", err
	case rerr != nil:
		return "", fmt.Errorf("write the state in %s: %w; whether it was written is not known, for reading it back fails, too: %w", s.Where(), busy(err), rerr)
	case now.version != "" && now.Write == next.Write:
		return now.version, nil
	case now.version != "" && now.has(next.Write):
		return "", nil
	case now.version != at:
		return "", ErrPassed // ours cannot come any more
	}
	return "", fmt.Errorf("write the state in %s: %w; it is not written, unless it comes late: the next command sees", s.Where(), busy(err))
}

func busy(err error) error {
	if errors.Is(err, ErrBusy) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrBusy, err)
}

// check asks the place once whether it keeps the condition of a write.
func (s *Store) check(ctx context.Context) error {
	s.mu.Lock()
	checked := s.checked
	s.mu.Unlock()
	if checked {
		return nil
	}
	if err := s.patient(ctx, func() error { return s.blobs.Check(ctx) }); err != nil {
		return fmt.Errorf("write the state in %s: %w", s.Where(), err)
	}
	s.mu.Lock()
	s.checked = true
	s.mu.Unlock()
	return nil
}

// idle is how long this Store has not written the head.
func (s *Store) idle() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opts.Now().Sub(s.wrote)
}

// lease is the lease in a view, nil when nobody holds it.
func (s *Store) lease(ctx context.Context, v *view) (*state.Lease, error) {
	if v.version == "" {
		return nil, nil
	}
	return state.ReadLease(s.over(ctx, v))
}

// Waiting is how many commits wait behind the one that is being written.
func (s *Store) Waiting() int {
	_, n := s.queue.Waiting()
	return n
}
