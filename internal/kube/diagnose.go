package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

var (
	podKind        = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	eventKind      = schema.GroupVersionKind{Version: "v1", Kind: "Event"}
	replicaSetKind = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}
)

// Diagnose looks for why an object does not get ready or has failed: at its pods, at what stands between, at events, and for a
// crash at the last line of the log. It reports false when nothing is wrong that can be seen. It needs the rights to list pods and events;
// without that on replicasets, the pods of old revisions count, too.
func (c *Client) Diagnose(ctx context.Context, obj *unstructured.Unstructured) (Cause, bool, error) {
	e := evidence{object: obj, now: time.Now()}
	if obj.GetNamespace() == "" {
		cause, ok := diagnose(e)
		return cause, ok, nil
	}
	var err error
	if e.pods, e.owners, err = c.podsOf(ctx, obj); err != nil {
		return Cause{}, false, fmt.Errorf("look for the cause: %w", err)
	}
	if e.events, err = listAs[corev1.Event](ctx, c, eventKind, obj.GetNamespace(), Selector{Fields: "type!=Normal"}); err != nil {
		return Cause{}, false, fmt.Errorf("look for the cause: %w", err)
	}
	sort.SliceStable(e.events, func(i, j int) bool { return e.events[i].LastTimestamp.After(e.events[j].LastTimestamp.Time) })
	cause, ok := diagnose(e)
	if ok && (cause.Code == CauseCrash || cause.Code == CauseExit) {
		if line := c.lastLine(ctx, obj.GetNamespace(), cause); line != "" && !strings.Contains(cause.Message, line) {
			cause.Message += "; its last line: " + line
		}
	}
	return cause, ok, nil
}

// podsOf finds an object's pods, of its newest revision where it has several.
func (c *Client) podsOf(ctx context.Context, obj *unstructured.Unstructured) ([]corev1.Pod, map[types.UID]bool, error) {
	if obj.GroupVersionKind() == podKind {
		var pod corev1.Pod
		err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &pod)
		return []corev1.Pod{pod}, nil, err
	}
	selector, ok := podSelector(obj)
	if !ok {
		return nil, nil, nil
	}
	pods, err := listAs[corev1.Pod](ctx, c, podKind, obj.GetNamespace(), Selector{Labels: selector})
	if err != nil {
		return nil, nil, err
	}
	sort.Slice(pods, func(i, j int) bool { return pods[i].Name < pods[j].Name })
	if !hasRevisions(obj) {
		return pods, nil, nil
	}
	sets, err := c.List(ctx, replicaSetKind, obj.GetNamespace(), Selector{Labels: selector})
	var missing *ForbiddenError
	if errors.As(err, &missing) {
		return pods, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	newest := newestSets(sets)
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !ownedBy(p.OwnerReferences, newest) }), newest, nil
}

// Pods lists the pods of an object, by name.
func (c *Client) Pods(ctx context.Context, obj *unstructured.Unstructured) ([]corev1.Pod, error) {
	pods, _, err := c.podsOf(ctx, obj)
	return pods, err
}

// PodsOf are the pods of an object, to be watched; false when it has none, or when nobody knows how they are found.
func PodsOf(obj *unstructured.Unstructured) (Watched, bool) {
	selector, ok := podSelector(obj)
	return Watched{Kind: podKind, Namespace: obj.GetNamespace(), Selector: Selector{Labels: selector}, Metadata: true}, ok
}

// podSelector knows by which labels each kind finds its pods.
func podSelector(obj *unstructured.Unstructured) (string, bool) {
	name := obj.GetName()
	switch obj.GetKind() {
	case "InferenceService":
		return "serving.kserve.io/inferenceservice=" + name, true
	case "TrainJob", "JobSet":
		return "jobset.sigs.k8s.io/jobset-name=" + name, true
	case "Experiment":
		return "katib.kubeflow.org/experiment=" + name, true
	case "Job":
		return "batch.kubernetes.io/job-name=" + name, true
	}
	raw, found, err := unstructured.NestedMap(obj.Object, "spec", "selector")
	if err != nil || !found {
		return "", false
	}
	var s metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s); err != nil {
		return "", false
	}
	sel, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil || sel.Empty() || sel.String() == labels.Nothing().String() {
		return "", false
	}
	return sel.String(), true
}

func hasRevisions(obj *unstructured.Unstructured) bool {
	return obj.GetKind() == "Deployment" || obj.GetKind() == "InferenceService"
}

// newestSets picks each Deployment's newest ReplicaSet: a pod of the revision that is being replaced is no reason to stop.
func newestSets(sets []*unstructured.Unstructured) map[types.UID]bool {
	type best struct {
		revision int
		uid      types.UID
	}
	of := map[types.UID]best{}
	for _, s := range sets {
		owner := s.GetUID()
		if refs := s.GetOwnerReferences(); len(refs) > 0 {
			owner = refs[0].UID
		}
		revision, err := strconv.Atoi(s.GetAnnotations()["deployment.kubernetes.io/revision"])
		if err != nil {
			revision = 0
		}
		if b, ok := of[owner]; !ok || revision > b.revision {
			of[owner] = best{revision, s.GetUID()}
		}
	}
	out := map[types.UID]bool{}
	for b := range maps.Values(of) {
		out[b.uid] = true
	}
	return out
}

func ownedBy(refs []metav1.OwnerReference, uids map[types.UID]bool) bool {
	return slices.ContainsFunc(refs, func(r metav1.OwnerReference) bool { return uids[r.UID] })
}

// listAs lists objects of a built-in kind as its Go type.
func listAs[T any](ctx context.Context, c *Client, gvk schema.GroupVersionKind, namespace string, sel Selector) ([]T, error) {
	list, err := c.List(ctx, gvk, namespace, sel)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(list))
	for i, u := range list {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &out[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", RefOf(u), err)
		}
	}
	return out, nil
}

// lastLine is the last line of a crashed container's log that says something; "" when there is none to be had.
func (c *Client) lastLine(ctx context.Context, namespace string, cause Cause) string {
	tail := int64(20)
	log, err := c.PodLogs(ctx, namespace, cause.pod, cause.container, LogOptions{Previous: cause.previous, Tail: &tail})
	if err != nil {
		return ""
	}
	last := ""
	lines := bufio.NewScanner(io.LimitReader(log, 1<<20))
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			last = line
		}
	}
	if err := errors.Join(lines.Err(), log.Close()); err != nil {
		return ""
	}
	return cut(last, 300)
}
