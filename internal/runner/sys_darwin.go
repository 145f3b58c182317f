package runner

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

// rssUnit is the unit of ru_maxrss in bytes.
const rssUnit = 1

func selfExe() (string, error) { return os.Executable() }

// commandAttr gives the command its own group.
func commandAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// adoptOrphans has no counterpart here: what leaves its group and its parent is lost sight of.
func adoptOrphans() error { return nil }

// awaitExit returns when the child has ended, without reaping it: its pid stays taken. It looks at the process table, because the
// system call for this is not offered to Go programs.
func awaitExit(pid int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		p, err := proc.Lookup(pid)
		if errors.Is(err, proc.ErrGone) || err == nil && p.Zombie {
			return nil
		}
		if err != nil {
			return err
		}
		<-tick.C
	}
}
