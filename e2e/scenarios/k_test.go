//go:build e2e

package scenarios

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

var (
	trainJobs        = schema.GroupVersionResource{Group: "trainer.kubeflow.org", Version: "v1alpha1", Resource: "trainjobs"}
	trainingRuntimes = schema.GroupVersionResource{Group: "trainer.kubeflow.org", Version: "v1alpha1", Resource: "trainingruntimes"}
)

// TestK goes through what Kubeflow Trainer has besides a plain run: a search whose trials are TrainJobs, a runtime with an initializer, a
// patch, a change that makes another TrainJob and keeps the history, and a TrainJob of somebody else's that is taken over.
func TestK(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, os.DirFS("testdata/kubeflow"), "kubeflow")
	w.house()
	seen := w.seen(trainJobs)
	w.ml("apply", "-auto-approve")
	w.unchanged()
	if x := strings.TrimSpace(w.ml("output", "x")); x != "3" {
		t.Errorf("the best x is %s", x)
	}
	if log := w.ml("logs", "training.searched"); !strings.Contains(log, "trained on s3://bucket/numbers in groups [") || !strings.Contains(log, "4711") {
		t.Errorf("what the initializer was asked for, or the group of the patch, is not in the log:\n%s", log)
	}
	jobs := seen()
	if len(jobs) != 3 {
		t.Errorf("%d TrainJobs, want two trials and the run that counts: %v", len(jobs), slices.Sorted(maps.Keys(jobs)))
	}

	// Nothing in a TrainJob can be changed; a change makes another one, and what was made stays.
	w.edit("main.ml.hcl", "target = 3", "target = 4")
	if why := w.plan()["training.searched"]; why != "run params_changed" {
		t.Errorf("it is planned as %q", why)
	}
	w.ml("apply", "-auto-approve")
	w.unchanged()
	var versions []struct {
		Version int
		Params  map[string]any
	}
	w.read(&versions, "versions", "training.searched")
	if len(versions) != 2 || fmt.Sprint(versions[0].Params["x"], versions[1].Params["x"]) != "4 3" && fmt.Sprint(versions[0].Params["x"], versions[1].Params["x"]) != "3 4" {
		t.Errorf("versions %+v", versions)
	}
	w.foreign()
	w.ml("destroy", "-auto-approve")
	w.gone()
	if _, err := w.cluster.any.Resource(trainJobs).Namespace(w.namespace).Get(t.Context(), "foreign", metav1.GetOptions{}); err != nil {
		t.Errorf("a TrainJob that was taken over is not ours to delete: %v", err)
	}
}

// house makes the runtime that an administrator provides.
func (w *world) house() {
	w.Helper()
	raw, err := os.ReadFile(filepath.Join(w.dir, "house.yaml.txt"))
	if err != nil {
		w.Fatal(err)
	}
	text := strings.NewReplacer("IMAGE", here.image, "FOLDER", filepath.Join(w.TempDir(), "workspace")).Replace(string(raw))
	w.create(trainingRuntimes, text)
}

func (w *world) create(kind schema.GroupVersionResource, text string) *unstructured.Unstructured {
	w.Helper()
	var u unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		w.Fatal(err)
	}
	made, err := w.cluster.any.Resource(kind).Namespace(w.namespace).Create(w.Context(), &u, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return made
}

// seen collects all objects of a kind that are there at any time until it is asked, by name, each as it was seen last.
func (w *world) seen(kind schema.GroupVersionResource) func() map[string]*unstructured.Unstructured {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	found := make(chan map[string]*unstructured.Unstructured, 1)
	go func() {
		all := map[string]*unstructured.Unstructured{}
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				found <- all
				return
			case <-tick.C:
			}
			// What one look misses, the next one sees: each is there for seconds.
			list, err := w.cluster.any.Resource(kind).Namespace(w.namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				continue
			}
			for _, u := range list.Items {
				all[u.GetName()] = &u
			}
		}
	}()
	return func() map[string]*unstructured.Unstructured {
		cancel()
		return <-found
	}
}

// foreign runs a TrainJob as kubectl would, and takes it over: the plan after that has nothing to do, and the TrainJob is as it was.
func (w *world) foreign() {
	w.Helper()
	model := strings.Trim(strings.TrimSpace(w.ml("output", "model")), `"`)
	w.create(trainJobs, fmt.Sprintf(`
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
metadata: {name: foreign}
spec:
  runtimeRef: {name: torch-distributed}
  trainer: {image: %q, command: [python3, old.py], numNodes: 1, numProcPerNode: 1}
`, here.image))
	file := filepath.Join(w.dir, "old.ml.hcl")
	if err := os.WriteFile(file, []byte("training \"old\" {\n  command = [\"python3\", \"other.py\"]\n  image   = var.image\n}\n"), 0o644); err != nil {
		w.Fatal(err)
	}
	// It runs no such file in that image, so it fails; the one that ends well is the next.
	if out := w.exits(1, "import", "training.old", "trainjob/foreign"); !strings.Contains(out, `command is ["python3" "other.py"], and the TrainJob had ["python3" "old.py"]`) {
		w.Errorf("a block that says something else: %s", out)
	}
	jobs := w.cluster.any.Resource(trainJobs).Namespace(w.namespace)
	if err := jobs.Delete(w.Context(), "foreign", metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	until(ctx, w.T, "the TrainJob to be gone", func() bool { _, err := jobs.Get(ctx, "foreign", metav1.GetOptions{}); return err != nil })
	w.create(trainJobs, fmt.Sprintf(`
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
metadata: {name: foreign, annotations: {continuo.dev/model: %q}}
spec:
  runtimeRef: {name: torch-distributed}
  trainer: {image: %q, command: [python3, -c], args: [pass]}
`, model, here.image))
	if err := os.WriteFile(file, []byte("training \"old\" {\n  command = [\"python3\", \"-c\", \"pass\"]\n  image   = var.image\n}\n"), 0o644); err != nil {
		w.Fatal(err)
	}
	var out string
	until(ctx, w.T, "the TrainJob to be taken over", func() bool {
		var err error
		out, err = w.run(ctx, "import", "training.old", "trainjob/foreign")
		return err == nil
	})
	if ctx.Err() != nil {
		w.Fatalf("ml import: %s", out)
	}
	before, err := jobs.Get(w.Context(), "foreign", metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.unchanged()
	var versions []struct{ Version int }
	if w.read(&versions, "versions", "training.old"); len(versions) != 1 || versions[0].Version != 1 {
		w.Errorf("versions %+v", versions)
	}
	after, err := jobs.Get(w.Context(), "foreign", metav1.GetOptions{})
	if err != nil || after.GetResourceVersion() != before.GetResourceVersion() || after.GetLabels()["app.kubernetes.io/managed-by"] != "" {
		w.Errorf("the TrainJob was touched: %v", err)
	}
}
