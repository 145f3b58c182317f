//go:build !linux && !darwin

package proc

import (
	"fmt"
	"syscall"
)

func bootID() (string, error) { return "", ErrUnsupported }

func lookup(int) (Process, error) { return Process{}, ErrUnsupported }

func list() ([]Process, error) { return nil, ErrUnsupported }

func kill(Identity, syscall.Signal) error { return ErrUnsupported }

func killGroup(int, syscall.Signal) error { return ErrUnsupported }

// Environ returns [ErrUnsupported].
func Environ(pid int) ([]string, error) {
	return nil, fmt.Errorf("environment of process %d: %w", pid, ErrUnsupported)
}
