package kserve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// version is a release of the deployment as one InferenceService.
func version(n int, change func(*release)) release {
	return example(func(r *release) {
		r.number, r.spec.Model.Version, r.Single, r.Carried, r.name = n, n, true, true, r.Name
		r.spec.KServe.Canary = bySpec
		if change != nil {
			change(r)
		}
	})
}

// predictorOf is what a release adds to the service, and the service without it.
func predictorOf(t *testing.T, r release) (base *unstructured.Unstructured, predictor map[string]any) {
	t.Helper()
	base, predictor, _, err := r.staged()
	if err != nil {
		t.Fatal(err)
	}
	return base, predictor
}

func TestTheStagesAreTheGoldenFile(t *testing.T) {
	t.Parallel()
	base, two := predictorOf(t, version(2, own))
	other, three := predictorOf(t, version(3, own))
	if d := cmp.Diff(base, other); d != "" {
		t.Errorf("what KServe hands on to all pods moves with the version: -2 +3\n%s", d)
	}
	if a, b := version(2, own).envName(), version(3, own).envName(); a == b {
		t.Errorf("one Secret %s for two versions would go with the first of them", a)
	}
	wantGolden(t, "stages", stages{stable: two, canary: three, percent: 20}.in(base))
}

func TestTheStagesAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	base, two := predictorOf(t, version(2, nil))
	_, three := predictorOf(t, version(3, func(r *release) { r.spec.Replicas = 5 }))
	for name, s := range map[string]stages{"one": {stable: two}, "a canary": {stable: two, canary: three, percent: 20}, "a dark one": {stable: two, canary: three}} {
		data, err := s.in(base).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(data); err != nil {
			t.Fatal(err)
		}
		got, err := stagesOf(u)
		if s.canary != nil {
			delete(s.canary, "maxReplicas") // it gets one when it is promoted
		}
		if d := cmp.Diff(s, got, cmp.AllowUnexported(stages{})); err != nil || d != "" {
			t.Errorf("%s: %v, -want +got\n%s", name, err, d)
		}
	}
	u := stages{stable: two, canary: three}.in(base)
	list, _, err := unstructured.NestedSlice(u.Object, "spec", "canary")
	if err != nil {
		t.Fatal(err)
	}
	u.Object["spec"].(map[string]any)["canary"] = append(list, list...)
	if _, err := stagesOf(u); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("two canaries: %v", err)
	}
}

// KServe takes the canary's servers off those of the predictor: each version must have all of its own nevertheless.
func TestACanaryTakesNoServersFromTheVersionThatServes(t *testing.T) {
	t.Parallel()
	base, two := predictorOf(t, version(2, func(r *release) { r.spec.Replicas = 3 }))
	_, three := predictorOf(t, version(3, func(r *release) { r.spec.Replicas = 4 }))
	u := stages{stable: two, canary: three, percent: 10}.in(base)
	least, _, _ := unstructured.NestedInt64(u.Object, "spec", "predictor", "minReplicas")
	most, _, _ := unstructured.NestedInt64(u.Object, "spec", "predictor", "maxReplicas")
	entry := u.Object["spec"].(map[string]any)["canary"].([]any)[0].(map[string]any)["predictor"].(map[string]any)
	if least-servers(entry) != 3 || servers(entry) != 4 || most < least || entry["maxReplicas"] != nil {
		t.Errorf("the predictor has %d to %d servers, the canary %d", least, most, servers(entry))
	}
}

func TestWhatStaysOfTheStages(t *testing.T) {
	t.Parallel()
	_, two := predictorOf(t, version(2, nil))
	_, three := predictorOf(t, version(3, nil))
	both := stages{stable: two, canary: three, percent: 50}
	for name, test := range map[string]struct {
		of     stages
		keep   []string
		stable string
		canary string
	}{
		"taken back": {both, []string{"v2"}, "v2", ""},
		"promoted":   {both, []string{"v3"}, "v3", ""},
		"on its way": {both, []string{"v2", "v3"}, "v2", "v3"},
		"alone":      {stages{stable: two}, []string{"v2"}, "v2", ""},
		"another":    {stages{stable: two}, []string{"v9"}, "v2", ""},
	} {
		got := test.of.keep(test.keep...)
		if nameOf(got.stable) != test.stable || nameOf(got.canary) != test.canary || got.canary == nil && got.percent != 0 || got.stable["maxReplicas"] != int64(2) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWhatKServeWouldLeaveOfTheOldVersionIsFound(t *testing.T) {
	t.Parallel()
	_, two := predictorOf(t, version(2, own))
	_, three := predictorOf(t, version(3, own))
	if lost := leaks(two, three); len(lost) > 0 {
		t.Errorf("alike, and yet %v", lost)
	}
	for want, change := range map[string]func(*release){
		"serviceAccountName": func(r *release) { r.spec.KServe.ServiceAccount = "reader" },
		"timeout":            func(r *release) { r.spec.KServe.Timeout = time.Minute },
		"labels.tier":        func(r *release) { r.spec.KServe.Labels = map[string]string{"tier": "a"} },
	} {
		_, old := predictorOf(t, version(2, func(r *release) { own(r); change(r) }))
		if lost := leaks(old, three); len(lost) != 1 || lost[0] != want {
			t.Errorf("%s: %v", want, lost)
		}
		if lost := leaks(three, old); len(lost) > 0 {
			t.Errorf("what is new is not the old version's: %v", lost)
		}
	}
	_, format := predictorOf(t, version(2, nil))
	if lost := fmt.Sprint(leaks(format, three)); !strings.Contains(lost, "model") {
		t.Errorf("from a runtime to a server of its own: %s", lost)
	}
}

var publicWay = entrance{Route: rollout.Route{Gateway: "infra/public", Hostnames: []string{"tumors.example.com"}, Path: "/"}}

func backends(current, candidate, weight int) gateway.Routes {
	r := gateway.Routes{Generation: 7, Current: backend(current), Weight: weight}
	if candidate > 0 {
		r.Candidate = backend(candidate)
	}
	return r
}

func TestTheRouteOfACanaryIsTheGoldenFile(t *testing.T) {
	t.Parallel()
	f := &fleet{release: version(3, nil)}
	u, err := f.httpRoute(publicWay, backends(2, 3, 20))
	if err != nil {
		t.Fatal(err)
	}
	wantGolden(t, "stages-route", u)
}

func TestTheWeightsOfARouteAreReadBack(t *testing.T) {
	t.Parallel()
	f := &fleet{release: version(3, nil)}
	for name, routes := range map[string]gateway.Routes{"one": backends(2, 0, 0), "dark": backends(2, 3, 0), "a canary": backends(2, 3, 20), "all": backends(2, 3, 100)} {
		u, err := f.httpRoute(publicWay, routes)
		if err != nil {
			t.Fatal(err)
		}
		got, err := rollout.RoutedBy(wire(t, u), publicWay.Ref("team"))
		if d := cmp.Diff(f.weights(routes), got.Weights); err != nil || d != "" {
			t.Errorf("%s: %v, -want +got\n%s", name, err, d)
		}
	}
}

// wire is an object with the types that come from an API server.
func wire(t *testing.T, u *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	data, err := json.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhereRequestsComeIn(t *testing.T) {
	t.Parallel()
	full := ingress{Gateway: "kserve/in", Domain: "ml.example.org", Template: "{{ .Namespace }}.{{ .Name }}.{{ .IngressDomain }}", Scheme: "https"}
	for name, test := range map[string]struct {
		route *routeSettings
		in    ingress
		want  string
	}{
		"KServe's own":   {nil, full, "kserve/in / https://team.tumors.ml.example.org"},
		"its defaults":   {nil, ingress{Gateway: "a/b"}, "a/b / http://tumors-team.example.com"},
		"the block's":    {&routeSettings{Gateway: "c/d", Hostnames: []string{"x.org", "y.org"}, Path: "/p"}, full, "c/d /p https://x.org"},
		"any subdomain":  {&routeSettings{Hostnames: []string{"*.x.org"}}, full, "kserve/in / https://ml.x.org"},
		"no gateway":     {nil, ingress{}, "error kserve.route.gateway"},
		"a bad template": {nil, ingress{Gateway: "a/b", Template: "{{ .Labels.team }}"}, "error kserve.route.hostnames"},
	} {
		e, err := entranceOf("tumors", nested{Namespace: "team", Route: test.route}, test.in)
		got := ""
		if err != nil {
			got = "error " + err.Error()
		} else {
			got = e.Gateway + " " + e.Path + " " + e.url()
		}
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestAGatewaySaysWhereItAnswers(t *testing.T) {
	t.Parallel()
	u := func(listeners, addresses string) *unstructured.Unstructured {
		out := &unstructured.Unstructured{}
		if err := out.UnmarshalJSON([]byte(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"a"},"spec":{"listeners":` + listeners + `},"status":{"addresses":` + addresses + `}}`)); err != nil {
			t.Fatal(err)
		}
		return out
	}
	const two = `[{"name":"secure","protocol":"HTTPS","port":443},{"name":"web","protocol":"HTTP","port":8000}]`
	for name, test := range map[string]struct {
		u              *unstructured.Unstructured
		listener, want string
	}{
		"plain":      {u(two, `[{"value":"10.0.0.1"}]`), "", "http://10.0.0.1:8000"},
		"version 6":  {u(two, `[{"value":"fd00::1"}]`), "web", "http://[fd00::1]:8000"},
		"TLS alone":  {u(two, `[{"value":"10.0.0.1"}]`), "secure", ""},
		"no address": {u(two, `[]`), "", ""},
	} {
		if got, err := addressOf(test.u, test.listener); err != nil || got != test.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// proxy stands for one of a Gateway: it follows new weights after some requests, and leads on to the version that a request asks for.
func proxy(t *testing.T, host string, after int64, version func(string) (int, string)) gate {
	t.Helper()
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != host {
			http.Error(w, "no route", http.StatusNotFound)
			return
		}
		if stamp := r.Header.Get(followHeader); stamp != "" && asked.Add(1) > after {
			http.Redirect(w, r, "http://route-"+stamp+".invalid/", http.StatusFound)
			return
		}
		status, body := version(r.Header.Get(versionHeader))
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(srv.Close)
	g, err := gateAt(t.Context(), nil, entrance{Route: rollout.Route{Hostnames: []string{"tumors.example.com"}}, Address: srv.URL + "/"}, "team")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAProxyIsWaitedForUntilItFollows(t *testing.T) {
	t.Parallel()
	old := func(string) (int, string) { return http.StatusOK, `{}` }
	var said []string
	g := proxy(t, "tumors.example.com", 2, old)
	if err := g.follows(t.Context(), "/", stamp(backends(2, 3, 20)), func(text string) { said = append(said, text) }); err != nil || len(said) != 2 {
		t.Errorf("%v, said %q", err, said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	if err := proxy(t, "tumors.example.com", 1<<30, old).follows(ctx, "/", "7-20", func(string) {}); err == nil {
		t.Error("a proxy that never follows was believed")
	}
	if stamp(backends(2, 3, 0)) == stamp(backends(2, 3, 20)) || mark("7-0") == mark("7-20") {
		t.Error("a proxy cannot tell the weights before a step from those of the step")
	}
}

func TestTheGoldenRequestGoesThroughTheGateway(t *testing.T) {
	t.Parallel()
	want := &golden{Path: "/v1/models/tumors:predict", Body: `{"instances":[[1]]}`, Answer: `{"predictions":[3]}`}
	for name, test := range map[string]struct {
		host  string
		third func() (int, string)
		err   string
	}{
		"good":               {"tumors.example.com", func() (int, string) { return 200, `{"predictions":[3.0]}` }, ""},
		"another answer":     {"tumors.example.com", func() (int, string) { return 200, `{"predictions":[2]}` }, "the golden request got"},
		"an error":           {"tumors.example.com", func() (int, string) { return 500, "boom" }, "through the Gateway, the golden request got 500: boom"},
		"no route for it":    {"other.example.com", func() (int, string) { return 200, `{"predictions":[3]}` }, "404"},
		"the version before": {"tumors.example.com", nil, "the golden request got"},
	} {
		g := proxy(t, test.host, 0, func(v string) (int, string) {
			if v == "3" && test.third != nil {
				return test.third()
			}
			return 200, `{"predictions":[2]}`
		})
		err := g.golden(t.Context(), want, 3)
		var own *rollout.Unfit
		unfit := errors.As(err, &own)
		if test.err == "" != (err == nil) || err != nil && (!unfit || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := gate{base: "http://127.0.0.1:1", host: "a", client: http.DefaultClient}
	var own *rollout.Unfit
	if err := g.golden(t.Context(), want, 3); err == nil || errors.As(err, &own) {
		t.Error("a Gateway that is not there is held against the version")
	}
}

func TestWhatStagesCannotDoIsAnError(t *testing.T) {
	t.Parallel()
	two := 2
	for want, change := range map[string]func(*deploymentSpec){
		"rollout.strategy:":    func(d *deploymentSpec) { d.Rollout = &config.Rollout{Strategy: "shadow"} },
		"rollout.abort:":       func(d *deploymentSpec) { d.Rollout = &config.Rollout{Strategy: "canary", Abort: &config.Abort{}} },
		"sink:":                func(d *deploymentSpec) { d.Sink = &config.Sink{URL: "http://a"} },
		"capture:":             func(d *deploymentSpec) { d.Capture = &config.Capture{Enabled: true} },
		"port:":                func(d *deploymentSpec) { d.Port = 8080 },
		"kserve.service_type:": func(d *deploymentSpec) { d.KServe.ServiceType = "NodePort" },
		"kserve.canary:":       func(d *deploymentSpec) { d.KServe.DeploymentMode = knative },
		"kserve.transformer:":  func(d *deploymentSpec) { d.KServe.Transformer = &component{Image: "a"} },
		"kserve.explainer:":    func(d *deploymentSpec) { d.KServe.Explainer = &component{Image: "a"} },
		"kserve.timeout:":      func(d *deploymentSpec) { d.KServe.Timeout = time.Minute },
		"kserve.graph:": func(d *deploymentSpec) {
			d.KServe.Graph = &graph{Nodes: []node{{Name: "root", Type: "Sequence", Steps: []step{{}}}}}
		},
		"scale:":                      func(d *deploymentSpec) { d.KServe.MaxReplicas = &two },
		"kserve.route.gateway = ":     func(d *deploymentSpec) { d.KServe.Route = &routeSettings{Gateway: "a/b/c"} },
		"kserve.route.path = ":        func(d *deploymentSpec) { d.KServe.Route = &routeSettings{Path: "a"} },
		"kserve.route.address = ":     func(d *deploymentSpec) { d.KServe.Route = &routeSettings{Address: "10.0.0.1"} },
		"kserve.route: it says where": func(d *deploymentSpec) { d.KServe.Canary, d.KServe.Route = "router", &routeSettings{Gateway: "a"} },
	} {
		spec := deploymentSpec{KServe: &nested{Canary: bySpec, Route: &routeSettings{Gateway: "infra/public", Address: "http://10.0.0.1:80"}}}
		spec.Format, spec.Replicas, spec.Model = "sklearn", 1, &config.Model{Version: 1, Digest: "sha256:a"}
		spec.Rollout = &config.Rollout{Strategy: "canary"}
		if err := spec.check(); err != nil {
			t.Fatalf("stages can do this: %v", err)
		}
		change(&spec)
		if err := spec.check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
}

func TestAClusterThatCannotHaveStagesSaysWhy(t *testing.T) {
	t.Parallel()
	able := abilities{Gateway: true, Stages: true}
	for want, test := range map[string]struct {
		can  abilities
		mode string
	}{
		"<nil>": {able, standard},
		"kserve.canary: KServe takes spec.canary in":           {able, knative},
		"kserve.canary: the cluster serves no HTTPRoute":       {abilities{Stages: true}, standard},
		"kserve.canary: the cluster's InferenceService has no": {abilities{Gateway: true}, standard},
	} {
		if got := fmt.Sprint(test.can.stageless(test.mode)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", want, got)
		}
	}
	if err := (abilities{Gateway: true, StagesUnread: "no right"}).stageless(standard); err != nil {
		t.Errorf("what cannot be seen is not missing: %v", err)
	}
}

func TestStagesAreNotExchangedUnderRequests(t *testing.T) {
	t.Parallel()
	by := func(was, is string, a resource.Action) error {
		return noRollout(deploymentSpec{KServe: &nested{Canary: is}}, providers.PreflightRequest{Action: a, Prior: &state.Record{Ref: []byte(`{"name": "a", "canary": "` + was + `"}`)}})
	}
	for _, pair := range [][2]string{{"", bySpec}, {bySpec, "router"}, {bySpec, bySplitter}, {bySplitter, bySpec}} {
		if err := by(pair[0], pair[1], resource.Update); err == nil || !strings.Contains(err.Error(), "-replace") {
			t.Errorf("from %q to %q: %v", pair[0], pair[1], err)
		}
	}
	if err := by(bySpec, bySpec, resource.Update); err != nil {
		t.Error(err)
	}
}

func TestTheSharesOfAServiceAreRead(t *testing.T) {
	t.Parallel()
	base, two := predictorOf(t, version(2, nil))
	u := stages{stable: two}.in(base)
	u.Object["status"] = map[string]any{"canaryStatuses": []any{map[string]any{"name": "v3", "ready": true, "trafficPercent": int64(20), "new": "field"}}}
	got, err := sharesIn(u)
	if d := cmp.Diff([]share{{"v3", true, 20}}, got); err != nil || d != "" {
		t.Errorf("%v, -want +got\n%s", err, d)
	}

	f := &fleet{release: version(3, nil)}
	routes := backends(2, 3, 20)
	r, err := f.httpRoute(publicWay, routes)
	if err != nil {
		t.Fatal(err)
	}
	o, info := rollout.Objects{}, map[string]string{}
	front := (deploymentRef{Gateway: "infra/public", Entry: "http://tumors.example.com"}).single(f.Front)
	if down, err := enters(front, o, gateway.Live{}, info); err != nil || down == "" {
		t.Errorf("without its route: %q, %v", down, err)
	}
	o.Put(wire(t, r))
	o.Put(u)
	down, err := enters(front, o, gateway.Live{Candidate: &gateway.Version{Number: 3}}, info)
	if d := cmp.Diff(map[string]string{"route": "infra/public gives the candidate 20 %, not accepted yet", "canary": "v3: 20 %, ready"}, info); err != nil || down != "" || d != "" {
		t.Errorf("%q, %v, -want +got\n%s", down, err, d)
	}
}

func TestWhatOthersChangeOfTheStagesIsSeen(t *testing.T) {
	t.Parallel()
	base, two := predictorOf(t, version(2, nil))
	_, three := predictorOf(t, version(3, nil))
	applied := stages{stable: two, canary: three, percent: 20}.in(base)
	text, err := json.Marshal(applied.Object)
	if err != nil {
		t.Fatal(err)
	}
	keep := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": stagesName("tumors")}, "data": map[string]any{stagesKey: string(text)}}}
	live := wire(t, applied)
	live.Object["spec"].(map[string]any)["canary"].([]any)[0].(map[string]any)["trafficPercent"] = int64(70)
	d, o := &deployment{work: &runs.Workspace{}}, rollout.Objects{}
	o.Put(keep)
	got, err := d.parts().Drift(o, live)
	if err != nil || len(got) != 1 || got[0].Path != "spec.canary[0].trafficPercent" || got[0].Old != "20" || got[0].New != "70" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := d.parts().Drift(o, wire(t, applied)); err != nil || len(got) > 0 {
		t.Errorf("unchanged: %+v, %v", got, err)
	}
	keep.Object["data"] = map[string]any{stagesKey: "{"}
	if _, err := d.parts().Drift(o, live); err == nil {
		t.Error("what cannot be read was passed over")
	}
}
