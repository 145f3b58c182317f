package kubeflow

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
)

const (
	group   = "trainer.kubeflow.org"
	version = "v1alpha1"
	// trainerName is how Trainer wants the container of the command to be called.
	trainerName = "node"
	// patchManager owns the patches of a block that name no owner.
	patchManager = "continuo.dev/ml"

	labelAncestor = "trainer.kubeflow.org/trainjob-ancestor-step"
	labelJobSet   = "jobset.sigs.k8s.io/jobset-name"
	labelPart     = "jobset.sigs.k8s.io/replicatedjob-name"
	// annotationRuntime says on the objects of a run on which runtime it was built.
	annotationRuntime = "continuo.dev/runtime"
	// annotationPart says which of the runtime's jobs runs the command.
	annotationPart = "continuo.dev/trainer"
)

var (
	trainJobKind = schema.GroupVersionKind{Group: group, Version: version, Kind: "TrainJob"}
	runtimeKind  = schema.GroupVersionKind{Group: group, Version: version, Kind: "TrainingRuntime"}
	clusterKind  = schema.GroupVersionKind{Group: group, Version: version, Kind: "ClusterTrainingRuntime"}
	podKind      = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	jobKind      = schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}
)

// trainJobs is the pods.Kind of this provider: a stage is a TrainJob.
type trainJobs struct {
	unmeasured time.Duration // how long the metric of a trial of Katib's may take; 0 means unmeasuredFor
}

// Provider implements pods.Kind.
func (trainJobs) Provider() string { return name }

// GVK implements pods.Kind.
func (trainJobs) GVK() schema.GroupVersionKind { return trainJobKind }

// Container implements pods.Kind.
func (trainJobs) Container() string { return trainerName }

// MaxName implements pods.Kind: pods are called NAME-PART-0-0-abcde, in 63 characters, and the longest usual part is the dataset-initializer.
func (trainJobs) MaxName() int { return maxName }

const (
	maxName = 33
	// maxPod is how long the name of a pod may be, as JobSet counts it.
	maxPod = 63
)

// settle is enough for a lost pod to be seen by the Job, and by the JobSet that then ends the others.
const settle = 30 * time.Second

// Step implements pods.Kind.
func (k trainJobs) Step(spec cty.Value) (pods.Step, error) {
	var w struct {
		pods.Attributes
		Tuning   *config.Tuning `ml:"tuning,block"`
		Kubeflow *block         `ml:"kubeflow,block"`
	}
	if err := resource.Decode(spec, &w); err != nil {
		return pods.Step{}, err
	}
	b := builder{block{Runtime: "torch-distributed", RuntimeKind: clusterKind.Kind}}
	if w.Kubeflow != nil {
		b.block = *w.Kubeflow
	}
	if _, err := b.patches(); err != nil {
		return pods.Step{}, err
	}
	step := pods.Step{Attributes: w.Attributes, Block: b.Block, Build: b, Settle: settle}
	if b.Katib == nil || w.Tuning == nil {
		return step, nil
	}
	x, err := newExperiment(b, *w.Tuning, w.Attributes)
	if err != nil {
		return pods.Step{}, fmt.Errorf("kubeflow.katib: %w", err)
	}
	x.patience = cmp.Or(k.unmeasured, unmeasuredFor)
	step.Search = x
	return step, nil
}

// Owns implements pods.Kind: a runtime can have jobs besides, such as initializers.
func (trainJobs) Owns(job *unstructured.Unstructured, pod *corev1.Pod) bool {
	return pod.Labels[labelPart] == job.GetAnnotations()[annotationPart]
}

// Late implements pods.Kind. It is the Job below that has a deadline, in every version of Trainer.
func (trainJobs) Late(ctx context.Context, c *kube.Client, job *unstructured.Unstructured) (bool, error) {
	jobs, err := c.List(ctx, jobKind, job.GetNamespace(), kube.Selector{Labels: labelJobSet + "=" + job.GetName()})
	if err != nil {
		return false, err
	}
	for _, j := range jobs {
		if pods.FailedFor(j) == batchv1.JobReasonDeadlineExceeded {
			return true, nil
		}
	}
	return pods.FailedFor(job) == batchv1.JobReasonDeadlineExceeded, nil
}

// builder is the pods.Builder of one block.
type builder struct{ block }

// Look implements pods.Builder.
func (b builder) Look(ctx context.Context, c *kube.Client, namespace string) error {
	base, err := b.find(ctx, c, namespace)
	if err != nil {
		return err
	}
	_, err = partOf(base)
	return err
}

// Objects implements pods.Builder.
func (b builder) Objects(ctx context.Context, c *kube.Client, s pods.Spec) (pods.Objects, error) {
	base, err := b.find(ctx, c, s.Block.Namespace)
	if err != nil {
		return pods.Objects{}, err
	}
	return b.build(s, base)
}

// find reads the runtime that the block names.
func (b builder) find(ctx context.Context, c *kube.Client, namespace string) (*unstructured.Unstructured, error) {
	if ok, err := c.Has(ctx, trainJobKind); err != nil || !ok {
		if err == nil {
			err = fmt.Errorf("kubeflow trainer v2 is not installed: %w", &kube.MissingKindError{Kind: trainJobKind})
		}
		return nil, err
	}
	ref := kube.Ref{Group: group, Version: version, Kind: b.RuntimeKind, Name: b.Runtime}
	if ref.Kind == runtimeKind.Kind {
		ref.Namespace = namespace
	}
	u, err := c.Get(ctx, ref)
	if !errors.Is(err, kube.ErrNotFound) {
		return u, err
	}
	return nil, fmt.Errorf("kubeflow.runtime: there is no %s: %s", ref, choices(ctx, c, namespace))
}

// choices says which runtimes there are.
func choices(ctx context.Context, c *kube.Client, namespace string) string {
	var names []string
	list := func(gvk schema.GroupVersionKind, namespace string) {
		all, err := c.List(ctx, gvk, namespace, kube.Selector{})
		if err != nil {
			names = append(names, fmt.Sprintf("those of kind %s cannot be listed (%v)", gvk.Kind, err))
		}
		for _, u := range all {
			if _, ours := u.GetAnnotations()[annotationRuntime]; !ours {
				names = append(names, gvk.Kind+" "+u.GetName())
			}
		}
	}
	list(runtimeKind, namespace)
	list(clusterKind, "")
	if len(names) == 0 {
		return "there is no runtime at all; install those that come with Kubeflow Trainer"
	}
	return "there are " + strings.Join(names, ", ")
}

// build makes the objects of a stage on a runtime as it was read. It is pure.
func (b builder) build(s pods.Spec, base *unstructured.Unstructured) (pods.Objects, error) {
	part, err := partOf(base)
	if err != nil {
		return pods.Objects{}, err
	}
	if err := fit(s, base, part); err != nil {
		return pods.Objects{}, err
	}
	s.Block.Annotations = withRuntime(s.Block.Annotations, base, part)
	if err := s.Block.Check(name); err != nil {
		return pods.Objects{}, err
	}
	s.Master = fmt.Sprintf("%s-%s-0-0.%s", s.Name, part, s.Name)
	pod, err := s.Pod(trainerName)
	if err != nil {
		return pods.Objects{}, err
	}
	runtime, err := derive(base, s, pod, part)
	if err != nil {
		return pods.Objects{}, fmt.Errorf("build on %s: %w", kube.RefOf(base), err)
	}
	job, err := b.trainJob(s, pod.Containers[0])
	return pods.Objects{Before: []*unstructured.Unstructured{runtime}, Object: job}, err
}

// fit errs when a job of the runtime has so long a name that its pods could not be called after it: JobSet would refuse it without end.
func fit(s pods.Spec, base *unstructured.Unstructured, part string) error {
	parts, err := partsOf(base.Object)
	if err != nil {
		return fmt.Errorf("%s: %w", kube.RefOf(base), err)
	}
	for _, p := range parts {
		name, _ := p["name"].(string)
		last := 0
		if name == part {
			last = max(s.Nodes, 1) - 1
		}
		if over := len(fmt.Sprintf("%s-%s-0-%d-abcde", s.Name, name, last)) - maxPod; over > 0 {
			return fmt.Errorf("%s: the name of its job %s is %d characters too long for the names of its pods", kube.RefOf(base), name, over)
		}
	}
	return nil
}

// trainJob builds the TrainJob of a stage.
func (b builder) trainJob(s pods.Spec, main corev1.Container) (*unstructured.Unstructured, error) {
	trainer := map[string]any{"image": main.Image, "command": main.Command, "env": main.Env, "numNodes": s.Nodes}
	if s.Processes > 0 {
		trainer["numProcPerNode"] = s.Processes
	}
	if len(main.Resources.Requests) > 0 || len(main.Resources.Limits) > 0 {
		trainer["resourcesPerNode"] = main.Resources
	}
	spec := map[string]any{
		"runtimeRef": map[string]any{"apiGroup": group, "kind": runtimeKind.Kind, "name": s.Name},
		"trainer":    trainer,
	}
	if i := b.Initializer; i != nil {
		spec["initializer"] = i.spec()
	}
	patches, err := b.patches()
	if err != nil {
		return nil, err
	}
	if len(patches) > 0 {
		spec["runtimePatches"] = patches
	}
	return kube.FromTyped(trainJobKind, map[string]any{"metadata": s.Meta(), "spec": spec})
}

func (i initializer) spec() map[string]any {
	out := map[string]any{}
	for what, uri := range map[string]string{"dataset": i.Dataset, "model": i.Model} {
		if uri == "" {
			continue
		}
		one := map[string]any{"storageUri": uri}
		if i.Secret != "" {
			one["secretRef"] = map[string]any{"name": i.Secret}
		}
		out[what] = one
	}
	return out
}

// patches are the block's own, each with an owner.
func (b builder) patches() ([]any, error) {
	if b.Patches == nil {
		return nil, nil
	}
	raw, err := json.Marshal(b.Patches)
	if err != nil {
		return nil, fmt.Errorf("kubeflow.runtime_patches: %w", err)
	}
	var list []any
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errors.New("kubeflow.runtime_patches: give a list of patches, as the API of the TrainJob has them")
	}
	for _, p := range list {
		m, ok := p.(map[string]any)
		if !ok {
			return nil, errors.New("kubeflow.runtime_patches: each patch is an object with a trainingRuntimeSpec")
		}
		if m["manager"] == nil {
			m["manager"] = patchManager
		}
	}
	return list, nil
}
