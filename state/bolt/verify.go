package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"github.com/continuo-ml/continuo/state"
)

// Report is what Verify found whole.
type Report struct {
	Lineage string
	Serial  uint64
	Records int
	Runs    int
	// Versions counts the kept ones over all trainings.
	Versions  int
	Intents   int // open ones
	Pages     int
	FreePages int
	PageBytes int
	// Snapshots are the copies beside the state, newest first; a nil Err means whole.
	Snapshots []CopyReport
}

// CopyReport is what Verify found of one snapshot file.
type CopyReport struct {
	Copy
	Err error
}

// Verify checks everything there is: every page and value, the root hash, that
// the index of runs matches the runs, bbolt's own rules, and all snapshots.
// It errors with state.ErrCorrupt, state.ErrNewer or state.ErrOlder.
func (s *Store) Verify(ctx context.Context) (Report, error) {
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	r, snap, err := s.verify(ctx)
	if errors.Is(err, os.ErrNotExist) {
		return Report{}, s.checkAbsent()
	}
	if err != nil {
		return Report{}, s.explain(ctx, err)
	}
	if err := s.checkWitness(state.Head{Lineage: snap.Lineage, Serial: snap.Serial}, 2); err != nil {
		return Report{}, err
	}
	copies, err := s.Copies()
	if err != nil {
		return Report{}, err
	}
	for _, c := range copies {
		r.Snapshots = append(r.Snapshots, CopyReport{c, s.usable(c.Path)})
	}
	return r, nil
}

func (s *Store) verify(ctx context.Context) (Report, *state.Snapshot, error) {
	s.file.RLock()
	defer s.file.RUnlock()
	var r Report
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
		r.FreePages, err = p.checkFree()
		r.Pages, r.PageBytes = int(p.high), int(p.pageSize)
		return err
	})
	if err != nil {
		return r, nil, err
	}
	snap, err := assemble(entries, func(string) bool { return true })
	if err != nil {
		return r, nil, err
	}
	if err := checkRuns(entries); err != nil {
		return r, nil, err
	}
	r.Lineage, r.Serial, r.Records, r.Intents = snap.Lineage, snap.Serial, len(snap.Records), len(snap.Intents)
	for _, v := range snap.Versions {
		r.Versions += len(v)
	}
	for _, k := range snap.Runs {
		r.Runs += len(k)
	}
	return r, snap, s.checkBolt()
}

// checkRuns wants a run for each entry of the index, and the other way round.
func checkRuns(entries []state.Entry) error {
	runs := map[string]bool{}
	for _, e := range entries {
		if e.Bucket == state.BucketRuns {
			runs[e.Key] = true
		}
	}
	for _, e := range entries {
		if e.Bucket == state.BucketRunKeys {
			if !runs[e.Key] {
				return damaged("the run behind %s is missing", state.DescribeKey(e.Bucket, e.Key))
			}
			delete(runs, e.Key)
		}
	}
	for k := range runs {
		return damaged("%s is not in the index of runs", state.DescribeKey(state.BucketRuns, k))
	}
	return nil
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
