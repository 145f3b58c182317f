package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// LogOptions are the choices of a log. With Timestamps each line begins with its time (RFC 3339, nanoseconds) and a blank.
type LogOptions struct {
	Follow     bool
	Previous   bool      // of the instance before the last restart
	Since      time.Time // whole seconds count: earlier lines of the same second come, too
	Tail       *int64    // the last lines only
	Timestamps bool
}

// PodLogs opens a container's log. The reader ends when the container has ended, or with an error when the connection breaks; it is the
// caller who opens it again, with Since. The caller closes it.
func (c *Client) PodLogs(ctx context.Context, namespace, pod, container string, o LogOptions) (io.ReadCloser, error) {
	ref := Ref{Version: "v1", Kind: "Pod", Namespace: namespace, Name: pod}
	if err := c.Allow(namespace); err != nil {
		return nil, err
	}
	if !plain(pod) || pod == "" {
		return nil, fmt.Errorf("log of %s: this is no name of a pod", ref)
	}
	query := url.Values{}
	if container != "" {
		query.Set("container", container)
	}
	for name, on := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
		if on {
			query.Set(name, "true")
		}
	}
	if !o.Since.IsZero() {
		query.Set("sinceTime", o.Since.UTC().Format(time.RFC3339))
	}
	if o.Tail != nil {
		query.Set("tailLines", strconv.FormatInt(*o.Tail, 10))
	}
	m := mapping{resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, namespaced: true}
	q := call{verb: "get", resource: m.resource.GroupVersion().WithResource("pods/log"), ref: ref}
	r := request{call: q, method: http.MethodGet, path: m.path(namespace, pod) + "/log", query: query, accept: "*/*"}
	var body io.ReadCloser
	err := c.repeat(ctx, func() (err error) {
		body, err = c.open(ctx, r)
		return err
	})
	return body, err
}

// open begins a stream. Only the answer's beginning must come in time: a container may say nothing for hours.
func (c *Client) open(ctx context.Context, r request) (io.ReadCloser, error) {
	within, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(c.within, func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()
	failed := func(err error) error {
		if errors.Is(context.Cause(within), context.DeadlineExceeded) {
			err = context.DeadlineExceeded
		}
		cancel(nil)
		return c.unreachable(ctx, r.call, err)
	}
	resp, err := c.send(within, r)
	if err != nil {
		return nil, failed(err)
	}
	if resp.StatusCode < 300 {
		return &stream{ReadCloser: resp.Body, end: cancel}, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, failed(err)
	}
	cancel(nil)
	return nil, c.refused(r.call, resp, text)
}

// stream is an answer without an end of its own.
type stream struct {
	io.ReadCloser
	end context.CancelCauseFunc
}

// Close implements io.Closer.
func (s *stream) Close() error {
	defer s.end(nil)
	return s.ReadCloser.Close()
}

// Target is what a Proxy reaches: a pod or a service.
type Target struct {
	Service bool
	Name    string
	Port    string // number, or a service's port name
}

// Proxy reaches a port inside of the cluster through the API server, with its rights and under its limits: fit for a probe or a test
// request, not for traffic. Requests must go to the base URL or below; others are refused, for they would carry the cluster's credentials.
func (c *Client) Proxy(namespace string, t Target) (http.RoundTripper, *url.URL, error) {
	if err := c.Allow(namespace); err != nil {
		return nil, nil, err
	}
	if t.Name == "" || !plain(t.Name) || !plain(t.Port) {
		return nil, nil, fmt.Errorf("proxy to %q, port %q: these are no names", t.Name, t.Port)
	}
	resource := "pods"
	if t.Service {
		resource = "services"
	}
	name := t.Name
	if t.Port != "" {
		name += ":" + t.Port
	}
	base := *c.host
	base.Path = strings.TrimSuffix(base.Path, "/") + "/api/v1/namespaces/" + namespace + "/" + resource + "/" + name + "/proxy/"
	return &proxied{base: &base, inner: c.http.Transport}, &base, nil
}

type proxied struct {
	base  *url.URL
	inner http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (p *proxied) RoundTrip(r *http.Request) (*http.Response, error) {
	clean := r.URL.JoinPath() // resolves dots
	if r.URL.Scheme != p.base.Scheme || r.URL.Host != p.base.Host || !strings.HasPrefix(clean.Path, p.base.Path) {
		return nil, fmt.Errorf("request to %s: it is not below %s", r.URL, p.base)
	}
	return p.inner.RoundTrip(r)
}
