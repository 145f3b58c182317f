package gateway

import "syscall"

// ownGroup puts a server into a process group of its own, and lets the kernel
// kill it when the gateway dies without a word.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
