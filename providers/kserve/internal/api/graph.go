package api

import (
	"fmt"

	v1alpha1 "github.com/kserve/kserve/pkg/apis/serving/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
)

// Graph is the kind of a graph of services.
var Graph = schema.GroupVersionKind{Group: "serving.kserve.io", Version: "v1alpha1", Kind: "InferenceGraph"}

// The names that KServe gives a meaning to in a graph.
const (
	Root     = v1alpha1.GraphRootNodeName
	Splitter = string(v1alpha1.Splitter)
	// GraphLabel on everything that KServe makes for a graph.
	GraphLabel = "serving.kserve.io/inferencegraph"
)

// Pipeline is what an InferenceGraph is assembled from.
type Pipeline struct {
	Meta           metav1.ObjectMeta
	Nodes          map[string]Node // Root is where it begins
	Replicas       int32
	Timeout        int64 // seconds that a step may take; 0 = for ever
	ServiceAccount string
	NodeSelector   map[string]string
	Tolerations    []corev1.Toleration
	Resources      corev1.ResourceRequirements
}

// Node is one of a graph's.
type Node struct {
	Type  string
	Steps []Step
}

// Step is where a node sends a request: to exactly one of Node, Service (of an InferenceService) and URL.
type Step struct {
	Name, Node, Service, URL    string
	Data, Condition, Dependency string
	Map                         bool // the predictions of the step before are its instances
	Weight                      *int64
}

// Object assembles the InferenceGraph.
func (p Pipeline) Object() (*unstructured.Unstructured, error) {
	g := v1alpha1.InferenceGraph{ObjectMeta: p.Meta, Spec: v1alpha1.InferenceGraphSpec{
		Nodes: map[string]v1alpha1.InferenceRouter{}, MinReplicas: &p.Replicas, MaxReplicas: p.Replicas, Resources: p.Resources,
		ServiceAccountName: p.ServiceAccount, NodeSelector: p.NodeSelector, Tolerations: p.Tolerations,
	}}
	if p.Timeout > 0 {
		g.Spec.RouterTimeouts = &v1alpha1.InfereceGraphRouterTimeouts{ServiceClient: &p.Timeout}
	}
	for name, n := range p.Nodes {
		router := v1alpha1.InferenceRouter{RouterType: v1alpha1.InferenceRouterType(n.Type)}
		for _, s := range n.Steps {
			router.Steps = append(router.Steps, v1alpha1.InferenceStep{
				StepName: s.Name, InferenceTarget: v1alpha1.InferenceTarget{NodeName: s.Node, ServiceName: s.Service, ServiceURL: s.URL},
				Data: s.Data, Condition: s.Condition, Dependency: v1alpha1.InferenceStepDependencyType(s.Dependency), Weight: s.Weight,
				MapPredictionsToInstances: s.Map,
			})
		}
		g.Spec.Nodes[name] = router
	}
	u, err := kube.FromTyped(Graph, g)
	if err != nil {
		return nil, fmt.Errorf("assemble %s: %w", p.Meta.Name, err)
	}
	unstructured.RemoveNestedField(u.Object, "status")
	return u, nil
}
