//go:build unix

package bolt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/state"
)

// unlimited is RLIM_INFINITY, which Linux writes as -1 and macOS as the highest int64.
const unlimited = 1<<63 - 1

// limited is the part of child that needs Unix: another user, or a disk that fills.
func limited(ctx context.Context, mode string, s *Store) error {
	if mode == "fill" {
		return fillDisk(ctx, s)
	}
	if os.Getuid() == 0 {
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	if mode == "commit-as-nobody" {
		_, err := s.Commit(ctx, 1, state.Op{PutRecord: small(2)})
		return err
	}
	snap, err := s.Snapshot(ctx)
	if err == nil {
		fmt.Println("read", len(snap.Records))
	}
	return err
}

// fillDisk commits growing records under a file size limit, as on a full disk,
// and then a small one with the limit gone.
func fillDisk(ctx context.Context, s *Store) error {
	_, release, err := s.Acquire(ctx, "apply")
	if err != nil {
		return err
	}
	limit := syscall.Rlimit{Cur: 256 << 10, Max: unlimited}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	failures := 0
	for i := 1; failures < 3; i++ {
		r := small(i)
		r.Spec = json.RawMessage(`"` + strings.Repeat("x", 20_000) + `"`)
		switch _, err := s.Commit(ctx, 0, state.Op{PutRecord: r}); {
		case err == nil:
			fmt.Println("done", i)
		case errors.Is(err, state.ErrReadOnly) || !strings.Contains(err.Error(), "make room"):
			return err
		default:
			failures++
		}
	}
	limit.Cur = unlimited
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if _, err := s.Commit(ctx, 0, state.Op{PutRecord: small(1000)}); err != nil {
		return err
	}
	fmt.Println("after 1000")
	return release()
}

func TestZ9DiskFull(t *testing.T) {
	s := newStore(t)
	said, err := start(t, "fill", s.path, "").wait()
	if err != nil {
		t.Fatalf("%v after %v", err, said)
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(said) < 3 || len(snap.Records) != len(said) {
		t.Errorf("told %d commits, found %d records", len(said), len(snap.Records))
	}
	for i := 1; i < len(said); i++ {
		if snap.Record(small(i).Address) == nil {
			t.Errorf("record %d is lost", i)
		}
	}
}

func TestZ8ReadOnly(t *testing.T) {
	t.Run("a read-only file is read, and not written", func(t *testing.T) {
		s := newStore(t)
		commit(t, s, state.Op{PutRecord: small(1)})
		chmod(t, s.path, 0o444)
		if snap, err := s.Snapshot(t.Context()); err != nil || len(snap.Records) != 1 {
			t.Errorf("read: %v", err)
		}
		_, err := s.Commit(t.Context(), 1, state.Op{PutRecord: small(2)})
		wantError(t, err, nil, "is read-only; make it writable")
		chmod(t, s.path, 0o600)
		commit(t, s, state.Op{PutRecord: small(2)})
	})
	t.Run("a file of somebody else's in a folder of somebody else's is read, and not written", func(t *testing.T) {
		s := newStore(t)
		commit(t, s, state.Op{PutRecord: small(1)})
		for path, mode := range map[string]os.FileMode{s.path: 0o644, s.witnessPath(): 0o644, filepath.Dir(s.dir()): 0o755, filepath.Dir(filepath.Dir(s.dir())): 0o755} {
			chmod(t, path, mode)
		}
		if said, err := start(t, "snapshot-as-nobody", s.path, "").wait(); err != nil || said[0] != "read 1" {
			t.Errorf("read: %v %v", said, err)
		}
		if os.Getuid() == 0 {
			said, err := start(t, "commit-as-nobody", s.path, "").wait()
			if err == nil || !strings.Contains(strings.Join(said, ""), "permission denied") {
				t.Errorf("write: %v %v", said, err)
			}
		}
	})
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestZ10AStoppedProcessIsNamed(t *testing.T) {
	for _, tc := range []struct{ mode, text string }{
		{"lease", "child@host (process %d) holds it for apply since"},
		{"file", "another process has had %s open for longer than 200ms: process %d"},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			s := newStore(t)
			s.opts.Timeout = 200 * time.Millisecond
			commit(t, s, state.Op{PutRecord: small(1)})
			p := start(t, tc.mode, s.path, "")
			if got := p.line(t); got != "ready" {
				t.Fatal(got)
			}
			if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(tc.text, p.cmd.Process.Pid)
			if tc.mode == "file" {
				want = fmt.Sprintf(tc.text, s.path, p.cmd.Process.Pid)
				_, err := s.Snapshot(t.Context())
				wantError(t, err, state.ErrLocked, want)
				_, err = s.Commit(t.Context(), 1, state.Op{PutRecord: small(2)})
				wantError(t, err, state.ErrLocked, want)
			} else {
				ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
				defer cancel()
				_, _, err := s.Acquire(ctx, "apply")
				wantError(t, err, state.ErrLocked, want)
				commit(t, s, state.Op{PutRecord: small(2)}) // a lease locks nobody out who brings a base
			}
			if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if err := p.stdin.Close(); err != nil {
				t.Fatal(err)
			}
			if said, err := p.wait(); err != nil {
				t.Fatalf("%v %v", said, err)
			}
			checkGoesOn(t, s)
		})
	}
}

func TestZ13OnlyAPlainFileWillDo(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		make       func(path string) error
	}{
		{"a link", "is a symbolic link to \"elsewhere.db\"", func(p string) error { return os.Symlink("elsewhere.db", p) }},
		{"a folder", "is a folder", func(p string) error { return os.Mkdir(p, 0o755) }},
		{"a FIFO", "is no plain file but p", func(p string) error { return syscall.Mkfifo(p, 0o600) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Open(filepath.Join(t.TempDir(), "state.db"), Options{})
			if err := tc.make(s.path); err != nil {
				t.Fatal(err)
			}
			_, err := s.Snapshot(t.Context())
			wantError(t, err, nil, tc.text)
			_, err = s.Commit(t.Context(), 0, state.Op{PutRecord: small(1)})
			wantError(t, err, nil, tc.text)
			_, err = s.Backup(t.Context())
			wantError(t, err, nil, tc.text)
		})
	}
}
