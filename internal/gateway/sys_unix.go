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
