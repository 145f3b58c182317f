//go:build e2e

package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// behindGateway adds to a site the Gateway of ML_E2E_GATEWAY, which `go run ./e2e/cluster gateway` makes.
func behindGateway(t *testing.T) (*site, func(*deploymentSpec)) {
	t.Helper()
	if os.Getenv("ML_E2E_GATEWAY") == "" || os.Getenv("ML_E2E_GATEWAY_URL") == "" {
		const say = "ML_E2E_GATEWAY and ML_E2E_GATEWAY_URL name no Gateway to test with"
		if os.Getenv("CI") != "" {
			t.Fatal(say)
		}
		t.Skip(say)
	}
	s := newSite(t)
	return s, func(d *deploymentSpec) {
		d.Kubernetes = &serverSettings{Route: &routeSettings{Gateway: os.Getenv("ML_E2E_GATEWAY"), Hostnames: []string{s.host()}, Path: "/"}}
	}
}

func (s *site) host() string { return s.Namespace + ".example.test" }

// knock asks once through the Gateway.
func (s *site) knock() (version string, err error) {
	req, err := http.NewRequestWithContext(s.T.Context(), http.MethodPost, os.Getenv("ML_E2E_GATEWAY_URL")+"/v1/models/tumors:predict", bytes.NewReader([]byte(`{"instances":[[1]]}`)))
	if err != nil {
		return "", err
	}
	req.Host = s.host()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return resp.Header.Get("ML-Model-Version"), err
}

// knocking asks steadily until it is ended, and tells who answered and what failed.
func (s *site) knocking() (end func() (by map[string]int, failed []string)) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	by, failed := map[string]int{}, []string(nil)
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			version, err := s.knock()
			if err != nil {
				failed = append(failed, version+" "+err.Error())
				continue
			}
			by[version]++
		}
	})
	return func() (map[string]int, []string) {
		close(stop)
		wg.Wait()
		return by, failed
	}
}

func (s *site) httpRoute() *unstructured.Unstructured {
	s.T.Helper()
	u, err := s.client.Get(s.T.Context(), kube.Ref{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute", Namespace: s.Namespace, Name: "tumors"})
	if err != nil {
		s.T.Fatal(err)
	}
	return u
}

// TestADeploymentBehindAGateway: the Gateway divides by the weights of an HTTPRoute, the routers count, judge and capture all the same.
func TestADeploymentBehindAGateway(t *testing.T) {
	s, routed := behindGateway(t)
	s.Must(s.spec(1, routed))
	providertest.WaitFor(t, func() bool { // a proxy follows a moment after its controller
		v, err := s.knock()
		return err == nil && v == "1"
	})
	if o := s.readRouted(routed); o.Phase != resource.PhaseReady || len(o.Drift) > 0 || o.Info["route"] != os.Getenv("ML_E2E_GATEWAY")+" gives the candidate 0 %, accepted" {
		t.Errorf("%+v", o)
	}

	t.Log("canary by the weights of the HTTPRoute")
	end := s.knocking()
	res := s.Must(s.spec(2, func(d *deploymentSpec) { routed(d); d.Rollout = canaryOf(4*time.Second, 5) }))
	by, failed := end()
	t.Logf("answered: %v, %d failed", by, len(failed))
	if providertest.ServedVersion(t, res) != 2 || len(failed) > 0 || by["1"] == 0 || by["2"] == 0 {
		t.Errorf("%+v %v", res, failed)
	}

	t.Log("weights that somebody changes are drift, and nobody is sent to a version that is not there")
	s.Kubectl("", "patch", "httproute", "tumors", "--type=json", "-p", `[{"op":"replace","path":"/spec/rules/0/backendRefs/1/weight","value":100}]`)
	if o := s.readRouted(routed); len(o.Drift) == 0 || !strings.HasPrefix(o.Drift[0].Path, "HTTPRoute/tumors:spec.rules") || !strings.HasPrefix(o.Drift[0].By, "kubectl") {
		t.Errorf("%+v", o.Drift)
	}
	for range 20 {
		if v, err := s.knock(); err != nil || v != "2" {
			t.Fatalf("version %s answers: %v", v, err)
		}
	}

	t.Log("a version that fails is taken back by what the routers count")
	end = s.knocking()
	res = s.Must(s.spec(3, func(d *deploymentSpec) {
		routed(d)
		d.Rollout, d.Env["FAIL_EVERY"] = canaryOf(4*time.Second, 5), "2"
	}))
	by, failed = end()
	t.Logf("answered: %v, %d failed; %s", by, len(failed), res.Message)
	if providertest.ServedVersion(t, res) != 2 || !res.Verdict.Bad() {
		t.Errorf("%+v", res)
	}
	for _, f := range failed {
		if !strings.HasPrefix(f, "3 status 500") {
			t.Errorf("a request failed that the third version did not answer: %s", f)
		}
	}
	if o := s.readRouted(routed); len(o.Drift) > 0 || !strings.Contains(o.Info["route"], " 0 %") {
		t.Errorf("%+v", o)
	}
	s.Captured(2, func() (string, error) {
		got, err := s.d.Captured(t.Context(), s.Addr, s.Record)
		return got.Dir, err
	})

	t.Log("without the block the route is gone")
	s.Must(s.spec(2, nil))
	if left := s.Left("continuo.dev/part=router", "httproutes"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	s.Must(s.spec(2, routed))
	s.httpRoute()
	s.Remove()
	s.NothingLeft("httproutes")
}

// TestARouteThatNoControllerTakes: with the weights in it, and an error that says so; without the Gateway API that is what is said. What
// serves inside of the cluster does so all the same.
func TestARouteThatNoControllerTakes(t *testing.T) {
	s := newSite(t)
	has, err := s.client.Has(t.Context(), schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"})
	if err != nil {
		t.Fatal(err)
	}
	s.Must(s.spec(1, nil))
	_, err = s.Apply(t.Context(), s.spec(1, func(d *deploymentSpec) {
		d.Kubernetes = &serverSettings{Route: &routeSettings{Gateway: "nobodys", Path: "/"}}
	}), false)
	if !has {
		if err == nil || !strings.Contains(err.Error(), "the cluster has no Gateway API") {
			t.Errorf("%v", err)
		}
	} else {
		if err == nil || !strings.Contains(err.Error(), "is not accepted by Gateway") || !strings.Contains(err.Error(), "not found") {
			t.Errorf("%v", err)
		}
		text, err := json.Marshal(s.httpRoute().Object["spec"])
		if want := `"port":8082,"weight":100},{"group":"","kind":"Service","name":"tumors","port":8083,"weight":0}`; err != nil || !strings.Contains(string(text), want) {
			t.Errorf("the route is %s, %v; want %s", text, err, want)
		}
	}
	if v, err := ask(http.DefaultClient, s.url()); err != nil || v != "1" {
		t.Errorf("the Service is answered by version %q, %v", v, err)
	}
	s.Must(s.spec(1, nil))
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("without the block: %+v", o)
	}
	s.Remove()
	if has {
		s.NothingLeft("httproutes")
	}
}

// readRouted reads a deployment whose record has the spec of its block.
func (s *site) readRouted(change func(*deploymentSpec)) providers.Object {
	s.T.Helper()
	spec := deploymentSpec{}
	change(&spec)
	s.Record.Spec = []byte(fmt.Sprintf(`{"kubernetes":{"route":{"gateway":%q}}}`, spec.Kubernetes.Route.Gateway))
	return s.Read()
}
