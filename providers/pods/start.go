package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
)

// maxTask keeps a Secret with its variables below the 1 MiB that an API server takes.
const maxTask = 900 << 10

// Start implements runs.Executor. The order is what makes a stage happen at most once: the folder says which object it is, then that
// is made, asleep; then what it needs besides; then it wakes up; then the folder has its UID. Whoever dies in between leaves
// nothing that runs without its folder knowing it by name, and whoever comes next goes on from there.
func (e *executor) Start(ctx context.Context, dir string, s runs.Stage) error {
	f := folder(dir)
	k, err := f.known()
	if err != nil || k.isOver || k.isCreated || k.cancelled {
		return err
	}
	c, err := e.Cluster()
	if err != nil {
		return err
	}
	objects, at, err := e.plan(ctx, c, s, false)
	var again *kube.Retryable
	if err != nil && k.isPlaced && (oci.Retryable(err) || errors.As(err, &again)) {
		return &providers.OpenError{Err: fmt.Errorf("%s was begun, and cannot go on now; apply again to do so: %w", k.placed.Job, err)}
	}
	if err != nil {
		return err
	}
	k.placed = at
	if err := f.note(placedFile, k.placed); err != nil {
		return err
	}
	job, err := e.create(ctx, c, objects, s.Spec.ID)
	if err != nil {
		return e.abandon(ctx, c, f, k, err)
	}
	return f.note(createdFile, created{UID: job.UID, At: time.Now().UTC()})
}

// abandon is the end of a stage that could not begin: nothing of it stays behind, asleep or not, and it never will begin. What may pass
// by itself, or interrupted this call, leaves it as it is; whoever comes next goes on with it.
func (e *executor) abandon(ctx context.Context, c *kube.Client, f folder, k known, cause error) error {
	if ctx.Err() != nil {
		return cause
	}
	if errors.Is(cause, errBefore) && !k.isPlaced { // and nobody has tried before
		return errors.Join(cause, f.drop(placedFile))
	}
	u, err := c.Get(ctx, k.placed.Job)
	none := errors.Is(err, kube.ErrNotFound)
	var again *kube.Retryable
	// An admission that is out of order refuses an object with an error that could pass; as long as nothing is there, this is an answer. One
	// that never came is none: the object may still be made.
	if errors.As(cause, &again) && (again.Unknown || !none || !errors.Is(cause, errRefused)) {
		what := "%s has not begun yet; apply again to go on with it: %w"
		if again.Unknown {
			what = "nobody knows whether %s was made; apply again to go on with it: %w"
		}
		return &providers.OpenError{Err: fmt.Errorf(what, k.placed.Job, cause)}
	}
	switch {
	case none:
		err = e.unplace(ctx, c, k)
	case err == nil && u.GetLabels()[LabelRun] == LabelValue(k.placed.Run):
		err = e.remove(ctx, c, k, kube.RefOf(u), 0)
	}
	if err != nil {
		return &providers.OpenError{Err: fmt.Errorf("%w; also, what was made of %s is still there; apply again, which goes on with it: %w", cause, k.placed.Job, err)}
	}
	st := runner.Status{ID: k.placed.Run, Phase: runner.Failed, ExitCode: -1, Finished: time.Now().UTC(), Message: "it could not begin: " + cause.Error(), NotBegun: true}
	return errors.Join(cause, f.note(outcomeFile, outcome{Status: st}))
}

// plan makes a stage's objects and what the folder says of them, and brings to the registry what its pods will fetch. search makes those
// of a search of which the stage is one candidate.
func (e *executor) plan(ctx context.Context, c *kube.Client, s runs.Stage, search bool) (Objects, placed, error) {
	w, err := e.step(s.Request)
	if err != nil {
		return Objects{}, placed{}, err
	}
	build, maxName := w.Build, e.Kind.MaxName()
	if search {
		build, maxName = w.Search, w.Search.MaxName()
	}
	if err := build.Look(ctx, c, w.Block.Namespace); err != nil {
		return Objects{}, placed{}, err
	}
	runnerImage, err := e.Runner.Image(ctx)
	if err != nil {
		return Objects{}, placed{}, err
	}
	values := e.variables(s)
	t, err := e.task(ctx, s, w)
	if err != nil {
		return Objects{}, placed{}, err
	}
	t.EnvFrom = slices.Sorted(maps.Keys(values))
	if search {
		trial := w.Search.Trial()
		t.Trial = &trial
	}
	task, err := json.Marshal(t)
	if err != nil {
		return Objects{}, placed{}, fmt.Errorf("write the task: %w", err)
	}
	if len(task) > maxTask {
		return Objects{}, placed{}, fmt.Errorf("its parameters make a task of %d bytes; %d are possible: make large ones an input", len(task), maxTask)
	}
	spec := Spec{
		Name: objectName(s.Request.Address, s.Spec.ID, maxName), Image: w.Image, Runner: runnerImage, Env: t.EnvFrom,
		Nodes: max(w.Nodes, 1), Processes: s.Spec.Processes, Resources: w.Resources, Timeout: s.Spec.Timeout, Grace: s.Spec.Grace, Block: w.Block,
		Labels:      e.labels(s),
		Annotations: map[string]string{LabelAddress: s.Spec.Address},
	}
	objects, err := build.Objects(ctx, c, spec)
	if err != nil {
		return Objects{}, placed{}, err
	}
	sec, err := secret(spec, task, values)
	if err != nil {
		return Objects{}, placed{}, err
	}
	objects.Beside = append(objects.Beside, sec)
	at := placed{
		Job: kube.RefOf(objects.Object),
		Run: s.Spec.ID, Search: search, Results: t.Results, Nodes: spec.Nodes, Start: spec.Block.StartTimeout, At: time.Now().UTC(), Output: s.Output, Address: s.Spec.Address,
	}
	for _, u := range objects.Before {
		at.Before = append(at.Before, kube.RefOf(u))
	}
	return objects, at, nil
}

func (e *executor) labels(s runs.Stage) map[string]string {
	l := map[string]string{kube.ManagedBy: kube.FieldManager, LabelRun: LabelValue(s.Spec.ID), LabelAddress: LabelValue(s.Request.Address.Slug())}
	if s.Request.State != nil && s.Request.State.Lineage != "" {
		l[LabelProject] = LabelValue(s.Request.State.Lineage)
	}
	return l
}

// variables are the command's own: they may be sensitive, and nothing here could tell which.
func (e *executor) variables(s runs.Stage) map[string]string {
	out := map[string]string{}
	for _, entry := range e.Environ() {
		name, value, ok := strings.Cut(entry, "=")
		if ok && slices.ContainsFunc(s.Exec.PassEnv, func(p string) bool { ok, err := path.Match(p, name); return ok && err == nil }) {
			out[name] = value
		}
	}
	maps.Copy(out, s.Spec.Env)
	return out
}

// task says what the pods do, and stores its code and inputs where they find them.
func (e *executor) task(ctx context.Context, s runs.Stage, w Step) (pod.Task, error) {
	x := s.Spec
	t := pod.Task{
		V: pod.TaskVersion, ID: x.ID, Address: x.Address, Command: x.Command, Timeout: x.Timeout, Grace: x.Grace, Params: x.Params, Seed: x.Seed,
		NeedModel: x.NeedModel, NeedMetrics: x.NeedMetrics, Processes: x.Processes, Nodes: max(w.Nodes, 1), ExtraEnv: x.ExtraEnv,
		Insecure: e.Settings.InsecureRegistry, Settle: w.Settle,
	}
	var err error
	if t.Results, err = e.Artifacts.Repo("runs"); err != nil {
		return t, err
	}
	if err := e.outputs(&t, s); err != nil {
		return t, err
	}
	if t.Code, err = e.code(ctx, s); err != nil {
		return t, err
	}
	t.Inputs = map[string]pod.Artifact{}
	for _, name := range slices.Sorted(maps.Keys(s.Inputs)) {
		if t.Inputs[name], err = e.input(ctx, s.Inputs[name]); err != nil {
			return t, fmt.Errorf("input %s: %w", name, err)
		}
	}
	if s.Model != nil {
		a, err := e.input(ctx, *s.Model)
		if err != nil {
			return t, fmt.Errorf("model: %w", err)
		}
		t.Model = &a
	}
	return t, nil
}

// outputs says where what the command makes goes.
func (e *executor) outputs(t *pod.Task, s runs.Stage) error {
	if s.Report != "" {
		t.Outputs = []string{s.Report}
	}
	if s.Output != "" {
		t.Output = &pod.Output{}
		if info, err := os.Stat(s.Output); err != nil || !info.IsDir() {
			t.Output.Name = filepath.Base(s.Output)
		}
	}
	if !t.NeedModel {
		return nil
	}
	repo, err := e.Artifacts.Repo("models/" + s.Request.Address.Slug())
	if err != nil {
		return err
	}
	t.Models = &pod.ModelPlace{Repo: repo}
	if repo, err = e.Artifacts.Repo("checkpoints"); err != nil {
		return err
	}
	t.Checkpoint = &pod.Checkpoint{Repo: repo, Tag: checkpointTag(s)}
	return nil
}

// checkpointTag is under which name the next attempt at the same inputs finds the checkpoint of this one. A version that was made
// ends a line of attempts: to train again on the same inputs begins at the beginning.
func checkpointTag(s runs.Stage) string {
	if s.Spec.CheckpointDir == "" {
		return "" // the run's own: a pod that was killed finds it, nobody else
	}
	made := 0
	if s.Request.State != nil {
		made = s.Request.State.Counters[s.Request.Address]
	}
	return fmt.Sprintf("%s-%s-%d", LabelValue(s.Request.Address.Slug()), filepath.Base(s.Spec.CheckpointDir), made)
}

func (e *executor) code(ctx context.Context, s runs.Stage) (*pod.Artifact, error) {
	list, err := e.Work.CodeFiles(s.Exec)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	repo, err := e.Artifacts.Repo("code")
	if err != nil {
		return nil, err
	}
	a, err := pod.PushCode(ctx, e.Artifacts.Client, repo, e.Work.Root, list)
	if err != nil {
		return nil, fmt.Errorf("store the code: %w", err)
	}
	// What was stored is what was planned only if it is so still.
	return &a, e.Work.Unmoved(s.Request, s.Exec)
}

func (e *executor) input(ctx context.Context, in runs.Input) (pod.Artifact, error) {
	if !in.IsModel() {
		repo, err := e.Artifacts.Repo("data")
		if err != nil {
			return pod.Artifact{}, err
		}
		return pod.PushData(ctx, e.Artifacts.Client, repo, in.Path)
	}
	if !strings.HasPrefix(in.Model.URI, oci.Scheme) {
		return pod.Artifact{}, fmt.Errorf("version %s is kept at %s, which pods cannot reach: train it with a cluster provider", in.Model.Digest.Short(), in.Model.URI)
	}
	return pod.Artifact{Ref: in.Model.URI, Digest: string(in.Model.Digest)}, nil
}

var (
	// errRefused: the object could not be made, and what was made for it is of no use.
	errRefused = errors.New("begin the run")
	// errBefore: it could not be seen whether the object is there, and nothing was made.
	errBefore = errors.New("look whether the run has begun")
)

// create makes a stage's objects, or goes on where somebody else stopped.
func (e *executor) create(ctx context.Context, c *kube.Client, o Objects, run string) (kube.Ref, error) {
	ref := kube.RefOf(o.Object)
	there, err := c.Get(ctx, ref)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		for _, u := range o.Before {
			if _, err := apply(ctx, c, u); err != nil {
				return ref, err
			}
		}
		asleep := o.Object.DeepCopy()
		if err := unstructured.SetNestedField(asleep.Object, true, "spec", "suspend"); err != nil {
			return ref, err
		}
		if ref, err = applyAfter(ctx, c, asleep, o.Before); err != nil {
			return ref, fmt.Errorf("%w: %w", errRefused, err)
		}
	case err != nil:
		return ref, fmt.Errorf("%w: %w", errBefore, err)
	default:
		ref = kube.RefOf(there)
		if there.GetLabels()[LabelRun] != LabelValue(run) {
			return ref, fmt.Errorf("%s is there already and belongs to run %q: delete it, or choose another namespace", ref, there.GetLabels()[LabelRun])
		}
		if asleep, _, err := unstructured.NestedBool(there.Object, "spec", "suspend"); err != nil || !asleep {
			return ref, err // it was woken up: all that it needs was there
		}
	}
	for _, u := range slices.Concat(o.Before, o.Beside) {
		if _, err := apply(ctx, c, owned(u, ref)); err != nil {
			return ref, err
		}
	}
	return apply(ctx, c, o.Object)
}

func apply(ctx context.Context, c *kube.Client, u *unstructured.Unstructured) (kube.Ref, error) {
	a, err := c.Apply(ctx, u, kube.ApplyOptions{})
	return a.Ref, err
}

// seenWithin is how long an admission may take to see what was made a moment ago: it looks into a cache.
const seenWithin = 15 * time.Second

// applyAfter applies an object that refers to others, which were made just now.
func applyAfter(ctx context.Context, c *kube.Client, u *unstructured.Unstructured, before []*unstructured.Unstructured) (kube.Ref, error) {
	late := time.NewTimer(seenWithin)
	defer late.Stop()
	tick := time.NewTicker(firstLook)
	defer tick.Stop()
	for {
		ref, err := apply(ctx, c, u)
		if err == nil || !slices.ContainsFunc(before, func(b *unstructured.Unstructured) bool {
			return strings.Contains(err.Error(), strconv.Quote(b.GetName())+" not found")
		}) {
			return ref, err
		}
		select {
		case <-ctx.Done():
			return ref, errors.Join(err, context.Cause(ctx))
		case <-late.C:
			return ref, err
		case <-tick.C:
		}
	}
}
