package bolt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/state"
)

// stamp tells whether a file is the one that was checked: same inode, same transaction.
type stamp struct {
	info os.FileInfo
	txid uint64
}

func (a stamp) same(b stamp) bool {
	return a.info != nil && b.info != nil && a.txid == b.txid && os.SameFile(a.info, b.info)
}

// guarded runs fn so that what bbolt does on a bad file, a panic or a fault on
// its memory map, is an error. Faults can be caught in the goroutine only that
// asked for it, hence an own one, whose end restores everything.
func guarded(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- damaged("bbolt gave up on it: %v", r)
			}
		}()
		debug.SetPanicOnFault(true)
		done <- fn()
	}()
	return <-done
}

// inspect looks at the path without opening it: a state is a plain file. Others
// would block (a FIFO) or be replaced by a rename where a user sees one file (a link).
func (s *Store) inspect() (os.FileInfo, error) {
	info, err := os.Lstat(s.path)
	if err != nil {
		return nil, err
	}
	switch m := info.Mode(); {
	case m.IsRegular():
		return info, nil
	case m&fs.ModeSymlink != 0:
		target, err := os.Readlink(s.path)
		return nil, errors.Join(fmt.Errorf("the state file %s is a symbolic link to %q; put the file itself there", s.path, target), err)
	case m.IsDir():
		return nil, fmt.Errorf("the state file %s is a folder; move it away", s.path)
	default:
		return nil, fmt.Errorf("the state file %s is no plain file but %s; move it away", s.path, m.Type())
	}
}

// handle is an open database with the file under it.
type handle struct {
	db   *bbolt.DB
	file *os.File
}

// open opens the file with bbolt, which waits for its lock. It must run guarded.
// A file that was replaced while we waited (a restore) is opened anew: a write
// to the old one would be lost.
func (s *Store) open(timeout time.Duration, readOnly bool) (h handle, err error) {
	for {
		info, err := s.inspect()
		if err != nil {
			return handle{}, err
		}
		if !readOnly && info.Mode().Perm()&0o222 == 0 {
			return handle{}, fmt.Errorf("the state file %s is read-only; make it writable (chmod u+w) to change anything", s.path)
		}
		if info.Size() == 0 { // bbolt would make a new database of it
			return handle{}, damaged("it is empty")
		}
		if h, err = openBolt(s.path, timeout, readOnly); err != nil {
			return handle{}, s.openError(err)
		}
		held, err := h.file.Stat()
		now, err2 := os.Lstat(s.path)
		if err == nil && err2 == nil && os.SameFile(held, now) {
			return h, nil
		}
		if err := errors.Join(err, h.db.Close()); err != nil {
			return handle{}, err
		}
	}
}

func openBolt(path string, timeout time.Duration, readOnly bool) (h handle, err error) {
	// If bbolt panics, its own clean-up may wait for locks it holds. Closing the
	// file gives the lock on it back, whatever became of the rest.
	opened := false
	defer func() {
		if !opened && h.file != nil {
			if cerr := h.file.Close(); cerr != nil && !errors.Is(cerr, os.ErrClosed) {
				err = errors.Join(err, cerr)
			}
		}
	}()
	h.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: timeout, ReadOnly: readOnly, NoStatistics: true,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag&^os.O_CREATE, perm)
			h.file = f
			return f, err
		},
	})
	opened = err == nil
	return h, err
}

// openError says in our words why a file could not be opened.
func (s *Store) openError(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%w: another process has had %s open for longer than %s%s", state.ErrLocked, s.path, s.opts.Timeout, s.describeUser())
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return damaged("neither of its meta pages is valid (%v)", err)
	case strings.HasPrefix(err.Error(), "file size too small"):
		return damaged("it was cut off: %v", err)
	}
	return fmt.Errorf("open the state file %s: %w", s.path, err)
}

// read opens the file for reading and calls fn with a reader of its pages,
// while writers wait. It errors with os.ErrNotExist when there is no file.
func (s *Store) read(ctx context.Context, fn func(f *os.File, p *pages) error) error {
	timeout := s.opts.Timeout
	if end, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(end)), time.Millisecond)
	}
	return guarded(func() (err error) {
		h, err := s.open(timeout, true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.db.Close()) }()
		info, err := h.file.Stat()
		if err != nil {
			return err
		}
		p, err := openPages(h.file, info.Size())
		if err != nil {
			return err
		}
		return fn(h.file, p)
	})
}

// create makes an empty state at path, whole or not at all: a temporary file is
// filled, synced and then given the name, if nobody else has taken it by then.
func (s *Store) create() error { return s.createAs(fill) }

// createAs is create with another content.
func (s *Store) createAs(fill func(path string) error) (err error) {
	dir := s.dir()
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(s.path)+".tmp-*")
	if err != nil {
		return fmt.Errorf("create the state file %s: %w", s.path, err)
	}
	name := tmp.Name()
	defer func() { err = errors.Join(err, durable.RemoveIfThere(name)) }()
	if err := tmp.Close(); err != nil {
		return err
	}
	fault.Point(fault.StateCreateBefore)
	if err := guarded(func() error { return fill(name) }); err != nil {
		return fmt.Errorf("create the state file %s: %w", s.path, err)
	}
	fault.Point(fault.StateCreateRename)
	if err := publish(name, s.path); err != nil {
		return fmt.Errorf("create the state file %s: %w", s.path, err)
	}
	fault.Point(fault.StateCreateAfter)
	return durable.SyncDir(dir)
}

// fill makes an empty state of an empty file.
func fill(path string) (err error) {
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
		o := state.NewOverlay(plainTable{})
		if err := state.Create(o, rand.Text()); err != nil {
			return err
		}
		return writeChanges(tx, newTotals(), o.Changes())
	})
}

// publish gives a finished file its name. A hard link does that without ever
// replacing a file that another process put there meanwhile; where there are no
// hard links, a rename has to do.
func publish(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	if _, serr := os.Lstat(to); serr == nil {
		return nil
	}
	return os.Rename(from, to)
}
