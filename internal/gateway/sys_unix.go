//go:build unix

package gateway

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// nothingToRead reports whether a connection is open and has nothing to read;
// an end of file or stray bytes both make it useless.
func nothingToRead(fd uintptr) bool {
	var b [1]byte
	_, err := syscall.Read(int(fd), b[:])
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
}

// descriptors is how many files this process may have open; the runtime has
// raised it to what the system allows.
func descriptors() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Cur, 1<<20)), nil
}

// detach makes a command outlive this process and its terminal.
func detach(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return nil
}

// Signals between Apply, Stop and the gateway.
const (
	signalReload = syscall.SIGHUP
	signalStop   = syscall.SIGTERM
	signalKill   = syscall.SIGKILL
)

var stopSignals = []os.Signal{syscall.SIGTERM, syscall.SIGINT}
