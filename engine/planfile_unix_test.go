//go:build linux || darwin

package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestP8AFIFONeverBlocks(t *testing.T) {
	b := loopBench(t)
	path := filepath.Join(t.TempDir(), "plan")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := within10s(t, func() error { _, err := b.read(path); return err }); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Fatal(err)
	}
}

// within10s fails the test when fn waits for something that never comes.
func within10s(t *testing.T, fn func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- fn() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for ever")
		return nil
	}
}

func TestP8APlanReplacedBetweenCheckAndUseIsNeverTakenForTheOther(t *testing.T) {
	b := loopBench(t)
	good := b.savedPlan()
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(good), "under-attack")
	bad := append([]byte(nil), raw...)
	bad[len(bad)-3] ^= 1
	if err := os.WriteFile(path+".bad", bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path+".fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	forms := []string{path + ".fifo", path + ".bad", good}
	swap := func(n int) error { // links and a rename: as often as can be
		next := path + ".next"
		if err := os.Remove(next); err != nil && !os.IsNotExist(err) {
			return err // a rename onto the same file leaves both names
		}
		if err := os.Link(forms[n%3], next); err != nil {
			return err
		}
		return os.Rename(next, path)
	}
	if err := swap(2); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := swap(n); err != nil {
				ended <- err
				return
			}
		}
	}()
	taken, refused := 0, 0
	err = within10s(t, func() error {
		for range 20000 {
			p, err := b.read(path)
			switch {
			case err != nil:
				refused++
			case len(p.Plan.Steps) != 6:
				return os.ErrInvalid
			default:
				taken++
			}
		}
		return nil
	})
	close(stop)
	if serr := <-ended; err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	if taken == 0 || refused == 0 {
		t.Fatalf("taken %d, refused %d: the attack did not happen", taken, refused)
	}
}
