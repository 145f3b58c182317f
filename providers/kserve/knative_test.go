package kserve

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// turns is version n of a deployment whose versions are Knative's revisions.
func turns(t *testing.T, n int) *revised {
	t.Helper()
	r := example(func(r *release) {
		r.spec.KServe.Canary, r.number, r.Mode = byRevisions, n, knative
		r.Model = strings.ReplaceAll(modelRef, "aaaa", strings.Repeat(string(rune('a'+n)), 4))
		r.Front = carriedBy(r.Front, byRevisions)
		r.name = r.VersionName(n)
	})
	f, err := newFleet(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	by, ok := f.servers().(*revised)
	if !ok {
		t.Fatalf("%T drives it", f.servers())
	}
	return by
}

// written is what is in the cluster after a version was written with a share.
func (f *revised) written(percent int64, rolledOut string) *unstructured.Unstructured {
	u := f.object.DeepCopy()
	if err := unstructured.SetNestedField(u.Object, percent, sharePath...); err != nil {
		panic(err) // the object of a test
	}
	if rolledOut != "" {
		u.Object["status"] = map[string]any{"components": map[string]any{"predictor": map[string]any{"latestRolledoutRevision": rolledOut}}}
	}
	return u
}

func TestAServiceWhoseVersionsAreRevisionsIsTheGoldenFile(t *testing.T) {
	t.Parallel()
	f := turns(t, 3)
	wantGolden(t, "turns", f.object)
	if !f.Carried || !f.Single || f.name != "tumors" || f.url() != "http://tumors-predictor.team.svc.cluster.local" || f.Entry != f.url() {
		t.Errorf("it is called %s and asked at %s and %s", f.name, f.url(), f.Entry)
	}
	if turns(t, 4).key == f.key {
		t.Error("versions with other models have one key")
	}
}

func TestWhatIsRememberedDoesNotMoveWithTheShare(t *testing.T) {
	t.Parallel()
	// KServe hands annotations on to revisions: a shift would make one, which nobody has tried.
	if note := turns(t, 3).written(40, "").GetAnnotations()[kube.AnnotationApplied]; note == "" || strings.Contains(note, sharePath[2]) {
		t.Errorf("it remembers %s", note)
	}
}

func TestAVersionBeginsWithoutRequestsBesideOneThatServes(t *testing.T) {
	t.Parallel()
	one, two := turns(t, 1), turns(t, 2)
	for name, test := range map[string]struct {
		live *unstructured.Unstructured
		want int64
	}{
		"another serves":                {one.written(100, "tumors-predictor-00001"), 0},
		"another never served":          {one.written(100, ""), 100},
		"it is there, in the middle":    {two.written(40, "tumors-predictor-00001"), 40},
		"it is there, and has them all": {two.written(100, "tumors-predictor-00002"), 100},
	} {
		if got, err := startOf(test.live, two.key); err != nil || got != test.want {
			t.Errorf("%s: %d %%, %v; want %d %%", name, got, err, test.want)
		}
	}
}

func TestTheRoutesSayWhatIsWritten(t *testing.T) {
	t.Parallel()
	one, two, three := turns(t, 1), turns(t, 2), turns(t, 3)
	for name, test := range map[string]struct {
		live    *unstructured.Unstructured
		routes  gateway.Routes
		want    int64  // -1 = nothing
		version string // of the specification
	}{
		"a step":                            {two.written(0, "r1"), gateway.Routes{Current: backend(1), Candidate: backend(2), Weight: 10}, 10, "2"},
		"a step that is there":              {two.written(10, "r1"), gateway.Routes{Current: backend(1), Candidate: backend(2), Weight: 10}, -1, ""},
		"it takes over":                     {two.written(50, "r1"), gateway.Routes{Current: backend(2)}, 100, "2"},
		"it has taken over":                 {two.written(100, "r2"), gateway.Routes{Current: backend(2)}, -1, ""},
		"it is taken back":                  {two.written(50, "r1"), gateway.Routes{Current: backend(1)}, 0, "2"},
		"it was taken back":                 {one.written(100, "r1"), gateway.Routes{Current: backend(1)}, -1, ""},
		"one that nobody wants any more":    {three.written(50, "r1"), gateway.Routes{Current: backend(1)}, 0, "3"},
		"nothing is there":                  {nil, gateway.Routes{Current: backend(1)}, -1, ""},
		"somebody gave the service another": {one.written(100, "r1"), gateway.Routes{Current: backend(2)}, 100, "2"},
	} {
		got, percent, err := two.next(test.live, test.routes)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want < 0 && got != nil, test.want >= 0 && got == nil:
			t.Errorf("%s: written is %v", name, got)
		case got != nil && (percent != test.want || got.GetLabels()[rollout.LabelVersion] != test.version):
			t.Errorf("%s: version %s with %d %%", name, got.GetLabels()[rollout.LabelVersion], percent)
		}
	}
	if _, _, err := two.next(func() *unstructured.Unstructured { u := one.written(100, "r1"); u.SetAnnotations(nil); return u }(), gateway.Routes{Current: backend(3)}); err == nil {
		t.Error("what was never written by this program is written again")
	}
}

func TestSharesAreJudgedByVersion(t *testing.T) {
	t.Parallel()
	two := turns(t, 2)
	step := gateway.Routes{Current: backend(1), Candidate: backend(2), Weight: 10}
	for name, test := range map[string]struct {
		routes gateway.Routes
		shares map[string]int64
		want   string
	}{
		"as wanted":                         {step, map[string]int64{ownShare: 10, "version 1": 90}, ""},
		"not yet":                           {step, map[string]int64{"version 1": 100}, "the shares are others"},
		"KServe went back by itself":        {step, map[string]int64{ownShare: 10, "version 0": 90}, "requests go to version 0"},
		"all":                               {gateway.Routes{Current: backend(1), Candidate: backend(2), Weight: 100}, map[string]int64{ownShare: 100}, ""},
		"it serves":                         {gateway.Routes{Current: backend(2)}, map[string]int64{ownShare: 100}, ""},
		"an older one of the same number":   {gateway.Routes{Current: backend(2)}, map[string]int64{"version 2": 100}, "requests go to version 2"},
		"it is taken back":                  {gateway.Routes{Current: backend(1)}, map[string]int64{"version 1": 100}, ""},
		"not all of it is taken back":       {gateway.Routes{Current: backend(1)}, map[string]int64{"version 1": 90, ownShare: 10}, "requests go to " + ownShare},
		"taken back to one that was before": {gateway.Routes{Current: backend(1)}, map[string]int64{"version 0": 100}, ""},
	} {
		if got := two.wanted(test.routes)(test.shares); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestWhoMovesTheShareIsNamed(t *testing.T) {
	t.Parallel()
	two := turns(t, 2)
	read := func(live string, percent int64) []kube.FieldChange {
		t.Helper()
		o := rollout.Objects{}
		o.Put(&unstructured.Unstructured{Object: map[string]any{"kind": "ConfigMap", "apiVersion": "v1", "metadata": map[string]any{"name": "tumors"},
			"data": map[string]any{"rollout.json": `{"live": ` + live + `}`}}})
		u := two.written(percent, "r1")
		u.SetManagedFields([]metav1.ManagedFieldsEntry{
			{Manager: "kubectl-edit", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:predictor":{"f:canaryTrafficPercent":{}}}}`)}},
			{Manager: "manager", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:status":{}}`)}},
			{Manager: kube.FieldManager, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:predictor":{"f:canaryTrafficPercent":{}}}}`)}},
		})
		got, err := driftOfShare(o, u)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	change := func(old, now string) []kube.FieldChange {
		return []kube.FieldChange{{Path: "spec.predictor.canaryTrafficPercent", Old: old, New: now, By: "kubectl-edit"}}
	}
	for name, test := range map[string]struct {
		live    string
		percent int64
		want    []kube.FieldChange
	}{
		"at rest":            {`{"phase": "ready", "current": {"number": 2}}`, 100, nil},
		"moved at rest":      {`{"phase": "ready", "current": {"number": 2}}`, 40, change("100", "40")},
		"a held step":        {`{"phase": "held", "current": {"number": 1}, "candidate": {"number": 2}, "weight": 10}`, 10, nil},
		"a moved step":       {`{"phase": "held", "current": {"number": 1}, "candidate": {"number": 2}, "weight": 10}`, 60, change("10", "60")},
		"taken back":         {`{"phase": "aborted", "current": {"number": 1}}`, 0, nil},
		"given back to it":   {`{"phase": "aborted", "current": {"number": 1}}`, 100, change("0", "100")},
		"the first comes up": {`{"phase": "starting", "candidate": {"number": 2}}`, 50, nil},
	} {
		if d := cmp.Diff(test.want, read(test.live, test.percent)); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
	}
}

func TestWhatKnativeCannotDoIsAnError(t *testing.T) {
	t.Parallel()
	rate := 0.1
	for want, change := range map[string]func(*deploymentSpec){
		"":                       func(*deploymentSpec) {},
		"kserve.deployment_mode": func(s *deploymentSpec) { s.KServe.DeploymentMode = standard },
		"rollout.strategy":       func(s *deploymentSpec) { s.Rollout = &config.Rollout{Strategy: gateway.Shadow} },
		"rollout.abort":          func(s *deploymentSpec) { s.Rollout = &config.Rollout{Abort: &config.Abort{ErrorRate: &rate}} },
		"sink":                   func(s *deploymentSpec) { s.Sink = &config.Sink{URL: "http://a"} },
		"capture":                func(s *deploymentSpec) { s.Capture = &config.Capture{Enabled: true} },
		"port":                   func(s *deploymentSpec) { s.Port = 8080 },
		"kserve.service_type":    func(s *deploymentSpec) { s.KServe.ServiceType = "NodePort" },
		"transformer":            func(s *deploymentSpec) { s.KServe.Transformer = &component{Image: "a"} },
		"kserve.explainer":       func(s *deploymentSpec) { s.KServe.Explainer = &component{Image: "a"} },
		"kserve.graph": func(s *deploymentSpec) {
			s.KServe.Graph = &graph{Nodes: []node{{Name: "root", Type: "Sequence", Steps: []step{{}}}}}
		},
	} {
		spec := example(nil).spec
		spec.KServe = &nested{Canary: byRevisions}
		change(&spec)
		err := spec.check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want+":")) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestOnlyAClusterWithKnativeHasItsCanary(t *testing.T) {
	t.Parallel()
	spec := example(nil).spec
	spec.KServe = &nested{Canary: byRevisions}
	n := spec.nest(settings{}, "")
	if _, _, err := (abilities{Mode: standard}).mode(n); err == nil || !strings.HasPrefix(err.Error(), "kserve.canary: ") {
		t.Errorf("without Knative: %v", err)
	}
	mode, _, err := abilities{Mode: standard, Knative: true}.mode(n)
	if err != nil || mode != knative {
		t.Errorf("with Knative: %q, %v", mode, err)
	}
}

func TestWhatOnlyKnativeDoesIsTakenWhereItRuns(t *testing.T) {
	t.Parallel()
	none := 0
	spec := example(nil).spec
	spec.KServe = &nested{MinReplicas: &none, ContainerConcurrency: 4, Timeout: time.Second, ScaleMetric: "rps", ScaleTarget: 10}
	can := abilities{Mode: standard, Knative: true}
	if got := can.ignored(spec, spec.nest(settings{}, ""), standard); len(got) != 4 {
		t.Errorf("in mode Standard %d errors: %v", len(got), got)
	}
	if got := can.ignored(spec, spec.nest(settings{}, ""), knative); len(got) != 0 {
		t.Errorf("in mode Knative: %v", got)
	}
}

func TestWhatKnativesWebhookRefusesIsAnErrorOfThePlan(t *testing.T) {
	t.Parallel()
	spec := example(nil).spec
	spec.KServe = &nested{NodeSelector: map[string]string{"disk": "ssd"}, Tolerations: []toleration{{Key: "gpu"}}}
	for _, test := range []struct {
		features map[string]string
		want     int
	}{{nil, 0}, {map[string]string{}, 2}, {map[string]string{featureNodeSelector: "enabled"}, 1}, {map[string]string{featureNodeSelector: "enabled", featureTolerations: "allowed"}, 0}} {
		can := abilities{Knative: true, Features: test.features}
		got := can.ignored(spec, spec.nest(settings{}, ""), knative)
		if len(got) != test.want {
			t.Errorf("with %v: %v", test.features, got)
		}
		if got := can.ignored(spec, spec.nest(settings{}, ""), standard); len(got) != 0 {
			t.Errorf("in mode Standard: %v", got)
		}
	}
}

func TestARouteIsReadByRevision(t *testing.T) {
	t.Parallel()
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Route", "metadata": map[string]any{"name": "tumors-predictor", "generation": int64(3)},
		"spec": map[string]any{"traffic": []any{map[string]any{"latestRevision": true, "percent": int64(25)}, map[string]any{"revisionName": "r1", "percent": int64(75)}}},
		"status": map[string]any{"url": "http://tumors-predictor.team.example.com", "observedGeneration": int64(3), "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}, "traffic": []any{
			map[string]any{"revisionName": "r2", "percent": int64(10), "latestRevision": true, "tag": "latest", "url": "http://latest-tumors-predictor.team.example.com"},
			map[string]any{"revisionName": "r1", "percent": int64(60), "tag": "prev"}, map[string]any{"revisionName": "r1", "percent": int64(30)},
		}},
	}}
	want := api.Route{Ready: true, URL: "http://tumors-predictor.team.example.com", Traffic: map[string]int64{"r1": 90, "r2": 10}, Asked: 25, Latest: "r2", LatestURL: "http://latest-tumors-predictor.team.example.com"}
	got, err := api.RouteOf(u)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v, -want +got\n%s", err, d)
	}
	delete(u.Object, "spec") // then the newest has all
	if got, err := api.RouteOf(u); err != nil || got.Asked != 100 {
		t.Errorf("%+v, %v", got, err)
	}
	u.SetGeneration(4) // Ready is of the one before
	if got, err := api.RouteOf(u); err != nil || got.Ready || got.Message == "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSharesOfBeforeAreNotBelieved(t *testing.T) {
	t.Parallel()
	all := map[string]int64{"r2": 100}
	for _, test := range []struct {
		r       api.Route
		percent int64
		said    map[string]int64
		want    string
	}{
		{api.Route{Ready: true, Asked: 100, Traffic: all}, 100, all, ""},
		{api.Route{Ready: true, Asked: 40, Traffic: all}, 100, all, "has not asked"}, // both shares were the newest revision's
		{api.Route{Asked: 100, Traffic: all, Message: "NotConfigured"}, 100, all, "NotConfigured"},
		{api.Route{Ready: true, Asked: 100, Traffic: all}, 100, map[string]int64{"r2": 40, "r1": 60}, "has not seen"},
	} {
		if got := doubt(test.r, test.percent, test.said); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v, asked for %d: %q", test.r, test.percent, got)
		}
	}
}

func TestAVersionServesWhileAnotherDoesNotComeUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		route, rolledOut string
		down             bool
	}{
		"the newest is not ready":    {"True", "r1", false},
		"the shares move":            {"Unknown", "r1", false},
		"nothing ever served":        {"Unknown", "", true},
		"the ingress is broken":      {"False", "r1", true},
		"Knative has said nothing":   {"", "r1", true},
		"the first is not ready yet": {"True", "", true},
	} {
		u := turns(t, 2).written(0, test.rolledOut)
		conditions := []any{map[string]any{"type": "Ready", "status": "False", "reason": "RevisionFailed"}}
		if test.route != "" {
			conditions = append(conditions, map[string]any{"type": "PredictorRouteReady", "status": test.route})
		}
		if err := unstructured.SetNestedSlice(u.Object, conditions, "status", "conditions"); err != nil {
			t.Fatal(err)
		}
		o := rollout.Objects{}
		o.Put(u)
		h, err := health(o, "tumors")
		if err != nil || (h.Down != "") != test.down {
			t.Errorf("%s: %q, %v", name, h.Down, err)
		}
	}
}

func TestTheNewestRevisionOfAComponentIsJudged(t *testing.T) {
	t.Parallel()
	revision := func(name, part string, second int) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{}}
		u.SetName(name)
		u.SetLabels(map[string]string{"component": part})
		u.SetCreationTimestamp(metav1.NewTime(time.Unix(int64(second), 0)))
		return u
	}
	all := map[string]*unstructured.Unstructured{}
	for _, u := range []*unstructured.Unstructured{
		revision("p-00001", "predictor", 1), revision("p-00003", "predictor", 5), revision("p-00002", "predictor", 5), revision("t-00001", "transformer", 9),
	} {
		all[u.GetName()] = u
	}
	if got := newest(all, "predictor"); got == nil || got.GetName() != "p-00003" {
		t.Errorf("got %v", got)
	}
	if got := newest(all, "explainer"); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestWhatCarriesTheRequestsIsNotExchangedForKnative(t *testing.T) {
	t.Parallel()
	for canary, good := range map[string]bool{byRevisions: true, "": false, bySplitter: false} {
		err := deploymentRef{Canary: canary}.carries(nested{Canary: byRevisions})
		if good != (err == nil) {
			t.Errorf("made by %q: %v", canary, err)
		}
	}
	d := &deployment{}
	_, err := d.Captured(t.Context(), resource.Address{Kind: "deployment", Name: "a"}, &state.Record{})
	if err == nil {
		t.Error("a deployment that is not applied has captured requests")
	}
}
