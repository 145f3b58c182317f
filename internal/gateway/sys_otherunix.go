//go:build unix && !linux

package gateway

import "syscall"

// ownGroup puts a server into a process group of its own. This kernel does not
// kill it when the gateway dies; the next gateway does, by identity.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
