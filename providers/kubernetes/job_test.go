package kubernetes

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
)

var update = flag.Bool("update", false, "write the golden files")

func simpleSpec() pods.Spec {
	return pods.Spec{
		Name: "training-churn-01abc", Image: "r.example.com/python:3", Runner: "r.example.com/ml/runner@sha256:1", Nodes: 1, Grace: 10 * time.Second,
		Labels: map[string]string{pods.LabelRun: "01ABC", kube.ManagedBy: kube.FieldManager}, Annotations: map[string]string{pods.LabelAddress: `training.churn["de"]`},
		Block: pods.Block{Namespace: "ml"},
	}
}

func fullSpec() pods.Spec {
	s := simpleSpec()
	s.Nodes, s.Timeout, s.Env = 4, time.Hour, []string{"API_TOKEN", "odd name"}
	s.Resources = &config.Resources{CPU: "2", Memory: "4Gi", GPU: 1}
	s.Block = pods.Block{
		Namespace: "ml", Labels: map[string]string{"team": "risk", pods.LabelRun: "ours wins"}, Annotations: map[string]string{"note": "x"},
		NodeSelector: map[string]string{"gpu": "h100"}, Tolerations: []pods.Toleration{{Key: "gpu", Operator: "Exists", Effect: "NoSchedule"}},
		ServiceAccount: "trainer", ImagePullSecrets: []string{"registry", "other"}, PriorityClass: "batch", SharedMemory: "2Gi",
		Volumes: []pods.Volume{{Name: "corpus_1", Claim: "corpus", Path: "/data", ReadOnly: true}},
	}
	return s
}

func TestTheObjectsOfAStage(t *testing.T) {
	full := fullSpec()
	full.Master = full.Name + "-0." + full.Name
	build := map[string]func() (*unstructured.Unstructured, error){
		"simple":  func() (*unstructured.Unstructured, error) { return job(simpleSpec()) },
		"full":    func() (*unstructured.Unstructured, error) { return job(full) },
		"service": func() (*unstructured.Unstructured, error) { return service(full) },
	}
	for name, f := range build {
		t.Run(name, func(t *testing.T) {
			u, err := f()
			if err != nil {
				t.Fatal(err)
			}
			got, err := yaml.Marshal(u.Object)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("%s differs (-update writes it):\n%s", path, d)
			}
		})
	}
}

func TestASpecThatCannotBeIsRefused(t *testing.T) {
	for says, change := range map[string]func(*pods.Spec){
		`resources.memory = "lots"`:         func(s *pods.Spec) { s.Resources = &config.Resources{Memory: "lots"} },
		`resources.cpu = "0"`:               func(s *pods.Spec) { s.Resources = &config.Resources{CPU: "0"} },
		`kubernetes.shared_memory = "-1Gi"`: func(s *pods.Spec) { s.Block.SharedMemory = "-1Gi" },
		"outside of /continuo":              func(s *pods.Spec) { s.Block.Volumes = []pods.Volume{{Name: "a", Claim: "c", Path: "/continuo/work"}} },
		"give an absolute path":             func(s *pods.Spec) { s.Block.Volumes = []pods.Volume{{Name: "a", Claim: "c", Path: "data"}} },
		"b is mounted at /x already": func(s *pods.Spec) {
			s.Block.Volumes = []pods.Volume{{Name: "b", Claim: "c", Path: "/x"}, {Name: "a", Claim: "c", Path: "/x"}}
		},
	} {
		s := simpleSpec()
		change(&s)
		if _, err := job(s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
