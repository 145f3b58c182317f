package pod

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/internal/runner"
)

// attempt is one try to run the command in this pod. A container that ended is often started again with the same volumes.
type attempt struct {
	dir   string
	fresh bool // nothing was started in it
}

func (a attempt) run() string { return filepath.Join(a.dir, "run") }

func (a attempt) code() string { return filepath.Join(a.dir, "code") }

func (a attempt) model() string { return filepath.Join(a.dir, "run", "model") }

func (a attempt) result() string { return filepath.Join(a.dir, "result") }

// output is the folder of ML_OUTPUT, in the result if that is where it goes.
func (r *run) output(a attempt) string {
	if r.Task.Output != nil && r.Task.Output.Repo != "" {
		return filepath.Join(a.dir, outputDir)
	}
	return filepath.Join(a.result(), outputDir)
}

// attempt finds the one to go on with: a command that has an outcome, or still runs, is not run again.
func (r *run) attempt(ctx context.Context) (attempt, error) {
	for n := 1; ; n++ {
		a := attempt{dir: r.path("attempt-" + strconv.Itoa(n))}
		st, err := runner.Read(a.run())
		if err != nil {
			return a, err
		}
		switch st.Phase {
		case runner.Absent:
			a.fresh = true
			return a, nil
		case runner.Lost:
			if _, err := runner.Wait(ctx, a.run(), nil); err != nil { // ends what it left behind
				return a, err
			}
		case runner.Cancelled:
		case runner.Starting, runner.Running, runner.Succeeded, runner.Failed, runner.TimedOut:
			return a, nil
		}
	}
}

// prepare brings what the command needs.
func (r *run) prepare(ctx context.Context, a attempt) error {
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetches)
	if c := r.Task.Code; c != nil {
		group.Go(func() error {
			if err := os.RemoveAll(a.code()); err != nil { // a command may have begun to change it
				return err
			}
			if err := bring(ctx, r.Client, "the code", *c, CodePrefix, a.code(), false); err != nil {
				return err
			}
			return r.removeOutputs(a)
		})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Task.Inputs)) {
		group.Go(func() error {
			return bring(ctx, r.Client, "input "+name, r.Task.Inputs[name], DataPrefix, r.path(filepath.Join("inputs", name)), true)
		})
	}
	if m := r.Task.Model; m != nil {
		group.Go(func() error { return bring(ctx, r.Client, "the model", *m, ModelPrefix, r.path("model"), true) })
	}
	if r.kept != nil {
		group.Go(func() error { return r.kept.restore(ctx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if r.Task.Output != nil {
		return os.MkdirAll(r.output(a), 0o755)
	}
	return nil
}

// removeOutputs takes away what came with the code under the name of an output: it is not this command's.
func (r *run) removeOutputs(a attempt) error {
	for _, p := range r.Task.Outputs {
		if err := os.RemoveAll(filepath.Join(a.code(), filepath.FromSlash(p))); err != nil {
			return err
		}
	}
	return nil
}

// spec is the task as the runner takes it.
func (r *run) spec(a attempt) runner.Spec {
	t := r.Task
	s := runner.Spec{
		ID: t.ID, Address: t.Address, Command: t.Command, Dir: a.code(), Env: t.Env, PassEnv: t.EnvFrom, ExtraEnv: maps.Clone(t.ExtraEnv),
		Timeout: t.Timeout, Grace: t.Grace, Inputs: map[string]string{}, Params: t.Params, CheckpointDir: r.path("checkpoint"), Seed: t.Seed,
		Processes: r.node.processes, Nodes: r.node.nodes, NodeRank: r.node.rank, MasterAddr: r.node.addr,
	}
	if r.node.nodes > 1 {
		s.MasterPort = r.node.port
	}
	if t.Code == nil {
		s.Dir = "." // the image's own folder
	}
	for name, in := range t.Inputs {
		s.Inputs[name] = r.path(filepath.Join("inputs", name, in.File))
	}
	if t.Output != nil {
		if s.ExtraEnv == nil {
			s.ExtraEnv = map[string]string{}
		}
		s.ExtraEnv["ML_OUTPUT"] = filepath.Join(r.output(a), t.Output.Name)
	}
	switch {
	case t.Model != nil:
		s.ModelDir, s.ModelReadOnly = r.path("model"), true
	case t.NeedModel:
		s.ModelDir, s.NeedModel = a.model(), r.node.first()
	}
	s.NeedMetrics = t.NeedMetrics && r.node.first()
	return s
}
