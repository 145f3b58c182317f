package kubeflow

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/runs"
)

// unmeasuredFor is how long the metric of a trial that has ended may take: Katib's collector sends it within seconds.
const unmeasuredFor = 2 * time.Minute

// The conditions of a Trial that has ended.
var trialEnds = []string{"Succeeded", "Failed", "Killed", "MetricsUnavailable", "EarlyStopped"}

// Read implements pods.Searching.
func (x *experiment) Read(ctx context.Context, c *kube.Client, object *unstructured.Unstructured) (pods.Searched, error) {
	all, err := c.List(ctx, trialKind, object.GetNamespace(), kube.Selector{Labels: labelExperiment + "=" + object.GetName()})
	if err != nil {
		return pods.Searched{}, err
	}
	return x.read(object, all), nil
}

// read judges the trials. It is pure.
func (x *experiment) read(object *unstructured.Unstructured, trials []*unstructured.Unstructured) pods.Searched {
	out := pods.Searched{Best: -1, Method: "katib " + x.algorithm, Patience: x.patience, Unmeasured: unmeasured}
	slices.SortStableFunc(trials, func(a, b *unstructured.Unstructured) int {
		if n := a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time); n != 0 {
			return n
		}
		return strings.Compare(a.GetName(), b.GetName())
	})
	best, _, err := unstructured.NestedString(object.Object, "status", "currentOptimalTrial", "bestTrialName")
	if err != nil {
		best = ""
	}
	for _, t := range trials {
		end, why := ended(t)
		if end == "" {
			out.Open = append(out.Open, t.GetName())
			continue
		}
		c := x.candidate(t, end, why)
		if c.Name == best && c.Value != nil {
			out.Best = len(out.Ended)
		}
		out.Ended = append(out.Ended, c)
	}
	return out
}

// ended is how a Trial ended, in one word and in a sentence; "" while it has not.
func ended(t *unstructured.Unstructured) (end, why string) {
	list, _, err := unstructured.NestedSlice(t.Object, "status", "conditions")
	if err != nil {
		return "", ""
	}
	for _, e := range list {
		m, _ := e.(map[string]any)
		kind, _ := m["type"].(string)
		if m["status"] == "True" && slices.Contains(trialEnds, kind) {
			why, _ = m["message"].(string)
			return kind, why
		}
	}
	return "", ""
}

// candidate reads a Trial that has ended.
func (x *experiment) candidate(t *unstructured.Unstructured, end, why string) runs.Candidate {
	c := runs.Candidate{Name: t.GetName()}
	failed := func(format string, args ...any) runs.Candidate {
		c.Value, c.Reason = nil, fmt.Sprintf(format, args...)
		return c
	}
	var err error
	if c.Params, err = x.assigned(t); err != nil {
		return failed("%v", err)
	}
	if end != "Succeeded" {
		return failed("%s: %s", end, why)
	}
	list, _, err := unstructured.NestedSlice(t.Object, "status", "observation", "metrics")
	if err != nil {
		return failed("its metrics cannot be read: %v", err)
	}
	for _, e := range list {
		m, _ := e.(map[string]any)
		if m["name"] != x.tuning.Metric {
			continue
		}
		text, _ := m["latest"].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return failed("Katib has %q for its metric %s, which is no number", text, x.tuning.Metric)
		}
		c.Value = &v
		return c
	}
	return failed("Katib has no metric %s of it", x.tuning.Metric)
}

// assigned are the parameters that Katib chose for a Trial, as the command got them.
func (x *experiment) assigned(t *unstructured.Unstructured) (map[string]any, error) {
	list, _, err := unstructured.NestedSlice(t.Object, "spec", "parameterAssignments")
	if err != nil {
		return nil, fmt.Errorf("its parameters cannot be read: %w", err)
	}
	chosen := map[string]string{}
	for _, e := range list {
		m, _ := e.(map[string]any)
		name, _ := m["name"].(string)
		chosen[name], _ = m["value"].(string)
	}
	out := map[string]any{}
	for _, p := range x.Trial().Params {
		v, err := p.Value(chosen[p.Name])
		if err != nil {
			return nil, err
		}
		out[p.Name] = plain(v)
	}
	return out, nil
}

// plain is a number as a version keeps it.
func plain(v any) any {
	if n, ok := v.(interface{ Float64() (float64, error) }); ok {
		if f, err := n.Float64(); err == nil {
			return f
		}
	}
	return v
}

// collector is how Katib calls the container of its collector.
const collector = "metrics-logger-and-collector"

// unmeasured says why the metric of a trial does not arrive, although its command wrote it.
func unmeasured(p corev1.Pod) string {
	if !slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == collector }) {
		return fmt.Sprintf("Katib's collector is not in its pod %s; label the namespace (%s=enabled), and see that Katib's webhook answers", p.Name, labelInjection)
	}
	return fmt.Sprintf("Katib's collector in pod %s has not sent it; its log says why: kubectl logs -n %s %s -c %s", p.Name, p.Namespace, p.Name, collector)
}
