package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
)

// maxQuarantined bounds the list of versions that were found bad.
const maxQuarantined = 50

// rollout is what a deployment's ConfigMap keeps beside the routes: where its last rollout is. An apply that was killed, and one after a
// rollout that was held, go on from it.
type rollout struct {
	// Op is the operation that reached for the deployment last.
	Op     string          `json:"op"`
	Asked  gateway.Version `json:"asked"`
	Forced bool            `json:"forced,omitempty"`
	// Image, Runner and Fetch are what the operation resolved: it goes on with them, whatever a tag says by then.
	Image  string          `json:"image"`
	Runner string          `json:"runner"`
	Fetch  string          `json:"fetch,omitempty"`
	Policy gateway.Rollout `json:"policy"`
	Live   gateway.Live    `json:"live"`
	// CurrentKey and CandidateKey stand for the pods that serve Live.Current and Live.Candidate.
	CurrentKey   string `json:"current_key,omitempty"`
	CandidateKey string `json:"candidate_key,omitempty"`
	// Good is the Deployment of the current version as it was when it took over, to go back to.
	Good json.RawMessage `json:"good,omitempty"`

	saved gateway.Routes // as they are in the ConfigMap
}

// asked is what the last operation wanted.
func (s rollout) asked(a resource.Address) serving.Asked {
	return serving.Asked{Address: a, Version: s.Asked.Number, Digest: s.Asked.Digest}
}

// quarantined returns the entry that keeps a version from being rolled out: its very pods, or the version, unless that serves now.
func (s *rollout) quarantined(v gateway.Version, key string) *gateway.Quarantine {
	for i := range s.Live.Quarantined {
		if s.matches(s.Live.Quarantined[i], v, key) {
			return &s.Live.Quarantined[i]
		}
	}
	return nil
}

func (s *rollout) matches(q gateway.Quarantine, v gateway.Version, key string) bool {
	same := func(o gateway.Version) bool { return o.Number == v.Number && o.Digest == v.Digest }
	return q.Release == key || same(q.Version) && !same(s.Live.Current)
}

func (s *rollout) quarantine(reason string, now time.Time) {
	q := gateway.Quarantine{Version: *s.Live.Candidate, Reason: reason, Time: now.UTC(), Release: s.CandidateKey}
	list := append(s.Live.Quarantined, q)
	s.Live.Quarantined = slices.Clone(list[max(0, len(list)-maxQuarantined):])
}

// routes are what the routers shall follow in this state.
func (s *rollout) routes(f front, spec deploymentSpec) gateway.Routes {
	r := gateway.Routes{Generation: s.Live.Generation, Name: f.Name, Address: f.Address.String(), Capture: gateway.Capture{Enabled: true}}
	if c := spec.Capture; c != nil {
		r.Capture = gateway.Capture{Enabled: c.Enabled, MaxBytes: c.MaxMB << 20}
	}
	if spec.Sink != nil {
		r.Sink = &gateway.Sink{URL: spec.Sink.URL}
	}
	if p := s.Policy.Abort.P99; p != nil {
		r.SlowAfter = *p
	}
	if c := s.Live.Current; c.Number > 0 {
		r.Current = f.backend(c.Number, c.Digest)
	}
	// Before its first step, and while nothing else serves, a candidate gets no requests.
	if c := s.Live.Candidate; c != nil && r.Current != nil && (s.Live.Weight > 0 || !s.Live.Progress.StepStarted.IsZero()) {
		r.Candidate, r.Weight = f.backend(c.Number, c.Digest), s.Live.Weight
		r.Mirror = s.Policy.Strategy == gateway.Shadow && !s.Live.Progress.Holding
	}
	return r
}

// policyOf translates the block. Whoever forces a version acts at once.
func policyOf(spec deploymentSpec, force bool) gateway.Rollout {
	r := spec.Rollout
	if r == nil || force {
		return gateway.Rollout{Strategy: gateway.Rolling}.WithDefaults()
	}
	out := gateway.Rollout{Strategy: r.Strategy, Steps: r.Steps, Interval: r.Interval, OnNoTraffic: r.OnNoTraffic, MaxWait: r.MaxWait, ShadowRequests: r.Requests}
	if a := r.Abort; a != nil {
		out.Abort = gateway.Abort{ErrorRate: a.ErrorRate, P99: a.P99, MinRequests: a.MinRequests}
	}
	return out.WithDefaults()
}

// ours errors when an object of that name belongs to something else: applying would mix the two.
func ours(u *unstructured.Unstructured, f front) error {
	l, want := u.GetLabels(), f.labels("")
	if l[kube.ManagedBy] == want[kube.ManagedBy] && l[pods.LabelAddress] == want[pods.LabelAddress] && (l[pods.LabelProject] == want[pods.LabelProject] || want[pods.LabelProject] == "" || l[pods.LabelProject] == "") {
		return nil
	}
	return fmt.Errorf("%s exists and is not of this deployment (its labels %s=%q, %s=%q, %s=%q say so): rename the block, choose another namespace, or remove it",
		kube.RefOf(u), kube.ManagedBy, l[kube.ManagedBy], pods.LabelAddress, l[pods.LabelAddress], pods.LabelProject, l[pods.LabelProject])
}

// loadRollout reads the state of a deployment; nil when there is none.
func loadRollout(ctx context.Context, c *kube.Client, f front) (*rollout, error) {
	u, err := c.Get(ctx, kube.Ref{Version: "v1", Kind: "ConfigMap", Namespace: f.Namespace, Name: f.Name})
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := ours(u, f); err != nil {
		return nil, err
	}
	return rolloutOf(u)
}

// rolloutOf decodes the state in a ConfigMap.
func rolloutOf(u *unstructured.Unstructured) (*rollout, error) {
	text, found, err := unstructured.NestedString(u.Object, "data", stateKey)
	if err != nil || !found {
		return nil, fmt.Errorf("%s has no %s: somebody changed it; delete the ConfigMap and apply again, which starts the deployment's state anew", kube.RefOf(u), stateKey)
	}
	var s rollout
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("read %s of %s: %w; delete the ConfigMap and apply again, which starts the deployment's state anew", stateKey, kube.RefOf(u), err)
	}
	routes, found, err := unstructured.NestedString(u.Object, "data", routesKey)
	if err != nil || !found {
		return &s, nil // they are written anew
	}
	if s.saved, err = gateway.ParseRoutes([]byte(routes)); err != nil {
		s.saved = gateway.Routes{}
	}
	return &s, nil
}
