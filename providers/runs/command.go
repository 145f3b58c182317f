package runs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// command gives the drivers of all kinds with a command what is alike in them: Probe, Logs and Cancel.
type command struct {
	*Workspace
	exec Executor
}

// Probe implements providers.Prober.
func (c command) Probe(_ context.Context, req providers.ProbeRequest) (map[string]string, error) {
	return c.ProbeCode(req)
}

// ProbeCode digests the sources of a block with a command, as providers.Prober asks.
func (c *Workspace) ProbeCode(req providers.ProbeRequest) (map[string]string, error) {
	var n named
	if err := resource.Decode(req.Spec, &n); err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	x, err := c.planned()
	if err != nil {
		return nil, err
	}
	d, err := codeDigest(x, n.Command, n.Sources)
	if err != nil {
		return nil, fmt.Errorf("%s: sources: %w", req.Address, err)
	}
	return map[string]string{"code": string(d)}, nil
}

// Cancel implements providers.Canceller. The main stage goes first: once it is cancelled no other stage begins, so what is
// left to end is what runs now.
func (c command) Cancel(ctx context.Context, addr resource.Address, opID string) error {
	dir, err := c.opDir(opID)
	if err != nil {
		return err
	}
	if err := c.exec.Cancel(ctx, dir, 0); err != nil {
		return fmt.Errorf("%s: %w", addr, err)
	}
	stages, err := stagesOf(ctx, c.exec, dir)
	if err != nil {
		return fmt.Errorf("%s: %w", addr, err)
	}
	for _, s := range stages {
		if err := c.exec.Cancel(ctx, s.dir, 0); err != nil {
			return fmt.Errorf("%s: %s: %w", addr, s.name, err)
		}
	}
	return nil
}

// Logs implements providers.Logger: the logs of all stages, in the order in which they began.
func (c command) Logs(ctx context.Context, req providers.LogRequest, w io.Writer) error {
	id := req.OpID
	switch {
	case req.Run != nil:
		id = req.Run.ID
	case id == "" && req.Record != nil:
		id = req.Record.Run
	}
	if id == "" {
		return errors.New("there is no log: nothing has run yet")
	}
	dir, err := c.opDir(id)
	if err != nil {
		return err
	}
	if req.Follow {
		return c.follow(ctx, dir, w)
	}
	stages, err := stagesOf(ctx, c.exec, dir)
	if err != nil {
		return err
	}
	if len(stages) == 0 {
		return fmt.Errorf("the log of %s is gone; runs keep theirs until ml prune", id)
	}
	if req.Lines > 0 {
		return lastLogLines(stages, req.Lines, w)
	}
	for _, s := range stages {
		if err := copyLogs(s, len(stages) > 1, w); err != nil {
			return err
		}
	}
	return nil
}

// lastLogLines writes the last lines of the stages together, with a heading for each stage that they touch.
func lastLogLines(stages []stage, n int, w io.Writer) error {
	var out []string
	for _, s := range slices.Backward(stages) {
		if n <= 0 {
			break
		}
		lines, err := runner.Tail(s.dir, n)
		if err != nil {
			return err
		}
		n -= len(lines)
		if len(stages) > 1 {
			lines = append([]string{heading(s.name)}, lines...)
		}
		out = append(lines, out...)
	}
	for _, l := range out {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

func heading(name string) string {
	if name == mainStage {
		name = "run"
	}
	return "==> " + name + " <=="
}

// copyLogs writes a stage's whole log, and those of further processes behind it.
func copyLogs(s stage, head bool, w io.Writer) error {
	ranks, err := filepath.Glob(filepath.Join(s.dir, "rank-*.log"))
	if err != nil {
		return err
	}
	for _, p := range append([]string{runner.LogPath(s.dir, 0)}, ranks...) {
		if head || len(ranks) > 0 {
			name := heading(s.name)
			if b := filepath.Base(p); strings.HasPrefix(b, "rank-") {
				name = heading(strings.TrimSuffix(b, ".log"))
			}
			if _, err := fmt.Fprintln(w, name); err != nil {
				return err
			}
		}
		if err := copyFile(p, w); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(path string, w io.Writer) (err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(w, f)
	return err
}

// nextStage is how long follow waits for another stage before it takes an operation without a result for ended.
const nextStage = 2 * time.Second

// follow writes the logs of stages one after the other until the operation is over.
func (c command) follow(ctx context.Context, dir string, w io.Writer) error {
	seen := map[string]bool{}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	idle := time.Now()
	for {
		stages, err := stagesOf(ctx, c.exec, dir)
		if err != nil {
			return err
		}
		over := len(stages) > 0
		for _, s := range stages {
			if seen[s.name] {
				continue
			}
			seen[s.name], over = true, false
			if s.name != mainStage || len(seen) > 1 {
				if _, err := fmt.Fprintln(w, heading(s.name)); err != nil {
					return err
				}
			}
			if err := c.exec.Follow(ctx, s.dir, w); err != nil {
				return err
			}
			idle = time.Now()
		}
		if over && (seen[mainStage] || time.Since(idle) > nextStage) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
