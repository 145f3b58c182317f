package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/internal/proc"
)

const (
	pollEvery  = 50 * time.Millisecond
	startLimit = 15 * time.Second
	lockLimit  = 5 * time.Second
)

// Start makes sure that a gateway runs on dir: it runs exe (a command that
// calls Main) with the arguments "__gateway" and dir, detached from this
// process and its terminal, and returns when its ports are open. With a
// gateway running it does nothing. An error quotes the gateway's log.
func Start(ctx context.Context, exe []string, dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("start gateway: %w", err)
	}
	f := folder(abs)
	if _, alive := running(f); alive {
		return nil
	}
	program, err := programPath(exe)
	if err != nil {
		return fmt.Errorf("start gateway: %w", err)
	}
	if err := durable.MkdirAll(f.logs(), 0o700); err != nil {
		return fmt.Errorf("start gateway: %w", err)
	}
	logFile, err := os.OpenFile(f.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start gateway: %w", err)
	}
	cmd := exec.Command(program, append(append([]string(nil), exe[1:]...), "__gateway", abs)...)
	cmd.Dir = abs
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := detach(cmd); err != nil {
		return errors.Join(err, logFile.Close())
	}
	if err = fence.Check(ctx); err == nil {
		err = cmd.Start()
	}
	if err = errors.Join(err, logFile.Close()); err != nil {
		return fmt.Errorf("start gateway: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	return awaitStart(ctx, f, cmd.Process, exited)
}

// programPath makes a relative path absolute, since the gateway runs in its
// own folder; a bare name is looked up in PATH.
func programPath(exe []string) (string, error) {
	if len(exe) == 0 || exe[0] == "" {
		return "", errors.New("no program given")
	}
	if filepath.Base(exe[0]) == exe[0] {
		return exe[0], nil
	}
	return filepath.Abs(exe[0])
}

// awaitStart returns when a gateway is up. If that is another one, which was
// faster, or if none is, then child is ended: it must not take the folder
// later, when nobody expects it.
func awaitStart(ctx context.Context, f folder, child *os.Process, exited <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	end := func() {
		// It may just have ended by itself.
		if child.Kill() == nil {
			<-exited //nolint:errcheck // it was killed: how it ended says nothing
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if p, alive := running(f); alive {
			if p.Process.PID != child.Pid {
				end()
			}
			return nil
		}
		select {
		case err := <-exited:
			if _, alive := running(f); alive {
				return nil // it found the other one
			}
			text := logTail(f.log())
			if why := lastWord(text); why != "" {
				return fmt.Errorf("start gateway: %s", why)
			}
			return errors.Join(fmt.Errorf("start gateway: it ended; the end of %s:\n%s", f.log(), text), err)
		case <-ctx.Done():
			end()
			return fmt.Errorf("start gateway: not up: %w; the end of %s:\n%s", ctx.Err(), f.log(), logTail(f.log()))
		case <-tick.C:
		}
	}
}

// running returns what gateway.json says, and whether that process runs.
func running(f folder) (processFile, bool) {
	var p processFile
	if err := readJSON(f.process(), &p); err != nil {
		return p, false
	}
	return p, p.Process.PID > 0 && p.Process.Alive()
}

// lastWord is why a gateway could not run, if its log ends with that.
func lastWord(log string) string {
	_, text, found := strings.Cut(log[strings.LastIndexByte(log, '\n')+1:], fmt.Sprintf("msg=%q error=", cannotRun))
	why, err := strconv.Unquote(text)
	if !found || err != nil {
		return ""
	}
	return why
}

func logTail(name string) string {
	p := process{log: name}
	return p.tail()
}

// Apply stores what the gateway on dir shall serve and tells it so. It returns
// the generation to Wait for: a new one, or the present one when nothing
// changed and that one did not fail. The gateway need not run.
func Apply(ctx context.Context, dir string, d Desired) (generation int64, err error) {
	if err := d.validate(); err != nil {
		return 0, err
	}
	f := folder(dir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("apply: %w", err)
	}
	lock := flock.New(f.applying())
	lockCtx, cancel := context.WithTimeout(ctx, lockLimit)
	defer cancel()
	if _, err := lock.TryLockContext(lockCtx, pollEvery); err != nil {
		return 0, fmt.Errorf("apply: another process is changing %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	var before Desired
	if err := readJSON(f.desired(), &before); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("apply: %w", err)
	}
	live, err := Read(dir)
	if err != nil {
		return 0, fmt.Errorf("apply: %w", err)
	}
	d.Generation = before.Generation
	same, err := equal(before, d)
	if err != nil {
		return 0, fmt.Errorf("apply: %w", err)
	}
	failed := live.Generation == before.Generation && live.Phase == PhaseFailed
	if same && !failed && !d.Force {
		return d.Generation, nudge(f)
	}
	d.Generation = max(before.Generation, live.Generation) + 1
	if err := writeJSON(f.desired(), d); err != nil {
		return 0, err
	}
	return d.Generation, nudge(f)
}

func equal(a, b Desired) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	return bytes.Equal(x, y), err
}

// nudge tells a running gateway to look at desired.json; a gateway that is
// down reads it when it starts, and a lost signal costs a second.
func nudge(f folder) error {
	p, alive := running(f)
	if !alive {
		return nil
	}
	if err := proc.Kill(p.Process, signalReload); err != nil && !errors.Is(err, proc.ErrGone) {
		return fmt.Errorf("tell the gateway: %w", err)
	}
	return nil
}

// Read returns what the gateway on dir last reported, and whether it runs. A
// folder without a gateway so far gives a zero Live.
func Read(dir string) (Live, error) {
	f := folder(dir)
	var live Live
	if err := readJSON(f.state(), &live); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Live{}, err
	}
	p, alive := running(f)
	live.Alive, live.Process, live.Admin = alive, p.Process, ""
	if p.Admin > 0 {
		live.Admin = "http://" + loopback(p.Admin)
	}
	return live, nil
}

// Wait returns when the rollout of generation, or of a later one, came to
// rest: ready, held, aborted, failed or stopped. Which one is the caller's to
// judge. onEvent, if not nil, gets each new message. It is an error when ctx
// ends first or the gateway does not run; the rollout goes on in both cases
// once a gateway runs.
func Wait(ctx context.Context, dir string, generation int64, onEvent func(string)) (Live, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := ""
	for {
		live, err := Read(dir)
		if err != nil {
			return live, err
		}
		if live.Generation >= generation {
			if live.Message != last && onEvent != nil {
				onEvent(live.Message)
			}
			last = live.Message
			if live.Phase.outcome() && (live.Alive || live.Phase == PhaseStopped) {
				return live, nil
			}
		}
		if !live.Alive {
			return live, &DownError{Doing: live.Message, Log: logTail(folder(dir).log())}
		}
		select {
		case <-ctx.Done():
			return live, fmt.Errorf("wait for generation %d (%s, %s): %w", generation, live.Phase, live.Message, ctx.Err())
		case <-tick.C:
		}
	}
}

// DownError is a gateway that is not there to carry out what was asked of it.
type DownError struct {
	Doing string // what it last said
	Log   string // the end of its log
}

// Error says where it was, and how it goes on.
func (e *DownError) Error() string {
	return fmt.Sprintf("the gateway ended in the middle (%s); apply again, and it goes on from there", e.Doing)
}

// Stop ends the gateway on dir and its servers, after the requests in flight
// or after drain. A gateway that does not answer is killed by identity, with
// its servers. With none running it does nothing.
func Stop(ctx context.Context, dir string, drain time.Duration) error {
	f := folder(dir)
	p, alive := running(f)
	if !alive {
		return nil
	}
	if err := writeJSON(f.stop(), stopFile{Process: p.Process, DrainNS: int64(drain)}); err != nil {
		return fmt.Errorf("stop gateway: %w", err)
	}
	if err := proc.Kill(p.Process, signalStop); err != nil && !errors.Is(err, proc.ErrGone) {
		return fmt.Errorf("stop gateway: %w", err)
	}
	// Twice: for the requests, and for servers that ignore SIGTERM.
	limit := 2*drain + killGrace + 2*time.Second
	if awaitGone(ctx, p.Process, limit) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stop gateway: %w", err)
	}
	return kill(ctx, f, p.Process)
}

// kill ends a gateway that hangs, then what it leaves behind.
func kill(ctx context.Context, f folder, id proc.Identity) error {
	if err := proc.Kill(id, signalKill); err != nil && !errors.Is(err, proc.ErrGone) {
		return fmt.Errorf("kill gateway: %w", err)
	}
	if !awaitGone(ctx, id, 10*time.Second) {
		return fmt.Errorf("kill gateway: %s does not end", id)
	}
	var state stateFile
	if err := readJSON(f.state(), &state); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("kill gateway: %w", err)
	}
	var errs []error
	for _, s := range state.Servers {
		if err := proc.KillGroup(s.Process, signalKill); err != nil && !errors.Is(err, proc.ErrGone) {
			errs = append(errs, fmt.Errorf("kill server: %w", err))
		}
	}
	return errors.Join(errs...)
}

// awaitGone reports whether the process ended within limit.
func awaitGone(ctx context.Context, id proc.Identity, limit time.Duration) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for id.Alive() {
		select {
		case <-ctx.Done():
			return false
		case <-deadline.C:
			return false
		case <-tick.C:
		}
	}
	return true
}
