package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/runner"
)

// Options of [Run]; the zero value of each but Task, Work and the streams is good.
type Options struct {
	Task           Task
	Getenv         func(string) string // the container's environment; nil means this process's own
	Work           string              // folder to work in
	Termination    string              // file for the last word; "" means DefaultMessagePath
	Stdout, Stderr io.Writer
	Client         *oci.Client   // nil: one that heeds Task.Insecure
	Patience       time.Duration // how long a registry that is away is waited for once the command has ended; 0 means 10 min
	Cgroup         string        // folder of the container's control group; "" means /sys/fs/cgroup
}

// run is one pod's part in a run.
type run struct {
	Options
	node node
	log  *logWriter
	mem  memory
	kept *checkpoints // nil: not kept
}

// Run does a pod's part of a task and returns the exit code of its container: ExitDone, ExitFailed or ExitLost. When ctx ends, which
// is how SIGTERM arrives, the command gets its grace, and the checkpoint is stored.
func Run(ctx context.Context, o Options) int {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Termination == "" {
		o.Termination = DefaultMessagePath
	}
	if o.Client == nil {
		o.Client = oci.New(oci.Options{Insecure: o.Task.Insecure})
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Minute
	}
	if o.Cgroup == "" {
		o.Cgroup = defaultCgroup
	}
	r := &run{Options: o, log: &logWriter{w: o.Stdout}}
	t := r.do(ctx)
	if err := t.write(o.Termination); err != nil {
		r.complain(err)
	}
	return t.code
}

func (r *run) complain(err error) { fmt.Fprintf(r.Stderr, "ml: %v\n", err) }

// failed is the last word when something but the command failed.
func (r *run) failed(ctx context.Context, err error) Termination {
	r.complain(err)
	t := Termination{Phase: runner.Failed, ExitCode: -1, Message: err.Error(), code: ExitFailed}
	switch {
	case ctx.Err() != nil:
		t.Phase, t.code, t.Message = runner.Cancelled, ExitLost, "cancelled: "+t.Message
	case oci.Retryable(err):
		t.Phase, t.code = runner.Lost, ExitLost
	}
	return t
}

func (r *run) do(ctx context.Context) Termination {
	var err error
	if r.node, err = nodeOf(r.Task, r.Getenv); err != nil {
		return r.failed(ctx, err)
	}
	switch old, err := r.earlier(ctx); {
	case err == nil:
		if r.Task.Trial != nil && old.Phase == runner.Succeeded {
			if err := r.Task.Trial.answer(old.Metrics); err != nil {
				return r.failed(ctx, err)
			}
		}
		return old.termination()
	case !errors.Is(err, oci.ErrNotFound):
		return r.failed(ctx, err)
	}
	if k := r.Task.Checkpoint; k != nil {
		to := *k
		if to.Tag == "" {
			to.Tag = r.Task.ID
		}
		if to.Interval <= 0 {
			to.Interval = defaultInterval
		}
		r.kept = &checkpoints{c: r.Client, to: to, dir: r.path("checkpoint"), complain: r.complain}
	}
	for {
		a, st, err := r.try(ctx)
		if err != nil {
			return r.failed(ctx, err)
		}
		// One of a container that ended before may die while we look at it: that is not this container's end.
		if st.Phase != runner.Lost || a.fresh || ctx.Err() != nil {
			return r.end(ctx, a, st)
		}
	}
}

// earlier looks for a result that a pod has stored that was killed before it could say so.
func (r *run) earlier(ctx context.Context) (Result, error) {
	dir := r.path("earlier") // nothing else need be writable in a container
	if err := os.RemoveAll(dir); err != nil {
		return Result{}, err
	}
	return FetchResult(ctx, r.Client, r.Task.Results, r.Task.ID, dir)
}

// try runs the command to its end, or awaits the end of one that was started before.
func (r *run) try(ctx context.Context) (attempt, runner.Status, error) {
	a, err := r.attempt(ctx)
	if err == nil && a.fresh {
		err = r.prepare(ctx, a)
	}
	if err != nil {
		return a, runner.Status{}, err
	}
	r.mem = watchMemory(r.Cgroup)
	if err := runner.Start(ctx, a.run(), r.spec(a)); err != nil {
		return a, runner.Status{}, err
	}
	st, err := r.await(ctx, a)
	return a, st, err
}

func (r *run) path(name string) string { return filepath.Join(r.Work, name) }

// await returns the outcome. The log is written by then.
func (r *run) await(ctx context.Context, a attempt) (runner.Status, error) {
	if r.Task.NeedModel && !r.node.first() { // the first node's is made by its runner
		if err := os.MkdirAll(a.model(), 0o755); err != nil {
			return runner.Status{}, err
		}
	}
	stay := context.WithoutCancel(ctx)
	beside, stop := context.WithCancel(stay)
	var group errgroup.Group
	follow, quit := context.WithCancel(stay)
	group.Go(func() error { return runner.Follow(follow, a.run(), r.log) })
	if r.kept != nil && r.node.first() {
		group.Go(func() error { r.kept.watch(beside); return nil })
	}
	seen, skip := 0, 0
	onProgress := func(p runner.Progress) {
		if skip > 0 {
			skip--
			return
		}
		seen++
		if err := r.log.progress(p); err != nil {
			r.complain(fmt.Errorf("write progress: %w", err))
		}
	}
	st, err := runner.Wait(ctx, a.run(), onProgress)
	if ctx.Err() != nil && !st.Phase.Over() {
		if err = runner.Cancel(stay, a.run(), r.Task.Grace); err == nil {
			skip = seen
			st, err = runner.Wait(stay, a.run(), onProgress)
		}
	}
	stop()
	if err != nil {
		quit()
	}
	if ferr := group.Wait(); ferr != nil && err == nil {
		r.complain(ferr)
	}
	quit()
	if ferr := r.log.finish(); ferr != nil {
		r.complain(ferr)
	}
	return st, err
}

// end stores what the run has made. What it stores does not end with the pod's context: Kubernetes leaves some seconds, and one more upload
// may fit in.
func (r *run) end(pod context.Context, a attempt, st runner.Status) Termination {
	ctx := context.WithoutCancel(pod)
	r.explainMemory(&st)
	r.answerSearch(a, &st)
	r.foretell(st)
	if r.kept != nil && r.node.first() && st.Phase != runner.Succeeded {
		if err := r.persist(ctx, func() error { return r.kept.store(ctx) }); err != nil {
			st.Message += "; also, its checkpoint could not be stored: " + err.Error()
			r.complain(fmt.Errorf("the checkpoint could not be stored: %w", err))
		}
	}
	if r.endedForAnother(pod, st) {
		st.Phase, st.Message = runner.Lost, "ended with the other nodes, which begin again together: "+st.Message
	}
	t := Termination{Phase: st.Phase, ExitCode: st.ExitCode, Message: st.Message, Tail: st.LastLogLines, code: codeOf(st.Phase)}
	if !r.node.first() || t.code == ExitLost {
		return t
	}
	res, err := r.store(ctx, a, st)
	if err != nil {
		r.complain(err)
		t.Phase, t.code = runner.Lost, ExitFailed
		t.Message = fmt.Sprintf("the command ended (%s), and %v", st.Phase, err)
		if oci.Retryable(err) {
			t.code = ExitLost
		}
		return t
	}
	return res.termination()
}

// endedForAnother waits whether this pod is ended after its command failed: then another node was the first to go.
func (r *run) endedForAnother(pod context.Context, st runner.Status) bool {
	if st.Phase != runner.Failed || r.node.nodes <= 1 || r.Task.Settle <= 0 {
		return false
	}
	r.complain(fmt.Errorf("the command failed (%s); waiting %s whether another node was lost", st.Message, r.Task.Settle))
	timer := time.NewTimer(r.Task.Settle)
	defer timer.Stop()
	select {
	case <-pod.Done():
		return true
	case <-timer.C:
		return pod.Err() != nil
	}
}

// foretell leaves a last word for the case that the pod is killed, or its time is over, while it stores things.
func (r *run) foretell(st runner.Status) {
	t := Termination{Phase: runner.Lost, ExitCode: st.ExitCode, Tail: st.LastLogLines}
	t.Message = fmt.Sprintf("the command ended (%s), and the pod was killed while it stored what it made", st.Phase)
	if st.Phase == runner.Cancelled || st.Phase == runner.Lost {
		t.Phase, t.Message = st.Phase, st.Message+"; the pod was killed while it stored the checkpoint"
	}
	if err := t.write(r.Termination); err != nil {
		r.complain(err)
	}
}

func codeOf(p runner.Phase) int {
	switch p {
	case runner.Succeeded:
		return ExitDone
	case runner.Failed, runner.TimedOut:
		return ExitFailed
	case runner.Absent, runner.Starting, runner.Running, runner.Cancelled, runner.Lost:
	}
	return ExitLost
}

// explainMemory says it when the kernel killed the command, or one of its processes, for want of memory.
func (r *run) explainMemory(st *runner.Status) {
	n, limit := r.mem.killed()
	if n <= 0 || st.Phase != runner.Failed {
		return
	}
	if st.Signal == "SIGKILL" {
		st.Message = fmt.Sprintf("killed: out of memory (%s)", limit)
		return
	}
	st.Message += fmt.Sprintf("; %d of its processes were killed: out of memory (%s)", n, limit)
}

// persist calls f until the registry takes what f sends, or patience is over.
func (r *run) persist(ctx context.Context, f func() error) error {
	late := time.After(r.Patience)
	for pause := min(r.Patience/10, 2*time.Second); ; pause = min(2*pause, 30*time.Second) {
		err := f()
		if err == nil || !oci.Retryable(err) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-late:
			timer.Stop()
			return err
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}
