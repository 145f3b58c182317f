//go:build linux || darwin

package runner

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
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
	// lingerTime is how long processes that outlive the command may take to end by themselves, as helpers of Python's
	// multiprocessing do, before they get a SIGTERM.
	lingerTime = 500 * time.Millisecond
	// maxLeftoverGrace bounds the wait between SIGTERM and SIGKILL for them.
	maxLeftoverGrace = 5 * time.Second
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
	guard, err := s.prepare()
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
	return s.verdict(guard)
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
	port := 0
	if s.spec.Processes > 1 {
		if port, err = freePort(); err != nil {
			return err
		}
	}
	s.ended = make(chan *rank, s.spec.Processes)
	known := processes{Runner: s.self}
	for n := range s.spec.Processes {
		rankVars := env
		if s.spec.Processes > 1 {
			rankVars = rankEnv(env, n, s.spec.Processes, port)
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
		s.stop(Failed, fmt.Sprintf("rank %d ended first (%s), so the others were ended", r.n, r.cmd.ProcessState), s.spec.Grace)
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

// freePort asks the kernel. The port is free again until rank 0 listens there; taken meanwhile, rank 0 fails with "address in use".
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port for the ranks: %w", err)
	}
	_, text, err := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		return 0, fmt.Errorf("find a port for the ranks: %w", err)
	}
	return strconv.Atoi(text)
}

// prepare makes what the contract promises to the command. What it returns watches a model that must not change.
func (s *supervisor) prepare() (*modelGuard, error) {
	for name, p := range s.spec.Inputs {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("input %q: %w", name, err)
		}
	}
	params := s.spec.Params
	if params == nil {
		params = map[string]any{}
	}
	if err := s.folder.write(paramsFile, params); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.spec.CheckpointDir, 0o755); err != nil {
		return nil, fmt.Errorf("checkpoint folder: %w", err)
	}
	if s.spec.NeedModel {
		if err := os.MkdirAll(s.spec.ModelDir, 0o755); err != nil {
			return nil, fmt.Errorf("model folder: %w", err)
		}
		old, err := os.ReadDir(s.spec.ModelDir)
		if err != nil {
			return nil, fmt.Errorf("model folder: %w", err)
		}
		if len(old) > 0 {
			return nil, fmt.Errorf("model folder %s is not empty (%s); a training starts with an empty one", s.spec.ModelDir, old[0].Name())
		}
	}
	if !s.spec.ModelReadOnly {
		return nil, nil
	}
	return guardModel(s.spec.ModelDir)
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
