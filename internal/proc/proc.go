// Package proc names processes so that a name never comes to mean another process.
//
// A pid alone is reused by the kernel; an [Identity] adds the start time and the boot id, and is therefore safe to keep in a file
// and to look at again hours, processes or reboots later. [Kill] and [KillGroup] check the identity immediately before they signal.
// A zombie has stopped doing anything and counts as dead.
//
// Linux is read through /proc, macOS through sysctl; elsewhere every call returns [ErrUnsupported].
// The package starts nothing and waits for nothing.
package proc

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

var (
	// ErrGone says that the process of an identity no longer runs: it ended, or its pid belongs to another process by now.
	ErrGone = errors.New("process is gone")
	// ErrUnsupported says that processes cannot be identified on this operating system.
	ErrUnsupported = errors.New("processes cannot be identified on this operating system")
)

// Identity is one process for ever: no other process, before or after, has the same three values.
type Identity struct {
	PID int `json:"pid"`
	// Start is the kernel's start time of the process in the kernel's own unit: clock ticks since boot on Linux,
	// seconds.microseconds of the wall clock on macOS. Only equality has a meaning.
	Start string `json:"start"`
	// Boot is the id of the boot the process belongs to.
	Boot string `json:"boot"`
}

// Process is one line of the process table.
type Process struct {
	Identity
	Parent  int
	Group   int
	Session int
	Zombie  bool
}

// Self returns the identity of the calling process.
func Self() (Identity, error) { return Of(os.Getpid()) }

// Of returns the identity of the process that has pid now. It returns an error that wraps [ErrGone] if there is none, or only a zombie.
func Of(pid int) (Identity, error) {
	p, err := Lookup(pid)
	if err != nil {
		return Identity{}, err
	}
	if p.Zombie {
		return Identity{}, fmt.Errorf("process %d is a zombie: %w", pid, ErrGone)
	}
	return p.Identity, nil
}

// Lookup returns the line of the process table for pid, zombies included. It returns an error that wraps [ErrGone] if there is none.
func Lookup(pid int) (Process, error) {
	if pid <= 0 {
		return Process{}, fmt.Errorf("process %d: a pid is greater than 0", pid)
	}
	return lookup(pid)
}

// List returns the process table, ordered by pid. Processes that end while it reads are left out.
func List() ([]Process, error) { return list() }

// Alive reports whether this very process still runs. Zombies do not; nor does anything from another boot.
func (id Identity) Alive() bool {
	now, err := Of(id.PID)
	return err == nil && now == id
}

// String names the process for messages.
func (id Identity) String() string { return fmt.Sprintf("process %d (started %s)", id.PID, id.Start) }

// Kill sends sig to this very process. It returns an error that wraps [ErrGone] if that process no longer runs.
func Kill(id Identity, sig syscall.Signal) error {
	if id.PID <= 1 {
		return fmt.Errorf("signal process %d: refused, only pids above 1 are signalled", id.PID)
	}
	if err := kill(id, sig); err != nil {
		return fmt.Errorf("signal %s with %s: %w", id, sig, err)
	}
	return nil
}

// KillGroup sends sig to the process group that leader leads or has led. Members that outlive their leader are reached too: the kernel
// gives a pid to nobody else while a group carries it. It returns an error that wraps [ErrGone] if the group has no member left.
func KillGroup(leader Identity, sig syscall.Signal) error {
	if leader.PID <= 1 {
		return fmt.Errorf("signal group %d: refused, only groups above 1 are signalled", leader.PID)
	}
	if err := checkGroup(leader); err != nil {
		return fmt.Errorf("signal the group of %s with %s: %w", leader, sig, err)
	}
	if err := killGroup(leader.PID, sig); err != nil {
		return fmt.Errorf("signal the group of %s with %s: %w", leader, sig, err)
	}
	return nil
}

// checkGroup returns nil if the group id of leader.PID is still the one that leader opened.
func checkGroup(leader Identity) error {
	p, err := lookup(leader.PID)
	switch {
	case err == nil && p.Identity != leader:
		return ErrGone // The pid has been given to another process, so the old group had emptied before.
	case err == nil && p.Group != leader.PID:
		return fmt.Errorf("it leads no group (it is in group %d)", p.Group)
	case err == nil:
		return nil
	case !errors.Is(err, ErrGone):
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	if boot != leader.Boot {
		return ErrGone
	}
	all, err := list()
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Group == leader.PID && !p.Zombie {
			return nil
		}
	}
	return ErrGone
}
