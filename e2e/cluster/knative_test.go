//go:build linux

package main

import (
	"path/filepath"
	"testing"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/standin"
)

func TestKnativesImagesAreThoseOfThisCluster(t *testing.T) {
	got := knativeImage("a: ko://knative.dev/serving/cmd/queue\nb: ko://knative.dev/serving/cmd/autoscaler\nc: ko://knative.dev/serving/cmd/autoscaler-hpa\n")
	want := "a: " + registryHost + "/knative-queue:1\nb: " + registryHost + "/knative-autoscaler:1\nc: ko://knative.dev/serving/cmd/autoscaler-hpa\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestKnativeIsToldWhatDiffersHereAndNothingElse(t *testing.T) {
	object := func(name string) api.Object {
		return api.Object{"kind": "ConfigMap", "metadata": map[string]any{"name": name, "annotations": map[string]any{"knative.dev/example-checksum": "1"}},
			"data": map[string]any{"_example": "text", "kept": "as it was"}}
	}
	network, gc := object("config-network"), object("config-gc")
	adaptKnative(network)
	adaptKnative(gc)
	if got := network.String("data", "ingress-class"); got != standin.Class {
		t.Errorf("ingress class %q", got)
	}
	for _, o := range []api.Object{network, gc} {
		data, _ := o.At("data").(map[string]any)
		if _, ok := data["_example"]; ok || data["kept"] != "as it was" || o.At("metadata", "annotations") != nil {
			t.Errorf("%v", o)
		}
	}
	if data, _ := gc.At("data").(map[string]any); len(data) != 1 {
		t.Errorf("%v", data)
	}
	bare := api.Object{"kind": "ConfigMap", "metadata": map[string]any{"name": "config-domain"}}
	adaptKnative(bare)
	if data, _ := bare.At("data").(map[string]any); len(data) != 1 || data[knativeDomain] != "" {
		t.Errorf("%v", bare)
	}
}

func TestTheManifestsThatAreAppliedAreFourDeploymentsWithoutTheirAutoscalers(t *testing.T) {
	var names []string
	for _, name := range []string{"activator-hpa", "activator", "autoscaler", "controller", "webhook-hpa", "webhook"} {
		for _, pattern := range knativeDeployments {
			if ok, err := filepath.Match(pattern, name+".yaml"); err != nil {
				t.Fatal(err)
			} else if ok {
				names = append(names, name)
			}
		}
	}
	if len(names) != 4 || names[0] != "activator" || names[3] != "webhook" {
		t.Errorf("%v", names)
	}
}
