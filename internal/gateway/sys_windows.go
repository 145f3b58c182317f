package gateway

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// nothingToRead says no: a connection is then used once.
func nothingToRead(uintptr) bool { return false }

func descriptors() (int, error) { return 1 << 14, nil }

func detach(*exec.Cmd) error {
	return errors.New("local deployments need Linux or macOS; use a remote provider on Windows")
}

func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// Signals between Apply, Stop and the gateway.
const (
	signalReload = syscall.SIGHUP
	signalStop   = syscall.SIGTERM
	signalKill   = syscall.SIGKILL
)

var stopSignals = []os.Signal{os.Interrupt}
