//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
)

func TestKServeIsToldWhatDiffersHereAndNothingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := `apiVersion: v1
kind: ConfigMap
metadata: {name: inferenceservice-config, namespace: kserve}
data:
  _example: "not JSON"
  deploy: '{"defaultDeploymentMode": "Serverless"}'
  ingress: '{"ingressDomain": "example.com", "disableIngressCreation": false}'
  storageInitializer: '{"image": "kserve/storage-initializer:latest"}'
  agent: '{"image": "kserve/agent:latest", "memoryLimit": "1Gi"}'
  logger: '{}'
  batcher: '{}'
  router: '{}'
  inferenceService: '{}'
  explainers: '{"art": {}}'
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := kserveConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		section, field string
		want           any
	}{
		{"deploy", "defaultDeploymentMode", "Standard"},
		{"ingress", "disableIngressCreation", true},
		{"ingress", "ingressDomain", "example.com"},
		{"storageInitializer", "enableOciModelSupport", true},
		{"agent", "image", registryHost + "/kserve-agent:1"},
		{"agent", "memoryLimit", "1Gi"},
	} {
		var section map[string]any
		if err := json.Unmarshal([]byte(config.String("data", c.section)), &section); err != nil {
			t.Fatal(err)
		}
		if section[c.field] != c.want {
			t.Errorf("%s.%s is %v, want %v", c.section, c.field, section[c.field], c.want)
		}
	}
	if config.String("data", "explainers") != `{"art": {}}` {
		t.Errorf("explainers changed: %s", config.String("data", "explainers"))
	}
}

func TestASectionThatKServeRenamedIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("kind: ConfigMap\ndata: {deploy: '{}'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kserveConfig(file); err == nil {
		t.Error("no error for a file without the sections")
	}
}

func TestOnlyServedVersionsOfAKindAreWaitedFor(t *testing.T) {
	crds, err := api.Parse([]byte(`
spec:
  group: g.io
  names: {kind: Thing}
  versions: [{name: v1, served: true}, {name: v1beta1, served: false}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(served(crds[0])); got != "[map[apiVersion:g.io/v1 kind:Thing]]" {
		t.Errorf("got %s", got)
	}
}
