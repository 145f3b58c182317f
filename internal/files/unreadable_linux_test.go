package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// asNobody calls f on a thread that may read only what everybody may: root reads any file otherwise.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setfsuid(0); err != nil {
			t.Error(err)
		}
	}()
	f()
}

func TestAnUnreadableFileIsAnErrorThatNamesIt(t *testing.T) {
	dir := project(t, map[string]string{"locked": "x", "ok": "y"})
	x := open(t, dir)
	if err := errors.Join(os.Chmod(filepath.Join(dir, "locked"), 0), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		_, err := x.DigestFile("locked")
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "digest locked") {
			t.Errorf("DigestFile = %v, want a permission error that names the file", err)
		}
		if _, err := x.ReadFile("locked", 10); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("ReadFile = %v", err)
		}
		if _, err := x.DigestFile("ok"); err != nil {
			t.Errorf("the other file: %v", err)
		}
	})
}
