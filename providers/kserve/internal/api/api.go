// Package api is the only one that sees KServe's Go types: it assembles an InferenceService from what the driver decided, and decodes
// what a cluster holds. What it assembles is unstructured and pruned of zero values, so that a server-side apply owns nothing that
// nobody set; what it decodes may be newer than the types, and what they do not know is left out.
package api

import (
	"encoding/json"
	"fmt"
	"strings"

	v1alpha1 "github.com/kserve/kserve/pkg/apis/serving/v1alpha1"
	v1beta1 "github.com/kserve/kserve/pkg/apis/serving/v1beta1"
	"github.com/kserve/kserve/pkg/constants"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
)

// The kinds of KServe that the provider uses.
var (
	Kind           = schema.GroupVersionKind{Group: "serving.kserve.io", Version: "v1beta1", Kind: "InferenceService"}
	Runtime        = schema.GroupVersionKind{Group: "serving.kserve.io", Version: "v1alpha1", Kind: "ServingRuntime"}
	ClusterRuntime = schema.GroupVersionKind{Group: "serving.kserve.io", Version: "v1alpha1", Kind: "ClusterServingRuntime"}
)

// Names that KServe gives a meaning to.
const (
	// Container is the one of a predictor that KServe looks at.
	Container = constants.InferenceServiceContainerName
	// StorageURI is the variable of a custom container that names its model.
	StorageURI = constants.CustomSpecStorageUriEnvVarKey
	// ModelDir is where the model is mounted.
	ModelDir = constants.DefaultModelLocalMountPath
	// ModeAnnotation on a service chooses how it is deployed, ScalerAnnotation by what it is scaled.
	ModeAnnotation   = "serving.kserve.io/deploymentMode"
	ScalerAnnotation = "serving.kserve.io/autoscalerClass"
	// NoScaler leaves the number of replicas to the service.
	NoScaler = string(constants.AutoscalerClassNone)
	// VisibilityLabel with ClusterLocal on a service has KServe make no way in from outside.
	VisibilityLabel = constants.NetworkVisibility
	ClusterLocal    = constants.ClusterLocalVisibility
	// Label on everything that KServe makes for a service.
	Label = "serving.kserve.io/inferenceservice"
)

// Service is what an InferenceService is assembled from.
type Service struct {
	Meta                              metav1.ObjectMeta
	Predictor, Transformer, Explainer *Component
}

// Component is one of the servers of a service.
type Component struct {
	// Model, when not nil, is served by a serving runtime; Server then only adds to the runtime's container. Without it, Server is
	// the whole container.
	Model  *Model
	Server corev1.Container
	Pod    corev1.PodSpec // all but the server

	Min, Target                   *int32
	Max                           int32
	Metric                        string
	ContainerConcurrency, Timeout *int64 // Timeout in seconds
	LogURL, LogMode               string
	MaxBatchSize, MaxBatchLatency int // requests, milliseconds
	Labels, Annotations           map[string]string
}

// Model is what a serving runtime loads. Empty fields are KServe's to choose.
type Model struct {
	Format, FormatVersion, Runtime, RuntimeVersion, Protocol, StorageURI string
}

// Object assembles the InferenceService.
func (s Service) Object() (*unstructured.Unstructured, error) {
	is := v1beta1.InferenceService{ObjectMeta: s.Meta}
	p := s.Predictor
	if p == nil {
		return nil, fmt.Errorf("assemble %s: it has no predictor", s.Meta.Name)
	}
	is.Spec.Predictor = v1beta1.PredictorSpec{ComponentExtensionSpec: p.extension(), PodSpec: v1beta1.PodSpec(p.Pod)}
	if p.Model != nil {
		is.Spec.Predictor.Model = p.Model.spec(p.Server)
	} else {
		is.Spec.Predictor.Containers = append([]corev1.Container{p.Server}, p.Pod.Containers...)
	}
	if t := s.Transformer; t != nil {
		is.Spec.Transformer = &v1beta1.TransformerSpec{ComponentExtensionSpec: t.extension(), PodSpec: v1beta1.PodSpec(t.pod())}
	}
	if e := s.Explainer; e != nil {
		is.Spec.Explainer = &v1beta1.ExplainerSpec{ComponentExtensionSpec: e.extension(), PodSpec: v1beta1.PodSpec(e.pod())}
	}
	u, err := kube.FromTyped(Kind, is)
	if err != nil {
		return nil, fmt.Errorf("assemble %s: %w", s.Meta.Name, err)
	}
	unstructured.RemoveNestedField(u.Object, "status")
	if p.Model != nil { // a container has a name, a model needs none
		unstructured.RemoveNestedField(u.Object, "spec", "predictor", "model", "name")
		if list, found, err := unstructured.NestedSlice(u.Object, "spec", "predictor", "containers"); err == nil && found && len(list) == 0 {
			unstructured.RemoveNestedField(u.Object, "spec", "predictor", "containers")
		}
	}
	return u, nil
}

func (c Component) pod() corev1.PodSpec {
	p := c.Pod
	p.Containers = append([]corev1.Container{c.Server}, p.Containers...)
	return p
}

func (m Model) spec(server corev1.Container) *v1beta1.ModelSpec {
	out := &v1beta1.ModelSpec{ModelFormat: v1beta1.ModelFormat{Name: m.Format, Version: opt(m.FormatVersion)}, Runtime: opt(m.Runtime)}
	out.RuntimeVersion, out.StorageURI, out.Container = opt(m.RuntimeVersion), opt(m.StorageURI), server
	if m.Protocol != "" {
		p := constants.InferenceServiceProtocol(m.Protocol)
		out.ProtocolVersion = &p
	}
	return out
}

func (c Component) extension() v1beta1.ComponentExtensionSpec {
	x := v1beta1.ComponentExtensionSpec{
		MinReplicas: c.Min, MaxReplicas: c.Max, ScaleTarget: c.Target, ContainerConcurrency: c.ContainerConcurrency,
		TimeoutSeconds: c.Timeout, Labels: c.Labels, Annotations: c.Annotations,
	}
	if c.Metric != "" {
		m := v1beta1.ScaleMetric(c.Metric)
		x.ScaleMetric = &m
	}
	if c.LogURL != "" {
		x.Logger = &v1beta1.LoggerSpec{URL: &c.LogURL, Mode: v1beta1.LoggerType(c.LogMode)}
	}
	if c.MaxBatchSize > 0 || c.MaxBatchLatency > 0 {
		x.Batcher = &v1beta1.Batcher{MaxBatchSize: opt(c.MaxBatchSize), MaxLatency: opt(c.MaxBatchLatency)}
	}
	return x
}

func opt[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// Status is what a service says of itself.
type Status struct {
	Ready   bool
	Message string // why not
	URL     string // inside of the cluster when it has such an address
	// Traffic is the share in percent of each revision of the predictor, by name; only Knative has revisions.
	Traffic map[string]int64
	// RolledOut is the last revision that had all of it, by KServe's account. Routed says that Knative leads requests to some revision,
	// also while a newer one does not get ready, or the shares move.
	RolledOut string
	Routed    bool
}

// StatusOf decodes the status of an InferenceService. Ready may be of an older generation: without Knative, the generation that the
// service claims to have seen is that of its Deployment, whose count is another one.
func StatusOf(u *unstructured.Unstructured) (Status, error) {
	raw, _, err := unstructured.NestedMap(u.Object, "status")
	if err != nil {
		return Status{}, fmt.Errorf("read the status of %s: %w", kube.RefOf(u), err)
	}
	var s v1beta1.InferenceServiceStatus
	if err := convert(raw, &s); err != nil {
		return Status{}, fmt.Errorf("read the status of %s: %w", kube.RefOf(u), err)
	}
	out, routes := Status{Message: "its controller has not looked at it yet"}, false
	for _, c := range s.Conditions {
		switch {
		case c.Type == v1beta1.PredictorRouteReady:
			routes = c.Status != corev1.ConditionFalse
		case c.Type == "Ready" && c.Status == corev1.ConditionTrue:
			out.Ready, out.Message = true, ""
		case c.Type == "Ready":
			out.Message = c.Reason
			if c.Message != "" {
				out.Message += ": " + c.Message
			}
		}
	}
	switch {
	case s.Address != nil && s.Address.URL != nil:
		out.URL = s.Address.URL.String()
	case s.URL != nil:
		out.URL = s.URL.String()
	}
	out.RolledOut = s.Components[v1beta1.PredictorComponent].LatestRolledoutRevision
	out.Routed = routes && out.RolledOut != ""
	for _, t := range s.Components[v1beta1.PredictorComponent].Traffic {
		if t.Percent != nil {
			if out.Traffic == nil {
				out.Traffic = map[string]int64{}
			}
			out.Traffic[t.RevisionName] += *t.Percent
		}
	}
	return out, nil
}

// Offer is a serving runtime that a cluster has.
type Offer struct {
	Name    string
	Cluster bool // whether all namespaces may use it
	spec    v1alpha1.ServingRuntimeSpec
}

// OfferOf decodes a ServingRuntime or ClusterServingRuntime.
func OfferOf(u *unstructured.Unstructured) (Offer, error) {
	raw, _, err := unstructured.NestedMap(u.Object, "spec")
	if err != nil {
		return Offer{}, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	o := Offer{Name: u.GetName(), Cluster: u.GetKind() == ClusterRuntime.Kind}
	if err := convert(raw, &o.spec); err != nil {
		return Offer{}, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	return o, nil
}

// Formats lists the formats of a runtime; those that it takes by itself, without being named, bear a star.
func (o Offer) Formats() []string {
	var out []string
	for _, f := range o.spec.SupportedModelFormats {
		name := f.Name
		if f.Version != nil {
			name += ":" + *f.Version
		}
		if f.IsAutoSelectEnabled() {
			name += "*"
		}
		out = append(out, name)
	}
	return out
}

// Serves says whether the runtime takes the format, and if not, why. named: the service names this very runtime.
func (o Offer) Serves(m Model, named bool) (ok bool, why string) {
	switch {
	case o.spec.IsDisabled():
		return false, "it is disabled"
	case o.spec.IsMultiModelRuntime():
		return false, "it is one of ModelMesh"
	case !o.spec.IsProtocolVersionSupported(constants.InferenceServiceProtocol(m.Protocol)):
		return false, fmt.Sprintf("it does not speak protocol %s", m.Protocol)
	}
	found := false
	for _, f := range o.spec.SupportedModelFormats {
		if f.Name != m.Format || m.FormatVersion != "" && f.Version != nil && *f.Version != m.FormatVersion {
			continue
		}
		found = true
		if named || f.IsAutoSelectEnabled() {
			return true, ""
		}
	}
	if found {
		return false, "it does not offer itself for the format (autoSelect); name it in kserve { runtime }"
	}
	return false, fmt.Sprintf("it does not serve the format %s", m.Format)
}

// Renamed lists the arguments and variables of the runtime's server that hold the service's name, with name in its place: each version
// is a service of its own, and clients must find the model under one name. KServe appends the arguments of a service to the runtime's,
// and servers go by the last.
func (o Offer) Renamed(name string) (args []string, env map[string]string) {
	const place = "{{.Name}}"
	for _, c := range o.spec.Containers {
		if c.Name != Container {
			continue
		}
		for i, a := range c.Args {
			if strings.Contains(a, place) {
				if !strings.HasPrefix(a, "-") && i > 0 {
					args = append(args, c.Args[i-1])
				}
				args = append(args, strings.ReplaceAll(a, place, name))
			}
		}
		for _, v := range c.Env {
			if strings.Contains(v.Value, place) {
				if env == nil {
					env = map[string]string{}
				}
				env[v.Name] = strings.ReplaceAll(v.Value, place, name)
			}
		}
	}
	return args, env
}

// Priority is the runtime's for a format, 0 when it has none.
func (o Offer) Priority(format string) int32 {
	if p := o.spec.GetPriority(format); p != nil {
		return *p
	}
	return 0
}

// convert goes through JSON, which passes over what the types do not know.
func convert(raw map[string]any, into any) error {
	if raw == nil {
		return nil
	}
	data, err := json.Marshal(raw)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
