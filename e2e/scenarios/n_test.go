//go:build e2e

package scenarios

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var httpRoutes = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}

// settled is how long after a change of the weights a share is not judged yet: the route says so a moment before its proxies do.
const settled = 3 * time.Second

// TestN: KServe's spec.canary behind a real Gateway. The shares of each step are measured by a client outside, no request fails; a version that
// fails outside is taken back before any client meets it, and the old one is untouched.
func TestN(t *testing.T) {
	gateway, url := os.Getenv("ML_E2E_GATEWAY"), os.Getenv("ML_E2E_GATEWAY_URL")
	if gateway == "" || url == "" {
		lacks(t, "ML_E2E_GATEWAY and ML_E2E_GATEWAY_URL name no Gateway: `go run ./e2e/cluster gateway` makes one")
	}
	t.Parallel()
	w := newWorldOf(t, os.DirFS(filepath.Join("testdata", "stages")), "kserve")
	env := append(w.env, "ML_VAR_base="+here.registry+"/busybox:1")
	w.env = append(env[:len(env):len(env)], "ML_VAR_gateway=nobodys/gateway")
	if out := w.exits(1, "apply", "-auto-approve"); !strings.Contains(out, "kserve.route.gateway: Gateway nobodys/gateway is not there") {
		t.Errorf("a Gateway that is not there:\n%s", out)
	}
	if left := w.cluster.left(t, w.namespace); len(left) > 0 {
		t.Fatalf("after a plan with an error there is %v", left)
	}
	w.env = append(env[:len(env):len(env)], "ML_VAR_gateway="+gateway)
	client := outside{url: url + "/v1/models/tumors:predict", host: w.namespace + ".example.test"}

	w.ml("apply", "-auto-approve")
	w.serves(1)
	w.unchanged()
	if got := client.ask(t.Context()); got != "200 3" {
		t.Fatalf("version 1 answers %s", got)
	}

	w.edit("tumors.ml.hcl", "factor = 1", "factor = 2")
	stop := w.measure(client)
	out := w.ml("apply", "-auto-approve", "-json") // every event; the text shows one in ten seconds
	w.shares(stop(), "200 3", "200 6", 20, 50)
	if !strings.Contains(out, "the Gateway has: version 1: ") {
		t.Errorf("the apply read no weights back:\n%s", out)
	}
	w.serves(2)
	w.unchanged()
	w.oneStage("v2")
	before := w.uids()

	t.Log("a version that fails outside")
	w.edit("tumors.ml.hcl", `fails  = "nowhere"`, `fails  = "outside"`)
	w.edit("tumors.ml.hcl", "factor = 2", "factor = 3")
	stop = w.measure(client)
	out = w.exits(3, "apply", "-auto-approve")
	seen := stop()
	if !strings.Contains(out, "version 3 was taken back") || !strings.Contains(out, "through the Gateway, the golden request got 500") {
		t.Errorf("the apply says:\n%s", out)
	}
	for _, answers := range seen {
		if len(answers) != 1 || answers["200 6"] == 0 {
			t.Errorf("clients were answered %v", seen)
		}
	}
	w.serves(2)
	w.oneStage("v2")
	if after := w.uids(); after != before {
		t.Errorf("the pods of version 2 were %s and are %s", before, after)
	}

	t.Log("back to version 1, model and image together")
	w.ml("rollback", "deployment.tumors", "-to", "1")
	if got := client.ask(t.Context()); got != "200 3" {
		t.Errorf("after the rollback: %s", got)
	}
	w.oneStage("v1")
	w.ml("destroy", "-auto-approve")
	w.gone()
}

// outside is a client that comes through the Gateway.
type outside struct{ url, host string }

// ask asks for a prediction of the row 1, 2, and tells status and answer.
func (o outside) ask(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader([]byte(`{"instances": [[1, 2]]}`)))
	if err != nil {
		return err.Error()
	}
	req.Host = o.host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	answer := strings.NewReplacer(`{"predictions": [`, "", `]}`, "").Replace(string(body))
	return fmt.Sprintf("%d %s", resp.StatusCode, answer)
}

// measure asks steadily until the function that it returns is called, which gives what was answered by the weight that the candidate had in the
// HTTPRoute; -1 holds what came within a moment of a change.
func (w *world) measure(client outside) func() map[int]map[string]int {
	ctx, cancel := context.WithCancel(w.Context())
	out := map[int]map[string]int{}
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		weight, since := -1, time.Now()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if n%8 == 0 {
				if now := w.weight(ctx); now != weight {
					weight, since = now, time.Now()
				}
			}
			at := weight
			if time.Since(since) < settled {
				at = -1
			}
			answer := client.ask(w.Context())
			if out[at] == nil {
				out[at] = map[string]int{}
			}
			out[at][answer]++
		}
	})
	return func() map[int]map[string]int {
		cancel()
		group.Wait()
		return out
	}
}

// weight is what the HTTPRoute gives the candidate; -1 when that is not known.
func (w *world) weight(ctx context.Context) int {
	u, err := w.cluster.any.Resource(httpRoutes).Namespace(w.namespace).Get(ctx, "tumors", metav1.GetOptions{})
	if err != nil {
		return -1
	}
	rules, _, err := unstructured.NestedSlice(u.Object, "spec", "rules")
	if err != nil || len(rules) == 0 {
		return -1
	}
	rule, _ := rules[len(rules)-1].(map[string]any)
	backends, _ := rule["backendRefs"].([]any)
	if len(backends) < 2 {
		return 0
	}
	second, _ := backends[1].(map[string]any)
	weight, _ := second["weight"].(int64)
	return int(weight)
}

// shares wants every request answered by one of two versions, and at each step the share that it was to have.
func (w *world) shares(seen map[int]map[string]int, old, fresh string, steps ...int) {
	w.Helper()
	w.Logf("answered, by the weight of the candidate: %v", seen)
	for at, answers := range seen {
		for answer := range answers {
			if answer != old && answer != fresh {
				w.Errorf("at %d %% somebody was answered %s", at, answer)
			}
		}
	}
	for _, step := range steps {
		a := seen[step]
		if all := a[old] + a[fresh]; all < 40 || max(100*a[fresh]/all-step, step-100*a[fresh]/all) > 5 {
			w.Errorf("at %d %% of %d requests %d came to the new version", step, all, a[fresh])
		}
	}
}

// oneStage wants the InferenceService to hold this version and no other.
func (w *world) oneStage(name string) {
	w.Helper()
	list, err := w.cluster.any.Resource(services).Namespace(w.namespace).List(w.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		w.Fatalf("%d InferenceServices, %v", len(list.Items), err)
	}
	u := list.Items[0]
	has, _, _ := unstructured.NestedString(u.Object, "spec", "predictor", "name")
	canary, _, _ := unstructured.NestedSlice(u.Object, "spec", "canary")
	told, _, _ := unstructured.NestedSlice(u.Object, "status", "canaryStatuses")
	if u.GetName() != "tumors" || has != name || len(canary) > 0 || len(told) > 0 {
		w.Errorf("InferenceService %s holds %s, beside it %v, and says %v", u.GetName(), has, canary, told)
	}
}

// uids are those of the pods of servers.
func (w *world) uids() string {
	w.Helper()
	list, err := w.cluster.typed.CoreV1().Pods(w.namespace).List(w.Context(), metav1.ListOptions{LabelSelector: "component=predictor"})
	if err != nil {
		w.Fatal(err)
	}
	out := map[string]bool{}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			out[p.Name+"="+string(p.UID)] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(out)), " ")
}
