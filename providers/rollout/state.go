package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
)

// maxQuarantined bounds the list of versions that were found bad.
const maxQuarantined = 50

// State is what a deployment's ConfigMap keeps beside the routes: where its last rollout is. An apply that was killed, and one after a
// rollout that was held, go on from it.
type State struct {
	// Op is the operation that reached for the deployment last.
	Op     string          `json:"op"`
	Asked  gateway.Version `json:"asked"`
	Forced bool            `json:"forced,omitempty"`
	// Runner and Resolved are what the operation resolved: it goes on with them.
	Runner   string          `json:"runner"`
	Resolved json.RawMessage `json:"resolved,omitempty"`
	Policy   gateway.Rollout `json:"policy"`
	Live     gateway.Live    `json:"live"`
	// URLs is where versions answer.
	URLs map[int]string `json:"urls,omitempty"`
	// Explains is where what explains them answers.
	Explains map[int]string `json:"explains,omitempty"`
	// CurrentKey and CandidateKey stand for the servers of Live.Current and Live.Candidate.
	CurrentKey   string `json:"current_key,omitempty"`
	CandidateKey string `json:"candidate_key,omitempty"`
	// Good is how the servers of the current version were when it took over, to go back to.
	Good json.RawMessage `json:"good,omitempty"`

	// Routed says that there is an HTTPRoute.
	Routed bool `json:"routed,omitempty"`

	saved gateway.Routes // as they are in the ConfigMap
}

// askedOf is what the last operation wanted.
func (s State) askedOf(a resource.Address) serving.Asked {
	return serving.Asked{Address: a, Version: s.Asked.Number, Digest: s.Asked.Digest}
}

// quarantined returns the entry that keeps a version from being rolled out: its very pods, or the version, unless that serves now.
func (s *State) quarantined(v gateway.Version, key string) *gateway.Quarantine {
	for i := range s.Live.Quarantined {
		if s.matches(s.Live.Quarantined[i], v, key) {
			return &s.Live.Quarantined[i]
		}
	}
	return nil
}

func (s *State) matches(q gateway.Quarantine, v gateway.Version, key string) bool {
	same := func(o gateway.Version) bool { return o.Number == v.Number && o.Digest == v.Digest }
	return q.Release == key || same(q.Version) && !same(s.Live.Current)
}

func (s *State) quarantine(reason string, now time.Time) {
	q := gateway.Quarantine{Version: *s.Live.Candidate, Reason: reason, Time: now.UTC(), Release: s.CandidateKey}
	list := append(s.Live.Quarantined, q)
	s.Live.Quarantined = slices.Clone(list[max(0, len(list)-maxQuarantined):])
}

// routes are what the routers shall follow in this state.
func (s *State) routes(f Front, capture gateway.Capture, sink *gateway.Sink) gateway.Routes {
	r := gateway.Routes{Generation: s.Live.Generation, Name: f.Name, Address: f.Address.String(), Capture: capture, Sink: sink}
	if p := s.Policy.Abort.P99; p != nil {
		r.SlowAfter = *p
	}
	if c := s.Live.Current; c.Number > 0 {
		r.Current = s.backend(c)
	}
	// Before its first step, and while nothing else serves, a candidate gets no requests.
	if c := s.Live.Candidate; c != nil && r.Current != nil && (s.Live.Weight > 0 || !s.Live.Progress.StepStarted.IsZero()) {
		r.Candidate, r.Weight = s.backend(*c), s.Live.Weight
		r.Mirror = s.Policy.Strategy == gateway.Shadow && !s.Live.Progress.Holding
	}
	return r
}

// forget drops where versions answered that are of no more use.
func (s *State) forget() {
	old := func(n int, _ string) bool {
		return n != s.Live.Current.Number && n != s.Asked.Number && (s.Live.Candidate == nil || n != s.Live.Candidate.Number)
	}
	maps.DeleteFunc(s.URLs, old)
	maps.DeleteFunc(s.Explains, old)
}

func (s *State) backend(v gateway.Version) *gateway.Backend {
	return &gateway.Backend{Version: v.Number, Digest: v.Digest, URL: s.URLs[v.Number], Explain: s.Explains[v.Number]}
}

// PolicyOf translates the block. Whoever forces a version acts at once.
func PolicyOf(r *config.Rollout, force bool) gateway.Rollout {
	if r == nil || force {
		return gateway.Rollout{Strategy: gateway.Rolling}.WithDefaults()
	}
	out := gateway.Rollout{Strategy: r.Strategy, Steps: r.Steps, Interval: r.Interval, OnNoTraffic: r.OnNoTraffic, MaxWait: r.MaxWait, ShadowRequests: r.Requests}
	if a := r.Abort; a != nil {
		out.Abort = gateway.Abort{ErrorRate: a.ErrorRate, P99: a.P99, MinRequests: a.MinRequests}
	}
	return out.WithDefaults()
}

// Ours errors when an object of that name belongs to something else: applying would mix the two.
func (f Front) Ours(u *unstructured.Unstructured) error {
	l, want := u.GetLabels(), f.Labels("")
	if l[kube.ManagedBy] == want[kube.ManagedBy] && l[pods.LabelAddress] == want[pods.LabelAddress] && (l[pods.LabelProject] == want[pods.LabelProject] || want[pods.LabelProject] == "" || l[pods.LabelProject] == "") {
		return nil
	}
	return fmt.Errorf("%s exists and is not of this deployment (its labels %s=%q, %s=%q, %s=%q say so): rename the block, choose another namespace, or remove it",
		kube.RefOf(u), kube.ManagedBy, l[kube.ManagedBy], pods.LabelAddress, l[pods.LabelAddress], pods.LabelProject, l[pods.LabelProject])
}

// load reads the state of a deployment; nil when there is none.
func load(ctx context.Context, c *kube.Client, f Front) (*State, error) {
	u, err := c.Get(ctx, kube.Ref{Version: "v1", Kind: "ConfigMap", Namespace: f.Namespace, Name: f.Name})
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := f.Ours(u); err != nil {
		return nil, err
	}
	return stateOf(u)
}

// LiveIn is where the rollout of a deployment is, by its objects; zero when that is not there.
func LiveIn(o Objects, name string) (gateway.Live, error) {
	u := o.Get(gvkConfigMap, name)
	if u == nil {
		return gateway.Live{}, nil
	}
	s, err := stateOf(u)
	if err != nil {
		return gateway.Live{}, err
	}
	return s.Live, nil
}

// stateOf decodes the state in a ConfigMap.
func stateOf(u *unstructured.Unstructured) (*State, error) {
	text, found, err := unstructured.NestedString(u.Object, "data", stateKey)
	if err != nil || !found {
		return nil, fmt.Errorf("%s has no %s: somebody changed it; delete the ConfigMap and apply again, which starts the deployment's state anew", kube.RefOf(u), stateKey)
	}
	var s State
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
