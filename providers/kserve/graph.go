package kserve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/pods"
)

// graph is the block `graph { … }`: an InferenceGraph that every version has of its own, and that answers in its place.
type graph struct {
	Replicas int           `ml:"replicas,default=1,min=1,max=50" doc:"Number of pods that run the graph."`
	Timeout  time.Duration `ml:"timeout" doc:"How long one step may take. Default: for ever."`
	Nodes    []node        `ml:"node,block" doc:"What happens to a request; it begins at the node root."`
}

type node struct {
	Name  string `ml:"name,label"`
	Type  string `ml:"type,required" enum:"Sequence|Splitter|Ensemble|Switch" doc:"Sequence: step after step. Splitter: one step, drawn by weight. Ensemble: all at once, answers side by side under the names of the steps. Switch: the first step whose condition holds."`
	Steps []step `ml:"step,block" doc:"Where a request goes. Without node, service and url: to this deployment's own version."`
}

type step struct {
	Name       string `ml:"name" doc:"Name of the answer in an ensemble."`
	Node       string `ml:"node" doc:"Another node of the graph."`
	Service    string `ml:"service" doc:"InferenceService of the same namespace."`
	URL        string `ml:"url" doc:"Any server, such as \"${deployment.other.endpoint}/v1/models/other:predict\"."`
	Path       string `ml:"path" doc:"Path at this deployment's own version. Default: that of a prediction, by protocol_version."`
	Weight     *int   `ml:"weight,min=0,max=100" doc:"Percentage of a splitter; they add up to 100."`
	Condition  string `ml:"condition" doc:"Path in the JSON (gjson) that must be there: of the request in a switch, of the answer before in a sequence, which ends otherwise."`
	Data       string `ml:"data" enum:"$request|$response" doc:"What a step of a sequence gets. Default: the request."`
	Map        bool   `ml:"map_predictions" doc:"Whether the predictions of the step before become the instances."`
	Dependency string `ml:"dependency" enum:"Soft|Hard" doc:"Hard: when the step fails, so does the request, at once. Default: Soft."`
}

// check says what of a graph KServe would refuse, or would not know what to do with.
func (g *graph) check() error {
	if g == nil {
		return nil
	}
	names := map[string]bool{}
	for _, n := range g.Nodes {
		if names[n.Name] {
			return fmt.Errorf("kserve.graph.node %q: it is there twice", n.Name)
		}
		names[n.Name] = true
	}
	if !names[api.Root] {
		return fmt.Errorf("kserve.graph: a request begins at node %q, and there is none", api.Root)
	}
	for _, n := range g.Nodes {
		if err := n.check(names); err != nil {
			return fmt.Errorf("kserve.graph.node %q: %w", n.Name, err)
		}
	}
	if loop := g.loop(api.Root, nil); loop != nil {
		return fmt.Errorf("kserve.graph: a request would never end: %s", strings.Join(loop, " → "))
	}
	for _, n := range g.Nodes {
		if slices.ContainsFunc(n.Steps, step.own) {
			return nil
		}
	}
	return errors.New("kserve.graph: no step goes to this deployment's own version; leave node, service and url out of one")
}

func (n node) check(names map[string]bool) error {
	if len(n.Steps) == 0 {
		return errors.New("it has no step")
	}
	sum := 0
	for i, s := range n.Steps {
		given := 0
		for _, target := range []string{s.Node, s.Service, s.URL} {
			if target != "" {
				given++
			}
		}
		switch {
		case given > 1:
			return fmt.Errorf("step %d: give one of node, service and url", i+1)
		case s.Node != "" && !names[s.Node]:
			return fmt.Errorf("step %d: there is no node %q", i+1, s.Node)
		case s.Path != "" && given > 0:
			return fmt.Errorf("step %d: path is for this deployment's own version; write it into the url", i+1)
		case (n.Type == api.Splitter) != (s.Weight != nil):
			return fmt.Errorf("step %d: a weight is what the steps of a splitter have, and no others", i+1)
		case n.Type == "Switch" && s.Condition == "":
			return fmt.Errorf("step %d: a switch needs a condition, and would never choose it; \"@this\" always holds", i+1)
		case s.Data != "" && n.Type != "Sequence", s.Map && n.Type != "Sequence":
			return fmt.Errorf("step %d: data and map_predictions mean something in a sequence only, and would be ignored", i+1)
		}
		if s.Weight != nil {
			sum += *s.Weight
		}
	}
	if n.Type == api.Splitter && sum != 100 {
		return fmt.Errorf("the weights add up to %d, not 100", sum)
	}
	return nil
}

// loop is a way through the graph that comes back to where it was.
func (g *graph) loop(at string, way []string) []string {
	if slices.Contains(way, at) {
		return append(way, at)
	}
	for _, n := range g.Nodes {
		if n.Name != at {
			continue
		}
		for _, s := range n.Steps {
			if s.Node != "" {
				if found := g.loop(s.Node, append(slices.Clone(way), at)); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

func (s step) own() bool { return s.Node == "" && s.Service == "" && s.URL == "" }

// graphName is that of the version's InferenceGraph. KServe names what it makes for it the same.
func graphName(version string) string { return version + "-graph" }

// pipeline is the version's InferenceGraph, nil without one. Its pods bear the key of the servers.
func (r release) pipeline(key string) (*unstructured.Unstructured, error) {
	g := r.nested.Graph
	if g == nil {
		return nil, nil
	}
	notes := map[string]string{pods.LabelAddress: r.Address.String(), api.ModeAnnotation: r.Mode, releaseNote: key}
	if r.Mode == standard {
		notes[api.ScalerAnnotation] = api.NoScaler
	}
	p := api.Pipeline{
		Meta:  metav1.ObjectMeta{Name: graphName(r.name), Namespace: r.Namespace, Labels: r.labels(), Annotations: notes},
		Nodes: map[string]api.Node{}, Replicas: int32(max(g.Replicas, 1)),
		ServiceAccount: r.nested.ServiceAccount, NodeSelector: r.nested.NodeSelector, Tolerations: r.nested.tolerations(),
	}
	if g.Timeout > 0 {
		p.Timeout = pods.Seconds(g.Timeout)
	}
	for _, n := range g.Nodes {
		at := api.Node{Type: n.Type}
		for _, s := range n.Steps {
			x := api.Step{Name: s.Name, Node: s.Node, Service: s.Service, URL: s.URL, Data: s.Data, Condition: s.Condition, Dependency: s.Dependency, Map: s.Map}
			if s.own() {
				x.URL = r.address() + "/" + strings.TrimPrefix(cmp.Or(s.Path, r.predictPath()), "/")
			}
			if s.Weight != nil {
				x.Weight = new(int64(*s.Weight))
			}
			at.Steps = append(at.Steps, x)
		}
		p.Nodes[n.Name] = at
	}
	u, err := p.Object()
	if err != nil {
		return nil, err
	}
	return u, kube.Remember(u)
}

// part is the component that answers for the version.
func (r release) part() string {
	if r.spec.Transformer != nil || r.nested.Transformer != nil {
		return "transformer"
	}
	return "predictor"
}

// address is where the version's own servers answer inside of the cluster.
func (r release) address() string {
	host := fmt.Sprintf("http://%s.%s.svc.%s", r.name+"-"+r.part(), r.Namespace, r.ClusterDomain)
	if r.Headless && r.Mode == standard {
		host += ":" + strconv.Itoa(serverPort)
	}
	return host
}

// predictPath is where a prediction is asked for, by the name that the model has for clients.
func (r release) predictPath() string {
	if strings.HasSuffix(r.nested.ProtocolVersion, "v2") {
		return "/v2/models/" + r.Name + "/infer"
	}
	return "/v1/models/" + r.Name + ":predict"
}

// removeGraph deletes an InferenceGraph and waits until what KServe made for it is gone. KServe makes that anew as long as the graph
// itself is there, so that the graph must not wait for it: a deletion in the foreground would go on for ever.
func removeGraph(ctx context.Context, c *kube.Client, u *unstructured.Unstructured, within time.Duration) error {
	if err := c.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{Propagation: metav1.DeletePropagationBackground, Within: within}); err != nil {
		return err
	}
	end := time.NewTimer(within)
	defer end.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		left := ""
		for _, gvk := range []schema.GroupVersionKind{gvkDeployment, gvkService, gvkPod} {
			list, err := c.List(ctx, gvk, u.GetNamespace(), kube.Selector{Labels: api.GraphLabel + "=" + u.GetName()})
			if err != nil {
				return err
			}
			for _, o := range list {
				left = kube.RefOf(o).String()
			}
		}
		if left == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return fmt.Errorf("delete %s: %s is there still after %s", kube.RefOf(u), left, within)
		case <-tick.C:
		}
	}
}

// kept is what Good hands to Restore: the InferenceService alone or, for a version with a graph, a list of both.
func kept(service, graph *unstructured.Unstructured) (json.RawMessage, error) {
	if graph == nil {
		return service.MarshalJSON()
	}
	list := unstructured.UnstructuredList{Items: []unstructured.Unstructured{*service, *graph}}
	list.SetAPIVersion("v1")
	list.SetKind("List")
	return list.MarshalJSON()
}

// unkept reads it again; graph is nil without one.
func unkept(good json.RawMessage) (service, graph *unstructured.Unstructured, err error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(good); err != nil {
		return nil, nil, fmt.Errorf("read the InferenceService that was good: %w", err)
	}
	if !u.IsList() {
		return u, nil, nil
	}
	list, err := u.ToList()
	if err != nil {
		return nil, nil, fmt.Errorf("read the InferenceService that was good: %w", err)
	}
	for i := range list.Items {
		if list.Items[i].GetKind() == api.Graph.Kind {
			graph = &list.Items[i]
		} else {
			service = &list.Items[i]
		}
	}
	if service == nil {
		return nil, nil, errors.New("read the InferenceService that was good: it is not there")
	}
	return service, graph, nil
}
