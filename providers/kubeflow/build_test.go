package kubeflow

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers/pods"
)

var update = flag.Bool("update", false, "write the golden files")

// torch is the runtime that comes with Trainer.
const torch = `
apiVersion: trainer.kubeflow.org/v1alpha1
kind: ClusterTrainingRuntime
metadata:
  name: torch-distributed
  uid: 7d1c
  labels: {trainer.kubeflow.org/framework: torch, app: trainer}
spec:
  mlPolicy: {numNodes: 1, torch: {}}
  template:
    spec:
      replicatedJobs:
      - name: node
        template:
          metadata:
            labels: {trainer.kubeflow.org/trainjob-ancestor-step: trainer}
          spec:
            template:
              spec:
                containers:
                - {name: node, image: pytorch, args: [--help]}
`

// rich is a runtime of somebody's own: other jobs, an account, variables, a volume, a policy.
const rich = `
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainingRuntime
metadata: {name: house, namespace: ml}
spec:
  template:
    metadata: {labels: {team: vision}}
    spec:
      failurePolicy: {maxRestarts: 1}
      replicatedJobs:
      - name: dataset-initializer
        template:
          metadata:
            labels: {trainer.kubeflow.org/trainjob-ancestor-step: dataset-initializer}
          spec:
            template:
              spec:
                containers:
                - {name: dataset-initializer, image: fetch, volumeMounts: [{name: initializer, mountPath: /workspace}]}
      - name: worker
        template:
          metadata:
            labels: {trainer.kubeflow.org/trainjob-ancestor-step: trainer}
          spec:
            template:
              spec:
                serviceAccountName: trainer
                volumes: [{name: initializer, persistentVolumeClaim: {claimName: data}}]
                containers:
                - name: node
                  env: [{name: NCCL_DEBUG, value: INFO}]
                  volumeMounts: [{name: initializer, mountPath: /workspace}]
                - {name: sidecar, image: telemetry}
`

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return u
}

func spec() pods.Spec {
	return pods.Spec{
		Name: "training-digits-01m8", Image: "registry/torch:1", Runner: "registry/ml/runner@sha256:1", Nodes: 1,
		Labels: map[string]string{"continuo.dev/run": "01M8"}, Annotations: map[string]string{"continuo.dev/address": "training.digits"},
		Grace: 10 * time.Second, Block: pods.Block{Namespace: "ml"},
	}
}

func TestARunIsATrainJobAndARuntimeOfItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		base   string
		block  block
		change func(*pods.Spec)
	}{
		"one-node": {base: torch},
		"two-nodes": {base: torch, change: func(s *pods.Spec) {
			s.Nodes, s.Processes, s.Timeout, s.Env = 2, 3, time.Hour, []string{"TOKEN"}
			s.Resources = &config.Resources{CPU: "500m", Memory: "1Gi", GPU: 1}
			s.Block.SharedMemory, s.Block.NodeSelector, s.Block.Labels = "2Gi", map[string]string{"pool": "gpu"}, map[string]string{"team": "x"}
		}},
		"rich": {base: rich, block: block{
			Initializer: &initializer{Dataset: "s3://bucket/data", Secret: "keys"},
			Patches:     []any{map[string]any{"trainingRuntimeSpec": map[string]any{"template": map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b"}}}}}},
		}, change: func(s *pods.Spec) { s.Nodes = 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec()
			if c.change != nil {
				c.change(&s)
			}
			base := object(t, c.base)
			before := base.DeepCopy()
			o, err := builder{c.block}.build(s, base)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for _, u := range append(o.Before, o.Object) {
				b, err := yaml.Marshal(u.Object)
				if err != nil {
					t.Fatal(err)
				}
				got.WriteString("---\n")
				got.Write(b)
			}
			golden(t, filepath.Join("testdata", name+".yaml"), got.Bytes())
			again, err := builder{c.block}.build(s, base)
			if err != nil || !equal(again.Object, o.Object) || !equal(again.Before[0], o.Before[0]) {
				t.Errorf("the same again is not the same: %v", err)
			}
			if !equal(base, before) {
				t.Error("the runtime that was read is changed")
			}
		})
	}
}

func equal(a, b *unstructured.Unstructured) bool {
	x, errX := a.MarshalJSON()
	y, errY := b.MarshalJSON()
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; go test ./providers/kubeflow -update writes it anew. Got:\n%s", path, got)
	}
}

func TestARuntimeThatCannotServeIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ old, new, says string }{
		"mpi":          {"torch: {}", "mpi: {mpiImplementation: OpenMPI}", "through mpi, which would get neither code nor inputs"},
		"no trainer":   {"step: trainer", "step: other", "has no job for the command"},
		"long names":   {"- name: node\n", "- name: a-job-with-a-name-that-is-far-too-long\n", "the name of its job a-job-with-a-name-that-is-far-too-long is "},
		"no jobs":      {"replicatedJobs:", "others:", "it has no spec.template.spec.replicatedJobs"},
		"no templates": {"template:\n              spec:", "x:\n              spec:", "its job node has no pod template"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(torch, c.old, c.new, 1)
			if text == torch {
				t.Fatal("nothing is changed")
			}
			_, err := builder{}.build(spec(), object(t, text))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want it to say %q", err, c.says)
			}
		})
	}
}

func TestPatchesAreAListOfObjects(t *testing.T) {
	for _, bad := range []any{"text", map[string]any{"a": 1}, []any{"text"}} {
		if _, err := (builder{block{Patches: bad}}).patches(); err == nil || !strings.Contains(err.Error(), "kubeflow.runtime_patches: ") {
			t.Errorf("%v: got %v", bad, err)
		}
	}
}
