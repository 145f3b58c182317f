//go:build e2e

package scenarios

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var knativeServices = schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"}

// TestQ serves by KServe on Knative: the versions are revisions of one InferenceService, and Knative carries the requests of a canary by
// the percentages that are read back from it. A version that does not come up gets none, and the old one never stops to answer.
func TestQ(t *testing.T) {
	t.Parallel()
	ingress := os.Getenv("ML_E2E_KNATIVE_URL")
	if ingress == "" {
		lacks(t, "ML_E2E_KNATIVE_URL names no ingress of Knative's: `go run ./e2e/cluster knative` adds Knative to the cluster")
	}
	w := newWorldOf(t, os.DirFS(filepath.Join("testdata", "knative")), "kserve")
	w.env = append(w.env, "ML_VAR_base="+here.registry+"/busybox:1", "ML_VAR_ingress="+ingress)
	w.sklearnRuntime()

	// What only Knative does is an error elsewhere, before anything is made.
	env := w.env
	w.env = append(env[:len(env):len(env)], "ML_VAR_mode=Standard")
	if out := w.exits(1, "apply", "-auto-approve"); !strings.Contains(out, "kserve.container_concurrency") || !strings.Contains(out, "Knative only") {
		t.Errorf("in mode Standard:\n%s", out)
	}
	w.env = env
	if left := w.cluster.left(t, w.namespace); len(left) > 0 {
		t.Fatalf("after a plan with an error there is %v", left)
	}

	w.ml("apply", "-auto-approve")
	w.serves(1)
	w.unchanged()
	q := &knatively{world: w, ingress: ingress, host: fmt.Sprintf("tumors-predictor.%s.svc.cluster.local", w.namespace)}
	q.answers(3)
	if got := w.status("deployment.tumors").Endpoint; got != "http://"+q.host {
		t.Errorf("the endpoint is %s", got)
	}
	q.fromAPod(3)

	w.edit("tumors.ml.hcl", "factor = 1", "factor = 2")
	stop := q.ask()
	out := w.ml("apply", "-auto-approve", "-json") // every event, and not only some for people
	answered := stop()
	for _, share := range []string{"version 2 (tumors-predictor-00002): 10 %", "version 2 (tumors-predictor-00002): 50 %", "version 2 (tumors-predictor-00002): 100 %"} {
		if !strings.Contains(out, share) {
			t.Errorf("the apply did not read back %q:\n%s", share, out)
		}
	}
	if len(answered) != 2 || answered[predicted(3)] == 0 || answered[predicted(6)] == 0 {
		t.Errorf("while the versions changed: %v", answered)
	}
	t.Logf("while the versions changed: %v", answered)
	w.serves(2)
	w.unchanged()
	q.answers(6)
	q.limits(8)

	w.edit("tumors.ml.hcl", "broken = false", "broken = true")
	stop = q.ask()
	out = w.exits(3, "apply", "-auto-approve")
	if answered = stop(); len(answered) != 1 || answered[predicted(6)] == 0 {
		t.Errorf("while a version was taken back: %v", answered)
	}
	if !strings.Contains(out, "version 3 was taken back") || !strings.Contains(out, "kserve-container exited") {
		t.Errorf("the apply says:\n%s", out)
	}
	w.serves(2)
	q.answers(6)
	if why := w.plan()["deployment.tumors"]; !strings.Contains(why, "quarantined") {
		t.Errorf("the deployment is planned as %q", why)
	}

	w.ml("rollback", "deployment.tumors", "-to", "1")
	q.answers(3)
	w.ml("destroy", "-auto-approve")
	w.gone()
	if left := w.cluster.leftBy(t, w.namespace, "serving.knative.dev/service"); len(left) > 0 {
		t.Errorf("Knative's own are left: %v", left)
	}
	if left := w.cluster.leftBy(t, w.namespace, "serving.kserve.io/inferenceservice"); len(left) > 0 {
		t.Errorf("KServe's own are left: %v", left)
	}
}

// knatively is a world whose deployment is asked through Knative's ingress.
type knatively struct {
	*world
	ingress, host string
}

func predicted(n int) string { return fmt.Sprintf(`200 {"predictions": [%d.0]}`, n) }

// post asks for a prediction of the row 1, 2.
func (q *knatively) post() string {
	ctx, cancel := context.WithTimeout(q.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.ingress+"/v1/models/tumors:predict", strings.NewReader(`{"instances": [[1, 2]]}`))
	if err != nil {
		return err.Error()
	}
	req.Host = q.host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, body)
}

func (q *knatively) answers(n int) {
	q.Helper()
	for range 10 {
		if got := q.post(); got != predicted(n) {
			q.Fatalf("it answers %s, want %s", got, predicted(n))
		}
	}
}

// ask asks steadily until the function that it returns is called, which counts the answers.
func (q *knatively) ask() func() map[string]int {
	end, out := make(chan struct{}), map[string]int{}
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				out[q.post()]++
			}
		}
	})
	return func() map[string]int {
		close(end)
		group.Wait()
		return out
	}
}

// fromAPod asks as clients in the cluster do, by the endpoint that ml says.
func (q *knatively) fromAPod(n int) {
	q.Helper()
	const program = `
import json, sys, urllib.request
ask = urllib.request.Request(sys.argv[1] + "/v1/models/tumors:predict", json.dumps({"instances": [[1, 2]]}).encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(ask, timeout=20).read().decode())
`
	pods := q.cluster.typed.CoreV1().Pods(q.namespace)
	_, err := pods.Create(q.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "client"}, Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: new(int64(1)),
		Containers: []corev1.Container{{Name: "client", Image: here.image, Command: []string{"python3", "-c", program, "http://" + q.host}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		q.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(q.Context(), 2*time.Minute)
	defer cancel()
	until(ctx, q.T, "a client in a pod to have its answer", func() bool {
		p, err := pods.Get(ctx, "client", metav1.GetOptions{})
		return err == nil && (p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed)
	})
	raw, err := pods.GetLogs("client", &corev1.PodLogOptions{}).DoRaw(q.Context())
	if want := fmt.Sprintf(`{"predictions": [%d.0]}`, n); err != nil || strings.TrimSpace(string(raw)) != want {
		q.Errorf("a client in a pod got %s (%v), want %s", raw, err, want)
	}
}

// limits wants Knative to know how many requests one server takes at a time.
func (q *knatively) limits(n int64) {
	q.Helper()
	u, err := q.cluster.any.Resource(knativeServices).Namespace(q.namespace).Get(q.Context(), "tumors-predictor", metav1.GetOptions{})
	if err != nil {
		q.Fatal(err)
	}
	if got, _, err := unstructured.NestedInt64(u.Object, "spec", "template", "spec", "containerConcurrency"); err != nil || got != n {
		q.Errorf("a server takes %d requests at a time, %v; want %d", got, err, n)
	}
}
