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
	"github.com/continuo-ml/continuo/resource"
)

var update = flag.Bool("update", false, "write the golden files")

func simpleSpec() jobSpec {
	return jobSpec{
		Name: "training-churn-01abc", Image: "r.example.com/python:3", Runner: "r.example.com/ml/runner@sha256:1", Nodes: 1, Grace: 10 * time.Second,
		Labels: map[string]string{labelRun: "01ABC", kube.ManagedBy: kube.FieldManager}, Annotations: map[string]string{labelAddress: `training.churn["de"]`},
		Pod: podSettings{Namespace: "ml"},
	}
}

func fullSpec() jobSpec {
	s := simpleSpec()
	s.Nodes, s.Timeout, s.Env = 4, time.Hour, []string{"API_TOKEN", "odd name"}
	s.Resources = &config.Resources{CPU: "2", Memory: "4Gi", GPU: 1}
	s.Pod = podSettings{
		Namespace: "ml", Labels: map[string]string{"team": "risk", labelRun: "ours wins"}, Annotations: map[string]string{"note": "x"},
		NodeSelector: map[string]string{"gpu": "h100"}, Tolerations: []toleration{{Key: "gpu", Operator: "Exists", Effect: "NoSchedule"}},
		ServiceAccount: "trainer", ImagePullSecrets: []string{"registry", "other"}, PriorityClass: "batch", SharedMemory: "2Gi",
		Volumes: []volume{{Name: "corpus_1", Claim: "corpus", Path: "/data", ReadOnly: true}},
	}
	return s
}

func TestTheObjectsOfAStage(t *testing.T) {
	own := owner(kube.Ref{Name: "training-churn-01abc", UID: "uid-1"})
	full := fullSpec()
	asleep := simpleSpec()
	asleep.Suspend = true
	build := map[string]func() (*unstructured.Unstructured, error){
		"simple":  func() (*unstructured.Unstructured, error) { return job(simpleSpec()) },
		"asleep":  func() (*unstructured.Unstructured, error) { return job(asleep) },
		"full":    func() (*unstructured.Unstructured, error) { return job(full) },
		"service": func() (*unstructured.Unstructured, error) { return service(full, own) },
		"secret": func() (*unstructured.Unstructured, error) {
			return secret(full, own, []byte(`{"v":1}`), map[string]string{"API_TOKEN": "hush", "odd name": "x"})
		},
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
			if name != "secret" && strings.Contains(string(got), "hush") {
				t.Error("a secret value stands in the object")
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
	for says, change := range map[string]func(*jobSpec){
		`resources.memory = "lots"`:         func(s *jobSpec) { s.Resources = &config.Resources{Memory: "lots"} },
		`resources.cpu = "0"`:               func(s *jobSpec) { s.Resources = &config.Resources{CPU: "0"} },
		`kubernetes.shared_memory = "-1Gi"`: func(s *jobSpec) { s.Pod.SharedMemory = "-1Gi" },
		"outside of /continuo":              func(s *jobSpec) { s.Pod.Volumes = []volume{{Name: "a", Claim: "c", Path: "/continuo/work"}} },
		"give an absolute path":             func(s *jobSpec) { s.Pod.Volumes = []volume{{Name: "a", Claim: "c", Path: "data"}} },
		"b is mounted at /x already": func(s *jobSpec) {
			s.Pod.Volumes = []volume{{Name: "b", Claim: "c", Path: "/x"}, {Name: "a", Claim: "c", Path: "/x"}}
		},
	} {
		s := simpleSpec()
		change(&s)
		if _, err := job(s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestNamesAreTheRunsOwnAndFitTheirPlaces(t *testing.T) {
	addr := func(name, key string) resource.Address {
		a := resource.Address{Kind: "training", Name: name}
		if key != "" {
			a.Key = resource.StringKey(key)
		}
		return a
	}
	const id = "01M8B83ETY7V7474KQJGA2GVGZ"
	seen := map[string]string{}
	for _, test := range []struct{ run, name, key string }{
		{id, "churn", ""}, {id + ".smoke", "churn", ""}, {id + ".trial-001", "churn", ""}, {id, "a_very_long_name_of_a_training_of_all_things", ""},
		{id, "churn", "Größe XL"}, {strings.Repeat("x", 100), "churn", ""}, {"odd id/../x", "churn", ""},
	} {
		got := jobName(addr(test.name, test.key), test.run)
		if len(got) > maxJobName || !nameLike.MatchString(got) {
			t.Errorf("%v: %q is no name of a Job", test, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%v and %s are both %s", test, other, got)
		}
		seen[got] = test.run + test.name + test.key
		if again := jobName(addr(test.name, test.key), test.run); again != got {
			t.Errorf("%s, and then %s", got, again)
		}
	}
	if got := jobName(addr("churn", ""), id); got != "training-churn-01m8b83ety7v7474kqjga2gvgz" {
		t.Errorf("%s", got)
	}
	for text, want := range map[string]string{"training.churn": "training.churn", "": ""} {
		if got := labelValue(text); got != want {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	for _, odd := range []string{`training.churn["de"]`, strings.Repeat("a", 64), "-x"} {
		if got := labelValue(odd); len(got) > maxLabel || !labelLike.MatchString(got) {
			t.Errorf("%q becomes %q", odd, got)
		}
	}
}
