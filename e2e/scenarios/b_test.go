//go:build e2e

package scenarios

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

var (
	runtimes = schema.GroupVersionResource{Group: "serving.kserve.io", Version: "v1alpha1", Resource: "servingruntimes"}
	services = schema.GroupVersionResource{Group: "serving.kserve.io", Version: "v1beta1", Resource: "inferenceservices"}
)

// TestB trains on two nodes with Kubeflow Trainer and serves with KServe: a canary that is read back, and one whose answers fail,
// which is taken back while the old version goes on untouched.
func TestB(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "kserve", "kserve")
	w.env = append(w.env, "ML_VAR_image="+here.registry+"/python-torch:12", "ML_VAR_base="+here.registry+"/busybox:1")
	w.servingRuntime()
	w.ml("apply", "-auto-approve")
	w.serves(1)
	w.unchanged()
	if log := w.ml("logs", "training.tumors"); !strings.Contains(log, "process 0 of 2") || !strings.Contains(log, "process 1 of 2") {
		t.Errorf("the log of a training on two nodes:\n%s", log)
	}
	w.servedByImage()
	url := w.endpoint()
	if out := w.traffic("send", url, "data/wdbc.csv", "-n", "40"); !strings.Contains(out, "40 by version 1") {
		t.Fatalf("traffic: %s", out)
	}

	w.edit("tumors.ml.hcl", "epochs = 200", "epochs = 120")
	if why := w.plan()["training.tumors"]; why != "run params_changed" {
		t.Errorf("the training is planned as %q", why)
	}
	stop := w.stream(url, "data/wdbc.csv", "--seed", "4")
	w.ml("apply", "-auto-approve")
	answered := stop()
	for _, v := range []string{"by version 1", "by version 2"} {
		if !strings.Contains(answered, v) {
			t.Errorf("no request was answered %s: %s", v, answered)
		}
	}
	w.serves(2)
	w.servedByImage()
	w.unchanged()
	before := w.inferenceServices()

	// A column that no client sends: the model is good by all that its training measured, and fails in the field.
	w.addColumn("data/wdbc.csv")
	stopFailing := w.streamFailing(url)
	out := w.exits(3, "apply", "-auto-approve")
	stopFailing()
	if !strings.Contains(out, "version 3 was taken back") {
		t.Errorf("the apply says:\n%s", out)
	}
	w.serves(2)
	if after := w.inferenceServices(); after != before {
		t.Errorf("the InferenceServices were %s and are %s", before, after)
	}
	if out := w.traffic("send", url, "clients.csv", "-n", "20"); !strings.Contains(out, "20 by version 2") {
		t.Errorf("after the canary: %s", out)
	}
	if why := w.plan()["deployment.tumors"]; !strings.Contains(why, "quarantined") {
		t.Errorf("the deployment is planned as %q", why)
	}
	w.ml("destroy", "-auto-approve")
	w.gone()
}

// servingRuntime is what the cluster's administrator provides.
func (w *world) servingRuntime() {
	w.Helper()
	raw, err := os.ReadFile(filepath.Join(w.dir, "runtime.yaml"))
	if err != nil {
		w.Fatal(err)
	}
	var u unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(string(raw), "IMAGE", here.registry+"/python-torch:12")), &u.Object); err != nil {
		w.Fatal(err)
	}
	if _, err := w.cluster.any.Resource(runtimes).Namespace(w.namespace).Create(w.Context(), &u, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
}

// servedByImage wants each InferenceService to mount its model from an image by digest.
func (w *world) servedByImage() {
	w.Helper()
	list, err := w.cluster.any.Resource(services).Namespace(w.namespace).List(w.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		w.Fatalf("%d InferenceServices, %v", len(list.Items), err)
	}
	for _, u := range list.Items {
		uri, _, err := unstructured.NestedString(u.Object, "spec", "predictor", "model", "storageUri")
		if err != nil || !strings.HasPrefix(uri, "oci://") || !strings.Contains(uri, "@sha256:") {
			w.Errorf("%s mounts %q, %v", u.GetName(), uri, err)
		}
	}
}

// inferenceServices tells them apart by name, UID and generation.
func (w *world) inferenceServices() string {
	w.Helper()
	list, err := w.cluster.any.Resource(services).Namespace(w.namespace).List(w.Context(), metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	var b strings.Builder
	for _, u := range list.Items {
		uri, _, _ := unstructured.NestedString(u.Object, "spec", "predictor", "model", "storageUri")
		b.WriteString(u.GetName() + " " + string(u.GetUID()) + " " + uri + "; ")
	}
	return b.String()
}

// edit replaces a text in a file of the project.
func (w *world) edit(name, old, changed string) {
	w.Helper()
	at := filepath.Join(w.dir, name)
	raw, err := os.ReadFile(at)
	if err != nil || !strings.Contains(string(raw), old) {
		w.Fatalf("%s does not hold %q (%v)", name, old, err)
	}
	if err := os.WriteFile(at, []byte(strings.Replace(string(raw), old, changed, 1)), 0o600); err != nil {
		w.Fatal(err)
	}
}

// addColumn keeps the file that clients go by as clients.csv, and gives the training one more feature.
func (w *world) addColumn(name string) {
	w.Helper()
	at := filepath.Join(w.dir, name)
	raw, err := os.ReadFile(at)
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "clients.csv"), raw, 0o600); err != nil {
		w.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(raw))).ReadAll()
	if err != nil {
		w.Fatal(err)
	}
	var b strings.Builder
	out := csv.NewWriter(&b)
	for i, r := range rows {
		extra := r[0] // as informative as the first
		if i == 0 {
			extra = "radius_again"
		}
		if err := out.Write(append([]string{extra}, r...)); err != nil {
			w.Fatal(err)
		}
	}
	out.Flush()
	if err := os.WriteFile(at, []byte(b.String()), 0o600); err != nil {
		w.Fatal(err)
	}
}
