package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// bootID is read once: it cannot change while this process lives.
var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
})

func lookup(pid int) (Process, error) {
	boot, err := bootID()
	if err != nil {
		return Process{}, err
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return Process{}, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	p, err := parseStat(b)
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	p.Boot = boot
	return p, nil
}

// parseStat reads a line of /proc/PID/stat (man 5 proc_pid_stat). The command name in parentheses may itself hold blanks and
// parentheses, so the fields are counted from the last closing one.
func parseStat(b []byte) (Process, error) {
	open, closing := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || closing < open {
		return Process{}, errors.New("stat line without a command name")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	if err != nil {
		return Process{}, fmt.Errorf("stat line with a bad pid: %w", err)
	}
	f := strings.Fields(string(b[closing+1:]))
	const first, parent, group, session, threads, start = 3, 4, 5, 6, 20, 22
	if len(f) <= start-first {
		return Process{}, fmt.Errorf("stat line with %d fields", len(f)+first-1)
	}
	p := Process{Identity: Identity{PID: pid, Start: f[start-first]}}
	if _, err := strconv.ParseUint(p.Start, 10, 64); err != nil {
		return Process{}, fmt.Errorf("stat line with a bad start time: %w", err)
	}
	var count int
	for _, n := range []struct {
		field int
		into  *int
	}{{parent, &p.Parent}, {group, &p.Group}, {session, &p.Session}, {threads, &count}} {
		if *n.into, err = strconv.Atoi(f[n.field-first]); err != nil {
			return Process{}, fmt.Errorf("stat line, field %d: %w", n.field, err)
		}
	}
	// A process whose first thread has ended shows state Z while its other threads work on.
	p.Zombie = strings.Contains("ZXx", f[0]) && count <= 1
	return p, nil
}

func list() ([]Process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue // Not a process: /proc/meminfo and its like.
		}
		p, err := lookup(pid)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Process) int { return a.PID - b.PID })
	return all, nil
}

// kill opens a pidfd first and checks the identity behind it, so that not even a pid reused in between can be hit.
func kill(id Identity, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	if !id.Alive() {
		if err == nil {
			err = unix.Close(fd)
		} else {
			err = nil
		}
		return errors.Join(ErrGone, err)
	}
	if err != nil { // A kernel before 5.3, or a sandbox without pidfds.
		return gone(unix.Kill(id.PID, sig))
	}
	return errors.Join(gone(unix.PidfdSendSignal(fd, sig, nil, 0)), unix.Close(fd))
}

func killGroup(pgid int, sig syscall.Signal) error { return gone(unix.Kill(-pgid, sig)) }

func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

// Environ returns the environment that the process was started with, as NAME=VALUE. It errors if the process belongs to another user.
func Environ(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil, fmt.Errorf("environment of process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("environment of process %d: %w", pid, err)
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00"), nil
}
