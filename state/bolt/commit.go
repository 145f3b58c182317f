package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/group"
)

// failed holds the paths on which an fsync has failed. It outlives every Store
// on purpose: after a failed fsync the kernel may drop the dirty pages and
// report success next time, so nobody in this process may write there again.
var failed sync.Map // absolute path → error

// Commit applies all ops or none and returns when they are on disk. Commits that
// come while one is being written share the next transaction, each with its own
// serial, success and failure. When it returns an error, nothing of it is stored,
// except after ErrReadOnly, where the disk's word on that cannot be trusted.
func (s *Store) Commit(ctx context.Context, base uint64, ops ...state.Op) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	epoch := s.epoch
	s.mu.Unlock()
	return s.submit(ctx, state.Writer{Base: base, Epoch: epoch, Term: s.opts.Term}, func(state.Head) []state.Op { return ops })
}

func (s *Store) submit(ctx context.Context, w state.Writer, ops func(state.Head) []state.Op) (uint64, error) {
	c := &group.Commit{Writer: w, Ops: ops, Allowed: func() error { return fence.Check(ctx) }}
	return s.queue.Submit(ctx, c, func(all []*group.Commit) { s.write(context.WithoutCancel(ctx), all) })
}

// write commits a group and leaves the outcome in each of its members.
func (s *Store) write(ctx context.Context, commits []*group.Commit) {
	s.file.Lock()
	defer s.file.Unlock()
	metas, err := s.mayWrite(ctx)
	if err == nil {
		err = guarded(func() error { return s.writeGroup(commits, metas) })
		err = s.explain(ctx, err)
	}
	if err != nil {
		group.Fail(commits, err)
	}
}

// mayWrite makes the file if it is the first time, and otherwise checks the
// whole structure before bbolt may write into it, unless this Store did so and
// nobody has written since. It returns how many meta pages are valid.
func (s *Store) mayWrite(ctx context.Context) (metas int, err error) {
	key := s.failKey()
	if err, ok := failed.Load(key); ok {
		return 0, fmt.Errorf("%w: %s: %v; start ml anew once the disk is well", state.ErrReadOnly, s.path, err)
	}
	if _, err := os.Lstat(s.path); errors.Is(err, fs.ErrNotExist) {
		if err := s.checkAbsent(); err != nil {
			return 0, err
		}
		if err := s.create(); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	checked := s.checked
	s.mu.Unlock()
	var now stamp
	err = s.read(ctx, func(f *os.File, p *pages) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		now, metas = stamp{info, p.txid}, p.metas
		if checked.same(now) && p.metas == 2 {
			return nil
		}
		return checkStructure(p)
	})
	if err != nil {
		return 0, s.explain(ctx, err)
	}
	s.setChecked(now)
	return metas, nil
}

func (s *Store) setChecked(st stamp) {
	s.mu.Lock()
	s.checked = st
	s.mu.Unlock()
}

// failKey is the path under which a failed fsync is remembered.
func (s *Store) failKey() string {
	if abs, err := filepath.Abs(s.path); err == nil {
		return abs
	}
	return s.path
}

// checkStructure visits every page: each is in one tree or free.
func checkStructure(p *pages) error {
	buckets, err := p.buckets()
	if err != nil {
		return err
	}
	for name, b := range buckets {
		if err := p.scanBucket(b, "", func(_, _ []byte) error { return nil }); err != nil {
			return fmt.Errorf("check the bucket %s: %w", name, err)
		}
	}
	_, err = p.checkFree()
	return err
}

// writeGroup runs guarded. It closes what it opened even after a panic of
// bbolt's, in the order that cannot block: first the transaction, then the file.
func (s *Store) writeGroup(commits []*group.Commit, metas int) (err error) {
	h, err := s.open(s.opts.Timeout, false)
	if err != nil {
		return err
	}
	tx, err := h.db.Begin(true)
	if err != nil {
		return errors.Join(err, h.db.Close())
	}
	defer func() {
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, bolterrors.ErrTxClosed) {
			err = errors.Join(err, rerr)
		}
		err = errors.Join(err, h.db.Close())
	}()
	head, err := state.ReadHead(txTable{tx})
	if err != nil {
		return err
	}
	if err := s.checkWitness(head, metas); err != nil {
		return err
	}
	all := state.NewOverlay(txTable{tx})
	good := 0
	for _, c := range commits {
		if c.Apply(all); c.Err == nil {
			good++
		}
	}
	if good == 0 {
		return nil
	}
	if head, err = state.ReadHead(all); err != nil {
		return err
	}
	txid := uint64(tx.ID())
	if err := s.commitTx(tx, all, commits); err != nil {
		return err
	}
	s.warn(s.writeWitness(head, false))
	info, err := h.file.Stat()
	if err != nil {
		s.warn(err)
		return nil
	}
	s.setChecked(stamp{info, txid})
	return nil
}

// commitTx writes the changes and syncs.
func (s *Store) commitTx(tx *bbolt.Tx, o *state.Overlay, commits []*group.Commit) error {
	sealed, err := txTable{tx}.Get(state.BucketMeta, rootKey)
	if err != nil {
		return err
	}
	sums, err := decodeTotals(sealed)
	if err != nil {
		return err
	}
	if err := writeChanges(tx, sums, o.Changes()); err != nil {
		return err
	}
	fault.Point(fault.StateCommitBefore)
	// The last moment at which nothing is written: this process may have been stopped since it began, and another one leads.
	if err := group.Allowed(commits); err != nil {
		return fmt.Errorf("commit to the state: %w", err)
	}
	err = fault.Err(fault.StateCommitSync)
	if err == nil {
		err = tx.Commit()
	}
	fault.Point(fault.StateCommitAfter)
	return s.writeError(err)
}

// writeError sorts failed writes. A full disk is told by the write or the
// growing of the file, before anything counts: bbolt has rolled back, and the
// store stays usable. Whatever else fails may have been fsync.
func (s *Store) writeError(err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
	wrote := errors.As(err, &pe) && pe.Op == "write"
	if full && wrote || strings.HasPrefix(err.Error(), "file resize error") {
		return fmt.Errorf("write the state file %s: %w; nothing was changed, make room and try again", s.path, err)
	}
	failed.LoadOrStore(s.failKey(), err)
	return fmt.Errorf("%w: %s: %w; start ml anew once the disk is well", state.ErrReadOnly, s.path, err)
}

// fillPercent packs pages tighter than bbolt's half: a state is read in full at
// every plan and written a record at a time.
const fillPercent = 0.9

// writeChanges stores the changes and the root hash that comes of them.
func writeChanges(tx *bbolt.Tx, sums totals, changes []state.Entry) error {
	for _, c := range changes {
		b := tx.Bucket([]byte(c.Bucket))
		if b == nil {
			return damaged("the bucket %s is missing", c.Bucket)
		}
		b.FillPercent = fillPercent
		if old := b.Get([]byte(c.Key)); old != nil {
			if _, err := unseal(c.Bucket, c.Key, old); err != nil {
				return err
			}
			sums[c.Bucket].remove(old)
		}
		if c.Value == nil {
			if err := b.Delete([]byte(c.Key)); err != nil {
				return err
			}
			continue
		}
		value := seal(c.Bucket, c.Key, c.Value)
		sums[c.Bucket].add(value)
		if err := b.Put([]byte(c.Key), value); err != nil {
			return fmt.Errorf("store %s: %w", state.DescribeKey(c.Bucket, c.Key), err)
		}
	}
	root, err := sums.encode()
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(state.BucketMeta)).Put([]byte(rootKey), seal(state.BucketMeta, rootKey, root))
}

// txTable is a bbolt transaction as a state.Table; every value is verified.
type txTable struct{ tx *bbolt.Tx }

func (t txTable) bucket(name string) (*bbolt.Bucket, error) {
	if b := t.tx.Bucket([]byte(name)); b != nil {
		return b, nil
	}
	return nil, damaged("the bucket %s is missing", name)
}

// Get returns a verified copy.
func (t txTable) Get(bucket, key string) ([]byte, error) {
	b, err := t.bucket(bucket)
	if err != nil {
		return nil, err
	}
	value := b.Get([]byte(key))
	if value == nil {
		return nil, nil
	}
	payload, err := unseal(bucket, key, value)
	return bytes.Clone(payload), err
}

// Scan walks the keys with the prefix.
func (t txTable) Scan(bucket, prefix string, fn func(key string, value []byte) error) error {
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	c := b.Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
		payload, err := unseal(bucket, string(k), v)
		if err != nil {
			return err
		}
		if err := fn(string(k), payload); err != nil {
			return err
		}
	}
	return nil
}
