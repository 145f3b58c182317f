package kserve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
)

// The deployment modes of KServe. Before 0.16 they were called otherwise, and still may be.
const (
	standard = "Standard"
	knative  = "Knative"
)

// kindOf is a kind that a cluster may serve.
type kindOf = schema.GroupVersionKind

var modeNames = map[string]string{standard: standard, "RawDeployment": standard, knative: knative, "Serverless": knative}

const systemConfig = "inferenceservice-config"

var (
	gvkConfigMap = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	gvkKnative   = schema.GroupVersionKind{Group: "serving.knative.dev", Version: "v1", Kind: "Service"}
	gvkMetrics   = schema.GroupVersionKind{Group: "metrics.k8s.io", Version: "v1beta1", Kind: "PodMetrics"}
	gvkRoute     = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"}
)

// abilities are what a cluster's KServe can do, as far as it can be known.
type abilities struct {
	Knative bool // Knative Serving is installed
	Gateway bool // the Gateway API is installed
	Metrics bool // somebody measures what pods use
	Graphs  bool // KServe has InferenceGraphs
	// Features is what Knative is told to allow; nil when that is not known.
	Features map[string]string
	// Unread says why KServe's configuration is not known; the fields below are then not, either.
	Unread     string
	Mode       string // by default: standard or knative
	OCI        bool   // models may be oci://
	Headless   bool   // Services of components have no address of their own
	RouteByAPI bool   // KServe makes Gateway API routes
	In         ingress
	// Stages says that an InferenceService has spec.canary, StagesUnread why that is not known. Only who wants it looks.
	Stages       bool
	StagesUnread string
}

// lookAt asks a cluster what it can do, KServe in the namespace system and Knative in its own. It changes nothing.
func lookAt(ctx context.Context, c *kube.Client, system, knativeSystem string) (abilities, error) {
	var a abilities
	there, err := c.Has(ctx, api.Kind)
	if err != nil {
		return a, fmt.Errorf("look for KServe: %w", err)
	}
	if !there {
		return a, &lacking{fmt.Sprintf("the cluster serves no %s of %s/%s: install KServe, 0.11 or newer", api.Kind.Kind, api.Kind.Group, api.Kind.Version)}
	}
	if err := has(ctx, c, map[kindOf]*bool{gvkKnative: &a.Knative, gvkRoute: &a.Gateway, gvkMetrics: &a.Metrics, api.Graph: &a.Graphs}); err != nil {
		return a, err
	}
	if a.Knative {
		if a.Features, err = allowed(ctx, c, cmp.Or(knativeSystem, "knative-serving")); err != nil {
			return a, err
		}
	}
	u, err := c.Get(ctx, kube.Ref{Version: gvkConfigMap.Version, Kind: gvkConfigMap.Kind, Namespace: system, Name: systemConfig})
	var denied *kube.ForbiddenError
	switch {
	case errors.As(err, &denied):
		a.Unread = fmt.Sprintf("the right to get configmaps in namespace %s is missing", system)
		return a, nil
	case errors.Is(err, kube.ErrNotFound):
		a.Unread = fmt.Sprintf("there is no ConfigMap %s in namespace %s; if KServe runs elsewhere, say so in provider \"kserve\" { system_namespace }", systemConfig, system)
		return a, nil
	case err != nil:
		return a, fmt.Errorf("read KServe's configuration: %w", err)
	}
	return a, a.read(u)
}

// read takes from KServe's configuration what matters here.
func (a *abilities) read(u *unstructured.Unstructured) error {
	data, _, err := unstructured.NestedStringMap(u.Object, "data")
	if err != nil {
		return fmt.Errorf("read KServe's configuration: %w", err)
	}
	var deploy struct {
		Mode string `json:"defaultDeploymentMode"`
	}
	var storage struct {
		OCI      bool `json:"enableOciModelSupport"`
		Modelcar bool `json:"enableModelcar"`
	}
	var service struct {
		Headless bool `json:"serviceClusterIPNone"`
	}
	var ways struct {
		ingress
		ByAPI    bool `json:"enableGatewayApi"`
		Disabled bool `json:"disableIngressCreation"`
	}
	for key, into := range map[string]any{"deploy": &deploy, "storageInitializer": &storage, "service": &service, "ingress": &ways} {
		if strings.TrimSpace(data[key]) == "" {
			continue
		}
		if err := json.Unmarshal([]byte(data[key]), into); err != nil {
			return fmt.Errorf("read KServe's configuration: %s: %w", key, err)
		}
	}
	a.OCI, a.Headless, a.RouteByAPI = storage.OCI || storage.Modelcar, service.Headless, ways.ByAPI && !ways.Disabled
	a.In = ways.ingress
	a.Mode = cmp.Or(modeNames[deploy.Mode], deploy.Mode, standard)
	return nil
}

// mode is how a service is to be deployed; why says what was assumed for want of knowledge.
func (a abilities) mode(n nested) (mode, why string, err error) {
	mode = cmp.Or(n.DeploymentMode, a.Mode)
	if mode == "" {
		mode = standard
		if a.Knative {
			mode = knative
		}
		why = fmt.Sprintf("KServe's configuration is not known (%s); %s is assumed, kserve { deployment_mode } says otherwise", a.Unread, mode)
	}
	switch {
	case mode != standard && mode != knative:
		return "", "", fmt.Errorf("the cluster's KServe deploys as %s by default, which this program does not drive; set kserve { deployment_mode = \"%s\" }", mode, standard)
	case mode == knative && !a.Knative && n.Canary == byRevisions:
		return "", "", errors.New("kserve.canary: Knative is asked for, and the cluster has no Knative Serving; use router or graph")
	case mode == knative && !a.Knative:
		return "", "", errors.New("kserve.deployment_mode: Knative is asked for, and the cluster has no Knative Serving; use Standard")
	}
	return mode, why, nil
}

// ignored lists what the deployment says and the cluster would pass over in silence.
func (a abilities) ignored(s deploymentSpec, n nested, mode string) []error {
	var out []error
	if err := a.graphless(n); err != nil {
		out = append(out, err)
	}
	if mode != standard {
		return append(out, a.refused(n)...)
	}
	metric, _ := s.scaling(n)
	low, _ := s.replicas(n)
	field := func(name string) string {
		if s.Scale != nil {
			return "scale." + name
		}
		return map[string]string{"metric": "kserve.scale_metric", "min": "kserve.min_replicas"}[name]
	}
	tell := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Errorf(format, args...))
		}
	}
	unasked := s.Resources == nil || metric == "cpu" && s.Resources.CPU == "" || metric == "memory" && s.Resources.Memory == ""
	tell(metric == "concurrency" || metric == "rps", "%s: KServe scales by %s with Knative only, and this cluster deploys as %s; use cpu or memory", field("metric"), metric, mode)
	tell(n.ContainerConcurrency > 0, "kserve.container_concurrency: KServe limits it with Knative only, and would ignore it in mode %s; remove it", mode)
	tell(n.Timeout > 0 && !a.RouteByAPI && a.Unread == "", "kserve.timeout: without Knative and without Gateway API routes of KServe's own it would be ignored; remove it")
	tell(low == 0, "%s: 0 servers are woken by a request with Knative only; use at least 1", field("min"))
	tell((metric == "cpu" || metric == "memory") && unasked, "%s: the target is a share of what a server asks for; set resources { %s }", field("metric"), metric)
	return out
}

// graphless errors when a graph is asked for that the cluster has no kind for.
func (a abilities) graphless(n nested) error {
	field := "kserve.graph"
	switch {
	case a.Graphs, n.Graph == nil && n.Canary != bySplitter:
		return nil
	case n.Graph == nil:
		field = "kserve.canary"
	}
	return fmt.Errorf("%s: the cluster serves no %s of %s/%s: install KServe's CRDs whole", field, api.Graph.Kind, api.Graph.Group, api.Graph.Version)
}

// ociOff errors when the cluster would not mount a model that lies in a registry.
func (a abilities) ociOff(system string) error {
	if a.Unread != "" || a.OCI {
		return nil
	}
	return fmt.Errorf("the cluster's KServe takes no models from a registry: set enableOciModelSupport (or, before 0.20, enableModelcar) to true under storageInitializer in ConfigMap %s/%s", system, systemConfig)
}

// runtimes lists what serves models here: those of the namespace first, as KServe takes them. note says what could not be seen.
func runtimes(ctx context.Context, c *kube.Client, namespace string) (offers []api.Offer, note string, err error) {
	for _, gvk := range []schema.GroupVersionKind{api.Runtime, api.ClusterRuntime} {
		in := namespace
		if gvk == api.ClusterRuntime {
			in = ""
		}
		list, err := c.List(ctx, gvk, in, kube.Selector{})
		var denied *kube.ForbiddenError
		var missing *kube.MissingKindError
		switch {
		case errors.As(err, &denied):
			note = fmt.Sprintf("the right to list %s is missing", denied.Resource)
			continue
		case errors.As(err, &missing):
			continue
		case err != nil:
			return nil, "", fmt.Errorf("list serving runtimes: %w", err)
		}
		for _, u := range list {
			o, err := api.OfferOf(u)
			if err != nil {
				return nil, "", err
			}
			offers = append(offers, o)
		}
	}
	return offers, note, nil
}

// choose picks the runtime for a model as KServe does: the one that is named; else of those that offer themselves for the format one of
// the namespace before one for all, then by priority, then by name. It errors when none takes the model.
func choose(offers []api.Offer, m api.Model) (api.Offer, error) {
	m.Protocol = cmp.Or(m.Protocol, "v1") // KServe's default
	if m.Runtime != "" {
		for _, o := range offers {
			if o.Name != m.Runtime {
				continue
			}
			if ok, why := o.Serves(m, true); !ok {
				return o, fmt.Errorf("kserve.runtime: %s does not fit: %s", m.Runtime, why)
			}
			return o, nil
		}
		return api.Offer{}, fmt.Errorf("kserve.runtime: the cluster has no %s; it has %s", m.Runtime, listed(offers))
	}
	offers = slices.Clone(offers)
	slices.SortStableFunc(offers, func(a, b api.Offer) int {
		if a.Cluster != b.Cluster {
			if b.Cluster {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Priority(m.Format), a.Priority(m.Format)), cmp.Compare(a.Name, b.Name))
	})
	hint := ""
	for _, o := range offers {
		ok, why := o.Serves(m, false)
		if ok {
			return o, nil
		}
		if named, _ := o.Serves(m, true); named || strings.Contains(why, "protocol") {
			hint = fmt.Sprintf("; %s comes near: %s", o.Name, why)
		}
	}
	return api.Offer{}, fmt.Errorf("format: no serving runtime takes %s with protocol %s%s; the cluster has %s", m.Format, m.Protocol, hint, listed(offers))
}

// listed names runtimes with their formats; a star marks those that they offer themselves for.
func listed(offers []api.Offer) string {
	var out []string
	for _, o := range offers {
		out = append(out, fmt.Sprintf("%s (%s)", o.Name, strings.Join(o.Formats(), ", ")))
	}
	slices.Sort(out)
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(slices.Compact(out), ", ")
}
