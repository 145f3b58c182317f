//go:build e2e

package scenarios

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// TestNKServeAlone is why the HTTPRoute of spec.canary is ours: KServe 0.20 says in the status that its canary has half of the requests, and the
// routes that it makes lead to the predictor alone. When this fails, KServe has weights of its own, and ADR 21 can be looked at again. It
// changes KServe's configuration, and runs alone.
func TestNKServeAlone(t *testing.T) {
	gateway, url := os.Getenv("ML_E2E_GATEWAY"), os.Getenv("ML_E2E_GATEWAY_URL")
	if gateway == "" || url == "" {
		lacks(t, "ML_E2E_GATEWAY and ML_E2E_GATEWAY_URL name no Gateway: `go run ./e2e/cluster gateway` makes one")
	}
	c := connect(t)
	c.kserveRoutes(t, gateway)
	namespace := "e2e-n-alone"
	c.makeNamespace(t, namespace)
	raw, err := os.ReadFile(filepath.Join("testdata", "stages", "alone.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(bytes.ReplaceAll(raw, []byte("IMAGE"), []byte(here.image))), 4096)
	for _, r := range []schema.GroupVersionResource{runtimes, services} {
		var u unstructured.Unstructured
		if err := docs.Decode(&u.Object); err != nil {
			t.Fatal(err)
		}
		if _, err := c.any.Resource(r).Namespace(namespace).Create(t.Context(), &u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := docs.Decode(&unstructured.Unstructured{}); !errors.Is(err, io.EOF) {
		t.Fatalf("more in alone.yaml: %v", err)
	}

	client := outside{url: url + "/", host: "alone-" + namespace + ".example.com"}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	until(ctx, t, "KServe to call the canary ready with 50 % and the Gateway to lead there", func() bool {
		u, err := c.any.Resource(services).Namespace(namespace).Get(ctx, "alone", metav1.GetOptions{})
		if err != nil {
			return false
		}
		told, _, _ := unstructured.NestedSlice(u.Object, "status", "canaryStatuses")
		if len(told) != 1 {
			return false
		}
		canary, _ := told[0].(map[string]any)
		return canary["ready"] == true && canary["trafficPercent"] == int64(50) && client.ask(ctx) == "200 one"
	})
	got := map[string]int{}
	for range 100 {
		got[client.ask(ctx)]++
	}
	t.Logf("answered: %v", got)
	if got["200 one"] != 100 {
		t.Errorf("KServe divides requests by itself: %v", got)
	}
}

// kserveRoutes has KServe make routes at a Gateway until the test ends.
func (c cluster) kserveRoutes(t *testing.T, gateway string) {
	t.Helper()
	maps := c.typed.CoreV1().ConfigMaps("kserve")
	was, err := maps.Get(t.Context(), "inferenceservice-config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write := func(ctx context.Context, ingress string) error {
		patch, err := json.Marshal(map[string]any{"data": map[string]string{"ingress": ingress}})
		if err == nil {
			_, err = maps.Patch(ctx, was.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		}
		return err
	}
	t.Cleanup(func() {
		if err := write(context.Background(), was.Data["ingress"]); err != nil {
			t.Errorf("KServe's configuration is not as it was: %v", err)
		}
	})
	var ingress map[string]any
	if err := json.Unmarshal([]byte(was.Data["ingress"]), &ingress); err != nil {
		t.Fatal(err)
	}
	ingress["enableGatewayApi"], ingress["disableIngressCreation"], ingress["kserveIngressGateway"] = true, false, gateway
	changed, err := json.Marshal(ingress)
	if err == nil {
		err = write(t.Context(), string(changed))
	}
	if err != nil {
		t.Fatal(err)
	}
}
