// Package standin stands in for the data plane that Knative Serving needs and does not bring: what net-kourier, net-istio or
// net-gateway-api are elsewhere. It is none of them. It is for tests on one machine.
//
// [Serve] watches Knative's Ingresses of [Class], carries HTTP/1.1 requests to the Services that they name by their percentages, sets the
// headers that they say, and tells Knative that it does. It knows no TLS, no HTTP/2, no timeouts and no difference between requests from
// outside and from inside of the cluster.
package standin

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// spec is the part of an Ingress of networking.internal.knative.dev/v1alpha1 that is followed.
type spec struct {
	Rules []struct {
		Hosts []string `json:"hosts"`
		HTTP  struct {
			Paths []path `json:"paths"`
		} `json:"http"`
	} `json:"rules"`
}

type path struct {
	Path    string `json:"path"`
	Headers map[string]struct {
		Exact string `json:"exact"`
	} `json:"headers"`
	RewriteHost   string            `json:"rewriteHost"`
	AppendHeaders map[string]string `json:"appendHeaders"`
	Splits        []split           `json:"splits"`
}

type split struct {
	Service       string             `json:"serviceName"`
	Namespace     string             `json:"serviceNamespace"`
	Port          intstr.IntOrString `json:"servicePort"`
	Percent       int                `json:"percent"`
	AppendHeaders map[string]string  `json:"appendHeaders"`

	Address string `json:"-"` // of the Service
}

// addresses finds "IP:PORT" of a Service.
type addresses func(namespace, name string, port intstr.IntOrString) (string, error)

// routes are the paths by host.
type routes map[string][]path

// add takes an Ingress in. It errors when one of its Services has no address yet; what it says then leads nowhere.
func (r routes) add(u *unstructured.Unstructured, of addresses) error {
	raw, _, err := unstructured.NestedMap(u.Object, "spec")
	if err != nil {
		return err
	}
	var s spec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s); err != nil {
		return fmt.Errorf("read ingress %s/%s: %w", u.GetNamespace(), u.GetName(), err)
	}
	for _, rule := range s.Rules {
		for _, p := range rule.HTTP.Paths {
			sum := 0
			for i := range p.Splits {
				at := &p.Splits[i]
				sum += at.Percent
				if at.Address, err = of(at.Namespace, at.Service, at.Port); err != nil {
					return err
				}
			}
			if len(p.Splits) == 1 && sum == 0 {
				p.Splits[0].Percent, sum = 100, 100
			}
			if sum != 100 {
				return fmt.Errorf("the percentages of ingress %s/%s add up to %d", u.GetNamespace(), u.GetName(), sum)
			}
			for _, host := range rule.Hosts {
				r[host] = append(r[host], p)
			}
		}
	}
	return nil
}

// find is the path that a request takes: of those that fit the one with the most headers, then the longest.
func (r routes) find(req *http.Request) *path {
	host := req.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	var best *path
	for i := range r[strings.TrimSuffix(host, ".")] {
		p := &r[strings.TrimSuffix(host, ".")][i]
		fits := strings.HasPrefix(req.URL.Path, p.Path)
		for name, want := range p.Headers {
			fits = fits && req.Header.Get(name) == want.Exact
		}
		if fits && (best == nil || len(p.Headers) > len(best.Headers) || len(p.Headers) == len(best.Headers) && len(p.Path) > len(best.Path)) {
			best = p
		}
	}
	return best
}

// pick draws a split; n is from 0 to 99.
func (p path) pick(n int) split {
	for _, s := range p.Splits {
		if n < s.Percent {
			return s
		}
		n -= s.Percent
	}
	return p.Splits[len(p.Splits)-1] // the percentages add up to 100
}

// front answers requests by the routes of the moment.
type front struct {
	routes atomic.Pointer[routes]
	draw   func() int
}

func newFront() *front {
	f := &front{draw: func() int { return rand.IntN(100) }}
	f.routes.Store(&routes{})
	return f
}

var errNowhere = errors.New("no ingress has this host")

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	p := f.routes.Load().find(req)
	if p == nil {
		http.Error(w, fmt.Sprintf("%v: %s", errNowhere, req.Host), http.StatusNotFound)
		return
	}
	to := p.pick(f.draw())
	proxy := httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: to.Address})
			r.SetXForwarded()
			r.Out.Host = req.Host
			if p.RewriteHost != "" {
				r.Out.Host = p.RewriteHost
			}
			for _, headers := range []map[string]string{p.AppendHeaders, to.AppendHeaders} {
				for name, value := range headers {
					r.Out.Header.Set(name, value)
				}
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("reach %s/%s: %v", to.Namespace, to.Service, err), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, req)
}
