//go:build linux || darwin

package runner

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// nonBlock keeps an open of a named pipe from waiting for its other end.
const nonBlock = syscall.O_NONBLOCK

// detached puts the runner into a session of its own: no terminal, and no Ctrl-C, reaches it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// closeInherited marks keep as not to be inherited and closes all other files above stderr that are inheritable: Go marks its own.
func closeInherited(keep int) error {
	d, err := os.Open("/dev/fd")
	if err != nil {
		return fmt.Errorf("list open files: %w", err)
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("list open files: %w", err)
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= 2 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue // Closed by now, or Go's own.
		}
		if fd == keep {
			unix.CloseOnExec(fd)
			continue
		}
		if err := unix.Close(fd); err != nil {
			return fmt.Errorf("close inherited file %d: %w", fd, err)
		}
	}
	return nil
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(int(s))
}

// childUsage sums up all children reaped so far: the largest resident size in bytes, and the CPU time in seconds.
func childUsage() (maxRSS int64, cpu float64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		return 0, 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return int64(u.Maxrss) * rssUnit, seconds(u.Utime) + seconds(u.Stime)
}
