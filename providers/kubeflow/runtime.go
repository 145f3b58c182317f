package kubeflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
)

// partOf finds which of a runtime's jobs runs the command.
func partOf(runtime *unstructured.Unstructured) (string, error) {
	for _, policy := range []string{"mpi", "flux"} {
		if _, found, err := unstructured.NestedMap(runtime.Object, "spec", "mlPolicy", policy); err != nil || found {
			return "", fmt.Errorf("%s starts its workers through %s, which would get neither code nor inputs: choose a runtime whose nodes each run the command, such as torch-distributed", kube.RefOf(runtime), policy)
		}
	}
	parts, err := partsOf(runtime.Object)
	if err != nil {
		return "", fmt.Errorf("%s: %w", kube.RefOf(runtime), err)
	}
	for _, p := range parts {
		if ancestor, _, err := unstructured.NestedString(p, "template", "metadata", "labels", labelAncestor); err == nil && ancestor == "trainer" {
			name, _ := p["name"].(string)
			return name, nil
		}
	}
	return "", fmt.Errorf("%s has no job for the command: one wants the label %s: trainer", kube.RefOf(runtime), labelAncestor)
}

// partsOf are the jobs of a runtime; to change one changes the runtime.
func partsOf(runtime map[string]any) ([]map[string]any, error) {
	list, ok, err := unstructured.NestedFieldNoCopy(runtime, "spec", "template", "spec", "replicatedJobs")
	all, isList := list.([]any)
	if err != nil || !ok || !isList {
		return nil, errors.New("it has no spec.template.spec.replicatedJobs")
	}
	var out []map[string]any
	for _, e := range all {
		m, ok := e.(map[string]any)
		if !ok {
			return nil, errors.New("one of its replicatedJobs is no object")
		}
		out = append(out, m)
	}
	return out, nil
}

// withRuntime notes on what a run is built, and which of its jobs has the pods.
func withRuntime(annotations map[string]string, runtime *unstructured.Unstructured, part string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, annotations)
	out[annotationRuntime], out[annotationPart] = runtime.GetKind()+"/"+runtime.GetName(), part
	return out
}

// derive makes the runtime of one run out of the one that its block names.
func derive(base *unstructured.Unstructured, s pods.Spec, pod corev1.PodSpec, part string) (*unstructured.Unstructured, error) {
	out := &unstructured.Unstructured{Object: map[string]any{"spec": base.DeepCopy().Object["spec"]}}
	out.SetGroupVersionKind(runtimeKind)
	meta := s.Meta()
	out.SetName(s.Name)
	out.SetNamespace(s.Block.Namespace)
	labels := map[string]string{}
	for k, v := range base.GetLabels() {
		if k == "trainer.kubeflow.org/framework" {
			labels[k] = v // clients of Trainer go by it
		}
	}
	maps.Copy(labels, meta.Labels)
	out.SetLabels(labels)
	out.SetAnnotations(meta.Annotations)
	parts, err := partsOf(out.Object)
	if err != nil {
		return nil, err
	}
	// Without a policy Trainer would pass over the TrainJob's own nodes and resources.
	if err := unstructured.SetNestedField(out.Object, int64(s.Nodes), "spec", "mlPolicy", "numNodes"); err != nil {
		return nil, err
	}
	template, _ := out.Object["spec"].(map[string]any)["template"].(map[string]any)
	if err := mark(template, meta.Labels, meta.Annotations); err != nil { // the JobSet's
		return nil, err
	}
	for _, p := range parts {
		job, ok := p["template"].(map[string]any)
		if !ok {
			return nil, errors.New("one of its replicatedJobs has no template")
		}
		pods, found, err := unstructured.NestedFieldNoCopy(job, "spec", "template")
		podTemplate, ok := pods.(map[string]any)
		if err != nil || !found || !ok {
			return nil, fmt.Errorf("its job %v has no pod template", p["name"])
		}
		for _, t := range []map[string]any{job, podTemplate} {
			if err := mark(t, meta.Labels, meta.Annotations); err != nil {
				return nil, err
			}
		}
		if p["name"] == part {
			if err := shape(job, s, pod); err != nil {
				return nil, err
			}
		}
	}
	if s.Nodes > 1 {
		if err := restartTogether(template); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// mark adds our labels and annotations to those of a template.
func mark(template map[string]any, labels, annotations map[string]string) error {
	for field, ours := range map[string]map[string]string{"labels": labels, "annotations": annotations} {
		all, _, err := unstructured.NestedStringMap(template, "metadata", field)
		if err != nil {
			return err
		}
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, ours)
		if err := unstructured.SetNestedStringMap(template, all, "metadata", field); err != nil {
			return err
		}
	}
	return nil
}

// shape makes the pods of the command what a run needs. What the TrainJob says itself stays there: image, command, variables, resources.
func shape(job map[string]any, s pods.Spec, pod corev1.PodSpec) error {
	var spec batchv1.JobSpec
	s.Judge(&spec, trainerName)
	if s.Nodes > 1 {
		// A node that is lost takes the others with it, for they wait for it or fail. So the first loss is the end of this Job, and the
		// JobSet begins again with all of them; a pod that is alone begins again alone.
		spec.BackoffLimit = new(int32(0))
		spec.PodFailurePolicy.Rules = spec.PodFailurePolicy.Rules[1:]
	}
	judged, err := kube.FromTyped(jobKind, batchv1.Job{Spec: spec})
	if err != nil {
		return err
	}
	for _, field := range []string{"backoffLimit", "podFailurePolicy", "activeDeadlineSeconds"} {
		v, found, err := unstructured.NestedFieldCopy(judged.Object, "spec", field)
		if err == nil && found {
			err = unstructured.SetNestedField(job, v, "spec", field)
		}
		if err != nil {
			return err
		}
	}
	old, found, err := unstructured.NestedMap(job, "spec", "template", "spec")
	if err != nil || !found {
		return errors.New("the job of the command has no pod template")
	}
	pod.Containers = slices.Clone(pod.Containers)
	main := &pod.Containers[0]
	main.Image, main.Command, main.Env, main.Resources = "", nil, nil, corev1.ResourceRequirements{}
	if text, _ := old["serviceAccountName"].(string); text != "" && pod.ServiceAccountName == "" {
		pod.AutomountServiceAccountToken = nil // the runtime wants an account
	}
	merged, err := merge(old, pod)
	if err != nil {
		return err
	}
	return unstructured.SetNestedMap(job, merged, "spec", "template", "spec")
}

// merge lays a pod over the runtime's, as strategic merge patches do: lists by the names of their elements.
func merge(old map[string]any, pod corev1.PodSpec) (map[string]any, error) {
	was, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	patch, err := kube.FromTyped(podKind, corev1.Pod{Spec: pod})
	if err != nil {
		return nil, err
	}
	over, err := json.Marshal(patch.Object["spec"])
	if err != nil {
		return nil, err
	}
	b, err := strategicpatch.StrategicMergePatch(was, over, corev1.PodSpec{})
	if err != nil {
		return nil, fmt.Errorf("merge the pod into the runtime's: %w", err)
	}
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON([]byte(`{"apiVersion":"v1","kind":"Pod","spec":` + string(b) + `}`)); err != nil {
		return nil, err
	}
	out, _, err := unstructured.NestedMap(u.Object, "spec")
	if err != nil {
		return nil, err
	}
	containers, _ := out["containers"].([]any)
	for _, c := range containers {
		if m, ok := c.(map[string]any); ok && m["name"] == trainerName {
			delete(m, "args") // they are for the runtime's own command
		}
	}
	return out, nil
}

// restartTogether has the JobSet begin again, with all of its pods, when one was lost. A command that failed, or time that is over, would
// come to the same again. A runtime that has a policy of its own keeps it.
func restartTogether(template map[string]any) error {
	if _, found, err := unstructured.NestedMap(template, "spec", "failurePolicy"); err != nil || found {
		return err
	}
	return unstructured.SetNestedMap(template, map[string]any{
		"maxRestarts": int64(pods.Retries),
		"rules": []any{map[string]any{
			"name": "over", "action": "FailJobSet",
			"onJobFailureReasons": []any{batchv1.JobReasonPodFailurePolicy, batchv1.JobReasonDeadlineExceeded},
		}},
	}, "spec", "failurePolicy")
}
