package proc

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// zombie is SZOMB of <sys/proc.h>.
const zombie = 5

// bootID is read once: it cannot change while this process lives.
var bootID = sync.OnceValues(func() (string, error) {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return id, nil
})

func lookup(pid int) (Process, error) {
	boot, err := bootID()
	if err != nil {
		return Process{}, err
	}
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.ESRCH) { // EIO: the answer was empty.
		return Process{}, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return fromKinfo(k, boot), nil
}

func fromKinfo(k *unix.KinfoProc, boot string) Process {
	p := Process{
		Identity: Identity{
			PID:   int(k.Proc.P_pid),
			Start: fmt.Sprintf("%d.%06d", k.Proc.P_starttime.Sec, k.Proc.P_starttime.Usec),
			Boot:  boot,
		},
		Parent: int(k.Eproc.Ppid),
		Group:  int(k.Eproc.Pgid),
		Zombie: k.Proc.P_stat == zombie,
	}
	if sid, err := unix.Getsid(p.PID); err == nil {
		p.Session = sid
	} // Otherwise it ended meanwhile: session 0 matches nothing.
	return p
}

func list() ([]Process, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	ks, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := make([]Process, 0, len(ks))
	for i := range ks {
		all = append(all, fromKinfo(&ks[i], boot))
	}
	slices.SortFunc(all, func(a, b Process) int { return a.PID - b.PID })
	return all, nil
}

func kill(id Identity, sig syscall.Signal) error {
	if !id.Alive() {
		return ErrGone
	}
	return gone(unix.Kill(id.PID, sig))
}

func killGroup(pgid int, sig syscall.Signal) error { return gone(unix.Kill(-pgid, sig)) }

// gone reads EPERM for what it means on macOS when a group holds nothing but zombies.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EPERM) {
		return ErrGone
	}
	return err
}

// Environ is not offered by the kernel here to other programs.
func Environ(pid int) ([]string, error) {
	return nil, fmt.Errorf("environment of process %d: %w", pid, ErrUnsupported)
}
