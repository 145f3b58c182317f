package kubeflow

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
)

// searchSpace has a parameter of every type.
func searchSpace() config.Tuning {
	return config.Tuning{
		Method: "random", Trials: 12, Parallel: 3, Metric: "loss", Goal: "minimize", Seed: 5, MaxFailed: 2,
		Parameters: []config.TuningParameter{
			{Name: "rate", Type: "double", Min: new(0.0001), Max: new(0.1), Log: true},
			{Name: "layers", Type: "int", Min: new(1.0), Max: new(9.0), Step: new(2.0)},
			{Name: "kind", Type: "categorical", Values: []any{"relu", 3.0, true}},
		},
	}
}

func TestASearchIsAnExperiment(t *testing.T) {
	for name, c := range map[string]struct {
		base   string
		katib  katib
		tuning func(*config.Tuning)
	}{
		"katib": {base: torch},
		"katib-rich": {base: rich, katib: katib{Algorithm: "hyperband", Settings: map[string]string{"r_l": "9", "resource_name": "layers"}}, tuning: func(t *config.Tuning) {
			t.Goal, t.MaxFailed, t.Parallel, t.Trials = "maximize", 0, 9, 4
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tuning := searchSpace()
			if c.tuning != nil {
				c.tuning(&tuning)
			}
			x, err := newExperiment(builder{block{Katib: &c.katib}}, tuning, pods.Attributes{Nodes: 1})
			if err != nil {
				t.Fatal(err)
			}
			s := spec()
			s.Resources, s.Env = &config.Resources{CPU: "1", Memory: "1Gi"}, []string{"TOKEN"}
			base := object(t, c.base)
			before := base.DeepCopy()
			o, err := x.build(s, base)
			if err != nil {
				t.Fatal(err)
			}
			if len(o.Before) > 0 || !equal(base, before) {
				t.Errorf("%d objects before it; the runtime that was read is changed: %v", len(o.Before), !equal(base, before))
			}
			b, err := yaml.Marshal(kube.Prune(o.Object).Object)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".yaml"), b)
			again, err := x.build(s, base)
			if err != nil || !equal(again.Object, o.Object) {
				t.Errorf("the same again is not the same: %v", err)
			}
		})
	}
}

func TestWhatKatibCannotDoIsToldBeforeAnythingRuns(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*config.Training, *block)
		says   string
	}{
		"two nodes":      {func(t *config.Training, _ *block) { t.Nodes = 2 }, "nodes is 2"},
		"initializer":    {func(_ *config.Training, b *block) { b.Initializer = &initializer{Dataset: "s3://b"} }, "neither the initializer nor"},
		"early stopping": {func(t *config.Training, _ *block) { t.Tuning.EarlyStopping = &config.EarlyStopping{MinTrials: 1} }, "early_stopping"},
		"pbt":            {func(_ *config.Training, b *block) { b.Katib.Algorithm = "pbt" }, "pbt hands checkpoints"},
		"metric":         {func(t *config.Training, _ *block) { t.Tuning.Metric = "top 5" }, `tuning.metric = "top 5"`},
		"cmaes":          {func(_ *config.Training, b *block) { b.Katib.Algorithm = "cmaes" }, "tuning.parameter.kind: algorithm cmaes searches numbers only"},
		"alike":          {func(t *config.Training, _ *block) { t.Tuning.Parameters[2].Values = []any{"1", 1.0} }, `two of its values are written "1"`},
		"log grid":       {func(t *config.Training, _ *block) { t.Tuning.Method = "grid" }, "tuning.parameter.rate: a grid of Katib's is not logarithmic"},
		"odd int":        {func(t *config.Training, _ *block) { t.Tuning.Parameters[1].Min = new(1.5) }, "min = 1.5: Katib wants a whole number"},
	} {
		t.Run(name, func(t *testing.T) {
			tuning := searchSpace()
			training := config.Training{Exec: config.Exec{Command: []string{"true"}}, Nodes: 1, Tuning: &tuning}
			b := block{Runtime: "torch-distributed", RuntimeKind: clusterKind.Kind, Katib: &katib{}}
			encode := func() error {
				_, err := trainJobs{}.Step(providertest.Encoded(t, struct {
					config.Training
					Kubeflow block `ml:"kubeflow,block"`
				}{training, b}))
				return err
			}
			if err := encode(); err != nil {
				t.Fatal(err)
			}
			c.change(&training, &b)
			if err := encode(); err == nil || !strings.Contains(err.Error(), "kubeflow.katib: ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want it to say %q", err, c.says)
			}
		})
	}
}

// trialOf is a Trial as Katib leaves it.
func trialOf(t *testing.T, name, condition, metric string, rate, layers, kind string) *unstructured.Unstructured {
	t.Helper()
	return object(t, fmt.Sprintf(`
apiVersion: kubeflow.org/v1beta1
kind: Trial
metadata: {name: %s, creationTimestamp: "2026-01-02T03:04:05Z"}
spec: {parameterAssignments: [{name: rate, value: "%s"}, {name: layers, value: "%s"}, {name: kind, value: "%s"}]}
status:
  conditions: [{type: Created, status: "True"}, {type: Running, status: "False"}, {type: %s, status: "True", message: so it is}]
  observation: {metrics: [{name: other, latest: "1"}%s]}
`, name, rate, layers, kind, condition, metric))
}

func TestWhatKatibFoundIsRead(t *testing.T) {
	x, err := newExperiment(builder{block{Katib: &katib{}}}, searchSpace(), pods.Attributes{})
	if err != nil {
		t.Fatal(err)
	}
	const loss = `, {name: loss, latest: "0.25", min: "0.1", max: "9"}`
	got := x.read(object(t, `{apiVersion: kubeflow.org/v1beta1, kind: Experiment, metadata: {name: e}, status: {currentOptimalTrial: {bestTrialName: b}}}`), []*unstructured.Unstructured{
		trialOf(t, "f", "Running", "", "0.1", "1", "relu"),
		trialOf(t, "e", "Succeeded", loss, "0.1", "1", "tanh"),
		trialOf(t, "d", "Succeeded", loss, "0.1", "1.5", "relu"),
		trialOf(t, "c", "MetricsUnavailable", "", "0.1", "1", "relu"),
		trialOf(t, "b", "Succeeded", loss, ".001", "3.0", "3"),
		trialOf(t, "a", "Succeeded", "", "0.1", "1", "true"),
	})
	if fmt.Sprint(got.Open) != "[f]" || got.Best != 1 || len(got.Ended) != 5 {
		t.Fatalf("%+v", got)
	}
	if b := got.Ended[1]; b.Value == nil || *b.Value != 0.25 || fmt.Sprint(b.Params) != "map[kind:3 layers:3 rate:0.001]" {
		t.Errorf("the best: %+v", b)
	}
	for i, says := range map[int]string{0: "no metric loss", 2: "MetricsUnavailable: so it is", 3: "no whole number", 4: `"tanh", which is none of its values`} {
		if c := got.Ended[i]; c.Value != nil || !strings.Contains(c.Reason, says) {
			t.Errorf("%s: %+v, want it to say %q", c.Name, c, says)
		}
	}
	// One that Katib calls the best although it has no metric is none.
	got = x.read(object(t, `{apiVersion: kubeflow.org/v1beta1, kind: Experiment, metadata: {name: e}, status: {currentOptimalTrial: {bestTrialName: a}}}`),
		[]*unstructured.Unstructured{trialOf(t, "a", "Succeeded", "", "0.1", "1", "true")})
	if got.Best != -1 {
		t.Errorf("a trial without a metric is the best: %+v", got)
	}
	if st := kube.Ready(object(t, `{apiVersion: kubeflow.org/v1beta1, kind: Experiment, metadata: {name: e}, status: {conditions: [{type: Failed, status: "True", reason: ExperimentFailed, message: too many}]}}`)); !st.Failed || !strings.Contains(st.Message, "too many") {
		t.Errorf("%+v", st)
	}
}
