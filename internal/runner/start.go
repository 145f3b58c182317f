package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/fence"
)

// What the detached process answers its starter over the handshake pipe.
const (
	saidStarted = "started"
	saidExists  = "exists" // The run has begun or ended under another process.
	saidBusy    = "busy"   // Another process holds the lock but has not begun.
)

// Start runs spec detached, unless dir already holds that run in whatever state: then it does nothing, and returns nil. When it
// returns nil the run has begun (see [Read]) and no longer needs this process. It errors if dir holds another spec. If ctx ends
// first, the run may or may not have begun; Start again, Read or [Cancel] tell.
func Start(ctx context.Context, dir string, spec Spec) (err error) {
	if err := spec.Validate(); err != nil {
		return err
	}
	exe, err := selfExe()
	if err != nil {
		return err
	}
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	environ := spec.carried(os.Environ())
	if spec, err = spec.resolve(string(f)); err != nil {
		return err
	}
	if err := f.make(); err != nil {
		return fmt.Errorf("start run %s: %w", spec.ID, err)
	}
	// Serialises starters. What makes the run happen once is the runner's own lock and marker, since this one is free again
	// as soon as a starter dies.
	l := flock.New(f.path(startLock), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		return fmt.Errorf("start run %s: wait for another starter of %s: %w", spec.ID, f, err)
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := f.prepare(spec); err != nil {
		return err
	}
	for {
		st, err := f.status()
		if err != nil {
			return err
		}
		if st.Phase != Starting {
			return nil
		}
		if err := fence.Check(ctx); err != nil { // the last moment at which nothing has happened
			return fmt.Errorf("start run %s: %w", spec.ID, err)
		}
		said, err := f.launch(ctx, exe, environ)
		if err != nil {
			return fmt.Errorf("start run %s: %w", spec.ID, err)
		}
		if said != saidBusy {
			return nil
		}
	}
}

// prepare writes spec.json, or checks that the one there says the same.
func (f folder) prepare(spec Spec) error {
	want, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("start run %s: %w", spec.ID, err)
	}
	var old Spec
	err = f.read(specFile, &old)
	if errors.Is(err, os.ErrNotExist) {
		if done, err := f.has(statusFile); err != nil || done {
			return err // Cancelled before it was ever prepared.
		}
		return f.write(specFile, spec)
	}
	if err != nil {
		return err
	}
	have, err := json.Marshal(old)
	if err != nil {
		return fmt.Errorf("start run %s: %w", spec.ID, err)
	}
	if !bytes.Equal(have, want) {
		return fmt.Errorf("start run %s: %s already holds a different run (%s); a run folder serves one run, take a new one", spec.ID, f, old.ID)
	}
	return nil
}

// launch starts the detached process and waits until it says that the run has begun.
func (f folder) launch(ctx context.Context, exe string, environ []string) (said string, err error) {
	out, err := os.OpenFile(f.path(runnerLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	cmd := exec.Command(exe, Subcommand, string(f)) // Not CommandContext: it must survive us.
	cmd.Dir = string(f)
	cmd.Env = append(environ, handshakeVar+"=1")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = detached()
	err = cmd.Start()
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("start the runner: %w", err)
	}
	// A long-lived caller must not gather zombies. How it ended is in the folder, for everyone to see.
	go func() { _ = cmd.Wait() }()

	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := io.ReadAll(io.LimitReader(r, 1<<16))
	said = strings.TrimSpace(string(b))
	switch {
	case ctx.Err() != nil && said == "":
		return "", fmt.Errorf("the runner was started but has not answered: %w", ctx.Err())
	case said == saidStarted || said == saidExists || said == saidBusy:
		return said, nil
	case said != "":
		return "", fmt.Errorf("the runner could not begin: %s", said)
	case err != nil:
		return "", err
	}
	return "", fmt.Errorf("the runner died before it began; %s may say why", out.Name())
}
