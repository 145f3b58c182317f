package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/continuo-ml/continuo/state"
)

// RestoreLatest puts the newest whole snapshot in the head's place and returns
// its name. The head that was there is kept as damaged-TIME. The serial and the
// epoch rise above all that were seen, so that plans and writers from before are
// refused. It waits for a holder of the lease as Acquire does.
func (s *Store) RestoreLatest(ctx context.Context) (string, error) {
	now, err := s.quiet(ctx)
	if err != nil {
		return "", err
	}
	copies, heads, err := s.snapshots(ctx)
	if err != nil {
		return "", err
	}
	above, err := s.highest(now, copies, heads)
	if err != nil {
		return "", err
	}
	var why error
	for i, c := range copies {
		uerr := c.Err
		if uerr == nil {
			uerr = s.usable(ctx, heads[i])
		}
		if uerr == nil {
			return c.Path, s.putInPlace(ctx, now, heads[i], above)
		}
		why = errors.Join(why, fmt.Errorf("snapshot %s: %w", c.Path, uerr))
	}
	return "", errors.Join(fmt.Errorf("there is no whole snapshot in %s to restore", s.Where()), why)
}

// leap is by how much serial and epoch rise when the head that they are to be
// above cannot be read: more than anybody can have written since a snapshot.
const leap = 100_000

// highest is above every head that is known of.
func (s *Store) highest(now *view, copies []state.Copy, heads []*head) (state.Head, error) {
	above, err := s.witness()
	if err != nil {
		return above, err
	}
	for _, c := range copies {
		above.Serial = max(above.Serial, c.Serial)
	}
	lost := now.version == "" || now.head == nil
	if !lost {
		heads = append(slices.Clone(heads), now.head)
	}
	for _, h := range heads {
		if h != nil {
			above.Serial, above.Epoch = max(above.Serial, h.Serial), max(above.Epoch, h.Epoch)
		}
	}
	if lost {
		above.Serial, above.Epoch = above.Serial+leap, above.Epoch+leap
	}
	return above, nil
}

// putInPlace makes h, raised above all, the head.
func (s *Store) putInPlace(ctx context.Context, now *view, h *head, above state.Head) error {
	s.pen.Lock()
	defer s.pen.Unlock()
	if err := s.check(ctx); err != nil {
		return err
	}
	v := &view{head: h, version: now.version}
	var err error
	if len(h.Tail) > 0 {
		if v.tail, err = unpack(h.Tail); err != nil {
			return fmt.Errorf("%w: read the latest changes: %w", state.ErrCorrupt, err)
		}
	}
	if now.version != "" && now.head != h {
		if err := s.putAside(ctx); err != nil {
			return err
		}
	}
	all := state.NewOverlay(s.over(ctx, v))
	// A former holder must find a higher epoch.
	above.Epoch++
	if _, err := state.Raise(all, above); err != nil {
		return err
	}
	all.Delete(state.BucketLease, state.BucketLease)
	done, err := s.publish(ctx, v, all.Changes(), func(h *head) { h.Place, h.Moved = "", "" })
	if err != nil {
		return fmt.Errorf("restore the state: %w", err)
	}
	return s.setWitness(done.Head)
}

// putAside copies the head that is there, whatever it is, as evidence.
func (s *Store) putAside(ctx context.Context) error {
	data, _, err := s.get(ctx, headName)
	if errors.Is(err, ErrAbsent) {
		return nil
	}
	if err == nil {
		name := "damaged-" + s.opts.Now().UTC().Format("20060102t150405.000000000z")
		_, err = s.blobs.Put(ctx, name, bytes.Clone(data), "")
	}
	if err != nil {
		return fmt.Errorf("keep what is there: %w", err)
	}
	return nil
}

// Accept takes the head as it is although a newer or another one was seen: its
// serial rises above all that are known of.
func (s *Store) Accept(ctx context.Context) error {
	now, err := s.quiet(ctx)
	if err != nil {
		return err
	}
	if now.version == "" || now.head == nil {
		return fmt.Errorf("%s holds no state that could be accepted", s.Where())
	}
	if _, _, err := s.reread(ctx, now); err != nil {
		return s.explain(ctx, err)
	}
	copies, heads, err := s.snapshots(ctx)
	if err != nil {
		return err
	}
	above, err := s.highest(now, copies, heads)
	if err != nil {
		return err
	}
	return s.putInPlace(ctx, now, now.head, above)
}

// quiet returns the head as it is, without its parts, once nobody holds the
// lease. One that cannot be read has a nil head: nobody can be told from it.
func (s *Store) quiet(ctx context.Context) (*view, error) {
	lock := s.folderLock()
	defer func() { s.warn(lock.giveBack()) }()
	asks, done := patiently(ctx)
	defer done()
	return s.free(ctx, asks, lock, func(ctx context.Context) (*view, error) {
		v, err := s.look(ctx)
		if errors.Is(err, state.ErrCorrupt) && v != nil {
			return v, nil
		}
		return v, err
	})
}
