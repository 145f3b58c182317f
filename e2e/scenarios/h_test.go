//go:build e2e

package scenarios

import (
	"bytes"
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
	"sigs.k8s.io/yaml"
)

// TestH serves by KServe alone: a transformer before each version and a graph before that, a splitter that carries the requests of a
// canary, a logger that tells. What the cluster cannot do stands in the plan, and then nothing is trained.
func TestH(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, os.DirFS(filepath.Join("testdata", "graph")), "kserve")
	w.env = append(w.env, "ML_VAR_base="+here.registry+"/busybox:1")
	w.sklearnRuntime()
	w.keeper()

	env := w.env
	w.env = append(env[:len(env):len(env)], "ML_VAR_runtime=of-nobody")
	if out := w.exits(1, "apply", "-auto-approve"); !strings.Contains(out, "the cluster has no of-nobody; it has continuo-sklearn") {
		t.Errorf("a runtime that is not there:\n%s", out)
	}
	w.env = env
	if left := w.cluster.left(t, w.namespace); len(left) > 0 {
		t.Fatalf("after a plan with an error there is %v", left)
	}

	w.ml("apply", "-auto-approve")
	w.serves(1)
	w.unchanged()
	url := w.endpoint() + "/v1/models/tumors:predict"
	w.answers(url, 6)

	w.edit("tumors.ml.hcl", "factor = 1", "factor = 2")
	stop := w.ask(url)
	out := w.ml("apply", "-auto-approve")
	answered := stop()
	if !strings.Contains(out, "version 1: 50 %, version 2: 50 %") {
		t.Errorf("the apply read no weights back:\n%s", out)
	}
	for _, a := range []string{graphAnswer(6), graphAnswer(12)} {
		if answered[a] == 0 {
			t.Errorf("nobody was answered %s: %v", a, answered)
		}
	}
	delete(answered, graphAnswer(6))
	delete(answered, graphAnswer(12))
	if len(answered) > 0 {
		t.Errorf("some were answered otherwise: %v", answered)
	}
	w.serves(2)
	w.unchanged()
	w.answers(url, 12)
	w.told("inference.request", "[[2, 4]]")
	w.told("inference.response", "[12.0]")

	w.ml("rollback", "deployment.tumors", "-to", "1")
	w.answers(url, 6)
	w.ml("destroy", "-auto-approve")
	w.gone()
}

func graphAnswer(n int) string {
	return fmt.Sprintf(`200 {"first":{"predictions":[%d]},"second":{"predictions":[%d]}}`, n, n)
}

// client opens a connection for each request: a pod of KServe's that is replaced closes those that clients kept, in the middle of what they
// send. Our own routers tell their clients before.
var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// post asks for a prediction of the row 1, 2.
func post(ctx context.Context, url string) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(`{"instances": [[1, 2]]}`)))
	if err != nil {
		return err.Error()
	}
	resp, err := client.Do(req)
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

func (w *world) answers(url string, n int) {
	w.Helper()
	if got := post(w.Context(), url); got != graphAnswer(n) {
		w.Errorf("it answers %s, want %s", got, graphAnswer(n))
	}
}

// ask asks steadily until the function that it returns is called, which counts the answers.
func (w *world) ask(url string) func() map[string]int {
	ctx, cancel := context.WithCancel(w.Context())
	out := map[string]int{}
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				out[post(w.Context(), url)]++
			}
		}
	})
	return func() map[string]int {
		cancel()
		group.Wait()
		return out
	}
}

// sklearnRuntime is what the cluster's administrator provides.
func (w *world) sklearnRuntime() {
	w.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "testdata", "kserve", "sklearn-runtime.yaml"))
	if err != nil {
		w.Fatal(err)
	}
	var u unstructured.Unstructured
	if err := yaml.Unmarshal(bytes.ReplaceAll(raw, []byte("IMAGE"), []byte(here.image)), &u.Object); err != nil {
		w.Fatal(err)
	}
	if _, err := w.cluster.any.Resource(runtimes).Namespace(w.namespace).Create(w.Context(), &u, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
}

// keeper is somebody else's server, to which the logger tells.
func (w *world) keeper() {
	w.Helper()
	program, err := os.ReadFile(filepath.Join("testdata", "graph", "keeper.py"))
	if err != nil {
		w.Fatal(err)
	}
	meta := metav1.ObjectMeta{Name: "keeper", Labels: map[string]string{"app": "keeper"}}
	core := w.cluster.typed.CoreV1()
	_, err = core.Pods(w.namespace).Create(w.Context(), &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: new(int64(1)),
		Containers:                    []corev1.Container{{Name: "keeper", Image: here.image, Command: []string{"python3", "-u", "-c", string(program)}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	_, err = core.Services(w.namespace).Create(w.Context(), &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Selector: meta.Labels, Ports: []corev1.ServicePort{{Port: 8080}},
	}}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
}

// told waits for an event that the logger tells of, with a text in it.
func (w *world) told(event, text string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	until(ctx, w.T, "the logger to tell of an "+event+" with "+text, func() bool {
		raw, err := w.cluster.typed.CoreV1().Pods(w.namespace).GetLogs("keeper", &corev1.PodLogOptions{}).DoRaw(ctx)
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(raw)) {
			if strings.Contains(line, event) && strings.Contains(line, text) {
				return true
			}
		}
		return false
	})
}
