package kserve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// bySplitter in kserve { canary } has an InferenceGraph with a splitter carry the requests.
const bySplitter = "graph"

// followWithin is how long the pods of a splitter may take to be replaced by those with other weights.
const followWithin = 3 * time.Minute

// uncounted errors when a splitter carries the requests and something is asked for that it cannot do: it would be ignored.
func (s deploymentSpec) uncounted(n nested) error {
	if n.Canary != bySplitter {
		return nil
	}
	const instead = `; remove it, or set kserve { canary = "router" }`
	r := s.Rollout
	switch {
	case r != nil && r.Strategy == gateway.Shadow:
		return errors.New("rollout.strategy: a splitter of KServe's mirrors nothing" + instead)
	case r != nil && r.Abort != nil:
		return errors.New("rollout.abort: a splitter of KServe's counts no requests by version, so nothing could be judged" + instead)
	case s.Sink != nil:
		return errors.New("sink: a splitter of KServe's sends answers nowhere else" + instead)
	case s.Capture != nil && s.Capture.Enabled:
		return errors.New("capture: a splitter of KServe's keeps no requests" + instead)
	case s.Port != 0 && s.Port != 80:
		return errors.New("port: KServe gives the Service of an InferenceGraph port 80" + instead)
	case n.ServiceType != "" && n.ServiceType != string(corev1.ServiceTypeClusterIP):
		return errors.New("kserve.service_type: KServe makes the Service of an InferenceGraph for the inside of the cluster" + instead)
	case n.Explainer != nil:
		return errors.New("kserve.explainer: a splitter of KServe's asks for predictions alone, and nobody would reach it" + instead)
	case n.DeploymentMode == knative:
		return errors.New("kserve.canary: a splitter was proved in mode Standard only; with Knative use the routers")
	}
	return nil
}

// splitter is the InferenceGraph that carries the requests: it has the deployment's name, and so has the Service that KServe makes for it.
func (f *fleet) splitter(routes gateway.Routes) (*unstructured.Unstructured, error) {
	mode := map[string]string{pods.LabelAddress: f.Address.String(), api.ModeAnnotation: standard, api.ScalerAnnotation: api.NoScaler}
	p := api.Pipeline{
		Meta:     metav1.ObjectMeta{Name: f.Name, Namespace: f.Namespace, Labels: f.Labels(rollout.PartRouter), Annotations: mode},
		Replicas: int32(max(f.Routers.Replicas, 1)), NodeSelector: f.NodeSelector, Tolerations: f.Tolerations,
		ServiceAccount: f.nested.ServiceAccount,
	}
	root := api.Node{Type: api.Splitter}
	for url, weight := range f.shares(routes) {
		root.Steps = append(root.Steps, api.Step{URL: url, Weight: new(int64(weight)), Dependency: "Hard"})
	}
	slices.SortFunc(root.Steps, func(a, b api.Step) int { return strings.Compare(a.URL, b.URL) })
	p.Nodes = map[string]api.Node{api.Root: root}
	u, err := p.Object()
	if err != nil {
		return nil, err
	}
	return u, kube.Remember(u)
}

// shares are the percentages by where they go.
func (f *fleet) shares(routes gateway.Routes) map[string]int {
	path := f.predictPath()
	out := map[string]int{}
	if c := routes.Candidate; c != nil && routes.Weight > 0 {
		out[c.URL+path] = routes.Weight
	}
	if rest := 100 - routes.Weight; routes.Candidate == nil || rest > 0 {
		if routes.Candidate == nil {
			rest = 100
		}
		out[routes.Current.URL+path] = rest
	}
	return out
}

// Follow implements rollout.Carrier. KServe hands the weights to its pods as an argument: each shift replaces them, one after its successor
// is ready. Only what the pods have is believed; the graph calls itself ready whatever they do.
func (f *fleet) Follow(ctx context.Context, routes gateway.Routes, say func(string)) error {
	if routes.Current == nil {
		return nil // nothing serves yet, and there is nowhere to lead to
	}
	u, err := f.splitter(routes)
	if err != nil {
		return err
	}
	if _, err := f.Apply(ctx, f.client, u); err != nil {
		return err
	}
	end := time.NewTimer(followWithin)
	defer end.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		why, err := f.behind(ctx, f.shares(routes))
		if err != nil {
			return err
		}
		if why == "" {
			break
		}
		say(f.Name + ": " + why)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return fmt.Errorf("InferenceGraph %s does not follow its weights after %s: %s", f.Name, followWithin, f.cause(ctx, why))
		case <-tick.C:
		}
	}
	if routes.Candidate == nil || routes.Weight == 0 {
		return nil
	}
	say(fmt.Sprintf("its pods have: version %d: %d %%, version %d: %d %%", routes.Current.Version, 100-routes.Weight, routes.Candidate.Version, routes.Weight))
	if err := f.readBack(ctx); err != nil {
		return err
	}
	_, target, err := f.door(ctx)
	if err != nil || f.forced {
		return err
	}
	return f.ask(ctx, target)
}

// Carries implements rollout.Carrier.
func (f *fleet) Carries(routes gateway.Routes) (*unstructured.Unstructured, error) {
	return f.splitter(routes)
}

// Holds implements rollout.Carrier.
func (f *fleet) Holds(ctx context.Context, routes gateway.Routes) error {
	if routes.Current == nil {
		return nil
	}
	why, err := f.behind(ctx, f.shares(routes))
	if err != nil || why == "" {
		return err
	}
	u, err := f.splitter(routes)
	if err == nil {
		_, err = f.Apply(ctx, f.client, u)
	}
	return err
}

// cause is what keeps the pods of the splitter from working, if it can be seen.
func (f *fleet) cause(ctx context.Context, why string) string {
	u, err := f.client.Get(ctx, kube.Ref{Group: gvkDeployment.Group, Version: gvkDeployment.Version, Kind: gvkDeployment.Kind, Namespace: f.Namespace, Name: f.Name})
	if err != nil {
		return why
	}
	if found, bad, err := f.client.Diagnose(ctx, u); err == nil && bad {
		return found.String()
	}
	return why
}

// behind says what of the splitter's pods does not have these shares; "" when all that run have them, and no other is left.
func (f *fleet) behind(ctx context.Context, want map[string]int) (string, error) {
	list, err := f.client.List(ctx, gvkPod, f.Namespace, kube.Selector{Labels: api.GraphLabel + "=" + f.Name})
	if err != nil {
		return "", err
	}
	if len(list) < max(f.Routers.Replicas, 1) {
		return "KServe has not made all of its pods yet", nil
	}
	for _, u := range list {
		var p corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p); err != nil {
			return "", fmt.Errorf("read pod %s: %w", u.GetName(), err)
		}
		if p.DeletionTimestamp != nil {
			return "pod " + p.Name + " with other weights still ends", nil
		}
		has, err := sharesOf(p)
		if err != nil {
			return "", err
		}
		if !maps.Equal(has, want) {
			return "pod " + p.Name + " has other weights", nil
		}
		if !ready(p) {
			return "pod " + p.Name + " is not ready", nil
		}
	}
	return "", nil
}

func ready(p corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// sharesOf reads the weights that a pod of a splitter was started with.
func sharesOf(p corev1.Pod) (map[string]int, error) {
	for _, c := range p.Spec.Containers {
		for i, a := range c.Args {
			if a != "--graph-json" || i+1 == len(c.Args) {
				continue
			}
			var g struct {
				Nodes map[string]struct {
					Steps []struct {
						URL    string `json:"serviceUrl"`
						Weight int    `json:"weight"`
					} `json:"steps"`
				} `json:"nodes"`
			}
			if err := json.Unmarshal([]byte(c.Args[i+1]), &g); err != nil {
				return nil, fmt.Errorf("read the weights of pod %s: %w", p.Name, err)
			}
			out := map[string]int{}
			for _, s := range g.Nodes[api.Root].Steps {
				out[s.URL] += s.Weight
			}
			return out, nil
		}
	}
	return nil, nil
}
