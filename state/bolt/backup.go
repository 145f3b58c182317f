package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"go.etcd.io/bbolt"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/state"
)

// keepSnapshots is how many verified copies stay.
const keepSnapshots = 5

func (s *Store) snapshotDir() string { return filepath.Join(s.dir(), "snapshots") }

// Backup writes a verified copy of the state beside it and returns its path. It
// keeps the newest five. A copy gets its name only when it was synced, read back
// and found whole. It is called at the end of an apply.
func (s *Store) Backup(ctx context.Context) (string, error) {
	dir := s.snapshotDir()
	if err := durable.MkdirAll(s.dir(), 0o755); err != nil {
		return "", err
	}
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return "", fmt.Errorf("back up the state: %w", err)
	}
	path, err := s.backup(ctx, tmp)
	if err = errors.Join(err, durable.RemoveIfThere(tmp.Name())); err != nil {
		return "", err
	}
	s.warn(s.rotate())
	return path, nil
}

func (s *Store) backup(ctx context.Context, tmp *os.File) (string, error) {
	if err := errors.Join(s.copyTo(ctx, tmp), tmp.Close()); err != nil {
		return "", fmt.Errorf("back up the state: %w", err)
	}
	snap, err := verifyFile(tmp.Name(), s.opts)
	if err != nil {
		return "", fmt.Errorf("back up the state: the copy is not whole: %w", s.explain(ctx, err))
	}
	if err := s.syncWitness(state.Head{Lineage: snap.Lineage, Serial: snap.Serial}); err != nil {
		return "", err
	}
	path := filepath.Join(s.snapshotDir(), fmt.Sprintf("state-%09d.db", snap.Serial))
	fault.Point(fault.StateBackupBeforeRename)
	if err := os.Rename(tmp.Name(), path); err != nil {
		return "", fmt.Errorf("back up the state: %w", err)
	}
	fault.Point(fault.StateBackupAfterRename)
	return path, durable.SyncDir(s.snapshotDir())
}

// syncWitness makes the witness durable once in a while: with each backup.
func (s *Store) syncWitness(h state.Head) error {
	s.file.Lock()
	defer s.file.Unlock()
	w, err := s.readWitness()
	if err != nil || w.Lineage == h.Lineage && w.Serial > h.Serial {
		return err
	}
	h.Epoch = max(h.Epoch, w.Epoch)
	return s.writeWitness(h, true)
}

// copyTo writes one consistent state into f and syncs it.
func (s *Store) copyTo(ctx context.Context, f *os.File) error {
	s.file.RLock()
	defer s.file.RUnlock()
	err := guarded(func() (err error) {
		h, err := s.open(s.opts.Timeout, true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.db.Close()) }()
		return h.db.View(func(tx *bbolt.Tx) error {
			_, err := tx.WriteTo(f)
			return err
		})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, s.checkAbsent())
	}
	if err != nil {
		return s.explain(ctx, err)
	}
	return f.Sync()
}

// Copies lists the snapshot files, newest first. It does not open them.
func (s *Store) Copies() ([]state.Copy, error) {
	names, err := os.ReadDir(s.snapshotDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	var copies []state.Copy
	for _, n := range names {
		digits, ok := strings.CutPrefix(n.Name(), "state-")
		digits, ok2 := strings.CutSuffix(digits, ".db")
		serial, err := strconv.ParseUint(digits, 10, 64)
		if ok && ok2 && err == nil && n.Type().IsRegular() {
			copies = append(copies, state.Copy{Path: filepath.Join(s.snapshotDir(), n.Name()), Serial: serial})
		}
	}
	slices.SortFunc(copies, func(a, b state.Copy) int {
		return cmp.Or(cmp.Compare(b.Serial, a.Serial), cmp.Compare(a.Path, b.Path))
	})
	return copies, nil
}

// rotate removes all but the newest copies, and what crashes left behind.
func (s *Store) rotate() error {
	copies, err := s.Copies()
	for i, c := range copies {
		if i >= keepSnapshots {
			err = errors.Join(err, durable.RemoveIfThere(c.Path))
		}
	}
	for _, pattern := range []string{filepath.Join(s.snapshotDir(), ".tmp-*"), filepath.Join(s.dir(), "."+filepath.Base(s.path)+".tmp-*")} {
		left, gerr := filepath.Glob(pattern)
		err = errors.Join(err, gerr)
		for _, name := range left {
			// A young one may be another process's, at work.
			if info, serr := os.Lstat(name); serr == nil && s.opts.Now().Sub(info.ModTime()) > time.Hour {
				err = errors.Join(err, durable.RemoveIfThere(name))
			}
		}
	}
	return err
}

// newestSnapshot is the path of the newest copy that is whole and of this
// lineage, "" for none. It is for messages: what cannot be read does not count.
func (s *Store) newestSnapshot(ctx context.Context) string {
	copies, err := s.Copies()
	if err != nil {
		return ""
	}
	for _, c := range copies {
		if ctx.Err() != nil {
			return ""
		}
		if s.usable(c.Path) == nil {
			return c.Path
		}
	}
	return ""
}

// usable says why a copy cannot stand in for the state.
func (s *Store) usable(path string) error {
	snap, err := verifyFile(path, s.opts)
	if err != nil {
		return err
	}
	w, err := s.readWitness()
	if err == nil && w.Lineage != "" && w.Lineage != snap.Lineage {
		err = fmt.Errorf("%w: it is of lineage %s, the state here was of %s", state.ErrOlder, snap.Lineage, w.Lineage)
	}
	return err
}

// RestoreLatest puts the newest verified snapshot in the state's place and
// returns its path. The damaged file is kept as state.db.damaged-TIME. It takes
// the lock of the lease, waiting until the context ends, and the serial rises
// above all that was written here, so that plans made meanwhile are stale.
func (s *Store) RestoreLatest(ctx context.Context) (from string, err error) {
	lock, err := s.lock(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	copies, err := s.Copies()
	if err != nil {
		return "", err
	}
	var why error
	for _, c := range copies {
		if uerr := s.usable(c.Path); uerr != nil {
			why = errors.Join(why, fmt.Errorf("snapshot %s: %w", c.Path, uerr))
			continue
		}
		return c.Path, s.restore(c.Path)
	}
	return "", errors.Join(errors.New("there is no whole snapshot to restore"), why)
}

// restore prepares a copy under a temporary name, with its serial raised, and
// swaps it in by one rename.
func (s *Store) restore(from string) (err error) {
	s.file.Lock()
	defer s.file.Unlock()
	tmp, err := os.CreateTemp(s.dir(), "."+filepath.Base(s.path)+".tmp-*")
	if err != nil {
		return fmt.Errorf("restore the state: %w", err)
	}
	name := tmp.Name()
	defer func() { err = errors.Join(err, durable.RemoveIfThere(name)) }()
	if err := errors.Join(copyFile(from, tmp), tmp.Close()); err != nil {
		return fmt.Errorf("restore the state: %w", err)
	}
	w, err := s.readWitness()
	if err != nil {
		return err
	}
	head, err := raise(name, w)
	if err != nil {
		return fmt.Errorf("restore the state: %w", err)
	}
	if err := s.putAside(); err != nil {
		return fmt.Errorf("restore the state: %w", err)
	}
	fault.Point(fault.StateRestoreBefore)
	if err := os.Rename(name, s.path); err != nil {
		return fmt.Errorf("restore the state: %w", err)
	}
	fault.Point(fault.StateRestoreAfter)
	s.setChecked(stamp{})
	return errors.Join(durable.SyncDir(s.dir()), s.writeWitness(head, true))
}

func copyFile(from string, to *os.File) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, f)
	return errors.Join(err, f.Close())
}

// putAside keeps the present file under another name, as evidence. Its lock is
// taken, so that nobody is writing into it and thinks it is the state.
func (s *Store) putAside() error {
	if _, err := os.Lstat(s.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := s.inspect(); err != nil {
		return err
	}
	lock := flock.New(s.path, flock.SetFlag(os.O_RDONLY))
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Timeout)
	defer cancel()
	if _, err := lock.TryLockContext(ctx, pollEvery); err != nil {
		return errors.Join(fmt.Errorf("%w: somebody has %s open%s: %w", state.ErrLocked, s.path, s.describeUser(), err), lock.Close())
	}
	aside := s.path + ".damaged-" + s.opts.Now().UTC().Format("20060102T150405.000000000")
	err := os.Link(s.path, aside)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = os.Rename(s.path, aside) // no hard links here: the name is free for a moment
	}
	return errors.Join(err, lock.Close())
}

// raise lifts the serial of the state at path above the witness, and its epoch
// to the witness's, and returns the new head.
func raise(path string, w state.Head) (head state.Head, err error) {
	err = guarded(func() (err error) {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoStatistics: true, Timeout: time.Second})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return db.Update(func(tx *bbolt.Tx) error {
			root, err := txTable{tx}.Get(state.BucketMeta, rootKey)
			if err != nil {
				return err
			}
			sums, err := decodeTotals(root)
			if err != nil {
				return err
			}
			o := state.NewOverlay(txTable{tx})
			if head, err = state.Raise(o, w); err != nil {
				return err
			}
			return writeChanges(tx, sums, o.Changes())
		})
	})
	return head, err
}

// Accept takes the state as it is although an older or other one was written
// here (state.ErrOlder): the user has decided. Its serial rises above all that
// were written, which makes every saved plan stale.
func (s *Store) Accept(ctx context.Context) (err error) {
	lock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	s.file.Lock()
	defer s.file.Unlock()
	if err := s.read(ctx, func(_ *os.File, p *pages) error { return checkStructure(p) }); err != nil {
		return s.explain(ctx, err)
	}
	w, err := s.readWitness()
	if err != nil {
		return err
	}
	head, err := raise(s.path, w)
	if err != nil {
		return s.explain(ctx, err)
	}
	s.setChecked(stamp{})
	return s.writeWitness(head, true)
}
