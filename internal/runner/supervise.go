//go:build linux || darwin

package runner

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

const (
	// tickTime is how often the cancel file and the sizes of the logs are looked at.
	tickTime = 100 * time.Millisecond
	// sweepTime is how often orphans that have ended are reaped while the command runs.
	sweepTime = 10 * time.Second
)

// supervisor runs one command to its end. Everything happens on the goroutine of run: a leader is signalled and reaped there only, so
// its pid, and with it the id of its group, cannot become another's between a look and a signal.
type supervisor struct {
	folder  folder
	spec    Spec
	self    proc.Identity
	signals <-chan os.Signal

	ranks   []*rank
	ended   chan *rank
	running int

	cause    Phase  // Why it is being stopped: Cancelled, TimedOut, Failed (a rank); empty while it is not.
	why      string // The same, in words.
	killing  bool
	killAt   time.Time
	deadline <-chan time.Time // Fires at killAt, for SIGKILL.
	left     int
	problems []error // What went wrong beside the command.
}

// rank is one process of the command.
type rank struct {
	n      int
	cmd    *exec.Cmd
	waitEr error
	reaped bool
	first  bool  // It was the first to fail.
	cut    int64 // Bytes cut out of its log.
}

// run returns when no process of the command is left.
func (s *supervisor) run() Status {
	if err := adoptOrphans(); err != nil {
		s.problems = append(s.problems, err)
	}
	guards, err := s.prepare()
	if err == nil {
		err = s.startAll()
	}
	if err != nil && s.running == 0 {
		return Status{Phase: Failed, ExitCode: -1, Message: err.Error()}
	}
	if err != nil {
		s.stop(Failed, err.Error(), s.spec.Grace)
	}
	s.loop()
	s.endLeftovers()
	return s.verdict(guards)
}

// startAll starts every rank, and writes their identities down.
func (s *supervisor) startAll() error {
	env, err := s.spec.commandEnv(s.folder, os.Environ())
	if err != nil {
		return err
	}
	program, err := findProgram(s.spec.Command[0], env["PATH"], s.spec.Dir)
	if err != nil {
		return fmt.Errorf("cannot start %q: %w", s.spec.Command[0], err)
	}
	if s.spec.distributed() && s.spec.Nodes <= 1 {
		s.spec.MasterAddr = "127.0.0.1"
		if s.spec.MasterPort, err = freePort(); err != nil {
			return err
		}
	}
	s.ended = make(chan *rank, s.spec.Processes)
	known := processes{Runner: s.self}
	for n := range s.spec.Processes {
		rankVars := env
		if s.spec.distributed() {
			rankVars = s.spec.rankEnv(env, n)
		}
		r := &rank{n: n}
		if err := s.startRank(r, program, envList(rankVars)); err != nil {
			return fmt.Errorf("cannot start %q: %w", s.spec.Command[0], err)
		}
		if p, err := proc.Lookup(r.cmd.Process.Pid); err == nil { // A zombie, too, still leads its group.
			known.Groups = append(known.Groups, group{Rank: n, Leader: p.Identity})
		} else {
			s.problems = append(s.problems, err)
		}
	}
	return s.folder.write(processFile, known)
}

func (s *supervisor) startRank(r *rank, program string, env []string) (err error) {
	log, err := os.OpenFile(LogPath(string(s.folder), r.n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// The command writes to the file itself: a pipe would have to be read, and would stay open for as long as anything that inherited it.
	defer func() { err = errors.Join(err, log.Close()) }()
	r.cmd = &exec.Cmd{Path: program, Args: s.spec.Command, Env: env, Dir: s.spec.Dir, Stdout: log, Stderr: log, SysProcAttr: commandAttr()}
	if err := r.cmd.Start(); err != nil {
		return err
	}
	s.ranks = append(s.ranks, r)
	s.running++
	go func() {
		r.waitEr = awaitExit(r.cmd.Process.Pid)
		s.ended <- r
	}()
	return nil
}

// loop returns when every rank has ended.
func (s *supervisor) loop() {
	var timeout <-chan time.Time
	if s.spec.Timeout > 0 {
		t := time.NewTimer(s.spec.Timeout)
		defer t.Stop()
		timeout = t.C
	}
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	sweep := time.NewTicker(sweepTime)
	defer sweep.Stop()
	for s.running > 0 {
		select {
		case r := <-s.ended:
			s.reap(r)
		case <-timeout:
			s.stop(TimedOut, fmt.Sprintf("timed out after %s", s.spec.Timeout), s.spec.Grace)
		case sig := <-s.signals:
			if sig != syscall.SIGHUP {
				s.cancelled(fmt.Sprintf("the runner was told to stop (%v)", sig))
			}
		case <-s.deadline:
			s.killing, s.deadline = true, nil
			s.signalAll(syscall.SIGKILL)
		case <-tick.C:
			if asked, err := s.folder.has(cancelFile); err == nil && asked {
				s.cancelled("cancelled")
			}
			if s.killing {
				s.signalAll(syscall.SIGKILL) // A process may have been born beside the last one.
			}
			s.trimLogs()
		case <-sweep.C:
			s.reapAdopted()
		}
	}
}

func (s *supervisor) reap(r *rank) {
	s.running--
	if err := errors.Join(r.waitEr, notExit(r.cmd.Wait())); err != nil {
		s.problems = append(s.problems, fmt.Errorf("wait for process %d: %w", r.cmd.Process.Pid, err))
	}
	r.reaped = true
	if r.cmd.ProcessState.Success() || s.cause != "" {
		return
	}
	r.first = true
	if s.running > 0 {
		s.stop(Failed, fmt.Sprintf("rank %d ended first (%s), so the others were ended", s.spec.rankOf(r.n), r.cmd.ProcessState), s.spec.Grace)
	}
}

// notExit drops the error that only repeats an exit code.
func notExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func (s *supervisor) cancelled(why string) {
	grace := s.spec.Grace
	var c cancelRequest
	if err := s.folder.read(cancelFile, &c); err == nil {
		why = "cancelled"
		if c.Grace > 0 {
			grace = c.Grace
		}
	}
	s.stop(Cancelled, why, grace)
}

// stop sends SIGTERM once, and arms the SIGKILL. The first cause is the one that counts; a later one can only bring the SIGKILL forward.
func (s *supervisor) stop(cause Phase, why string, grace time.Duration) {
	first := s.cause == ""
	if first {
		s.cause, s.why = cause, why
	}
	if at := time.Now().Add(grace); first || at.Before(s.killAt) && !s.killing {
		s.killAt, s.deadline = at, time.After(grace)
	}
	if first {
		s.signalAll(syscall.SIGTERM)
	}
}

func (s *supervisor) trimLogs() {
	for _, r := range s.ranks {
		var err error
		if r.cut, err = trimLog(LogPath(string(s.folder), r.n), s.spec.LogLimit, r.cut); err != nil {
			s.problems = append(s.problems, err)
		}
	}
}

func joined(errs []error) string {
	var out []string
	for _, err := range errs {
		if t := err.Error(); len(out) == 0 || out[len(out)-1] != t {
			out = append(out, t)
		}
		if len(out) == 5 {
			break
		}
	}
	return strings.Join(out, "; ")
}
