package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

// executor is the runs.Executor of a cluster: a stage is an object with pods, such as a Job.
type executor struct {
	*Env
}

// Admit implements runs.Executor. It asks the cluster nothing.
func (e *executor) Admit(req providers.ApplyRequest) error {
	s, err := e.step(req)
	if err != nil {
		return err
	}
	if _, err := e.Artifacts.base(); err != nil {
		return err
	}
	if _, err := Quantities(s.Resources); err != nil {
		return err
	}
	return s.Block.Check(e.Kind.Provider())
}

// step reads where a step is to run.
func (e *executor) step(req providers.ApplyRequest) (Step, error) {
	s, err := e.Kind.Step(req.Spec)
	if err != nil {
		return s, fmt.Errorf("read its attributes: %w", err)
	}
	if s.Image == "" {
		s.Image = e.Settings.Image
	}
	if s.Image == "" {
		return s, fmt.Errorf("image: a pod needs one; set image in the block, or in provider %q for all", e.Kind.Provider())
	}
	s.Image = strings.TrimPrefix(s.Image, oci.Scheme)
	c, err := e.Cluster()
	if err != nil {
		return s, err
	}
	s.Block.fill(e.Settings, c.Namespace())
	return s, c.Allow(s.Block.Namespace)
}

// Read implements runs.Executor. Of a stage that goes on it says Running without asking the cluster: Wait finds out.
func (e *executor) Read(ctx context.Context, dir string) (runner.Status, error) {
	f := folder(dir)
	k, err := f.known()
	switch {
	case err != nil:
		return runner.Status{}, err
	case k.isOver:
		return k.outcome.Status, nil
	case k.cancelled && !k.isPlaced:
		return cancelled("cancelled before it began"), nil
	case !k.isPlaced:
		return runner.Status{Phase: runner.Absent, ExitCode: -1, Message: "there is no run in " + dir}, nil
	case !k.isCreated:
		return runner.Status{ID: k.placed.Run, Phase: runner.Starting, ExitCode: -1, Message: "its " + e.Kind.GVK().Kind + " is not made yet"}, nil
	}
	st := runner.Status{ID: k.placed.Run, Phase: runner.Running, ExitCode: -1, Started: k.created.At, Message: "running as " + k.placed.Job.String()}
	c, err := e.Cluster()
	if err != nil {
		return st, err
	}
	_, err = c.Get(ctx, k.job())
	if errors.Is(err, kube.ErrNotFound) {
		if k.cancelled {
			return cancelled("cancelled"), nil
		}
		return lost(f, k), nil
	}
	return st, unseen(k, err)
}

// unseen says of a stage that was begun that nobody could look at it: it is not over because of that.
func unseen(k known, err error) error {
	if err == nil {
		return nil
	}
	return &providers.OpenError{Err: fmt.Errorf("%s goes on, but cannot be followed; apply again to collect it: %w", k.placed.Job, err)}
}

func cancelled(message string) runner.Status {
	return runner.Status{Phase: runner.Cancelled, ExitCode: -1, Message: message}
}

// lost is an object that was made and is gone without an outcome.
func lost(f folder, k known) runner.Status {
	st := runner.Status{ID: k.placed.Run, Phase: runner.Lost, ExitCode: -1, Started: k.created.At,
		Message: fmt.Sprintf("its %s is gone, and it left no result: somebody deleted it", k.placed.Job)}
	if lines, err := runner.Tail(string(f), lastLines); err == nil {
		st.LastLogLines = lines
	}
	return st
}

// lastLines is how many lines of the log go with a failure.
const lastLines = 20

// Wait implements runs.Executor.
func (e *executor) Wait(ctx context.Context, dir string, on func(runner.Progress)) (runner.Status, error) {
	f := folder(dir)
	k, err := f.known()
	if err != nil {
		return runner.Status{}, err
	}
	if !k.isOver {
		if !k.isCreated {
			return e.Read(ctx, dir)
		}
		if k.outcome, err = e.await(ctx, f, k, on); err != nil {
			return runner.Status{}, unseen(k, err)
		}
		if k.outcome.Status.Phase != runner.Lost { // like the runner's, it follows from what is there, as long as that is so
			if err := f.note(outcomeFile, k.outcome); err != nil {
				return runner.Status{}, err
			}
		}
	}
	return k.outcome.Status, e.clear(ctx, f, k)
}

// clear deletes the object, with all that it owns, once its outcome is here.
func (e *executor) clear(ctx context.Context, f folder, k known) error {
	done, err := f.has(deletedFile)
	if err != nil || done || !k.isCreated {
		return err
	}
	c, err := e.Cluster()
	if err != nil {
		return err
	}
	if err := e.remove(ctx, c, k, k.job(), 0); err != nil {
		var again *kube.Retryable
		if errors.As(err, &again) {
			return &providers.OpenError{Err: fmt.Errorf("%s is over, but could not be deleted; apply again to do so: %w", k.placed.Job, err)}
		}
		return err
	}
	return f.note(deletedFile, time.Now().UTC())
}

// Cancel implements runs.Executor: the pods get SIGTERM and their grace, then the object is gone. It may go on when that could not be seen.
func (e *executor) Cancel(ctx context.Context, dir string, _ time.Duration) error {
	err := e.cancel(ctx, dir)
	var again *kube.Retryable
	if errors.As(err, &again) {
		return &providers.OpenError{Err: err}
	}
	return err
}

func (e *executor) cancel(ctx context.Context, dir string) error {
	f := folder(dir)
	k, err := f.known()
	if err != nil || k.isOver {
		return err
	}
	if err := f.note(cancelFile, time.Now().UTC()); err != nil {
		return err
	}
	if !k.isPlaced {
		return f.note(outcomeFile, outcome{Status: cancelled("cancelled before it began")})
	}
	c, err := e.Cluster()
	if err != nil {
		return err
	}
	ref := k.job()
	if !k.isCreated {
		// It may have been made by a process that died before it could say so.
		job, err := c.Get(ctx, ref)
		if errors.Is(err, kube.ErrNotFound) {
			if err := e.unplace(ctx, c, k); err != nil {
				return err
			}
			return f.note(outcomeFile, outcome{Status: cancelled("cancelled before it began")})
		}
		if err != nil {
			return err
		}
		if ref = kube.RefOf(job); job.GetLabels()[LabelRun] != LabelValue(k.placed.Run) {
			return fmt.Errorf("cancel: %s belongs to another run", ref)
		}
	}
	if err := e.remove(ctx, c, k, ref, deleteWithin); err != nil {
		return err
	}
	st := cancelled("cancelled")
	st.ID, st.Started, st.Finished = k.placed.Run, k.created.At, time.Now().UTC()
	if st.LastLogLines, err = runner.Tail(dir, lastLines); err != nil {
		return err
	}
	return errors.Join(f.note(outcomeFile, outcome{Status: st}), f.note(deletedFile, time.Now().UTC()))
}

// remove deletes the object with all that it owns, and returns when none of its pods is left. within 0 is the usual time.
func (e *executor) remove(ctx context.Context, c *kube.Client, k known, ref kube.Ref, within time.Duration) error {
	if len(k.placed.Before) == 0 && !k.placed.Search {
		return c.Delete(ctx, ref, kube.DeleteOptions{Within: within})
	}
	// In the foreground what it refers to would go before it does, and an admission that looks for that would not let it go any more;
	// and Katib would make another candidate for each that goes, without end: it does not look whether its Experiment is being deleted.
	if err := c.Delete(ctx, ref, kube.DeleteOptions{Propagation: metav1.DeletePropagationBackground, Within: deleteWithin}); err != nil {
		return err
	}
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(ref.GVK())
	object.SetNamespace(ref.Namespace)
	object.SetName(ref.Name)
	late := time.NewTimer(deleteWithin)
	defer late.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		pods, err := c.Pods(ctx, object)
		var again *kube.Retryable
		if err != nil && !errors.As(err, &again) {
			return err
		}
		if err == nil && len(pods) == 0 {
			return e.unplace(ctx, c, k) // the cluster does so, too; here nothing is left when the run is over
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return fmt.Errorf("delete %s: it is gone, and %d of its pods are still there after %s", ref, len(pods), deleteWithin)
		case <-tick.C:
		}
	}
}

// unplace deletes what was made for an object that was not.
func (e *executor) unplace(ctx context.Context, c *kube.Client, k known) error {
	for _, ref := range k.placed.Before {
		u, err := c.Get(ctx, ref)
		if errors.Is(err, kube.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if u.GetLabels()[LabelRun] != LabelValue(k.placed.Run) {
			continue
		}
		if err := c.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// deleteWithin is how long the end of a cancelled run may take: its grace, and the kubelet's own work.
const deleteWithin = 5 * time.Minute

// Follow implements runs.Executor. Of a stage that goes on it asks the pods themselves, whether somebody mirrors them or not.
func (e *executor) Follow(ctx context.Context, dir string, w io.Writer) error {
	f := folder(dir)
	k, err := f.known()
	if err != nil {
		return err
	}
	if !k.isCreated || k.isOver {
		return copyLog(runner.LogPath(dir, 0), w)
	}
	c, err := e.Cluster()
	if err != nil {
		return err
	}
	return (&watch{client: c, kind: e.Kind, k: k, sink: func(index int) (sink, error) {
		if index > 0 {
			return discard{}, nil
		}
		return &plain{w: w}, nil
	}}).run(ctx, nil)
}

// Reports implements runs.Executor.
func (e *executor) Reports(dir string) string { return folder(dir).at(resultDir + "/outputs") }

// Store implements runs.Executor: the pod has stored it.
func (e *executor) Store(_ context.Context, _ resource.Address, dir string) (runs.Made, error) {
	k, err := folder(dir).known()
	if err != nil {
		return runs.Made{}, err
	}
	m := k.outcome.Model
	if m == nil {
		return runs.Made{}, errors.New("the pod stored no model, although it ended well")
	}
	return runs.Made{Digest: resource.DigestOfHex(m.Digest), Bytes: m.Bytes, URI: m.Ref}, nil
}

// Import implements runs.Executor.
func (e *executor) Import(ctx context.Context, addr resource.Address, dir string) (runs.Made, error) {
	repo, err := e.Artifacts.Repo("models/" + addr.Slug())
	if err != nil {
		return runs.Made{}, err
	}
	m, err := pod.PushModel(ctx, e.Artifacts.Client, pod.ModelPlace{Repo: repo}, dir)
	if err != nil {
		return runs.Made{}, err
	}
	return runs.Made{Digest: resource.DigestOfHex(m.Digest), Bytes: m.Bytes, URI: m.Ref}, nil
}

// Stored implements runs.Executor.
func (e *executor) Stored(ctx context.Context, m runs.Made) error {
	_, err := e.Artifacts.Client.Resolve(ctx, m.URI)
	if errors.Is(err, oci.ErrNotFound) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
