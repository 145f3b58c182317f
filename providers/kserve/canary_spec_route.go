package kserve

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/rollout"
)

const (
	// versionHeader asks the Gateway for a version that gets no share of the requests yet.
	versionHeader = "Continuo-Version"
	// followHeader asks a proxy of the Gateway which weights it follows: it answers with a redirect that leads nowhere.
	followHeader = "Continuo-Route"
	// askedTimes is how often in a row a proxy must have said that it follows: there may be several.
	askedTimes = 3
)

var gvkGateway = kindOf{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "Gateway"}

// ingress is what KServe's configuration says of the ways in.
type ingress struct {
	Gateway  string `json:"kserveIngressGateway"`
	Domain   string `json:"ingressDomain"`
	Template string `json:"domainTemplate"`
	Scheme   string `json:"urlScheme"`
}

// entrance is where the requests for a deployment come in.
type entrance struct {
	rollout.Route
	Address, Scheme string
}

// entranceOf is what the block says, over KServe's configuration.
func entranceOf(name string, n nested, in ingress) (entrance, error) {
	e := entrance{Scheme: cmp.Or(in.Scheme, "http")}
	if r := n.Route; r != nil {
		e.Route, e.Address = rollout.Route{Gateway: r.Gateway, Listener: r.Listener, Hostnames: r.Hostnames, Path: r.Path}, r.Address
	}
	e.Path = cmp.Or(e.Path, "/")
	if e.Gateway = cmp.Or(e.Gateway, in.Gateway); e.Gateway == "" {
		return e, errors.New("kserve.route.gateway: KServe's configuration names no Gateway (kserveIngressGateway under ingress); name one here")
	}
	if len(e.Hostnames) > 0 {
		return e, nil
	}
	t, err := template.New("").Option("missingkey=error").Parse(cmp.Or(in.Template, "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}"))
	var host strings.Builder
	if err == nil {
		err = t.Execute(&host, map[string]any{"Name": name, "Namespace": n.Namespace, "IngressDomain": cmp.Or(in.Domain, "example.com"), "Annotations": map[string]string{}, "Labels": map[string]string{}})
	}
	if err != nil {
		return e, fmt.Errorf("kserve.route.hostnames: KServe's domain template makes no name of this deployment (%w); give one here", err)
	}
	e.Hostnames = []string{host.String()}
	return e, nil
}

// host is a name that requests for the deployment may come for.
func (e entrance) host() string { return strings.Replace(e.Hostnames[0], "*", "ml", 1) }

// url is where clients go.
func (e entrance) url() string { return e.Scheme + "://" + e.host() }

// stamp tells the weights of one moment from all others.
func stamp(routes gateway.Routes) string {
	return fmt.Sprintf("%d-%d", routes.Generation, weightOf(routes))
}

// mark is where a proxy leads to that follows the weights of a stamp.
func mark(stamp string) string { return "route-" + stamp + ".invalid" }

// httpRoute divides the requests by the routes. A request may ask for the candidate, and which weights a proxy follows. Every default is written
// out: in a list, whatever the API server adds would be drift.
func (f *fleet) httpRoute(e entrance, routes gateway.Routes) (*unstructured.Unstructured, error) {
	gw := e.Ref(f.Namespace)
	parent := map[string]any{"group": gvkGateway.Group, "kind": gvkGateway.Kind, "namespace": gw.Namespace, "name": gw.Name}
	if e.Listener != "" {
		parent["sectionName"] = e.Listener
	}
	backend := func(b *gateway.Backend, weight int) map[string]any {
		return map[string]any{"group": "", "kind": gvkService.Kind, "name": f.serversOf(b.Version), "port": int64(80), "weight": int64(weight)}
	}
	match := func(header, value string) []any {
		m := map[string]any{"path": map[string]any{"type": "PathPrefix", "value": e.Path}}
		if header != "" {
			m["headers"] = []any{map[string]any{"type": "Exact", "name": header, "value": value}}
		}
		return []any{m}
	}
	rules := []any{map[string]any{
		"matches": match(followHeader, stamp(routes)),
		"filters": []any{map[string]any{"type": "RequestRedirect", "requestRedirect": map[string]any{"hostname": mark(stamp(routes)), "statusCode": int64(302)}}},
	}}
	to := []any{backend(routes.Current, 100-weightOf(routes))}
	if c := routes.Candidate; c != nil {
		rules = append(rules, map[string]any{"matches": match(versionHeader, strconv.Itoa(c.Version)), "backendRefs": []any{backend(c, 1)}})
		to = append(to, backend(c, routes.Weight))
	}
	rules = append(rules, map[string]any{"matches": match("", ""), "backendRefs": to})
	hosts := make([]any, len(e.Hostnames))
	for i, h := range e.Hostnames {
		hosts[i] = h
	}
	u, err := kube.FromTyped(gvkRoute, map[string]any{"metadata": f.Meta(f.Name, rollout.PartRouter)})
	if err != nil {
		return nil, err
	}
	u.Object["spec"] = map[string]any{"parentRefs": []any{parent}, "hostnames": hosts, "rules": rules} // as it is: a weight of 0 is one
	return u, kube.Remember(u)
}

func weightOf(routes gateway.Routes) int {
	if routes.Candidate == nil {
		return 0
	}
	return routes.Weight
}

// weights are those of the routes as an HTTPRoute is read back.
func (f *fleet) weights(routes gateway.Routes) map[string]int {
	out := map[string]int{f.serversOf(routes.Current.Version) + ":80": 100 - weightOf(routes)}
	if c := routes.Candidate; c != nil {
		out[f.serversOf(c.Version)+":80"] = routes.Weight
	}
	return out
}

// gate is a Gateway as this program reaches it.
type gate struct {
	base   string // "" when it is not known where it answers
	host   string
	client *http.Client
}

// gateAt finds out where the Gateway answers.
func gateAt(ctx context.Context, sys *kube.Client, e entrance, namespace string) (gate, error) {
	g := gate{base: strings.TrimSuffix(e.Address, "/"), host: e.host(), client: &http.Client{
		Timeout: answerWithin, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if g.base != "" {
		return g, nil
	}
	u, err := sys.Get(ctx, e.Ref(namespace))
	var denied *kube.ForbiddenError
	switch {
	case errors.As(err, &denied):
		return g, nil
	case errors.Is(err, kube.ErrNotFound):
		return g, fmt.Errorf("kserve.route.gateway: %s is not there", e.Ref(namespace))
	case err != nil:
		return g, fmt.Errorf("look at the Gateway: %w", err)
	}
	g.base, err = addressOf(u, e.Listener)
	return g, err
}

// addressOf is where a Gateway says that it answers; "" when it does not say, or only with TLS, whose certificate is for its names.
func addressOf(u *unstructured.Unstructured, listener string) (string, error) {
	var s struct {
		Spec struct {
			Listeners []struct {
				Name     string `json:"name"`
				Protocol string `json:"protocol"`
				Port     int    `json:"port"`
			} `json:"listeners"`
		} `json:"spec"`
		Status struct {
			Addresses []struct {
				Value string `json:"value"`
			} `json:"addresses"`
		} `json:"status"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &s); err != nil {
		return "", fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	for _, l := range s.Spec.Listeners {
		if l.Protocol == "HTTP" && (listener == "" || l.Name == listener) && len(s.Status.Addresses) > 0 {
			return "http://" + net.JoinHostPort(s.Status.Addresses[0].Value, strconv.Itoa(l.Port)), nil
		}
	}
	return "", nil
}

// send sends a request through the Gateway.
func (g gate) send(ctx context.Context, method, path, body, header, value string) (status int, answer []byte, to string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, g.base+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	req.Host = g.host
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(header, value)
	resp, err := g.client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if u, e := url.Parse(resp.Header.Get("Location")); e == nil {
		to = u.Hostname()
	}
	return resp.StatusCode, answer, to, errors.Join(err, resp.Body.Close())
}

// follows waits until the proxies of the Gateway follow the weights of a stamp, as they say themselves.
func (g gate) follows(ctx context.Context, path, stamp string, say func(string)) error {
	end := time.NewTimer(rollout.RoutedWithin)
	defer end.Stop()
	tick := time.NewTicker(lookEvery / 4)
	defer tick.Stop()
	for in := 0; ; {
		status, _, to, err := g.send(ctx, http.MethodGet, path, "", followHeader, stamp)
		if err == nil && to == mark(stamp) {
			if in++; in == askedTimes {
				return nil
			}
		} else {
			in = 0
			say("the Gateway does not follow the new weights yet")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			why := fmt.Sprintf("it answers with status %d", status)
			if err != nil {
				why = err.Error() + "; say in kserve { route { address } } where it answers"
			}
			return fmt.Errorf("the Gateway at %s does not follow the new weights after %s: %s", g.base, rollout.RoutedWithin, why)
		case <-tick.C:
		}
	}
}

// golden sends the golden request through the Gateway to the candidate, whatever its share.
func (g gate) golden(ctx context.Context, want *golden, version int) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	method := http.MethodGet
	if want.Body != "" {
		method = http.MethodPost
	}
	status, answer, _, err := g.send(ctx, method, "/"+strings.TrimPrefix(want.Path, "/"), want.Body, versionHeader, strconv.Itoa(version))
	switch {
	case err != nil:
		return fmt.Errorf("golden request through the Gateway: %w", err)
	case status >= 300:
		return &rollout.Unfit{Reason: fmt.Sprintf("through the Gateway, the golden request got %d: %s", status, brief(bytes.TrimSpace(answer)))}
	}
	return judge(want.Answer, answer)
}
