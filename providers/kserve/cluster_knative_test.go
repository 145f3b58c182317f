//go:build e2e

package kserve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
)

// onKnative is a deployment on a cluster that has Knative, which `go run ./e2e/cluster knative` adds.
func onKnative(t *testing.T, name string) *site {
	t.Helper()
	if os.Getenv("ML_E2E_KNATIVE_URL") == "" {
		const say = "ML_E2E_KNATIVE_URL names no ingress of Knative's to test with (go run ./e2e/cluster knative)"
		if os.Getenv("CI") != "" {
			t.Fatal(say)
		}
		t.Skip(say)
	}
	s := newSite(t, name)
	s.d.settings.KnativeIngress = os.Getenv("ML_E2E_KNATIVE_URL")
	return s
}

// revisions has Knative carry the requests. Its pods have as long to end as a request may take.
func revisions(d *deploymentSpec) {
	d.KServe = &nested{Canary: byRevisions, Timeout: 10 * time.Second, Golden: &golden{Path: "/", Answer: fmt.Sprintf(`{"value": %q}`, d.Env["VALUE"])}}
	d.Rollout = &config.Rollout{Strategy: "canary", Steps: []int{10, 50, 100}, Interval: 4 * time.Second}
}

// throughIngress asks as a client in the cluster does: by the name of the service.
func (s *site) throughIngress() (int, string, error) {
	req, err := http.NewRequestWithContext(s.T.Context(), http.MethodGet, os.Getenv("ML_E2E_KNATIVE_URL")+"/", nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = fmt.Sprintf("%s-predictor.%s.svc.cluster.local", s.Addr.Name, s.Namespace)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), errors.Join(err, resp.Body.Close())
}

// counts sends n requests, and tells how many each version answered. None may fail.
func (s *site) counts(n int) map[string]int {
	s.T.Helper()
	out := map[string]int{}
	for range n {
		status, got, err := s.throughIngress()
		if err != nil || status != http.StatusOK {
			s.T.Fatalf("a request got %d %s (%v)", status, got, err)
		}
		var answer struct{ Value string }
		if err := json.Unmarshal([]byte(got), &answer); err != nil {
			s.T.Fatalf("%s: %v", got, err)
		}
		out[answer.Value]++
	}
	return out
}

// asking sends requests all the time; stop wants that none failed, and tells which versions answered.
func (s *site) asking() (stop func() map[string]int) {
	seen, end := map[string]int{}, make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				status, got, err := s.throughIngress()
				if err != nil || status != http.StatusOK {
					s.T.Errorf("while versions change, a request got %d %s (%v)", status, got, err)
				}
				seen[got]++
			}
		}
	})
	return func() map[string]int { close(end); group.Wait(); return seen }
}

// TestACanaryByKnative: the versions are revisions of one InferenceService, Knative has the shares that are asked for, a version that
// answers otherwise gets none, and a rollback restores image and model.
func TestACanaryByKnative(t *testing.T) {
	s := onKnative(t, "turns")
	res := s.Must(s.own(1, revisions))
	if out := res.Outputs.(config.DeploymentOutputs); out.Version != 1 || !strings.HasPrefix(out.Endpoint, "http://turns-predictor.") {
		t.Errorf("outputs %+v", out)
	}
	if got := s.counts(10); got["v1"] != 10 {
		t.Errorf("the first version: %v", got)
	}
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 || !strings.HasPrefix(o.Info["traffic"], "turns-predictor-0000") {
		t.Errorf("it reads %+v", o)
	}
	stop := s.asking()
	shares := map[string]map[string]int{}
	req := s.Request("turns-2", false)
	emit := req.Emit
	req.Emit = func(e resource.Event) {
		emit(e)
		if _, at, ok := strings.Cut(e.Message, "its route has: "); ok {
			_, percent, _ := strings.Cut(at, "version 2")
			shares[percent[strings.Index(percent, ": ")+2:]] = s.counts(200)
		}
	}
	res, err := s.d.Apply(t.Context(), s.own(2, revisions), req)
	if err != nil || res.Outputs.(config.DeploymentOutputs).Version != 2 {
		t.Fatalf("a version that works: %+v, %v", res, err)
	}
	for at, want := range map[string][2]int{"10 %": {6, 40}, "50 %": {70, 130}} {
		if n := shares[at]["v2"]; n < want[0] || n > want[1] || n+shares[at]["v1"] != 200 {
			t.Errorf("at %s of 200 requests: %v (all: %v)", at, shares[at], shares)
		}
	}
	t.Logf("shares of 200 requests: %v", shares)
	if got := s.counts(20); got["v2"] != 20 {
		t.Errorf("after the rollout: %v", got)
	}
	if seen := stop(); len(seen) != 2 {
		t.Errorf("all the while: %v", seen)
	}
	s.single()

	stop = s.asking()
	bad := s.Must(s.own(3, func(d *deploymentSpec) { revisions(d); d.KServe.Golden.Answer = `{"value": "other"}` }))
	if !bad.Verdict.Bad() || len(bad.Quarantined) != 1 || !strings.Contains(bad.Message, "golden request") {
		t.Errorf("a version with a wrong answer: %+v", bad)
	}
	if seen := stop(); len(seen) != 1 {
		t.Errorf("while a version was taken back: %v", seen)
	}
	if got := s.counts(20); got["v2"] != 20 {
		t.Errorf("after the abort: %v", got)
	}
	s.single()

	if res, err = s.Apply(t.Context(), s.own(1, revisions), true); err != nil || res.Outputs.(config.DeploymentOutputs).Version != 1 {
		t.Fatalf("a rollback: %+v, %v", res, err)
	}
	if got := s.counts(20); got["v1"] != 20 {
		t.Errorf("after the rollback: %v", got)
	}
	s.single()
	s.Kubectl("", "patch", "isvc", "turns", "--type=merge", "-p", `{"spec":{"predictor":{"canaryTrafficPercent":40}}}`)
	if o := s.Read(); len(o.Drift) == 0 || !strings.Contains(o.Drift[0].Path, "canaryTrafficPercent") {
		t.Errorf("drift %+v", o.Drift)
	}
	s.routed("40") // or what is mended would be on its way still
	s.Must(s.own(1, revisions))
	if got := s.counts(20); got["v1"] != 20 {
		t.Errorf("mended: %v", got)
	}
	s.single()
	s.Remove()
	s.NothingLeft(knativeKinds...)
}

// routed waits for the Route to have a share.
func (s *site) routed(percent string) {
	s.T.Helper()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		has := s.Kubectl("", "get", "routes.serving.knative.dev", "turns-predictor", "-o", "jsonpath={.status.traffic[*].percent} {.status.conditions[?(@.type=='Ready')].status}")
		if fields := strings.Fields(has); slices.Contains(fields, percent) && slices.Contains(fields, "True") {
			return
		}
		select {
		case <-end.C:
			s.T.Fatalf("the Route has %s, not %s", has, percent)
		case <-tick.C:
		}
	}
}

// knativeKinds are those of which a deployment on Knative consists.
var knativeKinds = []string{
	"inferenceservices.serving.kserve.io", "services.serving.knative.dev", "configurations.serving.knative.dev", "routes.serving.knative.dev",
	"revisions.serving.knative.dev", "ingresses.networking.internal.knative.dev", "serverlessservices.networking.internal.knative.dev",
	"podautoscalers.autoscaling.internal.knative.dev", "metrics.autoscaling.internal.knative.dev", "deployments.apps", "replicasets.apps",
	"pods", "services", "endpointslices.discovery.k8s.io", "configmaps", "secrets",
}

// single wants one InferenceService that has all requests and reads as applied.
func (s *site) single() {
	s.T.Helper()
	if out := strings.TrimSpace(s.Kubectl("", "get", "isvc", "-o", "name")); out != "inferenceservice.serving.kserve.io/"+s.Addr.Name {
		s.T.Errorf("InferenceServices: %s", out)
	}
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 || !strings.HasSuffix(o.Info["traffic"], ": 100 %") || strings.Contains(o.Info["traffic"], ",") {
		s.T.Errorf("it reads %+v", o)
	}
}

// TestACrashOnKnativeEndsWithItsCause: in one line, with the version before untouched.
func TestACrashOnKnativeEndsWithItsCause(t *testing.T) {
	s := onKnative(t, "fall")
	s.Must(s.own(1, revisions))
	stop := s.asking()
	res := s.Must(s.own(2, func(d *deploymentSpec) {
		revisions(d)
		d.Command = []string{"python3", "-c", "import sys; sys.exit('no such feature: age')"}
	}))
	if !res.Verdict.Bad() || !strings.Contains(res.Message, "no such feature: age") || strings.Contains(res.Message, "\n") {
		t.Errorf("verdict %+v, message %q", res.Verdict, res.Message)
	}
	if seen := stop(); len(seen) != 1 {
		t.Errorf("all the while: %v", seen)
	}
	s.single()
}

// TestRoutersBeforeKnative: each version is an InferenceService that Knative runs, and may sleep; a request wakes it.
func TestRoutersBeforeKnative(t *testing.T) {
	s := onKnative(t, "sleeps")
	none := 0
	knatively := func(d *deploymentSpec) {
		d.KServe = &nested{DeploymentMode: knative, Timeout: 10 * time.Second, MinReplicas: &none, ContainerConcurrency: 5, ScaleMetric: "concurrency", ScaleTarget: 3,
			Golden: &golden{Path: "/", Answer: fmt.Sprintf(`{"value": %q}`, d.Env["VALUE"])}}
	}
	s.Must(s.own(1, knatively))
	s.answersOnly("v1")
	s.Must(s.own(2, knatively))
	s.answersOnly("v2")
	if out := s.Kubectl("", "get", "revisions.serving.knative.dev", "-o", "jsonpath={.items[*].spec.containerConcurrency}"); !strings.Contains(out, "5") {
		t.Errorf("requests at a time: %s", out)
	}
	s.Kubectl("", "wait", "pods", "-l", "serving.kserve.io/inferenceservice=sleeps-v2", "--for=delete", "--timeout=90s")
	s.answersOnly("v2")
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("it reads %+v", o)
	}
	s.Remove()
	s.NothingLeft(knativeKinds...)
}
