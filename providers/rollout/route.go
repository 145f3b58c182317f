package rollout

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
)

const (
	gatewayGroup = "gateway.networking.k8s.io"
	// RoutedWithin is how long a Gateway's controller may take to accept a route.
	RoutedWithin = time.Minute
)

var (
	gvkRoute   = schema.GroupVersionKind{Group: gatewayGroup, Version: "v1", Kind: "HTTPRoute"}
	gvkGateway = schema.GroupVersionKind{Group: gatewayGroup, Version: "v1", Kind: "Gateway"}
)

// Route has a Gateway divide the requests from outside between the versions, by the weights of an HTTPRoute. It divides them over two ports
// of the routers' Service, one for the current version and one for the candidate: the routers go on to count, to compare and to capture, and
// take a request for the candidate to the current version from the moment on in which the candidate is taken back.
type Route struct {
	// Gateway is "NAME", in the deployment's namespace, or "NAMESPACE/NAME".
	Gateway string
	// Listener is the one of the Gateway's listeners that is used; "" is all that match.
	Listener  string
	Hostnames []string
	// Path is what requests' paths begin with, such as "/".
	Path string
}

// Ref is the Gateway of a deployment in a namespace.
func (r Route) Ref(namespace string) kube.Ref {
	name := r.Gateway
	if ns, n, ok := strings.Cut(r.Gateway, "/"); ok {
		namespace, name = ns, n
	}
	return kube.Ref{Group: gvkGateway.Group, Version: gvkGateway.Version, Kind: gvkGateway.Kind, Namespace: namespace, Name: name}
}

// httpRoute sends weight percent to the candidate. Every default is written out: in a list, whatever the API server adds would be drift.
func (f Front) httpRoute(weight int) (*unstructured.Unstructured, error) {
	gw := f.Route.Ref(f.Namespace)
	parent := map[string]any{"group": gatewayGroup, "kind": gvkGateway.Kind, "namespace": gw.Namespace, "name": gw.Name}
	if f.Route.Listener != "" {
		parent["sectionName"] = f.Route.Listener
	}
	backend := func(port, weight int) map[string]any {
		return map[string]any{"group": "", "kind": gvkService.Kind, "name": f.Name, "port": int64(port), "weight": int64(weight)}
	}
	path := f.Route.Path
	if path == "" {
		path = "/"
	}
	spec := map[string]any{
		"parentRefs": []any{parent},
		"rules": []any{map[string]any{
			"matches":     []any{map[string]any{"path": map[string]any{"type": "PathPrefix", "value": path}}},
			"backendRefs": []any{backend(gateway.RouterCurrentPort, 100-weight), backend(gateway.RouterCandidatePort, weight)},
		}},
	}
	if len(f.Route.Hostnames) > 0 {
		names := make([]any, len(f.Route.Hostnames))
		for i, h := range f.Route.Hostnames {
			names[i] = h
		}
		spec["hostnames"] = names
	}
	u, err := kube.FromTyped(gvkRoute, map[string]any{"metadata": f.Meta(f.Name, PartRouter)})
	if err != nil {
		return nil, err
	}
	u.Object["spec"] = spec // as it is: a weight of 0 is one
	return u, kube.Remember(u)
}

// Routed is what a route has, and what a Gateway's controller says of it.
type Routed struct {
	Accepted bool
	Why      string // it is not; "" while no controller has looked at it
	// Weights are those of the last rule, by "SERVICE:PORT".
	Weights map[string]int
}

// candidate is the weight of the port at which the routers take requests for the candidate.
func (r Routed) candidate() int {
	for at, weight := range r.Weights {
		if strings.HasSuffix(at, ":"+strconv.Itoa(gateway.RouterCandidatePort)) {
			return weight
		}
	}
	return 0
}

// routeStatus is the word of the controller of this gateway on the newest generation of a route.
type routeStatus struct {
	Metadata struct {
		Generation int64 `json:"generation"`
	} `json:"metadata"`
	Spec struct {
		Rules []struct {
			BackendRefs []struct {
				Name   string `json:"name"`
				Port   int    `json:"port"`
				Weight *int   `json:"weight"`
			} `json:"backendRefs"`
		} `json:"rules"`
	} `json:"spec"`
	Status struct {
		Parents []struct {
			ParentRef struct {
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
			} `json:"parentRef"`
			Conditions []struct {
				Type               string `json:"type"`
				Status             string `json:"status"`
				Reason             string `json:"reason"`
				Message            string `json:"message"`
				ObservedGeneration int64  `json:"observedGeneration"`
			} `json:"conditions"`
		} `json:"parents"`
	} `json:"status"`
}

// RoutedBy reads a route back: its weights, and whether the gateway's controller has accepted it as it is and found its Services.
func RoutedBy(u *unstructured.Unstructured, gw kube.Ref) (Routed, error) {
	var s routeStatus
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &s); err != nil {
		return Routed{}, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	var out Routed
	for _, rule := range s.Spec.Rules {
		out.Weights = map[string]int{}
		for _, b := range rule.BackendRefs {
			weight := 1 // what it is by default
			if b.Weight != nil {
				weight = *b.Weight
			}
			out.Weights[b.Name+":"+strconv.Itoa(b.Port)] += weight
		}
	}
	for _, p := range s.Status.Parents {
		namespace := p.ParentRef.Namespace
		if namespace == "" {
			namespace = u.GetNamespace()
		}
		if p.ParentRef.Name != gw.Name || namespace != gw.Namespace {
			continue
		}
		good := 0
		for _, c := range p.Conditions {
			if c.Type != "Accepted" && c.Type != "ResolvedRefs" {
				continue
			}
			switch {
			case c.ObservedGeneration < s.Metadata.Generation:
			case c.Status == "True":
				good++
			default:
				out.Why = fmt.Sprintf("%s is %s: %s: %s", c.Type, c.Status, c.Reason, c.Message)
			}
		}
		out.Accepted = good == 2
	}
	return out, nil
}

// enter has the Gateway divide requests by the present weights, and returns when its controller has accepted that. The routers follow
// before: what the Gateway still sends by the weights of before goes where the routers know best.
func (r *roll) enter(ctx context.Context) error {
	if r.Front.Route == nil {
		return r.leave(ctx)
	}
	routes := r.routes()
	weight := routes.Weight
	if routes.Mirror {
		weight = 0
	}
	u, err := r.Front.httpRoute(weight)
	if err != nil {
		return err
	}
	if _, err = r.Front.Apply(ctx, r.Client, u); err != nil {
		var missing *kube.MissingKindError
		if errors.As(err, &missing) {
			return fmt.Errorf("route: the cluster has no Gateway API (%w); install it, or remove the block", err)
		}
		return err
	}
	return r.accepted(ctx, kube.RefOf(u), weight)
}

func (r *roll) accepted(ctx context.Context, ref kube.Ref, weight int) error {
	gw := r.Front.Route.Ref(r.Front.Namespace)
	end := time.NewTimer(RoutedWithin)
	defer end.Stop()
	tick := time.NewTicker(watchEvery / 4)
	defer tick.Stop()
	for {
		u, err := r.Client.Get(ctx, ref)
		if err != nil {
			return err
		}
		got, err := RoutedBy(u, gw)
		if err != nil {
			return err
		}
		if got.candidate() != weight {
			return fmt.Errorf("%s has %d %% for the candidate, and not %d %%: somebody else writes it", ref, got.candidate(), weight)
		}
		if got.Accepted {
			return nil
		}
		if got.Why != "" {
			r.say("%s: %s", ref.Name, got.Why)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			if got.Why == "" {
				got.Why = "no controller has looked at it: " + GatewayWord(ctx, r.Client, gw)
			}
			return fmt.Errorf("%s is not accepted by %s after %s: %s", ref, gw, RoutedWithin, got.Why)
		case <-tick.C:
		}
	}
}

// GatewayWord says how a Gateway does, as far as this program may look.
func GatewayWord(ctx context.Context, c *kube.Client, gw kube.Ref) string {
	if err := c.Allow(gw.Namespace); err != nil {
		return "whether the Gateway is there cannot be seen from here, as its namespace is none of provider's namespaces"
	}
	u, err := c.Get(ctx, gw)
	if err != nil {
		return err.Error()
	}
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return err.Error()
	}
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == "Programmed" && c["status"] != "True" {
			return fmt.Sprintf("the Gateway is not programmed: %v: %v", c["reason"], c["message"])
		}
	}
	return "the Gateway is there; do its listeners allow routes of this namespace?"
}

// leave removes the HTTPRoute of a block that has none any more.
func (r *roll) leave(ctx context.Context) error {
	if !r.state.Routed {
		return nil
	}
	u, err := r.Client.Get(ctx, kube.Ref{Group: gvkRoute.Group, Version: gvkRoute.Version, Kind: gvkRoute.Kind, Namespace: r.Front.Namespace, Name: r.Front.Name})
	var missing *kube.MissingKindError
	if err == nil {
		if err = r.Front.Ours(u); err == nil {
			err = r.Client.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{})
		}
	}
	if err != nil && !errors.Is(err, kube.ErrNotFound) && !errors.As(err, &missing) {
		return err
	}
	r.state.Routed = false
	return nil
}

// throughGateway adds to a live state what the Gateway says. It costs nothing: the route was listed with the rest.
func (f Front) throughGateway(o Objects, info map[string]string) (down string, err error) {
	if f.Route == nil {
		return "", nil
	}
	gw := f.Route.Ref(f.Namespace)
	u := o.Get(gvkRoute, f.Name)
	if u == nil {
		return fmt.Sprintf("HTTPRoute %s/%s is not there", f.Namespace, f.Name), nil
	}
	got, err := RoutedBy(u, gw)
	if err != nil {
		return "", err
	}
	word := "accepted"
	if !got.Accepted {
		word = "not accepted yet"
	}
	info["route"] = fmt.Sprintf("%s/%s gives the candidate %d %%, %s", gw.Namespace, gw.Name, got.candidate(), word)
	if got.Why != "" {
		down = fmt.Sprintf("%s: %s", kube.RefOf(u), got.Why)
	}
	return down, nil
}
