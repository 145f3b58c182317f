package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/state"
)

const (
	// keepSnapshots is how many verified copies stay.
	keepSnapshots = 5
	// keepUnnamed is how long a part stays that neither the head nor a snapshot
	// names: it may be of a commit that is on its way.
	keepUnnamed = 24 * time.Hour
)

// Backup copies the head to snapshots/SERIAL and returns that name. The parts
// that the snapshot before did not name are read back first. The newest five
// stay; parts that nothing names any more go when they are a day old.
func (s *Store) Backup(ctx context.Context) (string, error) {
	v, err := s.load(ctx)
	if err != nil {
		return "", s.explain(ctx, err)
	}
	if v.version == "" {
		return "", fmt.Errorf("back up the state: %s holds none", s.Where())
	}
	copies, heads, err := s.snapshots(ctx)
	if err != nil {
		return "", fmt.Errorf("back up the state: %w", err)
	}
	known := map[string]bool{}
	if len(heads) > 0 && heads[0] != nil {
		for _, p := range heads[0].Parts {
			known[p.Name] = true
		}
	}
	if err := s.readBack(ctx, v.Parts, func(p partRef) bool { return !known[p.Name] }); err != nil {
		return "", s.explain(ctx, fmt.Errorf("back up the state: %w", err))
	}
	data, err := encodeHead(v.head)
	if err != nil {
		return "", err
	}
	name := snapshotName(v.Serial)
	err = s.patient(ctx, func() error {
		_, err := s.blobs.Put(ctx, name, data, "")
		if errors.Is(err, ErrPassed) {
			err = nil // of this very serial, from before
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("back up the state: %w", err)
	}
	s.warn(s.rotate(ctx, v.head, copies, heads))
	return name, nil
}

func snapshotName(serial uint64) string { return fmt.Sprintf("%s%012d", snapshotPrefix, serial) }

// readBack fetches parts anew and verifies them.
func (s *Store) readBack(ctx context.Context, refs []partRef, want func(partRef) bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for _, ref := range refs {
		if want(ref) {
			g.Go(func() error {
				_, err := s.fetch(ctx, ref)
				return err
			})
		}
	}
	return g.Wait()
}

// snapshots lists the copies, newest first, with the heads in them; nil for one
// that cannot be read, whose Err says why.
func (s *Store) snapshots(ctx context.Context) (copies []state.Copy, heads []*head, err error) {
	var infos []Info
	err = s.patient(ctx, func() (err error) {
		infos, err = s.blobs.List(ctx, snapshotPrefix)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list the snapshots in %s: %w", s.Where(), err)
	}
	slices.Reverse(infos)
	for _, info := range infos {
		serial, err := strconv.ParseUint(strings.TrimPrefix(info.Name, snapshotPrefix), 10, 64)
		if err != nil {
			continue // nothing of ours
		}
		c := state.Copy{Path: info.Name, Serial: serial}
		data, _, err := s.get(ctx, info.Name)
		if errors.Is(err, ErrAbsent) {
			continue // rotated away just now
		}
		var h *head
		if err == nil {
			h, err = decodeHead(data)
		}
		c.Err = err
		copies, heads = append(copies, c), append(heads, h)
	}
	return copies, heads, nil
}

// rotate removes all but the newest copies, and old parts that nothing names.
// What the copies name that go now stays until the next time.
func (s *Store) rotate(ctx context.Context, h *head, copies []state.Copy, heads []*head) error {
	named := map[string]bool{}
	whole := true
	for _, h := range append(heads, h) {
		if h == nil {
			whole = false
			continue
		}
		for _, p := range h.Parts {
			for _, name := range pieces(p) {
				named[name] = true
			}
		}
	}
	var errs []error
	for i, c := range copies {
		if i >= keepSnapshots-1 { // one was just added
			errs = append(errs, s.blobs.Delete(ctx, c.Path))
		}
	}
	if !whole {
		return errors.Join(append(errs, errors.New("old parts are kept: a snapshot that cannot be read may name them"))...)
	}
	return errors.Join(append(errs, s.sweep(ctx, named))...)
}

// sweep removes parts that are not named and a day older than the newest object,
// which is the snapshot just made. All times are of the place's clock.
func (s *Store) sweep(ctx context.Context, named map[string]bool) error {
	copies, err := s.blobs.List(ctx, snapshotPrefix)
	if err != nil {
		return fmt.Errorf("look for old parts: %w", err)
	}
	parts, err := s.blobs.List(ctx, partPrefix)
	if err != nil {
		return fmt.Errorf("look for old parts: %w", err)
	}
	var newest time.Time
	for _, o := range append(copies, parts...) {
		if o.Modified.After(newest) {
			newest = o.Modified
		}
	}
	var errs []error
	for _, p := range parts {
		if !named[p.Name] && newest.Sub(p.Modified) > keepUnnamed {
			errs = append(errs, s.blobs.Delete(ctx, p.Name))
		}
	}
	return errors.Join(errs...)
}

// newestSnapshot is the name of the newest copy that is whole and of the lineage
// seen from here, "" for none. It is for messages: what cannot be read does not count.
func (s *Store) newestSnapshot(ctx context.Context) string {
	copies, heads, err := s.snapshots(ctx)
	if err != nil {
		return ""
	}
	for i, c := range copies {
		if c.Err == nil && s.usable(ctx, heads[i]) == nil {
			return c.Path
		}
	}
	return ""
}

// usable says why a copy cannot stand in for the state. It reads all of it.
func (s *Store) usable(ctx context.Context, h *head) error {
	w, err := s.witness()
	if err != nil {
		return err
	}
	if w.Lineage != "" && w.Lineage != h.Lineage {
		return fmt.Errorf("%w: it is of lineage %s, the state seen from here was of %s", state.ErrOlder, h.Lineage, w.Lineage)
	}
	_, _, err = s.reread(ctx, &view{head: h, version: "copy"})
	return err
}

// reread reads a view anew, runs included, and checks it as a whole.
func (s *Store) reread(ctx context.Context, v *view) ([]state.Entry, *state.Snapshot, error) {
	if v.tail == nil && len(v.Tail) > 0 {
		tail, err := unpack(v.Tail)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: read the latest changes: %w", state.ErrCorrupt, err)
		}
		v.tail = tail
	}
	alone := Open(s.blobs, s.opts)
	entries, err := alone.entries(ctx, v, func(bool) bool { return true })
	if err != nil {
		return nil, nil, err
	}
	snap, err := state.Load(slices.Clone(entries), nil)
	if err != nil {
		return nil, nil, err
	}
	if snap.Serial != v.Serial || snap.Lineage != v.Lineage {
		return nil, nil, fmt.Errorf("%w: the head says serial %d, its entries say %d", state.ErrCorrupt, v.Serial, snap.Serial)
	}
	return entries, snap, state.CheckRuns(entries)
}

// Verify reads everything anew: the head, each part by its digest, the index of
// runs against the runs, and every snapshot.
func (s *Store) Verify(ctx context.Context) (state.Report, error) {
	if err := ctx.Err(); err != nil {
		return state.Report{}, err
	}
	v, err := s.load(ctx)
	if err != nil || v.version == "" {
		return state.Report{}, s.explain(ctx, err)
	}
	_, snap, err := s.reread(ctx, v)
	if err != nil {
		return state.Report{}, s.explain(ctx, err)
	}
	copies, heads, err := s.snapshots(ctx)
	if err != nil {
		return state.Report{}, err
	}
	if err := s.newerCopy(v, copies, heads); err != nil {
		return state.Report{}, err
	}
	for i, h := range heads {
		if copies[i].Err == nil {
			copies[i].Err = s.usable(ctx, h)
		}
	}
	var r state.Report
	r.Describe(snap)
	r.Snapshots = copies
	return r, nil
}

// newerCopy refuses a state of which a newer snapshot stands beside it: an old
// head was put back.
func (s *Store) newerCopy(v *view, copies []state.Copy, heads []*head) error {
	for i, c := range copies {
		if heads[i] != nil && heads[i].Lineage == v.Lineage && c.Serial > v.Serial {
			return fmt.Errorf("%w: %s is at serial %d, but there is the snapshot %s: an old copy was put back; what was done since is not in it; `ml state rebuild` puts the newest snapshot in place, and with -accept takes this one",
				state.ErrOlder, s.Where(), v.Serial, c.Path)
		}
	}
	return nil
}
