//go:build e2e

package scenarios

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var katibTrials = schema.GroupVersionResource{Group: "kubeflow.org", Version: "v1beta1", Resource: "trials"}

// TestT leaves a search to Katib: what it needs of the namespace is asked for before anything runs, the best of its trials is trained as a
// version, and neither where the search happens nor a second plan trains anew.
func TestT(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, os.DirFS("testdata/katib"), "kubeflow")
	if _, err := w.cluster.any.Resource(katibTrials).Namespace(w.namespace).List(t.Context(), metav1.ListOptions{}); apierrors.IsNotFound(err) {
		lacks(t, "the cluster has no Katib: `go run ./e2e/cluster katib` adds it")
	} else if err != nil {
		t.Fatal(err)
	}
	label := "katib.kubeflow.org/metrics-collector-injection=enabled"
	if out := joined(w.exits(1, "apply", "-auto-approve")); !strings.Contains(out, "kubectl label namespace "+w.namespace+" "+label) {
		t.Errorf("without the label of the namespace: %s", out)
	}
	w.kubectl("label", "namespace/"+w.namespace, label)
	trials, jobs := w.seen(katibTrials), w.seen(trainJobs)
	out := w.ml("apply", "-auto-approve")
	if done := regexp.MustCompile(`trial [a-z0-9]{8} done: loss `).FindAllString(out, -1); len(done) != 5 || !regexp.MustCompile(`tuning: trial [a-z0-9]{8} of 5 is best: loss `).MatchString(out) {
		t.Errorf("it tells %d trials:\n%s", len(done), out)
	}
	w.unchanged()
	loss := w.bestOf(1, trials())
	if n := len(jobs()); n != 1 {
		t.Errorf("%d TrainJobs, want the one run that counts: the trials are Katib's", n)
	}

	// Where the search happens is policy: the record says otherwise, and nothing trains.
	w.edit("main.ml.hcl", "  kubeflow {\n    katib {}\n  }\n", "  # Katib was here.\n")
	if why := w.plan()["training.tumors"]; why != "update config_changed" {
		t.Errorf("without the block katib it is planned as %q", why)
	}
	w.edit("main.ml.hcl", "  # Katib was here.\n", "  kubeflow {\n    katib { algorithm = \"random\" }\n  }\n")
	w.edit("main.ml.hcl", "target = 0.01", "target = 0.02")
	if why := w.plan()["training.tumors"]; why != "run params_changed" {
		t.Errorf("it is planned as %q", why)
	}
	trials = w.seen(katibTrials)
	w.ml("apply", "-auto-approve")
	w.unchanged()
	t.Logf("the best loss was %v, then %v", loss, w.bestOf(2, trials()))
	w.ml("destroy", "-auto-approve")
	w.gone()
}

// bestOf wants this version to be made with the parameters of the best of five trials, and returns its loss.
func (w *world) bestOf(version int, trials map[string]*unstructured.Unstructured) float64 {
	w.Helper()
	if len(trials) != 5 {
		w.Errorf("%d trials, want 5", len(trials))
	}
	var versions []struct {
		Version int
		Params  struct {
			Rate, Depth, Target float64
			Kernel              string
		}
		Metrics struct{ Loss float64 }
	}
	w.read(&versions, "versions", "training.tumors")
	for _, v := range versions {
		if v.Version != version {
			continue
		}
		p := v.Params
		want := math.Abs(math.Log10(p.Rate/p.Target)) + p.Depth
		if p.Kernel != "rbf" {
			want++
		}
		if math.Abs(v.Metrics.Loss-want) > 1e-9 {
			w.Errorf("version %d has the loss %v, and its parameters %+v make %v", version, v.Metrics.Loss, p, want)
		}
		for name, u := range trials {
			if l, ok := lossOf(u); ok && l < v.Metrics.Loss-1e-9 {
				w.Errorf("version %d has the loss %v, and trial %s had %v", version, v.Metrics.Loss, name, l)
			}
		}
		return v.Metrics.Loss
	}
	w.Fatalf("there is no version %d: %+v", version, versions)
	return 0
}

// lossOf is what Katib was told of a trial: the last one may be deleted before it is looked at again.
func lossOf(u *unstructured.Unstructured) (float64, bool) {
	list, _, err := unstructured.NestedSlice(u.Object, "status", "observation", "metrics")
	if err != nil || len(list) != 1 {
		return 0, false
	}
	m, _ := list[0].(map[string]any)
	l, err := strconv.ParseFloat(fmt.Sprint(m["latest"]), 64)
	return l, err == nil
}
