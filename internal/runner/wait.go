package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

const (
	// neverBegan is how long Wait looks at a prepared folder without a runner before it says that nobody will start it.
	neverBegan = 15 * time.Second
	// cancelSlack is what Cancel allows beyond the grace before it takes the runner for hung and kills it.
	cancelSlack = 10 * time.Second
)

// Wait returns the outcome of the run in dir when it is over; [Lost], too, is an outcome, and then nothing of the run lives any more.
// onProgress, which may be nil, gets every line of progress from the first on. It errors if ctx ends before, or if nobody is about to
// start the run.
func Wait(ctx context.Context, dir string, onProgress func(Progress)) (Status, error) {
	f, err := openFolder(dir)
	if err != nil {
		return Status{}, err
	}
	if onProgress == nil {
		onProgress = func(Progress) {}
	}
	progress := ProgressReader{path: f.path(progressFile)}
	began := time.Now()
	pause := 2 * time.Millisecond
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		st, err := f.status()
		if err != nil {
			return st, err
		}
		// After the status: what an ended run wrote is all there.
		if err := progress.each(st.Phase.Over(), onProgress); err != nil {
			return st, fmt.Errorf("read progress of %s: %w", f, err)
		}
		switch st.Phase {
		case Absent:
			return st, fmt.Errorf("wait: %s", st.Message)
		case Starting:
			if time.Since(began) > neverBegan {
				return st, fmt.Errorf("wait: run %s in %s was prepared but nobody starts it; start it again, or cancel it", st.ID, f)
			}
		case Lost:
			return st, f.endOrphans(ctx, 0)
		case Succeeded, Failed, Cancelled, TimedOut:
			return st, nil
		case Running:
		}
		select {
		case <-timer.C:
			pause = min(pause*3/2, 100*time.Millisecond)
			timer.Reset(pause)
		case <-ctx.Done():
			return st, fmt.Errorf("wait for run %s: %w", st.ID, ctx.Err())
		}
	}
}

// cancelRequest is the content of the file `cancel`.
type cancelRequest struct {
	Grace time.Duration `json:"grace_ns"`
	At    time.Time     `json:"at"`
}

// Cancel ends the run in dir and returns when nothing of it lives any more: SIGTERM, then SIGKILL for the whole group after grace (0: the
// run's own). It works from any process, also when the runner has died; the request is durable, so a run that was not yet started never
// will be. A run that is over already is left as it is, and that is no error.
func Cancel(ctx context.Context, dir string, grace time.Duration) error {
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	st, err := f.status()
	if err != nil {
		return err
	}
	if st.Phase.Over() && st.Phase != Lost {
		return nil
	}
	if grace <= 0 {
		grace = f.grace()
	}
	if err := f.make(); err != nil {
		return err
	}
	if err := f.write(cancelFile, cancelRequest{Grace: grace, At: time.Now().UTC()}); err != nil {
		return err
	}
	return f.awaitCancelled(ctx, grace)
}

func (f folder) grace() time.Duration {
	var spec Spec
	if err := f.read(specFile, &spec); err != nil || spec.Grace <= 0 {
		return defaultGrace
	}
	return spec.Grace
}

func (f folder) awaitCancelled(ctx context.Context, grace time.Duration) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	hung := time.After(grace + cancelSlack)
	nudged := false
	for {
		st, err := f.status()
		if err != nil {
			return err
		}
		switch st.Phase {
		case Absent, Starting:
			if done, err := f.forbid(st.ID); done || err != nil {
				return err
			}
		case Running:
			if !nudged && st.Runner.PID != 0 { // Only to be quicker: the runner looks at the file by itself.
				nudged = true
				if err := proc.Kill(st.Runner, syscall.SIGTERM); err != nil && !errors.Is(err, proc.ErrGone) {
					return fmt.Errorf("cancel run %s: %w", st.ID, err)
				}
			}
		case Lost:
			return f.endOrphans(ctx, grace)
		case Succeeded, Failed, Cancelled, TimedOut:
			return nil
		}
		select {
		case <-tick.C:
		case <-hung:
			if err := proc.Kill(st.Runner, syscall.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) {
				return fmt.Errorf("cancel run %s: its runner does not answer: %w", st.ID, err)
			}
		case <-ctx.Done():
			return fmt.Errorf("cancel run %s: it was asked to end but has not yet: %w", st.ID, ctx.Err())
		}
	}
}

func notBegun(id string) Status {
	now := time.Now().UTC()
	return Status{ID: id, Phase: Cancelled, ExitCode: -1, Finished: now, Message: "cancelled before anything was executed"}
}

// forbid records the end of a run that never began. It reports false if a runner was quicker.
func (f folder) forbid(id string) (done bool, err error) {
	l := f.lock()
	ok, err := l.TryLock()
	if err != nil || !ok {
		return false, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for _, name := range []string{startedFile, statusFile} {
		if there, err := f.has(name); err != nil || there {
			return false, err
		}
	}
	return true, f.write(statusFile, notBegun(id))
}

// endOrphans ends what a dead runner left behind: SIGTERM, and SIGKILL after grace.
func (f folder) endOrphans(ctx context.Context, grace time.Duration) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline, giveUp := time.After(grace), time.After(grace+cancelSlack)
	sig := syscall.SIGTERM
	told := map[proc.Identity]syscall.Signal{}
	for {
		left, err := f.orphans()
		if err != nil {
			return fmt.Errorf("look for processes of the lost run in %s: %w", f, err)
		}
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			if told[p.Identity] == sig {
				continue
			}
			told[p.Identity] = sig
			if err := proc.Kill(p.Identity, sig); err != nil && !errors.Is(err, proc.ErrGone) {
				return fmt.Errorf("end the lost run in %s: %w", f, err)
			}
		}
		select {
		case <-tick.C:
		case <-deadline:
			sig = syscall.SIGKILL
		case <-giveUp:
			return fmt.Errorf("end the lost run in %s: %d processes cannot be killed, the first is %s", f, len(left), left[0].Identity)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// orphans returns the living processes of a run whose runner is dead. One belongs to the run if it is in a recorded group and in the
// session that the runner opened, or if its environment names this very folder, which also finds what left both.
func (f folder) orphans() ([]proc.Process, error) {
	var known processes
	if err := f.read(processFile, &known); err != nil {
		known = processes{} // The runner died before it wrote them; the environment has to do.
	}
	runner := f.begun().Runner
	groups := map[int]proc.Identity{}
	for _, g := range known.Groups {
		groups[g.Leader.PID] = g.Leader
	}
	self, err := proc.Self()
	if err != nil {
		return nil, err
	}
	all, err := proc.List()
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if leader, ok := groups[p.PID]; ok && leader != p.Identity {
			delete(groups, p.PID) // Its number is another's by now, so the group is empty.
		}
	}
	var out []proc.Process
	for _, p := range all {
		if p.Zombie || p.PID == self.PID || p.PID <= 1 {
			continue
		}
		leader, ok := groups[p.Group]
		if ok && leader.Boot == p.Boot && p.Session == runner.PID || f.named(p.PID) {
			out = append(out, p)
		}
	}
	return out, nil
}

// named reports whether the environment of a process says that it belongs to this folder. What cannot be read is not ours.
func (f folder) named(pid int) bool {
	env, err := proc.Environ(pid)
	return err == nil && slices.Contains(env, "ML_METRICS="+f.path(metricsFile))
}
