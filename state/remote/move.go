package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/continuo-ml/continuo/state"
)

// Dump returns every entry, each verified; nil when there is no state.
func (s *Store) Dump(ctx context.Context) ([]state.Entry, error) {
	v, err := s.load(ctx)
	if err != nil || v.version == "" {
		return nil, s.explain(ctx, err)
	}
	entries, _, err := s.reread(ctx, v)
	return entries, s.explain(ctx, err)
}

// Fill makes a state of the entries where there is none, or one that moved away.
func (s *Store) Fill(ctx context.Context, entries []state.Entry) error {
	s.pen.Lock()
	defer s.pen.Unlock()
	if err := s.check(ctx); err != nil {
		return err
	}
	now, err := s.look(ctx)
	if err != nil {
		return s.explain(ctx, err)
	}
	if now.version != "" && now.Moved == "" {
		return fmt.Errorf("there is a state in %s already (lineage %s, serial %d)", s.Where(), now.Lineage, now.Serial)
	}
	carried, _, err := state.Carried(entries)
	if err != nil {
		return err
	}
	if now.version != "" { // it was here before: its copy stays, and its epochs count
		if err := s.putAside(ctx); err != nil {
			return err
		}
	}
	v := &view{head: &head{}, version: now.version}
	done, err := s.publish(ctx, v, carried, func(h *head) {
		if s.opts.Bound != nil {
			h.Home = s.home()
		}
	})
	if err != nil {
		return fmt.Errorf("copy the state to %s: %w", s.Where(), err)
	}
	return s.setWitness(done.Head)
}

// Handover takes the lease, gives every entry to take, and then writes into the
// head where to the state went: nobody writes or plans on it here any more. What
// it held stays readable by hand.
func (s *Store) Handover(ctx context.Context, to string, take func([]state.Entry) error) error {
	v, err := s.load(ctx)
	if err != nil {
		return s.explain(ctx, err)
	}
	if v.version == "" {
		return take(nil)
	}
	epoch, release, err := s.Acquire(ctx, "move the state")
	if err != nil {
		return err
	}
	err = s.handOver(ctx, epoch, to, take)
	rerr := release()
	if err == nil && errors.Is(rerr, state.ErrMoved) {
		rerr = nil // the lease went with it
	}
	return errors.Join(err, rerr)
}

func (s *Store) handOver(ctx context.Context, epoch int64, to string, take func([]state.Entry) error) error {
	v, err := s.load(ctx)
	if err != nil {
		return s.explain(ctx, err)
	}
	serial := v.Serial
	entries, _, err := s.reread(ctx, v)
	if err != nil {
		return s.explain(ctx, err)
	}
	if err := take(entries); err != nil {
		return err
	}
	s.pen.Lock()
	defer s.pen.Unlock()
	for range maxRaces {
		if v, err = s.load(ctx); err != nil {
			return s.explain(ctx, err)
		}
		if v.Serial != serial || v.Epoch != epoch {
			return fmt.Errorf("%w while it was copied from %s: it stays there; remove the copy and try again", state.ErrConflict, s.Where())
		}
		all := state.NewOverlay(s.over(ctx, v))
		all.Delete(state.BucketLease, state.BucketLease)
		if _, err = s.publish(ctx, v, all.Changes(), func(h *head) { h.Moved = to }); !errors.Is(err, ErrPassed) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("end the state in %s: %w; it was copied, and stays in both places", s.Where(), err)
	}
	s.mu.Lock()
	s.last = nil
	s.mu.Unlock()
	return nil
}
