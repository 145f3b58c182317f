package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"github.com/continuo-ml/continuo/state"
)

// Verify checks everything there is: every page and value, the root hash, that
// the index of runs matches the runs, bbolt's own rules, and all snapshots.
// It errors with state.ErrCorrupt, state.ErrNewer or state.ErrOlder.
func (s *Store) Verify(ctx context.Context) (state.Report, error) {
	if err := ctx.Err(); err != nil {
		return state.Report{}, err
	}
	r, snap, err := s.verify(ctx)
	if errors.Is(err, os.ErrNotExist) {
		return state.Report{}, s.checkAbsent()
	}
	if err != nil {
		return state.Report{}, s.explain(ctx, err)
	}
	if err := s.checkWitness(state.Head{Lineage: snap.Lineage, Serial: snap.Serial}, 2); err != nil {
		return state.Report{}, err
	}
	copies, err := s.Copies()
	if err != nil {
		return state.Report{}, err
	}
	for _, c := range copies {
		c.Err = s.usable(c.Path)
		r.Snapshots = append(r.Snapshots, c)
	}
	return r, nil
}

func (s *Store) verify(ctx context.Context) (state.Report, *state.Snapshot, error) {
	s.file.RLock()
	defer s.file.RUnlock()
	var r state.Report
	var entries []state.Entry
	err := s.read(ctx, func(_ *os.File, p *pages) error {
		buckets, err := p.buckets()
		if err != nil {
			return err
		}
		if _, err := readHead(p, buckets); err != nil {
			return err
		}
		p = p.again()
		if buckets, err = p.buckets(); err != nil {
			return err
		}
		if entries, err = readAll(p, buckets, func(string) bool { return true }); err != nil {
			return err
		}
		_, err = p.checkFree()
		return err
	})
	if err != nil {
		return r, nil, err
	}
	snap, err := assemble(entries, func(string) bool { return true })
	if err != nil {
		return r, nil, err
	}
	if err := state.CheckRuns(entries); err != nil {
		return r, nil, err
	}
	r.Describe(snap)
	return r, snap, s.checkBolt()
}

// checkBolt asks bbolt for a second opinion. Its check runs in a goroutine that
// nobody can guard, so it comes after our own has found every page in place.
func (s *Store) checkBolt() error {
	return guarded(func() (err error) {
		h, err := s.open(s.opts.Timeout, true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.db.Close()) }()
		return h.db.View(func(tx *bbolt.Tx) error {
			var found error
			for e := range tx.Check() { // to its end: it blocks on what nobody reads
				if found == nil {
					found = damaged("bbolt: %v", e)
				}
			}
			return found
		})
	})
}

// verifyFile checks a copy on its own: every page and value and the root hash.
func verifyFile(path string, opts Options) (*state.Snapshot, error) {
	alone := &Store{path: path, opts: opts}
	_, snap, err := alone.verify(context.Background())
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", path, err)
	}
	return snap, nil
}
