//go:build linux

// Package host starts and stops what the e2e cluster puts on this machine, so that stopping takes away exactly what starting made:
// processes by pid, start time and boot, a bridge, a packet filter table, control groups, mounts and kernel settings.
package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

// Component is one long-running program of the cluster.
type Component struct {
	Name string
	Args []string // the program's path first
	Env  []string // on top of this process's, as NAME=VALUE

	// Ready returns nil once the program does its work; it is asked until Deadline has passed.
	Ready    func(ctx context.Context) error `json:"-"`
	Deadline time.Duration
}

// Dir is the folder of one run: logs/NAME.log and pids/NAME.json of each component, and what the components keep.
type Dir string

// Path joins names to the folder.
func (d Dir) Path(names ...string) string {
	return filepath.Join(append([]string{string(d)}, names...)...)
}

// Log is where the output of a component goes.
func (d Dir) Log(name string) string { return d.Path("logs", name+".log") }

func (d Dir) pidFile(name string) string { return d.Path("pids", name+".json") }

// record is a pid file: enough to find the process again, to know that it is the same one, and to start it again.
type record struct {
	Component
	Process proc.Identity
}

// Start starts c, detached from this process, and waits until it is ready. The error says which component, why, with the last line of
// its log, and where the log is.
func (d Dir) Start(ctx context.Context, c Component) error {
	if id, err := d.running(c.Name); err != nil {
		return err
	} else if id != nil {
		return fmt.Errorf("start %s: it runs already as %s", c.Name, id)
	}
	id, err := d.spawn(c)
	if err != nil {
		return fmt.Errorf("start %s: %w", c.Name, err)
	}
	if err := d.await(ctx, c, id); err != nil {
		return fmt.Errorf("start %s: %w: %s (log: %s)", c.Name, err, lastLine(d.Log(c.Name)), d.Log(c.Name))
	}
	return nil
}

func (d Dir) spawn(c Component) (proc.Identity, error) {
	for _, dir := range []string{d.Path("logs"), d.Path("pids")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return proc.Identity{}, err
		}
	}
	log, err := os.OpenFile(d.Log(c.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return proc.Identity{}, err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env = string(d), append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return proc.Identity{}, err
	}
	go func() { _ = cmd.Wait() }() // so that a component that ends while this program runs is no zombie
	id, err := proc.Of(cmd.Process.Pid)
	if err != nil {
		return id, fmt.Errorf("it ended at once: %s (log: %s)", lastLine(d.Log(c.Name)), d.Log(c.Name))
	}
	b, err := json.Marshal(record{c, id})
	if err != nil {
		return id, err
	}
	return id, os.WriteFile(d.pidFile(c.Name), b, 0o600)
}

func (d Dir) await(ctx context.Context, c Component, id proc.Identity) error {
	if c.Ready == nil {
		return nil
	}
	return Until(ctx, c.Deadline, func(ctx context.Context) error {
		if !id.Alive() {
			return Final(errors.New("it ended"))
		}
		return c.Ready(ctx)
	})
}

// Restart starts a component again as it was started before, after it was killed or stopped; ready as for [Component].
func (d Dir) Restart(ctx context.Context, name string, ready func(context.Context) error) error {
	r, err := d.read(name)
	if err != nil {
		return err
	}
	if err := d.stop(ctx, name, r.Process); err != nil {
		return err
	}
	r.Ready = ready
	return d.Start(ctx, r.Component)
}

// Stop ends the component and forgets it. A pid file whose process is gone, or whose pid another process has by now, is only removed.
func (d Dir) Stop(ctx context.Context, name string) error {
	r, err := d.read(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := d.stop(ctx, name, r.Process); err != nil {
		return err
	}
	return os.Remove(d.pidFile(name))
}

// grace is how long a component may take to end by itself.
const grace = 10 * time.Second

func (d Dir) stop(ctx context.Context, name string, id proc.Identity) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := proc.Kill(id, sig); errors.Is(err, proc.ErrGone) {
			return nil
		} else if err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
		err := Until(ctx, grace, func(context.Context) error {
			if id.Alive() {
				return fmt.Errorf("%s still runs", id)
			}
			return nil
		})
		if err == nil {
			return nil
		}
		if sig == syscall.SIGKILL || ctx.Err() != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
	}
	return nil
}

// Running returns the names of the components whose process lives, sorted.
func (d Dir) Running() ([]string, error) {
	files, err := filepath.Glob(d.pidFile("*"))
	if err != nil {
		return nil, fmt.Errorf("list components: %w", err)
	}
	var names []string
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		id, err := d.running(name)
		if err != nil {
			return nil, err
		}
		if id != nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// Known reports whether the component was started and not stopped since; it may have ended.
func (d Dir) Known(name string) bool {
	_, err := os.Stat(d.pidFile(name))
	return err == nil
}

func (d Dir) running(name string) (*proc.Identity, error) {
	r, err := d.read(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if !r.Process.Alive() {
		return nil, nil
	}
	return &r.Process, nil
}

func (d Dir) read(name string) (record, error) {
	var r record
	b, err := os.ReadFile(d.pidFile(name))
	if err != nil {
		return r, fmt.Errorf("read pid file: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read pid file %s: %w", d.pidFile(name), err)
	}
	return r, nil
}

// lastLine returns the last line with text of a file's end, or says that there is none.
func lastLine(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return "no log"
	}
	defer func() { _ = f.Close() }() // only read
	const tail = 8 << 10
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-tail), io.SeekStart)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return "its log is empty"
	}
	return string(bytes.TrimSpace(b[bytes.LastIndexByte(b, '\n')+1:]))
}
