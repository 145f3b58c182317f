package kserve

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func TestAPlanSaysAllThatTheClusterWouldNotDo(t *testing.T) {
	t.Parallel()
	able := abilities{Mode: standard, OCI: true, Metrics: true, Graphs: true}
	some := offers(t, `{kind: ClusterServingRuntime, metadata: {name: a}, spec: {protocolVersions: [v1], supportedModelFormats: [{name: sklearn, autoSelect: true}]}}`)
	for name, test := range map[string]struct {
		change func(*survey, *deploymentSpec)
		want   []string // each finding begins with its severity and holds the rest
	}{
		"nothing": {},
		"two at once": {func(_ *survey, d *deploymentSpec) {
			d.Scale = &config.Scale{Min: 0, Max: 2, Metric: "rps", Target: 5}
		}, []string{"error scale.metric: KServe scales by rps with Knative only", "error scale.min: 0 servers"}},
		"no models from a registry": {func(s *survey, _ *deploymentSpec) { s.can.OCI = false }, []string{"error enableOciModelSupport"}},
		"whose image may have the model": {func(s *survey, d *deploymentSpec) {
			s.can.OCI, d.Format, d.Image = false, "", "a"
		}, nil},
		"no runtime of that name":             {func(_ *survey, d *deploymentSpec) { d.KServe.Runtime = "b" }, []string{"error kserve.runtime: the cluster has no b; it has a (sklearn*)"}},
		"a runtime for another format":        {func(_ *survey, d *deploymentSpec) { d.Format, d.KServe.Runtime = "onnx", "a" }, []string{"error kserve.runtime: a does not fit: it does not serve the format onnx"}},
		"a protocol that the runtime lacks":   {func(_ *survey, d *deploymentSpec) { d.KServe.ProtocolVersion = "v2" }, []string{"error a comes near: it does not speak protocol v2"}},
		"runtimes that cannot be seen":        {func(s *survey, _ *deploymentSpec) { s.offers, s.note = nil, "the right is missing" }, []string{"warning the right is missing"}},
		"a configuration that cannot be seen": {func(s *survey, _ *deploymentSpec) { s.can = abilities{Unread: "no right", Graphs: true} }, []string{"warning no right"}},
		"a mode that is not there":            {func(_ *survey, d *deploymentSpec) { d.KServe.DeploymentMode = knative }, []string{"error the cluster has no Knative Serving"}},
		"a graph without its kind": {func(s *survey, d *deploymentSpec) {
			s.can.Graphs, d.KServe.Graph = false, &graph{}
		}, []string{"error kserve.graph: the cluster serves no InferenceGraph"}},
		"a logger beside a batcher": {func(_ *survey, d *deploymentSpec) {
			d.KServe.Logger, d.KServe.Batcher = &logger{Mode: "all"}, &batcher{MaxBatchSize: 2}
		}, []string{"warning kserve.logger:"}},
		"one of requests only": {func(_ *survey, d *deploymentSpec) {
			d.KServe.Logger, d.KServe.Batcher = &logger{Mode: "request"}, &batcher{MaxBatchSize: 2}
		}, nil},
		"nobody measures": {func(s *survey, d *deploymentSpec) {
			s.can.Metrics, d.Scale, d.Resources = false, &config.Scale{Min: 1, Max: 2, Metric: "cpu", Target: 5}, &config.ServerUse{CPU: "1"}
		}, []string{"warning install metrics-server"}},
	} {
		s := survey{can: able, offers: some}
		spec := deploymentSpec{KServe: &nested{}}
		spec.Format, spec.Replicas = "sklearn", 1
		if test.change != nil {
			test.change(&s, &spec)
		}
		got := s.findings(settings{SystemNamespace: "kserve"}, spec, spec.nest(settings{}, ""))
		if len(got) != len(test.want) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		for i, f := range got {
			severity, rest, _ := strings.Cut(test.want[i], " ")
			if f.Warning != (severity == "warning") || !strings.Contains(f.Detail, rest) || !strings.HasSuffix(f.Detail, ".") || f.Summary == "" {
				t.Errorf("%s: %+v, want %q", name, f, test.want[i])
			}
		}
	}
}

func TestAPlanDecodesWhatItKnows(t *testing.T) {
	t.Parallel()
	spec := deploymentSpec{KServe: &nested{Runtime: "a"}}
	spec.Format, spec.Replicas = "sklearn", 1
	v, err := resource.Encode(spec)
	if err != nil {
		t.Fatal(err)
	}
	known := v.AsValueMap()
	known["model"], known["image"] = cty.UnknownVal(known["model"].Type()), cty.UnknownVal(cty.String)
	got, err := planned(cty.ObjectVal(known))
	if err != nil || got.Model == nil || got.Image == "" || !got.custom() || got.KServe.Runtime != "a" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = planned(v); err != nil || got.Image != "" || got.custom() {
		t.Errorf("without an image: %+v, %v", got, err)
	}
}

func TestWhatIsWrongWithoutACluster(t *testing.T) {
	t.Parallel()
	d := &deployment{}
	spec := deploymentSpec{}
	spec.Format, spec.Replicas, spec.PassEnv = "sklearn", 1, []string{"A"}
	v, err := resource.Encode(spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Preflight(t.Context(), providers.PreflightRequest{Spec: v})
	if err != nil || len(got) != 1 || got[0].Warning || !strings.HasPrefix(got[0].Detail, "pass_env:") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAnImportedServiceTakesNothingBeforeIt(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(deploymentRef{Imported: "legacy"})
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*deploymentSpec){
		"<nil>":             func(*deploymentSpec) {},
		"rollout.strategy:": func(d *deploymentSpec) { d.Rollout = &config.Rollout{Strategy: "canary"} },
		"kserve.canary:":    func(d *deploymentSpec) { d.KServe = &nested{Canary: bySplitter} },
		"kserve.graph:":     func(d *deploymentSpec) { d.KServe = &nested{Graph: &graph{}} },
	} {
		var spec deploymentSpec
		change(&spec)
		if got := fmt.Sprint(noRollout(spec, providers.PreflightRequest{Prior: &state.Record{Ref: raw}})); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", want, got)
		}
		if err := noRollout(spec, providers.PreflightRequest{}); err != nil {
			t.Errorf("%s: a new one: %v", want, err)
		}
	}
}
