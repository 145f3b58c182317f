package kserve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
)

const (
	answerWithin = 30 * time.Second
	maxAnswer    = 1 << 20
)

// ask sends the golden request through the API server, before any client's traffic.
func (f *fleet) ask(ctx context.Context, at kube.Target) error {
	if f.nested.Golden == nil || at.Name == "" {
		return nil
	}
	rt, base, err := f.client.Proxy(f.Namespace, at)
	if err != nil {
		return err
	}
	status, data, err := f.question(ctx, rt, base.String(), "")
	if err != nil {
		return fmt.Errorf("golden request: reach %s: %w; the right to get and create services/proxy is needed", at.Name, err)
	}
	if status == http.StatusForbidden && bytes.Contains(data, []byte(`"kind":"Status"`)) {
		return fmt.Errorf("golden request: the right to get and create services/proxy in namespace %s is missing: %s", f.Namespace, brief(data))
	}
	return f.verdict("the golden request", status, data)
}

// question sends the golden request below a URL; host, when not "", is who it asks for there.
func (f *fleet) question(ctx context.Context, rt http.RoundTripper, base, host string) (status int, answer []byte, err error) {
	g := f.nested.Golden
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	method, body := http.MethodGet, io.Reader(nil)
	if g.Body != "" {
		method, body = http.MethodPost, strings.NewReader(g.Body)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(base, "/")+"/"+strings.TrimPrefix(g.Path, "/"), body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Host = host
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, answer, errors.Join(err, resp.Body.Close())
}

// verdict says whether an answer is the golden one.
func (f *fleet) verdict(what string, status int, answer []byte) error {
	if status >= http.StatusMultipleChoices {
		return &rollout.Unfit{Reason: fmt.Sprintf("%s got %d: %s", what, status, brief(answer))}
	}
	return judge(f.nested.Golden.Answer, answer)
}

// pod is a server to send the golden request to where no Service leads to one: Knative's name one of its own gateways. It is empty when
// there is no such request.
func (f *fleet) pod(ctx context.Context) (kube.Target, error) {
	if f.nested.Golden == nil || f.forced {
		return kube.Target{}, nil
	}
	label := api.Label + "=" + f.name
	if f.graph != nil {
		label = api.GraphLabel + "=" + graphName(f.name)
	}
	list, err := f.client.List(ctx, gvkPod, f.Namespace, kube.Selector{Labels: label})
	if err != nil {
		return kube.Target{}, err
	}
	for _, u := range list {
		var p corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p); err != nil {
			return kube.Target{}, fmt.Errorf("read pod %s: %w", u.GetName(), err)
		}
		if p.DeletionTimestamp == nil && p.Annotations[releaseNote] == f.key && ready(p) && (f.graph != nil || f.part() == "predictor" || p.Labels["component"] == f.part()) {
			return kube.Target{Name: p.Name, Port: strconv.Itoa(portIn(p))}, nil
		}
	}
	return kube.Target{}, &rollout.Unfit{Reason: "none of its pods is there for the golden request"}
}

// portIn is where the server of a pod listens: KServe's default unless it says otherwise.
func portIn(p corev1.Pod) int {
	for _, c := range p.Spec.Containers {
		if c.Name == api.Container && len(c.Ports) > 0 {
			return int(c.Ports[0].ContainerPort)
		}
	}
	return serverPort
}

// judge compares an answer with the one that is wanted.
func judge(want string, got []byte) error {
	if want == "" {
		return nil
	}
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		return fmt.Errorf("kserve.golden.answer: not JSON: %w", err)
	}
	if json.Unmarshal(got, &g) != nil || !alike(w, g) {
		return &rollout.Unfit{Reason: fmt.Sprintf("the golden request got %s, not %s", brief(got), brief([]byte(want)))}
	}
	return nil
}

// alike compares JSON values. What the wanted object does not name may be anything.
func alike(want, got any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return false
		}
		for k, v := range w {
			if have, ok := g[k]; !ok || !alike(v, have) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !alike(w[i], g[i]) {
				return false
			}
		}
		return true
	case float64:
		g, ok := got.(float64)
		return ok && math.Abs(w-g) <= 1e-6*math.Max(1, math.Abs(w))
	}
	return want == got
}

// brief is a text in one line of readable length.
func brief(text []byte) string {
	s := string(bytes.Join(bytes.Fields(text), []byte(" ")))
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
