package daemon

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/daemon/internal/site"
	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/internal/windows"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// look gives a copy of the status, complete.
func (r *repo) look() status.Repository {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Name, s.URL, s.Branch, s.Path, s.Mode = r.conf.Name, r.mirror.Address(), r.conf.Branch, r.conf.Path, string(r.conf.Mode)
	s.Observed, s.Attempted, s.Applied, s.Failures = r.kept.Observed, r.kept.Attempted, r.kept.Applied, r.kept.Failures
	if r.conf.Verify != nil {
		trusted := r.kept.Trusted
		s.Trusted = &trusted
	}
	if s.Phase == "" {
		s.Phase = status.Starting
	}
	if s.Blocks == nil {
		s.Blocks = []engine.StatusRow{}
	}
	return s
}

// say changes the status.
func (r *repo) say(change func(*status.Repository)) {
	r.mu.Lock()
	before := r.status.Phase
	change(&r.status)
	s := r.status
	r.mu.Unlock()
	if s.Phase != before {
		r.log.Info("phase", "phase", s.Phase, "message", s.Message)
		r.feed.publish(Note{Type: "phase", Repository: r.conf.Name, Message: string(s.Phase)})
	}
}

// shown is a repository as its pages look at it.
type shown struct{ *repo }

// Status implements site.Project.
func (r shown) Status() status.Repository { return r.look() }

// Blocks implements site.Project.
func (r shown) Blocks() []site.Block {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blocks
}

// Snapshot implements site.Project.
func (r shown) Snapshot(ctx context.Context) (*state.Snapshot, error) {
	snap, _, err := r.snapshot(ctx)
	return snap, err
}

// Runs implements site.Project.
func (r shown) Runs(ctx context.Context, a resource.Address) ([]*state.Run, error) {
	w, err := r.bare()
	if err != nil {
		return nil, err
	}
	return w.Store.Runs(ctx, a)
}

// Windows implements site.Project.
func (r shown) Windows(monitor resource.Address, signal string) ([]state.Window, error) {
	return windows.Read(filepath.Join(r.work, workspace.DotML, workspace.WindowsFolder), monitor, signal)
}

// RunFolder implements site.Project.
func (r shown) RunFolder(id string) string {
	return filepath.Join(r.work, workspace.DotML, "runs", id)
}

// WriteLog implements site.Project. A run of this machine is read where it lies,
// which needs no file of the project to be right.
func (r shown) WriteLog(ctx context.Context, a resource.Address, id string, open, follow bool, to io.Writer) error {
	w, err := r.reopen(ctx)
	if err != nil {
		// The files say what is sensitive. Without them a log is shown if nothing of the block is.
		if snap, _, serr := r.snapshot(ctx); serr != nil || engine.Secretive(snap, a) {
			return errors.Join(err, serr)
		}
		return errors.Join(err, r.localLog(id, to))
	}
	defer w.Close() //nolint:errcheck // it only read
	snap, err := w.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	if open {
		id = "" // the engine finds what runs now, and who runs it
	}
	return w.Engine.Logs(ctx, snap, a, id, follow && open, site.LogLines, to)
}

func (r shown) localLog(id string, to io.Writer) error {
	dir := r.RunFolder(id)
	if _, err := os.Stat(dir); err != nil {
		return nil //nolint:nilerr // it is not here: the other error says why it is not shown
	}
	lines, err := runner.Tail(dir, site.LogLines)
	if err != nil {
		return err
	}
	_, err = io.WriteString(to, strings.Join(append(lines, ""), "\n"))
	return err
}

// blocksOf are the blocks of the files, in their order.
func blocksOf(conf *config.Project) []site.Block {
	out := make([]site.Block, len(conf.Blocks))
	for i, b := range conf.Blocks {
		out[i] = site.Block{Addr: b.Addr, Provider: b.Provider, Deps: b.Deps, Feedback: b.Feedback}
	}
	return out
}
