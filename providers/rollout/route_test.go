package rollout

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func routedFront() Front {
	f := front()
	f.Route = &Route{Gateway: "infra/public", Listener: "web", Hostnames: []string{"tumors.example.com"}, Path: "/v1"}
	return f
}

func TestWhatAGatewayIsTold(t *testing.T) {
	t.Parallel()
	f := routedFront()
	providertest.Golden(t, "testdata/route.json", providertest.Object(t)(f.httpRoute(10)), providertest.Object(t)(f.routerService()))
	none := providertest.Object(t)(f.httpRoute(0))
	if data, err := none.MarshalJSON(); err != nil || !strings.Contains(string(data), `"weight":0`) || !strings.Contains(none.GetAnnotations()[kube.AnnotationApplied], `"weight":0`) {
		t.Errorf("a weight of 0, which is not the default, is not written: %s %v", data, err)
	}
	u := providertest.Object(t)(f.routerDeployment())
	text, err := json.Marshal(u.Object)
	if err != nil || !strings.Contains(string(text), `"-current-port","8082","-candidate-port","8083"`) {
		t.Errorf("the routers do not listen for a Gateway: %s %v", text, err)
	}
}

// told is the route as the API server has it, with the word of controllers on it.
func told(t *testing.T, status string) *unstructured.Unstructured {
	t.Helper()
	u := providertest.Object(t)(routedFront().httpRoute(10))
	data, err := json.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{} // with numbers as they come from outside
	if err := out.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	out.SetGeneration(3)
	var s map[string]any
	if err := json.Unmarshal([]byte(status), &s); err != nil {
		t.Fatal(err)
	}
	out.Object["status"] = jsonNumbers(s)
	return out
}

// jsonNumbers makes whole numbers of all numbers.
func jsonNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = jsonNumbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = jsonNumbers(v[i])
		}
	case float64:
		return int64(v)
	}
	return v
}

const (
	acceptedBy  = `{"parents":[{"parentRef":{"namespace":"infra","name":"public"},"conditions":[{"type":"Accepted","status":"True","observedGeneration":3},{"type":"ResolvedRefs","status":"True","observedGeneration":3}]}]}`
	outdated    = `{"parents":[{"parentRef":{"namespace":"infra","name":"public"},"conditions":[{"type":"Accepted","status":"True","observedGeneration":2},{"type":"ResolvedRefs","status":"True","observedGeneration":3}]}]}`
	byAnother   = `{"parents":[{"parentRef":{"namespace":"infra","name":"private"},"conditions":[{"type":"Accepted","status":"True","observedGeneration":3},{"type":"ResolvedRefs","status":"True","observedGeneration":3}]}]}`
	noListener  = `{"parents":[{"parentRef":{"namespace":"infra","name":"public"},"conditions":[{"type":"Accepted","status":"False","reason":"NoMatchingListenerHostname","message":"no such host","observedGeneration":3},{"type":"ResolvedRefs","status":"True","observedGeneration":3}]}]}`
	oldRefusal  = `{"parents":[{"parentRef":{"namespace":"infra","name":"public"},"conditions":[{"type":"Accepted","status":"False","reason":"X","message":"y","observedGeneration":2}]}]}`
	noEndpoints = `{"parents":[{"parentRef":{"namespace":"infra","name":"public"},"conditions":[{"type":"Accepted","status":"True","observedGeneration":3},{"type":"ResolvedRefs","status":"False","reason":"BackendNotFound","message":"no Service","observedGeneration":3}]}]}`
)

func TestAControllersWordIsReadBack(t *testing.T) {
	t.Parallel()
	gw := routedFront().Route.Ref("team")
	for status, want := range map[string]Routed{
		`{}`:        {},
		acceptedBy:  {Accepted: true},
		outdated:    {},
		byAnother:   {},
		oldRefusal:  {},
		noListener:  {Why: "Accepted is False: NoMatchingListenerHostname: no such host"},
		noEndpoints: {Why: "ResolvedRefs is False: BackendNotFound: no Service"},
	} {
		want.Weights = map[string]int{"tumors:8082": 90, "tumors:8083": 10}
		got, err := RoutedBy(told(t, status), gw)
		if d := cmp.Diff(want, got); err != nil || d != "" || got.candidate() != 10 {
			t.Errorf("%s: %v, -want +got\n%s", status, err, d)
		}
	}
	if gw := (Route{Gateway: "public"}).Ref("team"); gw.Namespace != "team" || gw.Name != "public" {
		t.Errorf("%+v", gw)
	}
}

func TestADeploymentBehindAGatewayIsReadBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		route   *unstructured.Unstructured
		phase   resource.Phase
		message string
		info    string
	}{
		"accepted":  {told(t, acceptedBy), resource.PhaseReady, "", "infra/public gives the candidate 10 %, accepted"},
		"not yet":   {told(t, `{}`), resource.PhaseReady, "", "infra/public gives the candidate 10 %, not accepted yet"},
		"refused":   {told(t, noListener), resource.PhaseFailed, "no such host", "infra/public gives the candidate 10 %, not accepted yet"},
		"not there": {nil, resource.PhaseMissing, "HTTPRoute team/tumors is not there", ""},
	} {
		_, o := alive(t, nil)
		f := routedFront()
		if c.route != nil {
			o.Put(c.route)
		}
		got, _, err := exampleParts().object(f, o, readRequest(f))
		if err != nil || got.Phase != c.phase || !strings.Contains(got.Message, c.message) || got.Info["route"] != c.info || len(got.Drift) > 0 {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	_, o := alive(t, nil)
	u := told(t, acceptedBy)
	rules, _, err := unstructured.NestedSlice(u.Object, "spec", "rules")
	if err != nil {
		t.Fatal(err)
	}
	rules[0].(map[string]any)["backendRefs"].([]any)[1].(map[string]any)["weight"] = int64(77)
	u.Object["spec"].(map[string]any)["rules"] = rules
	o.Put(u)
	got, _, err := exampleParts().object(routedFront(), o, readRequest(front()))
	if err != nil || len(got.Drift) == 0 || !strings.HasPrefix(got.Drift[0].Path, "HTTPRoute/tumors:spec.rules") {
		t.Errorf("weights that somebody changed are no drift: %+v %v", got, err)
	}
}

func TestRoutesAreListedOnlyWhereTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	has := func(kinds []Kind) bool {
		for _, k := range kinds {
			if k.GroupVersionKind == gvkRoute {
				return true
			}
		}
		return false
	}
	if p := exampleParts(); has(p.kinds(false)) || !has(p.kinds(true)) {
		t.Error("HTTPRoutes are listed where there are none")
	}
	f, err := front().Recorded(&state.Record{Spec: json.RawMessage(`{"kubernetes":{"route":{"gateway":"infra/public"}}}`)}, "kubernetes")
	if err != nil || f.Route == nil || f.Route.Ref("team") != (kube.Ref{Group: gatewayGroup, Version: "v1", Kind: "Gateway", Namespace: "infra", Name: "public"}) {
		t.Errorf("%+v %v", f.Route, err)
	}
	if gateway.RouterCurrentPort == gateway.RouterCandidatePort {
		t.Error("a Gateway could not tell the versions apart")
	}
}
