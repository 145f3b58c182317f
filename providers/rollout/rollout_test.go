package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/resource"
)

func front() Front {
	return Front{Name: "tumors", Namespace: "team", Address: resource.Address{Kind: "deployment", Name: "tumors"}, Project: "p", Runner: "ml@sha256:aa"}.WithDefaults()
}

func TestRoutesFollowTheState(t *testing.T) {
	t.Parallel()
	one, two := gateway.Version{Number: 1, Digest: "sha256:a"}, gateway.Version{Number: 2, Digest: "sha256:b"}
	started := gateway.Progress{StepStarted: time.Unix(1, 0)}
	p99 := time.Second
	for name, test := range map[string]struct {
		live               gateway.Live
		policy             gateway.Rollout
		current, candidate int
		weight             int
		mirror             bool
	}{
		"nothing serves yet":        {live: gateway.Live{Candidate: &one}},
		"one version":               {live: gateway.Live{Current: one}, current: 1},
		"a candidate that starts":   {live: gateway.Live{Current: one, Candidate: &two}, current: 1},
		"a canary":                  {live: gateway.Live{Current: one, Candidate: &two, Weight: 10, Progress: started}, current: 1, candidate: 2, weight: 10},
		"a shadow":                  {live: gateway.Live{Current: one, Candidate: &two, Progress: started}, policy: gateway.Rollout{Strategy: gateway.Shadow}, current: 1, candidate: 2, mirror: true},
		"a shadow that is complete": {live: gateway.Live{Current: one, Candidate: &two, Progress: gateway.Progress{StepStarted: time.Unix(1, 0), Holding: true}}, policy: gateway.Rollout{Strategy: gateway.Shadow}, current: 1, candidate: 2},
	} {
		test.policy.Abort.P99, test.live.Generation = &p99, 7
		s := &State{Live: test.live, Policy: test.policy, URLs: map[int]string{1: "http://one", 2: "http://two"}}
		r := s.routes(front(), gateway.Capture{Enabled: true}, nil)
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		number := func(b *gateway.Backend) int {
			if b == nil {
				return 0
			}
			if b.URL != s.URLs[b.Version] {
				t.Errorf("%s: version %d answers at %q", name, b.Version, b.URL)
			}
			return b.Version
		}
		if number(r.Current) != test.current || number(r.Candidate) != test.candidate || r.Weight != test.weight || r.Mirror != test.mirror || r.SlowAfter != p99 || r.Generation != 7 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestTheRoutersDoNotRestartWhenWeightsMove(t *testing.T) {
	t.Parallel()
	a, err := front().routerDeployment()
	if err != nil {
		t.Fatal(err)
	}
	b, err := front().routerDeployment()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(a.Object)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a.Object, b.Object) || strings.Contains(string(text), "generation") {
		t.Errorf("the routers' Deployment moves with the routes: %s", text)
	}
	f := front()
	f.Routers.Memory = "much"
	if _, err := f.routerDeployment(); err == nil || !strings.Contains(err.Error(), `router.memory = "much"`) {
		t.Errorf("error %v", err)
	}
}

func TestWhatIsKeptIsRead(t *testing.T) {
	t.Parallel()
	s := &State{Op: "op", Asked: gateway.Version{Number: 2}, URLs: map[int]string{1: "http://one"}, Resolved: json.RawMessage(`{"mode":"x"}`),
		Live: gateway.Live{Current: gateway.Version{Number: 1}, Generation: 3}}
	routes := s.routes(front(), gateway.Capture{}, nil)
	u, err := front().configMap(routes, s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := stateOf(u)
	if err != nil {
		t.Fatal(err)
	}
	if got.Op != "op" || got.URLs[1] != "http://one" || !reflect.DeepEqual(got.saved, routes) {
		t.Errorf("it was %+v, it is %+v", s, got)
	}
	unstructured.RemoveNestedField(u.Object, "data", stateKey)
	if _, err := stateOf(u); err == nil || !strings.Contains(err.Error(), "delete the ConfigMap") {
		t.Errorf("without a state: %v", err)
	}
}

func TestObjectsOfOthersAreNotTouched(t *testing.T) {
	t.Parallel()
	u := &unstructured.Unstructured{Object: map[string]any{"kind": "ConfigMap", "metadata": map[string]any{"name": "tumors"}}}
	if err := front().Ours(u); err == nil || !strings.Contains(err.Error(), "not of this deployment") {
		t.Errorf("one without labels: %v", err)
	}
	u.SetLabels(front().Labels(PartRouter))
	if err := front().Ours(u); err != nil {
		t.Error(err)
	}
	other := front()
	other.Project = "q"
	if other.Ours(u) == nil {
		t.Error("one of another project is ours")
	}
}

func TestNamesOfObjects(t *testing.T) {
	t.Parallel()
	const dns = "abcdefghijklmnopqrstuvwxyz0123456789-"
	long := strings.Repeat("a", 40)
	seen := map[string]resource.Address{}
	for _, c := range []struct {
		addr resource.Address
		want string
	}{
		{resource.Address{Kind: "deployment", Name: "tumors"}, "tumors"},
		{resource.Address{Kind: "deployment", Name: "a_b"}, "a-b"},
		{resource.Address{Module: "module.eu", Kind: "deployment", Name: "tumors"}, "module-eu-tumors"},
		{resource.Address{Module: "module." + long, Kind: "deployment", Name: long}, ""},
		{resource.Address{Module: "module." + long, Kind: "deployment", Name: long[1:] + "b"}, ""},
		{resource.Address{Kind: "deployment", Name: long, Key: `["` + strings.Repeat("b", 40) + `"]`}, ""},
	} {
		got := ObjectName(c.addr, 40)
		if c.want != "" && got != c.want || len(got) > 40 || strings.Trim(got, dns) != "" {
			t.Errorf("%s is named %q, want %q", c.addr, got, c.want)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s are both named %s", other, c.addr, got)
		}
		seen[got] = c.addr
	}
}

func TestForceActsAtOnce(t *testing.T) {
	t.Parallel()
	r := &config.Rollout{Strategy: "canary", Steps: []int{5, 100}}
	if p := PolicyOf(r, true); p.Strategy != gateway.Rolling {
		t.Errorf("forced: %+v", p)
	}
	if p := PolicyOf(r, false); p.Strategy != gateway.Canary || p.Interval != 30*time.Second || p.OnNoTraffic != gateway.Hold {
		t.Errorf("policy %+v", p)
	}
}

func TestOnlyTheVersionsOwnFaultIsHeldAgainstIt(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		&Unfit{Reason: "it crashes"}: "it crashes",
		&kube.CauseError{Cause: kube.Cause{Code: kube.CauseImage, On: "pod x", Message: "not found"}}: "pod x",
		context.Canceled: "",
		&kube.Retryable{Err: errors.New("reset")}: "",
	} {
		got, own := unfit(err)
		if own != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%v: %q, %v", err, got, own)
		}
	}
}

func TestAnImportIsOfTheBlocksNamespace(t *testing.T) {
	for id, want := range map[string]string{"web": "ns web", "ns/web": "ns web", "other/web": `it is in namespace other, and the block says ns; set kserve { namespace = "other" }`} {
		namespace, name, err := Named(id, "kserve", "ns")
		got := namespace + " " + name
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}
