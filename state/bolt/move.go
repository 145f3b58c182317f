package bolt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/state"
)

// Dump returns every entry, each verified and all against the root hash, sorted
// by bucket and key; nil when there is no state.
func (s *Store) Dump(ctx context.Context) ([]state.Entry, error) {
	all := func(string) bool { return true }
	entries, err := s.entries(ctx, func(p *pages, buckets map[string]bucket) ([]state.Entry, error) {
		return readAll(p, buckets, all)
	})
	if err != nil || entries == nil {
		return nil, err
	}
	// assemble opens the entries it decodes; what is handed on is opened here.
	if _, err := assemble(slices.Clone(entries), all); err != nil {
		return nil, s.explain(ctx, err)
	}
	out := make([]state.Entry, 0, len(entries))
	for _, e := range entries {
		if e.Bucket == state.BucketMeta && e.Key == rootKey {
			continue
		}
		if err := openEntry(&e); err != nil {
			return nil, s.explain(ctx, err)
		}
		out = append(out, e)
	}
	return out, nil
}

// Fill makes the file of the entries, whole or not at all. It errors when there
// is a state already.
func (s *Store) Fill(ctx context.Context, entries []state.Entry) (err error) {
	lock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	s.file.Lock()
	defer s.file.Unlock()
	if _, err := os.Lstat(s.path); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("there is a state at %s already; move that file away first", s.path), err)
	}
	carried, head, err := state.Carried(entries)
	if err != nil {
		return fmt.Errorf("make %s: %w", s.path, err)
	}
	if err := s.createAs(func(name string) error { return fillWith(name, carried) }); err != nil {
		return err
	}
	return s.writeWitness(head, true)
}

func fillWith(path string, entries []state.Entry) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoStatistics: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Update(func(tx *bbolt.Tx) error {
		for _, b := range state.Buckets() {
			if _, err := tx.CreateBucket([]byte(b)); err != nil {
				return err
			}
		}
		return writeChanges(tx, newTotals(), entries)
	})
}

// Handover gives every entry to take while the lock of the lease keeps writers
// out, and then puts the file, its witness and its snapshots aside as
// NAME.moved-TIME. What to says is for people who look at the folder later.
func (s *Store) Handover(ctx context.Context, _ string, take func([]state.Entry) error) (err error) {
	lock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	entries, err := s.Dump(ctx)
	if err != nil {
		return err
	}
	if err := take(entries); err != nil || entries == nil {
		return err
	}
	s.file.Lock()
	defer s.file.Unlock()
	suffix := ".moved-" + s.opts.Now().UTC().Format("20060102T150405") + "-" + rand.Text()[:4]
	// The state first: with it gone, the witness left behind says so to whoever looks.
	for _, name := range []string{s.path, s.witnessPath(), s.snapshotDir()} {
		if err := os.Rename(name, name+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put %s aside: %w; the state was copied, so move that by hand", name, err)
		}
	}
	s.setChecked(stamp{})
	return durable.SyncDir(s.dir())
}
