//go:build linux || darwin

package runner

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

const (
	// lingerTime is how long processes that outlive the command may take to end by themselves, as helpers of Python's
	// multiprocessing do, before they get a SIGTERM.
	lingerTime = 500 * time.Millisecond
	// maxLeftoverGrace bounds the wait between SIGTERM and SIGKILL for them.
	maxLeftoverGrace = 5 * time.Second
)

// signalAll reaches every group whose leader is not reaped, and every process that has left them one by one.
func (s *supervisor) signalAll(sig syscall.Signal) {
	for _, r := range s.ranks {
		if r.reaped {
			continue
		}
		if err := syscall.Kill(-r.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.problems = append(s.problems, fmt.Errorf("signal rank %d: %w", r.n, err))
		}
	}
	for _, p := range s.strays() {
		s.kill(p, sig)
	}
}

func (s *supervisor) kill(p proc.Process, sig syscall.Signal) {
	if err := proc.Kill(p.Identity, sig); err != nil && !errors.Is(err, proc.ErrGone) {
		s.problems = append(s.problems, err)
	}
}

// strays returns the living processes of the command outside the groups of running ranks: descendants of this process (orphans come back to
// it where the system allows), and members of a rank's group.
func (s *supervisor) strays() []proc.Process {
	all, err := proc.List()
	if err != nil {
		s.problems = append(s.problems, err)
		return nil
	}
	ranked, live := map[int]bool{}, map[int]bool{}
	for _, r := range s.ranks {
		ranked[r.cmd.Process.Pid] = true
		live[r.cmd.Process.Pid] = !r.reaped
	}
	ours := map[int]bool{s.self.PID: true}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if !ours[p.PID] && (ours[p.Parent] || ranked[p.Group] && p.Session == s.self.PID) {
				ours[p.PID], grown = true, true
			}
		}
	}
	var out []proc.Process
	for _, p := range all {
		if ours[p.PID] && p.PID != s.self.PID && !live[p.Group] && !p.Zombie {
			out = append(out, p)
		}
	}
	return out
}

// endLeftovers ends what the command left running. Under a stop the SIGTERM was sent already and only its grace is waited for.
func (s *supervisor) endLeftovers() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var term <-chan time.Time
	if s.cause == "" {
		term = time.After(lingerTime)
	}
	seen := map[proc.Identity]bool{}
	for giveUp := time.After(s.spec.Grace + time.Minute); ; {
		left := s.strays()
		for _, p := range left {
			seen[p.Identity] = true
			if s.killing {
				s.kill(p, syscall.SIGKILL)
			}
		}
		s.reapAdopted()
		if len(left) == 0 {
			break
		}
		select {
		case <-tick.C:
		case <-term:
			for _, p := range left {
				s.kill(p, syscall.SIGTERM)
			}
			s.deadline = time.After(min(s.spec.Grace, maxLeftoverGrace))
		case <-s.deadline:
			s.killing = true
		case <-giveUp:
			s.problems = append(s.problems, fmt.Errorf("%d processes cannot be killed", len(left)))
			s.left = len(seen)
			return
		}
	}
	s.left = len(seen)
}

// reapAdopted reaps orphans that came to this process. It must not take a rank, whose exit code is needed.
func (s *supervisor) reapAdopted() {
	all, err := proc.List()
	if err != nil {
		s.problems = append(s.problems, err)
		return
	}
	for _, p := range all {
		if p.Parent != s.self.PID || !p.Zombie || s.isRank(p.PID) {
			continue
		}
		if _, err := syscall.Wait4(p.PID, nil, syscall.WNOHANG, nil); err != nil && !errors.Is(err, syscall.ECHILD) {
			s.problems = append(s.problems, fmt.Errorf("reap process %d: %w", p.PID, err))
		}
	}
}

func (s *supervisor) isRank(pid int) bool {
	for _, r := range s.ranks {
		if r.cmd.Process.Pid == pid && !r.reaped {
			return true
		}
	}
	return false
}
