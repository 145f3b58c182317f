//go:build linux || darwin

package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	lastLines     = 20
	lastLineBytes = 2000
)

// verdict makes the outcome once nothing of the command runs any more.
func (s *supervisor) verdict(guards []*pathGuard) Status {
	st := Status{Phase: Succeeded, ExitCode: 0, LeftBehind: s.left}
	for _, r := range s.ranks {
		if st.Phase == Succeeded && !r.cmd.ProcessState.Success() || r.first {
			st.Phase, st.Rank = Failed, r.n
			st.ExitCode, st.Signal, st.Message = exitOf(r)
		}
	}
	if s.cause != "" {
		st.Phase, st.Message = s.cause, s.why
	}
	if st.Phase == Succeeded {
		if err := s.delivered(); err != nil {
			st.Phase, st.Message = Failed, err.Error()
		}
	}
	s.untouched(guards, &st)
	st.MaxRSSBytes, st.CPUSeconds = childUsage()
	lines, err := tailFile(LogPath(string(s.folder), st.Rank), lastLines)
	if err != nil {
		s.problems = append(s.problems, err)
	}
	for _, l := range lines {
		st.LastLogLines = append(st.LastLogLines, clip(l, lastLineBytes))
	}
	progress := ProgressReader{path: s.folder.path(progressFile)}
	if err := progress.each(true, func(Progress) {}); err != nil {
		s.problems = append(s.problems, err)
	}
	st.ProgressLines, st.MalformedProgress = progress.Lines, progress.Malformed
	if len(s.problems) > 0 {
		complain(errors.New(joined(s.problems)))
	}
	return st
}

func exitOf(r *rank) (code int, signal, message string) {
	ps := r.cmd.ProcessState
	ws, ok := ps.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		name := signalName(ws.Signal())
		message = "killed by " + name
		if ws.Signal() == syscall.SIGKILL {
			message += " (not by us; often the machine was out of memory)"
		}
		return -1, name, message
	}
	return ps.ExitCode(), "", fmt.Sprintf("exit code %d", ps.ExitCode())
}

// delivered checks what a command that ended well owes.
func (s *supervisor) delivered() error {
	if s.spec.NeedModel {
		ok, err := hasFile(s.spec.ModelDir)
		if err != nil {
			return fmt.Errorf("model: %w", err)
		}
		if !ok {
			return fmt.Errorf("the command ended with exit code 0 but wrote no model: ML_MODEL_DIR (%s) holds no file; write the model there", s.spec.ModelDir)
		}
	}
	if s.spec.NeedMetrics {
		if _, err := ReadMetrics(string(s.folder)); err != nil {
			return fmt.Errorf("the command ended with exit code 0, but its metrics cannot be used: %w", err)
		}
	}
	return nil
}

// untouched looks whether all that was only lent to the command is as it was. Nobody else may take a result for one of inputs that
// changed under it, and how the command ended does not matter to whoever reads them next.
func (s *supervisor) untouched(guards []*pathGuard, st *Status) {
	for _, g := range guards {
		err := g.check()
		if err == nil {
			continue
		}
		st.Changed = append(st.Changed, g.path)
		if st.Phase == Succeeded {
			st.Phase, st.Message = Failed, err.Error()
		} else {
			st.Message += "; also, " + err.Error()
		}
	}
}

var errFound = errors.New("found")

// hasFile reports whether there is a regular file anywhere under dir. Links do not count: they may point anywhere.
func hasFile(dir string) (bool, error) {
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			return errFound
		}
		return err
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// pathGuard notices writes to what is only lent to the command: a model, an input. Nothing on a plain file system could prevent
// them for a command that runs as the same user, or as root; changed content under an old digest must at least not go unseen.
type pathGuard struct {
	what   string // "the model", "the input train"
	path   string // file or folder
	before map[string]fileMark
}

type fileMark struct {
	size  int64
	mode  fs.FileMode
	mtime time.Time
}

func newGuard(what, path string) (*pathGuard, error) {
	before, err := marks(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return &pathGuard{what: what, path: path, before: before}, nil
}

func marks(path string) (map[string]fileMark, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	out := map[string]fileMark{}
	err := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if e.IsDir() { // Its time moves with its entries, and those are seen themselves.
			out[p] = fileMark{mode: info.Mode()}
			return nil
		}
		out[p] = fileMark{size: info.Size(), mode: info.Mode(), mtime: info.ModTime()}
		return nil
	})
	return out, err
}

func (g *pathGuard) check() error {
	after, err := marks(g.path)
	if err != nil {
		return fmt.Errorf("the command changed %s, which is read-only here: %w; write elsewhere", g.what, err)
	}
	all := maps.Clone(g.before)
	maps.Copy(all, after)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		was, old := g.before[p]
		is, now := after[p]
		if old != now || was.size != is.size || was.mode != is.mode || !was.mtime.Equal(is.mtime) {
			return fmt.Errorf("the command changed %s, which is read-only here: %s; write elsewhere", g.what, p)
		}
	}
	return nil
}
