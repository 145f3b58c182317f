package runs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// op is one operation and its folder, which carries the operation's id. An operation is one or more stages, each a runner
// folder: the main one is the operation's folder itself, others (smoke, trial-001, champion, batch-00000) lie in it. A stage
// happens at most once, so an operation that was interrupted goes on where it stopped.
type op struct {
	env  *Workspace
	exec Executor
	req  providers.ApplyRequest
	dir  string
}

// runRef is what records and runs keep of an operation.
type runRef struct {
	Op string `json:"op"`
	// Digest is the artifact that it made, Path the file.
	Digest resource.Digest `json:"digest,omitempty"`
	URI    string          `json:"uri,omitempty"`
	Path   string          `json:"path,omitempty"`
}

const (
	mainStage  = ""
	resultFile = "result.json"
)

// begin finds the operation of a request. Adopting one of which nothing ever ran is ErrAbsent; one that had begun goes on, since
// leaving its remaining stages undone would lose the work of those that ran.
func (c command) begin(ctx context.Context, req providers.ApplyRequest) (*op, error) {
	dir, err := c.opDir(req.OpID)
	if err != nil {
		return nil, err
	}
	if err := c.exec.Admit(req); err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	o := &op{env: c.Workspace, exec: c.exec, req: req, dir: dir}
	if !req.Adopt {
		return o, nil
	}
	stages, err := stagesOf(ctx, c.exec, dir)
	if err != nil {
		return nil, err
	}
	done, err := exists(filepath.Join(dir, resultFile))
	if err != nil {
		return nil, err
	}
	// A prepared stage counts as begun: its runner may be on its way although it has not said so yet, and going on is safe.
	if !done && len(stages) == 0 {
		return nil, fmt.Errorf("%s: operation %s: %w", req.Address, req.OpID, providers.ErrAbsent)
	}
	return o, nil
}

// opDir is the folder of an operation.
func (e *Workspace) opDir(id string) (string, error) {
	if id == "" || !filepath.IsLocal(id) || strings.ContainsAny(id, `/\`) {
		return "", fmt.Errorf("operation id %q cannot name a folder", id)
	}
	return filepath.Join(e.Dir, "runs", id), nil
}

// recall fills v with what done stored, if the operation is over.
func (o *op) recall(v any) (bool, error) {
	return durable.ReadJSON(filepath.Join(o.dir, resultFile), v)
}

// done stores what the operation made. From here on its folder's other files are not needed to answer for it.
func (o *op) done(v any) error { return durable.WriteJSON(filepath.Join(o.dir, resultFile), v) }

func (o *op) at(name string) string { return filepath.Join(o.dir, name) }

func (o *op) ref() runRef { return runRef{Op: o.req.OpID} }

// stage is one runner folder of an operation.
type stage struct {
	name   string
	dir    string
	status runner.Status
}

// stagesOf lists the stages that were prepared or begun, in the order in which they began.
func stagesOf(ctx context.Context, x Executor, dir string) ([]stage, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := []stage{{mainStage, dir, runner.Status{}}}
	for _, e := range entries {
		if e.IsDir() {
			found = append(found, stage{e.Name(), filepath.Join(dir, e.Name()), runner.Status{}})
		}
	}
	var out []stage
	for _, s := range found {
		if s.status, err = x.Read(ctx, s.dir); err != nil {
			return nil, err
		}
		if s.status.Phase != runner.Absent {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b stage) int { return a.status.Started.Compare(b.status.Started) })
	return out, nil
}

// run brings one stage to its end, whoever began it. It errors when ctx ends first (the stage goes on), and when it was not
// begun and may not be: the code moved, or the operation was cancelled.
func (o *op) run(ctx context.Context, name string, s Stage, on func(runner.Progress)) (runner.Status, error) {
	release, err := o.env.slot(ctx)
	if err != nil {
		return runner.Status{}, err
	}
	defer release()
	dir := o.at(name)
	st, err := o.exec.Read(ctx, dir)
	if err != nil {
		return st, err
	}
	if st.Phase == runner.Absent || st.Phase == runner.Starting {
		if err := o.start(ctx, dir, s); err != nil {
			return st, o.left(ctx, dir, s, st.Phase, err)
		}
	}
	st, err = o.exec.Wait(ctx, dir, on)
	if err != nil {
		return st, err
	}
	return st, o.env.discard(st.Changed)
}

// discard removes frozen data that a command has changed: it no longer is what its digest says. The dataset is missing then, and the
// next apply freezes it anew. A model's copy is looked at before each use, see checkout.
func (e *Workspace) discard(changed []string) error {
	for _, p := range changed {
		if !strings.HasPrefix(p, e.dataDir()+string(filepath.Separator)) {
			continue
		}
		if err := os.RemoveAll(p); err != nil {
			return fmt.Errorf("remove the changed copy of data: %w", err)
		}
	}
	return nil
}

// mayBegin looks at a stage that nobody has begun.
func (o *op) mayBegin(ctx context.Context, s Stage) error {
	if err := o.cancelled(ctx); err != nil {
		return err
	}
	if err := errors.Join(o.env.Unmoved(o.req, s.Exec), o.secrets(s)); err != nil {
		return &providers.RunError{Err: err, Ref: o.ref()}
	}
	o.warn(s.Exec)
	return nil
}

func (o *op) start(ctx context.Context, dir string, s Stage) error {
	if err := o.mayBegin(ctx, s); err != nil {
		return err
	}
	if err := o.exec.Start(ctx, dir, s); err != nil {
		var open *providers.OpenError
		if ctx.Err() != nil || errors.As(err, &open) {
			return err
		}
		if st, rerr := o.exec.Read(ctx, dir); rerr == nil && (st.Phase == runner.Absent || st.NotBegun) {
			return &providers.NotStartedError{Err: fmt.Errorf("%s: %w", o.req.Address, err)}
		}
		return &providers.RunError{Err: err, Ref: o.ref()}
	}
	// Who cancelled in between saw no such stage yet.
	if err := o.cancelled(ctx); err != nil {
		return errors.Join(err, o.exec.Cancel(ctx, dir, s.Spec.Grace))
	}
	return nil
}

// left ends an operation that cannot go on with a stage that somebody prepared: what was made of it must not stay behind.
func (o *op) left(ctx context.Context, dir string, s Stage, phase runner.Phase, why error) error {
	var failed *providers.RunError
	if phase != runner.Starting || !errors.As(why, &failed) {
		return why
	}
	err := o.exec.Cancel(ctx, dir, s.Spec.Grace)
	var open *providers.OpenError
	if errors.As(err, &open) {
		return &providers.OpenError{Err: errors.Join(why, open.Err)}
	}
	return errors.Join(why, err)
}

// masked begins what stands in a recorded spec for a sensitive value.
const masked = "hash:"

// secrets errors when an interrupted operation cannot go on because values that its next stage needs are recorded as hashes only.
func (o *op) secrets(s Stage) error {
	if !o.req.Adopt {
		return nil
	}
	hidden := false
	for _, v := range s.Exec.Env {
		hidden = hidden || strings.HasPrefix(v, masked)
	}
	for _, v := range s.Spec.Params {
		text, ok := v.(string)
		hidden = hidden || ok && strings.HasPrefix(text, masked)
	}
	if !hidden {
		return nil
	}
	return fmt.Errorf("%s: it was interrupted, and what is left needs sensitive values, which are not stored; apply again", o.req.Address)
}

// cancelled errors once someone cancelled the operation: its main stage then can never begin.
func (o *op) cancelled(ctx context.Context) error {
	st, err := o.exec.Read(ctx, o.dir)
	if err != nil {
		return err
	}
	if st.Phase != runner.Cancelled {
		return nil
	}
	return &providers.RunError{Err: fmt.Errorf("%s: %w", o.req.Address, providers.ErrCancelled), Ref: o.ref()}
}

// failure says why a stage did not succeed; nil when it did. what names it in the sentence ("smoke run"), or is "".
func (o *op) failure(what string, st runner.Status) error {
	if st.Phase == runner.Succeeded {
		return nil
	}
	who := o.req.Address.String()
	if what != "" {
		who += ": " + what
	}
	var err error
	switch st.Phase {
	case runner.Cancelled:
		err = fmt.Errorf("%s: %w", who, providers.ErrCancelled)
	case runner.TimedOut:
		err = fmt.Errorf("%s %s", who, st.Message)
	case runner.Lost:
		err = fmt.Errorf("%s was lost: %s", who, st.Message)
	case runner.Succeeded, runner.Failed, runner.Absent, runner.Starting, runner.Running:
		if what != "" {
			who += " failed"
		}
		err = fmt.Errorf("%s: %s", who, st.Message)
	}
	err = &providers.RunError{Err: err, Log: st.LastLogLines, Ref: o.ref()}
	if st.NotBegun {
		return &providers.NotStartedError{Err: err}
	}
	return err
}

// emit sends an event about the operation.
func (o *op) emit(e resource.Event) {
	e.Address, e.Action = o.req.Address.String(), o.req.Action
	if e.Time.IsZero() {
		e.Time = o.env.Now()
	}
	o.req.Emit(e)
}

func (o *op) log(format string, args ...any) {
	o.emit(resource.Event{Type: resource.EventLog, Message: fmt.Sprintf(format, args...)})
}
