package bolt

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/continuo-ml/continuo/state"
)

// TestZ9AFullTmpfs is the disk that takes the growing of a file and refuses the
// bytes: the failure comes from write, not from truncate as under a size limit.
func TestZ9AFullTmpfs(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skip("a tmpfs can be mounted by root only; TestZ9DiskFull covers the size limit")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := Open(filepath.Join(dir, "state.db"), Options{})
	good, full := 0, 0
	for i := 0; full < 3; i++ {
		r := small(i)
		r.Spec = json.RawMessage(`"` + strings.Repeat("x", 20_000) + `"`)
		snap, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(snap.Records) != good {
			t.Fatalf("%d of %d acknowledged records are there", len(snap.Records), good)
		}
		if _, err = s.Commit(t.Context(), snap.Serial, state.Op{PutRecord: r}); err == nil {
			good++
			continue
		}
		full++
		wantError(t, err, syscall.ENOSPC, "make room and try again")
		if errors.Is(err, state.ErrReadOnly) {
			t.Fatal(err)
		}
	}
	if good == 0 {
		t.Error("nothing fitted")
	}
	if _, err := s.Backup(t.Context()); err == nil {
		t.Error("a backup fitted on the full disk")
	}
	if left, err := filepath.Glob(filepath.Join(s.snapshotDir(), "*")); err != nil || len(left) != 0 {
		t.Errorf("left of the backup: %v, %v", left, err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	commit(t, s, state.Op{PutRecord: small(1000)})
	if _, err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAFaultInAMapIsAnError reads a map whose file was cut off meanwhile, which
// kills a process that is not guarded.
func TestAFaultInAMapIsAnError(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(8192); err != nil {
		t.Fatal(err)
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, 8192, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(0), f.Close()); err != nil {
		t.Fatal(err)
	}
	sum := byte(0)
	err = guarded(func() error {
		for _, b := range m {
			sum += b
		}
		return nil
	})
	var d damage
	if !errors.As(err, &d) {
		t.Errorf("got %v and sum %d", err, sum)
	}
	if err := syscall.Munmap(m); err != nil {
		t.Error(err)
	}
}
