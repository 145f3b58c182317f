package kserve

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
)

func TestKServesConfigurationSaysWhatItCanDo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		data string
		want abilities
	}{
		"nothing is said":          {`{}`, abilities{Mode: standard}},
		"as it is shipped":         {`{"deploy": "{\"defaultDeploymentMode\": \"Knative\"}", "storageInitializer": "{\"enableOciModelSupport\": false}"}`, abilities{Mode: knative}},
		"names of before":          {`{"deploy": "{\"defaultDeploymentMode\": \"RawDeployment\"}", "storageInitializer": "{\"enableModelcar\": true}"}`, abilities{Mode: standard, OCI: true}},
		"another mode":             {`{"deploy": "{\"defaultDeploymentMode\": \"ModelMesh\"}"}`, abilities{Mode: "ModelMesh"}},
		"headless, own routes":     {`{"service": "{\"serviceClusterIPNone\": true}", "ingress": "{\"enableGatewayApi\": true}"}`, abilities{Mode: standard, Headless: true, RouteByAPI: true}},
		"routes that are not made": {`{"ingress": "{\"enableGatewayApi\": true, \"disableIngressCreation\": true}"}`, abilities{Mode: standard}},
	} {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte("data: "+test.data), &u.Object); err != nil {
			t.Fatal(err)
		}
		var got abilities
		if err := got.read(u); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
	}
}

func TestTheModeIsAsked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		can       abilities
		asked     string
		mode, err string
	}{
		"by default":                    {abilities{Mode: standard}, "", standard, ""},
		"by the block":                  {abilities{Mode: knative, Knative: true}, standard, standard, ""},
		"Knative that is not there":     {abilities{Mode: standard}, knative, "", "no Knative Serving"},
		"a mode that is not driven":     {abilities{Mode: "ModelMesh"}, "", "", "deploys as ModelMesh"},
		"unknown, and Knative is there": {abilities{Unread: "no right", Knative: true}, "", knative, ""},
		"unknown":                       {abilities{Unread: "no right"}, "", standard, ""},
	} {
		mode, why, err := test.can.mode(nested{DeploymentMode: test.asked})
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want one with %q", name, err, test.err)
			}
			continue
		}
		if err != nil || mode != test.mode || (why != "") != (test.can.Unread != "") {
			t.Errorf("%s: %s, %q, %v", name, mode, why, err)
		}
	}
}

func TestWhatWouldBeIgnoredIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	zero := 0
	for field, change := range map[string]func(*deploymentSpec){
		"scale.metric":                 func(s *deploymentSpec) { s.Scale = &config.Scale{Min: 1, Max: 2, Metric: "rps", Target: 5} },
		"kserve.scale_metric":          func(s *deploymentSpec) { s.KServe.ScaleMetric = "concurrency" },
		"kserve.container_concurrency": func(s *deploymentSpec) { s.KServe.ContainerConcurrency = 3 },
		"kserve.timeout":               func(s *deploymentSpec) { s.KServe.Timeout = time.Minute },
		"kserve.min_replicas":          func(s *deploymentSpec) { s.KServe.MinReplicas = &zero },
		"scale.min":                    func(s *deploymentSpec) { s.Scale = &config.Scale{Min: 0, Max: 2, Metric: "cpu", Target: 5} },
		"resources { cpu }":            func(s *deploymentSpec) { s.Scale = &config.Scale{Min: 1, Max: 2, Metric: "cpu", Target: 5} },
	} {
		spec := deploymentSpec{KServe: &nested{}}
		spec.Format, spec.Replicas = "sklearn", 1
		can := abilities{Mode: standard, Knative: true}
		if errs := can.ignored(spec, spec.nest(settings{}, ""), standard); len(errs) > 0 {
			t.Fatalf("nothing is asked: %v", errs)
		}
		change(&spec)
		n := spec.nest(settings{}, "")
		if errs := can.ignored(spec, n, standard); !strings.Contains(fmt.Sprint(errs), field) {
			t.Errorf("%s: errors %v", field, errs)
		}
		if errs := can.ignored(spec, n, knative); len(errs) > 0 {
			t.Errorf("%s: Knative does it: %v", field, errs)
		}
	}
}

func offers(t *testing.T, list ...string) []api.Offer {
	t.Helper()
	var out []api.Offer
	for _, text := range list {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			t.Fatal(err)
		}
		o, err := api.OfferOf(u)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func TestARuntimeIsChosenAsKServeDoes(t *testing.T) {
	t.Parallel()
	all := offers(t,
		`{kind: ClusterServingRuntime, metadata: {name: b}, spec: {protocolVersions: [v1, v2], supportedModelFormats: [{name: sklearn, version: "1", autoSelect: true, priority: 1}]}}`,
		`{kind: ClusterServingRuntime, metadata: {name: a}, spec: {protocolVersions: [v1], supportedModelFormats: [{name: sklearn, version: "1", autoSelect: true, priority: 2}, {name: xgboost}]}}`,
		`{kind: ServingRuntime, metadata: {name: z}, spec: {protocolVersions: [v2], supportedModelFormats: [{name: sklearn, autoSelect: true}, {name: onnx, autoSelect: true}]}}`,
		`{kind: ClusterServingRuntime, metadata: {name: "off"}, spec: {disabled: true, supportedModelFormats: [{name: lightgbm, autoSelect: true}]}}`,
		`{kind: ClusterServingRuntime, metadata: {name: mesh}, spec: {multiModel: true, supportedModelFormats: [{name: lightgbm, autoSelect: true}]}}`,
	)
	for _, test := range []struct {
		m         api.Model
		want, err string
	}{
		{m: api.Model{Format: "sklearn"}, want: "a"},
		{m: api.Model{Format: "sklearn", Protocol: "v2"}, want: "z"},
		{m: api.Model{Format: "sklearn", FormatVersion: "1", Runtime: "b"}, want: "b"},
		{m: api.Model{Format: "xgboost", Runtime: "a"}, want: "a"},
		{m: api.Model{Format: "xgboost"}, err: "format: no serving runtime takes xgboost with protocol v1; a comes near: it does not offer itself"},
		{m: api.Model{Format: "onnx"}, err: "z comes near: it does not speak protocol v1"},
		{m: api.Model{Format: "lightgbm"}, err: "a (sklearn:1*, xgboost), b (sklearn:1*), mesh (lightgbm*), off (lightgbm*), z (sklearn*, onnx*)"},
		{m: api.Model{Format: "sklearn", FormatVersion: "7"}, want: "", err: "no serving runtime takes sklearn"},
		{m: api.Model{Format: "onnx", Runtime: "a"}, err: "kserve.runtime: a does not fit: it does not serve the format onnx"},
		{m: api.Model{Format: "onnx", Runtime: "q"}, err: "kserve.runtime: the cluster has no q"},
	} {
		got, err := choose(all, test.m)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%+v: error %v, want one with %q", test.m, err, test.err)
			}
			continue
		}
		if err != nil || got.Name != test.want {
			t.Errorf("%+v: %s, %v; want %s", test.m, got.Name, err, test.want)
		}
	}
	if _, err := choose(nil, api.Model{Format: "onnx"}); err == nil || !strings.HasSuffix(err.Error(), "the cluster has none") {
		t.Errorf("no runtime at all: %v", err)
	}
}

func TestTheModelHasTheDeploymentsName(t *testing.T) {
	t.Parallel()
	o := offers(t, `{kind: ServingRuntime, metadata: {name: a}, spec: {containers: [
		{name: kserve-container, args: ["--model_name={{.Name}}", --dir, /mnt, --name, "{{.Name}}"], env: [{name: MODEL, value: "{{.Name}}"}, {name: X, value: "z"}]},
		{name: other, args: ["{{.Name}}"]}]}}`)[0]
	args, env := o.Renamed("tumors")
	if d := cmp.Diff([]string{"--model_name=tumors", "--name", "tumors"}, args); d != "" {
		t.Errorf("arguments: -want +got\n%s", d)
	}
	if d := cmp.Diff(map[string]string{"MODEL": "tumors"}, env); d != "" {
		t.Errorf("variables: -want +got\n%s", d)
	}
}

func TestASpecThatCannotBeServedSaysWhy(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*deploymentSpec){
		"command: KServe runs containers": func(s *deploymentSpec) { s.Format, s.Command = "", []string{"serve"} },
		"format: give the model's format": func(s *deploymentSpec) { s.Format = "" },
		"kserve.runtime:":                 func(s *deploymentSpec) { s.Image, s.KServe.Runtime = "a", "b" },
		"no model version":                func(s *deploymentSpec) { s.Model = nil },
		"replicas: 0":                     func(s *deploymentSpec) { s.Replicas = 0 },
		"sink.file":                       func(s *deploymentSpec) { s.Sink = &config.Sink{File: "a"} },
		"pass_env":                        func(s *deploymentSpec) { s.PassEnv = []string{"A"} },
		"env: STORAGE_URI":                func(s *deploymentSpec) { s.Env = map[string]string{"STORAGE_URI": "x"} },
		"kserve.explainer.image":          func(s *deploymentSpec) { s.KServe.Explainer = &component{} },
		"transformer: KServe runs":        func(s *deploymentSpec) { s.Transformer = &config.Transformer{Command: []string{"a"}} },
		"kserve.annotations":              func(s *deploymentSpec) { s.KServe.Annotations = map[string]string{"continuo.dev/x": "y"} },
		"kserve.graph: a request begins":  func(s *deploymentSpec) { s.KServe.Graph = &graph{} },
		"kserve.max_replicas":             func(s *deploymentSpec) { n := 1; s.Replicas, s.KServe.MaxReplicas = 3, &n },
	} {
		spec := deploymentSpec{KServe: &nested{}}
		spec.Format, spec.Replicas, spec.Model = "sklearn", 1, &config.Model{Version: 1, Digest: "sha256:a"}
		if err := spec.check(); err != nil {
			t.Fatalf("nothing is wrong: %v", err)
		}
		change(&spec)
		if err := spec.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
}

func TestAnAnswerIsComparedAsItsReaderWould(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		want, got string
		ok        bool
	}{
		{``, `whatever`, true},
		{`{"predictions": [1]}`, `{"predictions": [1.0000001], "id": "x"}`, true},
		{`{"predictions": [1]}`, `{"predictions": [1.1]}`, false},
		{`{"predictions": [1]}`, `{"predictions": [1, 2]}`, false},
		{`{"a": "b"}`, `{"a": null}`, false},
		{`{"a": "b"}`, `not JSON`, false},
	} {
		if err := judge(test.want, []byte(test.got)); (err == nil) != test.ok {
			t.Errorf("want %s, got %s: %v", test.want, test.got, err)
		}
	}
}

func TestWhatAWebhookFillsInIsNoDrift(t *testing.T) {
	t.Parallel()
	was := []any{map[string]any{"name": "a", "image": "x", "args": []any{"1"}}}
	for name, test := range map[string]struct {
		is   any
		want []string
	}{
		"filled in":       {[]any{map[string]any{"name": "a", "image": "x", "args": []any{"1"}, "resources": map[string]any{"cpu": "1"}}}, nil},
		"another image":   {[]any{map[string]any{"name": "a", "image": "y", "args": []any{"1"}}}, []string{"c[0].image: x -> y"}},
		"a field is gone": {[]any{map[string]any{"name": "a", "args": []any{"1"}}}, []string{"c[0].image: x -> <nil>"}},
		"more arguments":  {[]any{map[string]any{"name": "a", "image": "x", "args": []any{"1", "2"}}}, []string{"c[0].args: [1] -> [1 2]"}},
		"no list":         {"z", []string{"c: [map[args:[1] image:x name:a]] -> z"}},
	} {
		var got []string
		err := differ("c", was, test.is, func(path string, was, is any) error {
			got = append(got, fmt.Sprintf("%s: %v -> %v", path, was, is))
			return nil
		})
		if d := cmp.Diff(test.want, got); err != nil || d != "" {
			t.Errorf("%s: %v, -want +got\n%s", name, err, d)
		}
	}
}
