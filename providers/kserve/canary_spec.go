package kserve

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// bySpec in kserve { canary } has one InferenceService hold all versions: the one that serves is its predictor, the next an entry of its
// spec.canary, and an HTTPRoute of the Gateway API divides the requests between their Services.
//
// KServe 0.20 makes Deployments and Services of such entries and says trafficPercent in the status, but its own HTTPRoutes lead to the
// predictor alone, whatever the percentage: its controller has no weights in them yet. So the HTTPRoute is ours, and the service bears the label
// by which KServe makes none.
const bySpec = "spec"

// routeSettings say which Gateway takes the requests.
type routeSettings struct {
	Gateway   string   `ml:"gateway" doc:"The Gateway, as NAME or NAMESPACE/NAME. Default: the one of KServe's configuration (kserveIngressGateway)."`
	Listener  string   `ml:"listener" doc:"Name of one of its listeners. Default: all that match."`
	Hostnames []string `ml:"hostnames" doc:"Names of hosts whose requests are for this deployment. Default: the one that KServe's domain template makes of its name."`
	Path      string   `ml:"path,default=/" doc:"What the paths of its requests begin with."`
	Address   string   `ml:"address" doc:"Where the Gateway answers, as this program reaches it, such as \"http://10.0.0.7:80\". Default: what the Gateway's status says."`
}

// unstaged errors when one InferenceService is to hold all versions and something is asked for that this cannot do: it would be ignored.
func (s deploymentSpec) unstaged(n nested) error {
	const instead = `; remove it, or set kserve { canary = "router" }`
	if n.Canary != bySpec {
		if n.Route != nil {
			return errors.New(`kserve.route: it says where requests come in for kserve { canary = "spec" }; remove it, or set that`)
		}
		return nil
	}
	low, high := s.replicas(n)
	r := s.Rollout
	switch {
	case r != nil && r.Strategy == gateway.Shadow:
		return errors.New("rollout.strategy: a Gateway mirrors nothing for KServe" + instead)
	case r != nil && r.Abort != nil:
		return errors.New("rollout.abort: a Gateway counts no requests by version, so nothing could be judged" + instead)
	case s.Sink != nil:
		return errors.New("sink: a Gateway sends answers nowhere else" + instead)
	case s.Capture != nil && s.Capture.Enabled:
		return errors.New("capture: a Gateway keeps no requests" + instead)
	case s.Port != 0 && s.Port != 80:
		return errors.New("port: requests come to a listener of the Gateway, which has its own" + instead)
	case n.ServiceType != "" && n.ServiceType != "ClusterIP":
		return errors.New("kserve.service_type: requests come through the Gateway" + instead)
	case n.DeploymentMode == knative:
		return errors.New("kserve.canary: KServe takes spec.canary in mode Standard only" + instead)
	case s.Transformer != nil || n.Transformer != nil:
		return errors.New("kserve.transformer: KServe's spec.canary is of predictors; a transformer would go on asking the old one" + instead)
	case n.Explainer != nil:
		return errors.New("kserve.explainer: KServe's spec.canary is of predictors; an explainer would go on asking the old one" + instead)
	case n.Graph != nil:
		return errors.New("kserve.graph: a Gateway divides requests between the versions' own Services, past a graph" + instead)
	case n.Timeout > 0:
		return errors.New("kserve.timeout: KServe makes no route of such a deployment, and would ignore it" + instead)
	case s.Scale != nil || n.ScaleMetric != "" || low != high:
		return errors.New("scale: KServe's canaries have a fixed number of servers" + instead)
	}
	return n.Route.check()
}

func (r *routeSettings) check() error {
	if r == nil {
		return nil
	}
	if parts := strings.Split(r.Gateway, "/"); r.Gateway != "" && (len(parts) > 2 || slices.Contains(parts, "")) {
		return fmt.Errorf("kserve.route.gateway = %q: write NAME or NAMESPACE/NAME", r.Gateway)
	}
	if r.Path != "" && !strings.HasPrefix(r.Path, "/") {
		return fmt.Errorf("kserve.route.path = %q: a path begins with /", r.Path)
	}
	if r.Address != "" && !strings.HasPrefix(r.Address, "http://") && !strings.HasPrefix(r.Address, "https://") {
		return fmt.Errorf("kserve.route.address = %q: write http://HOST:PORT", r.Address)
	}
	return nil
}

// stages are the versions that one InferenceService holds.
type stages struct {
	stable map[string]any
	canary map[string]any // nil without one
	// percent is what the entry says of its share of the requests.
	percent int64
}

// variant names the version's servers: KServe calls their Deployment and their Service SERVICE-VARIANT-predictor.
func variant(version int) string { return "v" + strconv.Itoa(version) }

// serversOf is the name of a version's Deployment and Service.
func (f *fleet) serversOf(version int) string { return f.Name + "-" + variant(version) + "-predictor" }

func nameOf(predictor map[string]any) string {
	s, _ := predictor["name"].(string)
	return s
}

// stagesOf reads the versions from an InferenceService.
func stagesOf(u *unstructured.Unstructured) (stages, error) {
	var s stages
	stable, _, err := unstructured.NestedMap(u.Object, "spec", "predictor")
	if err != nil {
		return s, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	s.stable = stable
	list, _, err := unstructured.NestedSlice(u.Object, "spec", "canary")
	if err != nil {
		return s, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	for _, e := range list {
		entry, _ := e.(map[string]any)
		s.canary, _ = entry["predictor"].(map[string]any)
		s.percent, _ = entry["trafficPercent"].(int64)
	}
	if len(list) > 1 || len(list) == 1 && s.canary == nil {
		return s, fmt.Errorf("%s has %d canaries, and not the one that this deployment may have: somebody else writes spec.canary", kube.RefOf(u), len(list))
	}
	if s.canary != nil { // KServe takes the canary's servers off the predictor's; here each has its own
		number(s.stable, servers(s.stable)-servers(s.canary))
	}
	return s, nil
}

// servers is how many a predictor asks for.
func servers(predictor map[string]any) int64 {
	n, _ := predictor["minReplicas"].(int64)
	return n
}

func number(predictor map[string]any, n int64) {
	n = max(n, 1)
	predictor["minReplicas"], predictor["maxReplicas"] = n, n
}

// in is the InferenceService with these versions. Nothing outside of its predictors moves with a version: KServe hands labels and annotations of
// the service on to all pods, and would replace those of the version that serves.
func (s stages) in(base *unstructured.Unstructured) *unstructured.Unstructured {
	u := base.DeepCopy()
	stable := runtimeCopy(s.stable)
	spec := map[string]any{"predictor": stable}
	if s.canary != nil {
		canary := runtimeCopy(s.canary)
		delete(canary, "maxReplicas") // its number is fixed
		number(stable, servers(stable)+servers(canary))
		spec["canary"] = []any{map[string]any{"predictor": canary, "trafficPercent": s.percent}}
	}
	u.Object["spec"] = spec
	return u
}

func runtimeCopy(m map[string]any) map[string]any {
	return (&unstructured.Unstructured{Object: m}).DeepCopy().Object
}

// keep leaves the versions that are to stay: a canary whose predictor goes takes its place, under the name that it has, so that its pods stay.
func (s stages) keep(names ...string) stages {
	switch {
	case s.canary == nil:
	case !slices.Contains(names, nameOf(s.canary)):
		s.canary, s.percent = nil, 0
	case !slices.Contains(names, nameOf(s.stable)):
		s.stable, s.canary, s.percent = runtimeCopy(s.canary), nil, 0
		number(s.stable, servers(s.stable))
	}
	return s
}

// staged is the InferenceService of a deployment, without versions, and the predictor of the wanted one.
func (r release) staged() (base *unstructured.Unstructured, predictor map[string]any, key string, err error) {
	u, key, err := r.service()
	if err != nil {
		return nil, nil, "", err
	}
	predictor, _, err = unstructured.NestedMap(u.Object, "spec", "predictor")
	if err != nil {
		return nil, nil, "", fmt.Errorf("assemble the predictor: %w", err)
	}
	predictor["name"] = variant(r.number)
	labels, notes := map[string]any{}, map[string]any{}
	for name, value := range r.nested.Labels {
		labels[name] = value
	}
	labels[rollout.LabelVersion] = strconv.Itoa(r.number)
	for name, value := range r.nested.Annotations {
		notes[name] = value
	}
	notes[releaseNote] = key
	predictor["labels"], predictor["annotations"] = labels, notes
	number(predictor, servers(predictor))
	l := r.Labels(rollout.PartServer)
	l[api.VisibilityLabel] = api.ClusterLocal
	base, err = kube.FromTyped(api.Kind, map[string]any{"metadata": metav1.ObjectMeta{Name: r.name, Namespace: r.Namespace, Labels: l, Annotations: map[string]string{
		pods.LabelAddress: r.Address.String(), api.ModeAnnotation: standard, api.ScalerAnnotation: api.NoScaler}}})
	return base, predictor, key, err
}

// leaks lists what a predictor has and the next lacks. KServe lays the entry of a canary over the predictor: such a field would be the old
// version's in the new one, and would go with it.
func leaks(stable, canary map[string]any) []string {
	var out []string
	var walk func(path string, a, b map[string]any)
	walk = func(path string, a, b map[string]any) {
		for _, name := range slices.Sorted(maps.Keys(a)) {
			at := strings.TrimPrefix(path+"."+name, ".")
			theirs, there := b[name]
			if !there {
				out = append(out, at)
				continue
			}
			x, ok1 := a[name].(map[string]any)
			y, ok2 := theirs.(map[string]any)
			if ok1 && ok2 {
				walk(at, x, y)
			}
		}
	}
	walk("", stable, canary)
	return out
}

// share is what a service says of the entry of a version: what it has and whether KServe calls it ready.
type share struct {
	Name    string `json:"name"`
	Ready   bool   `json:"ready"`
	Percent int64  `json:"trafficPercent"`
}

// sharesIn reads status.canaryStatuses, which the types that we hold do not know.
func sharesIn(u *unstructured.Unstructured) ([]share, error) {
	raw, _, err := unstructured.NestedSlice(u.Object, "status", "canaryStatuses")
	if err != nil {
		return nil, fmt.Errorf("read the canaries of %s: %w", kube.RefOf(u), err)
	}
	data, err := json.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("read the canaries of %s: %w", kube.RefOf(u), err)
	}
	var out []share
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("read the canaries of %s: %w", kube.RefOf(u), err)
	}
	return out, nil
}
