package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
)

const (
	// spreadWithin is how long routers may take to follow new routes. Their mounted file moves within it, too.
	spreadWithin = 3 * time.Minute
	askWithin    = 10 * time.Second
	maxAnswer    = 64 << 20 // one record more than a router's bound of 16 MiB fits in
	watchEvery   = time.Second
)

// routers are the pods that carry a deployment's traffic, reached through the API server.
type routers struct {
	client *kube.Client
	front  Front
	token  string
	// seen is the last word of each router process on the present routes: one that was replaced still counts.
	seen       map[string]gateway.Stats
	generation int64
}

// routerError is a router that did not do as asked.
type routerError struct {
	pod    string
	status int // 0 = no answer
	text   string
}

// Error implements error.
func (e *routerError) Error() string {
	if e.forbidden() {
		return fmt.Sprintf("reach router pod %s: %s: the right to get and update pods/proxy is needed (deploy/rbac.yaml has it)", e.pod, e.text)
	}
	return fmt.Sprintf("reach router pod %s: %s", e.pod, e.text)
}

// forbidden tells the API server's refusal from the router's own: that one has a token that was replaced, and sees the new one when its
// mounted Secret moves.
func (e *routerError) forbidden() bool {
	return e.status == http.StatusForbidden && !strings.Contains(e.text, gateway.RouterTokenHeader)
}

// pods are the routers that run, and whether each is ready.
func (r *routers) pods(ctx context.Context) (map[string]bool, error) {
	list, err := r.client.List(ctx, gvkPod, r.front.Namespace, kube.Selector{Labels: r.front.Selector() + "," + LabelPart + "=" + PartRouter})
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, u := range list {
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil {
			return nil, fmt.Errorf("read pod %s: %w", u.GetName(), err)
		}
		if pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		out[pod.Name] = false
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				out[pod.Name] = true
			}
		}
	}
	return out, nil
}

// ask sends one request to a pod's admin port. A refusal is a *routerError.
func (r *routers) ask(ctx context.Context, pod, method, path string, body, into any) error {
	data, err := r.raw(ctx, pod, method, path, nil, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// raw is ask with a query, and with the answer as it came.
func (r *routers) raw(ctx context.Context, pod, method, path string, query url.Values, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	rt, base, err := r.client.Proxy(r.front.Namespace, kube.Target{Name: pod, Port: strconv.Itoa(gateway.RouterAdminPort)})
	if err != nil {
		return nil, err
	}
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode routes: %w", err)
		}
		in = bytes.NewReader(data)
	}
	at := base.JoinPath(path)
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, at.String(), in)
	if err != nil {
		return nil, err
	}
	req.Header.Set(gateway.RouterTokenHeader, r.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, &routerError{pod: pod, text: err.Error()}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, &routerError{pod: pod, text: err.Error()}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &routerError{pod: pod, status: resp.StatusCode, text: fmt.Sprintf("status %d: %s", resp.StatusCode, brief(string(data)))}
	}
	return data, nil
}

// brief is a text in one line of readable length.
func brief(text string) string {
	text = string(bytes.Join(bytes.Fields([]byte(text)), []byte(" ")))
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}

// newest is the highest generation that a router follows, 0 without any.
func (r *routers) newest(ctx context.Context) (int64, error) {
	pods, err := r.pods(ctx)
	if err != nil {
		return 0, err
	}
	var out int64
	for pod := range pods {
		var s gateway.Stats
		if err := r.ask(ctx, pod, http.MethodGet, "/stats", nil, &s); err != nil {
			return 0, err
		}
		out = max(out, s.Generation)
	}
	return out, nil
}

// spread gives the routes to every router that runs, and returns when all ready ones follow them. One that is just starting reads its
// file, and is given them at a later look.
func (r *routers) spread(ctx context.Context, routes gateway.Routes) error {
	late, err := untilNoneIsLate(ctx, watchEvery/4, func() (late, err error) { return r.offer(ctx, routes) })
	if late != nil {
		return fmt.Errorf("routes of generation %d: not followed after %s: %w; the ConfigMap %s has them", routes.Generation, spreadWithin, late, r.front.Name)
	}
	return err
}

// untilNoneIsLate asks again and again, for spreadWithin at most. late is why one was late at the last look.
func untilNoneIsLate(ctx context.Context, every time.Duration, ask func() (late, err error)) (late, err error) {
	end := time.NewTimer(spreadWithin)
	defer end.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		late, err := ask()
		if err != nil || late == nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-end.C:
			return late, nil
		case <-tick.C:
		}
	}
}

// offer gives the routes to all that run. late is why a ready one has not taken them.
func (r *routers) offer(ctx context.Context, routes gateway.Routes) (late, err error) {
	if r.generation != routes.Generation {
		r.generation, r.seen = routes.Generation, map[string]gateway.Stats{}
	}
	pods, err := r.pods(ctx)
	if err != nil {
		return nil, err
	}
	for pod, ready := range pods {
		var s gateway.Stats
		err := r.ask(ctx, pod, http.MethodPut, "/routes", routes, &s)
		var refused *routerError
		switch {
		case err == nil:
			r.seen[s.Instance] = s
		case !errors.As(err, &refused):
			return nil, err
		case refused.status == http.StatusConflict, refused.status == http.StatusBadRequest, refused.forbidden():
			return nil, err
		case ready:
			late = err
		}
	}
	return late, nil
}

// reach returns when every router that answers gets through to a version's address: its pods may be ready long before its name can be
// resolved, or its Service leads to them, above all when the API server was away.
func (r *routers) reach(ctx context.Context, address string) error {
	late, err := untilNoneIsLate(ctx, watchEvery/2, func() (late, err error) { return r.tryReach(ctx, address) })
	if late != nil {
		return fmt.Errorf("its pods are ready, but a router does not get to %s after %s: %w; look at the Service, at DNS and at network policies", address, spreadWithin, late)
	}
	return err
}

// tryReach asks every router once. late is why one of them does not get through.
func (r *routers) tryReach(ctx context.Context, address string) (late, err error) {
	pods, err := r.pods(ctx)
	if err != nil {
		return nil, err
	}
	for pod, ready := range pods {
		_, err := r.raw(ctx, pod, http.MethodGet, "/reach", url.Values{"url": {address}}, nil)
		var refused *routerError
		switch {
		case err == nil:
		case !errors.As(err, &refused):
			return nil, err
		case refused.forbidden(), refused.status == http.StatusBadRequest:
			return nil, err
		case refused.status == http.StatusNotFound: // a router of an older ml, which is replaced in a moment
		case refused.status == http.StatusBadGateway && strings.Contains(refused.text, `{ "error":`), ready: // the router's own words, or it should have some
			late = err
		}
	}
	return late, nil
}

// tally is what a version did since the present routes, over all routers.
func (r *routers) tally(version int) gateway.Tally {
	var sum gateway.Tally
	for _, s := range r.seen {
		sum = sum.Plus(s.Of(version).Tally)
	}
	return sum
}

// inFlight counts the requests that a version has not answered.
func (r *routers) inFlight(version int) int64 {
	var n int64
	for _, s := range r.seen {
		n += s.Of(version).InFlight
	}
	return n
}

// shadow sums up what the mirrors found; nil when there was none.
func (r *routers) shadow() *gateway.Comparison {
	var sum *gateway.Comparison
	for _, s := range r.seen {
		if s.Shadow == nil {
			continue
		}
		if sum == nil {
			sum = &gateway.Comparison{}
		}
		sum.Compared += s.Shadow.Compared
		sum.Differed += s.Shadow.Differed
		sum.Dropped += s.Shadow.Dropped
		if len(sum.Examples) == 0 {
			sum.Examples = s.Shadow.Examples
		}
	}
	return sum
}

// versions are all that routers told of.
func (r *routers) versions() []int {
	var out []int
	for _, s := range r.seen {
		for _, v := range s.Versions {
			if !slices.Contains(out, v.Version) {
				out = append(out, v.Version)
			}
		}
	}
	return out
}
