//go:build unix

package pod

import "syscall"

// nonBlock keeps an open of a named pipe from waiting for its other end.
const nonBlock = syscall.O_NONBLOCK
