package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/continuo-ml/continuo/state"
)

// TestAFileReplacedWhileACommitWaitsIsWritten: the lock that the commit gets in
// the end is on the old file, where nobody would ever read it.
func TestAFileReplacedWhileACommitWaitsIsWritten(t *testing.T) {
	s := newStore(t)
	commit(t, s, state.Op{PutRecord: small(1)})
	if _, err := s.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := start(t, "file", s.path, "")
	if got := p.line(t); got != "ready" {
		t.Fatal(got)
	}
	done := make(chan error, 1)
	go func() {
		done <- guarded(func() error {
			h, err := s.open(s.opts.Timeout, false)
			if err != nil {
				return err
			}
			held, err := h.file.Stat()
			now, err2 := os.Lstat(s.path)
			if !os.SameFile(held, now) {
				err = errors.New("the old file was opened")
			}
			return errors.Join(err, err2, h.db.Close())
		})
	}()
	waitFor(t, func() bool { return len(lockers(s.path)) > 0 && opened(t, s.path) })
	next := s.path + ".next"
	writeFile(t, next, readFile(t, s.path))
	if err := os.Rename(next, s.path); err != nil {
		t.Fatal(err)
	}
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if said, err := p.wait(); err != nil {
		t.Error(said, err)
	}
}

// opened says whether this process has the file open.
func opened(t *testing.T, path string) bool {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(fds) == 0 {
		t.Fatal("open files cannot be listed:", err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == path {
			return true
		}
	}
	return false
}
