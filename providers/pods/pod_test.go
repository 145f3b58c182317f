package pods

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/internal/kube"
)

var update = flag.Bool("update", false, "write the golden files")

func TestTheSecretOfAStageGoesWithItsObject(t *testing.T) {
	s := Spec{
		Name: "training-churn-01abc", Env: []string{"API_TOKEN", "odd name"},
		Labels: map[string]string{LabelRun: "01ABC", kube.ManagedBy: kube.FieldManager}, Annotations: map[string]string{LabelAddress: `training.churn["de"]`},
		Block: Block{Namespace: "ml", Labels: map[string]string{"team": "risk", LabelRun: "ours wins"}, Annotations: map[string]string{"note": "x"}},
	}
	u, err := secret(s, []byte(`{"v":1}`), map[string]string{"API_TOKEN": "hush", "odd name": "x"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := yaml.Marshal(owned(u, kube.Ref{Group: "batch", Version: "v1", Kind: "Job", Name: s.Name, UID: "uid-1"}).Object)
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/secret.yaml"
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
}
