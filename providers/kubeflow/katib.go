package kubeflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers/pods"
)

const (
	// trialNameEnv has the name of a trial in its pod, trialEnv with a number one of its parameters.
	trialNameEnv = "ML_TRIAL"
	trialEnv     = "ML_TRIAL_PARAM_"
	// metricFile is where Katib's collector finds the metric. Katib mounts a volume of its own at its folder.
	metricFile = pods.Home + "/metrics/metrics.log"

	labelExperiment = "katib.kubeflow.org/experiment"
	labelInjection  = "katib.kubeflow.org/metrics-collector-injection"

	// maxExperiment is how long Katib lets a name be.
	maxExperiment = 40
)

var (
	experimentKind = schema.GroupVersionKind{Group: "kubeflow.org", Version: "v1beta1", Kind: "Experiment"}
	trialKind      = schema.GroupVersionKind{Group: "kubeflow.org", Version: "v1beta1", Kind: "Trial"}
	namespaceKind  = schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
)

// experiment is the pods.Searching of one block: an Experiment of Katib. Its trials are Jobs, which every Katib knows; a TrainJob only does
// one that was told of it. A Job has the runtime's pods, as the TrainJob of the run that counts has them.
type experiment struct {
	builder
	tuning    config.Tuning
	algorithm string
	patience  time.Duration // for the metric of a trial that has ended
}

// newExperiment errs with what Katib, or what a Job of one pod, cannot do.
func newExperiment(b builder, t config.Tuning, a pods.Attributes) (*experiment, error) {
	x := &experiment{builder: b, tuning: t, algorithm: b.Katib.Algorithm}
	if x.algorithm == "" {
		x.algorithm = t.Method
	}
	switch {
	case a.Nodes > 1:
		return nil, fmt.Errorf("its trials are Jobs of one pod, and nodes is %d: remove the block katib, and each trial is a TrainJob", a.Nodes)
	case b.Initializer != nil || b.Patches != nil:
		return nil, errors.New("its trials are Jobs, which have neither the initializer nor the runtime_patches of a TrainJob: remove the block katib, and each trial is a TrainJob")
	case t.EarlyStopping != nil:
		return nil, errors.New("tuning.early_stopping: Katib is told the metric when a trial has ended; remove one of the two blocks")
	case x.algorithm == "pbt":
		return nil, errors.New("algorithm pbt hands checkpoints from trial to trial through a volume, which trials here do not share; use another one")
	case !metricName.MatchString(t.Metric):
		return nil, fmt.Errorf("tuning.metric = %q: Katib reads names of letters, digits, '_' and '-'", t.Metric)
	}
	for _, p := range t.Parameters {
		if err := x.check(p); err != nil {
			return nil, fmt.Errorf("tuning.parameter.%s: %w", p.Name, err)
		}
	}
	return x, nil
}

var metricName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// check errs with what an algorithm of Katib's does not search.
func (x *experiment) check(p config.TuningParameter) error {
	if p.Type == "categorical" {
		if x.algorithm == "cmaes" {
			return errors.New("algorithm cmaes searches numbers only; use tpe or random for values")
		}
		seen := map[string]bool{}
		for _, v := range p.Values {
			text, err := pod.Text(v)
			if err != nil {
				return err
			}
			if seen[text] {
				return fmt.Errorf("two of its values are written %q, and Katib could not tell them apart", text)
			}
			seen[text] = true
		}
		return nil
	}
	if p.Log && x.algorithm == "grid" {
		return errors.New("a grid of Katib's is not logarithmic; list the values as categorical")
	}
	for what, v := range map[string]*float64{"min": p.Min, "max": p.Max, "step": p.Step} {
		if p.Type == "int" && v != nil && *v != math.Trunc(*v) {
			return fmt.Errorf("%s = %v: Katib wants a whole number for an int", what, *v)
		}
	}
	return nil
}

// MaxName implements pods.Searching.
func (x *experiment) MaxName() int { return maxExperiment }

// Trial implements pods.Searching.
func (x *experiment) Trial() pod.Trial {
	t := pod.Trial{NameEnv: trialNameEnv, Metric: x.tuning.Metric, File: metricFile}
	for i, p := range x.tuning.Parameters {
		t.Params = append(t.Params, pod.TrialParam{Name: p.Name, Env: trialEnv + strconv.Itoa(i), Type: p.Type, Values: p.Values})
	}
	return t
}

// Look implements pods.Builder.
func (x *experiment) Look(ctx context.Context, c *kube.Client, namespace string) error {
	if ok, err := c.Has(ctx, experimentKind); err != nil || !ok {
		if err == nil {
			err = fmt.Errorf("kubeflow.katib: katib is not installed; remove the block, and ml searches itself: %w", &kube.MissingKindError{Kind: experimentKind})
		}
		return err
	}
	ns, err := c.Get(ctx, kube.Ref{Version: "v1", Kind: namespaceKind.Kind, Name: namespace})
	var denied *kube.ForbiddenError
	switch {
	case errors.As(err, &denied): // then a trial without a metric is noticed when it has ended
	case err != nil:
		return err
	case ns.GetLabels()[labelInjection] != "enabled":
		return fmt.Errorf("kubeflow.katib: no metric would ever reach Katib from namespace %s: its collector comes only into pods of a namespace with this label: kubectl label namespace %s %s=enabled", namespace, namespace, labelInjection)
	}
	return x.builder.Look(ctx, c, namespace)
}

// Objects implements pods.Builder.
func (x *experiment) Objects(ctx context.Context, c *kube.Client, s pods.Spec) (pods.Objects, error) {
	base, err := x.find(ctx, c, s.Block.Namespace)
	if err != nil {
		return pods.Objects{}, err
	}
	return x.build(s, base)
}

// build makes the Experiment on a runtime as it was read. It is pure.
func (x *experiment) build(s pods.Spec, base *unstructured.Unstructured) (pods.Objects, error) {
	if err := s.Block.Check(name); err != nil {
		return pods.Objects{}, err
	}
	job, err := x.trialJob(s, base)
	if err != nil {
		return pods.Objects{}, fmt.Errorf("build on %s: %w", kube.RefOf(base), err)
	}
	t := x.tuning
	spec := map[string]any{
		"objective": map[string]any{
			"type": t.Goal, "objectiveMetricName": t.Metric, "metricStrategies": []any{map[string]any{"name": t.Metric, "value": "latest"}},
		},
		"algorithm":           x.algorithmSpec(),
		"maxTrialCount":       t.Trials,
		"resumePolicy":        "Never",
		"parameters":          x.parameters(),
		"trialTemplate":       x.template(job),
		"parallelTrialCount":  min(max(t.Parallel, 1), t.Trials),
		"maxFailedTrialCount": min(t.MaxFailed, t.Trials),
		"metricsCollectorSpec": map[string]any{
			"collector": map[string]any{"kind": "File"},
			"source":    map[string]any{"fileSystemPath": map[string]any{"kind": "File", "format": "TEXT", "path": metricFile}},
		},
	}
	s.Block.Annotations = withRuntime(s.Block.Annotations, base, "")
	o, err := kube.FromTyped(experimentKind, map[string]any{"metadata": s.Meta(), "spec": spec})
	if err != nil {
		return pods.Objects{}, err
	}
	// None is a number of its own, and must survive what takes empty values away.
	return pods.Objects{Object: o}, unstructured.SetNestedField(o.Object, int64(min(t.MaxFailed, t.Trials)), "spec", "maxFailedTrialCount")
}

// seeded are the algorithms with a random state.
var seeded = []string{"random", "grid", "tpe", "multivariate-tpe", "cmaes", "sobol", "bayesianoptimization"}

func (x *experiment) algorithmSpec() map[string]any {
	settings := map[string]string{}
	if x.tuning.Seed != 0 && slices.Contains(seeded, x.algorithm) {
		settings["random_state"] = strconv.FormatInt(x.tuning.Seed, 10)
	}
	maps.Copy(settings, x.Katib.Settings)
	var list []any
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		list = append(list, map[string]any{"name": k, "value": settings[k]})
	}
	out := map[string]any{"algorithmName": x.algorithm}
	if list != nil {
		out["algorithmSettings"] = list
	}
	return out
}

func (x *experiment) parameters() []any {
	var out []any
	number := func(space map[string]any, key string, v *float64) {
		if v != nil {
			space[key] = strconv.FormatFloat(*v, 'g', -1, 64)
		}
	}
	for _, p := range x.tuning.Parameters {
		space := map[string]any{}
		if p.Type == "categorical" {
			var list []any
			for _, v := range p.Values {
				if text, err := pod.Text(v); err == nil { // check has written it before
					list = append(list, text)
				}
			}
			space["list"] = list
		} else {
			number(space, "min", p.Min)
			number(space, "max", p.Max)
			number(space, "step", p.Step)
			if p.Log {
				space["distribution"] = "logUniform"
			}
		}
		out = append(out, map[string]any{"name": p.Name, "parameterType": p.Type, "feasibleSpace": space})
	}
	return out
}

// template says how a trial is made of the Job. What is not text in a Job cannot be put in, so every choice is a variable.
func (x *experiment) template(job map[string]any) map[string]any {
	given := []any{map[string]any{"name": "trial", "reference": "${trialSpec.Name}"}}
	for i, p := range x.tuning.Parameters {
		given = append(given, map[string]any{"name": "p" + strconv.Itoa(i), "reference": p.Name})
	}
	return map[string]any{
		"primaryContainerName": trainerName,
		"retain":               true, // until the Experiment is collected: its pods know why a trial failed
		"successCondition":     `status.conditions.#(type=="Complete")#|#(status=="True")#`,
		"failureCondition":     `status.conditions.#(type=="Failed")#|#(status=="True")#`,
		"trialParameters":      given,
		"trialSpec":            job,
	}
}

// trialJob is the Job of one trial: the runtime's pods with what a run needs, and with what the TrainJob would say itself.
func (x *experiment) trialJob(s pods.Spec, base *unstructured.Unstructured) (map[string]any, error) {
	part, err := partOf(base)
	if err != nil {
		return nil, err
	}
	p, err := s.Pod(trainerName)
	if err != nil {
		return nil, err
	}
	runtime, err := derive(base, s, p, part)
	if err != nil {
		return nil, err
	}
	parts, err := partsOf(runtime.Object)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(parts, func(m map[string]any) bool { return m["name"] == part })
	job, _ := parts[i]["template"].(map[string]any)
	own := corev1.PodSpec{Containers: []corev1.Container{p.Containers[0]}}
	env := []corev1.EnvVar{{Name: trialNameEnv, Value: "${trialParameters.trial}"}}
	for i := range x.tuning.Parameters {
		n := strconv.Itoa(i)
		env = append(env, corev1.EnvVar{Name: trialEnv + n, Value: "${trialParameters.p" + n + "}"})
	}
	own.Containers[0].Env = append(env, own.Containers[0].Env...)
	old, _, err := unstructured.NestedMap(job, "spec", "template", "spec")
	if err != nil {
		return nil, err
	}
	merged, err := merge(old, own)
	if err != nil {
		return nil, err
	}
	if err := unstructured.SetNestedMap(job, merged, "spec", "template", "spec"); err != nil {
		return nil, err
	}
	if err := unstructured.SetNestedField(job, s.Name, "spec", "template", "metadata", "labels", labelExperiment); err != nil {
		return nil, err
	}
	meta, _ := job["metadata"].(map[string]any)
	labels, _, err := unstructured.NestedMap(meta, "labels")
	if err != nil {
		return nil, err
	}
	delete(labels, labelAncestor) // it is no part of a TrainJob
	annotations, _, err := unstructured.NestedMap(meta, "annotations")
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"apiVersion": batchv1.SchemeGroupVersion.String(), "kind": jobKind.Kind,
		"metadata": map[string]any{"labels": labels, "annotations": annotations}, "spec": job["spec"],
	}, nil
}
