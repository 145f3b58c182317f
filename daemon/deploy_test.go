package daemon

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func manifests(t *testing.T, name string) map[string]*unstructured.Unstructured {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*unstructured.Unstructured{}
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := docs.Decode(&u.Object); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[u.GetKind()] = u
	}
}

// What is shipped for a cluster is run there by an end-to-end test. This one holds together what a cluster without Prometheus cannot: the ServiceMonitor
// points at the Service, its port and the token's Secret, and the ConfigMap is a file that the daemon takes.
func TestTheManifestsBelongTogether(t *testing.T) {
	all, monitor := manifests(t, "daemon.yaml"), manifests(t, "servicemonitor.yaml")["ServiceMonitor"]
	if monitor == nil || monitor.GetAPIVersion() != "monitoring.coreos.com/v1" {
		t.Fatalf("%+v", monitor)
	}
	service := all["Service"]
	wanted, _, err := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
	if err != nil || len(wanted) == 0 {
		t.Fatal(err)
	}
	for k, v := range wanted {
		if service.GetLabels()[k] != v {
			t.Errorf("the Service has no label %s=%s", k, v)
		}
	}
	endpoints, _, err := unstructured.NestedSlice(monitor.Object, "spec", "endpoints")
	if err != nil || len(endpoints) != 1 {
		t.Fatalf("%v %v", endpoints, err)
	}
	end := endpoints[0].(map[string]any)
	ports, _, err := unstructured.NestedSlice(service.Object, "spec", "ports")
	if err != nil || ports[0].(map[string]any)["name"] != end["port"] || end["path"] != "/metrics" || end["scheme"] != "https" {
		t.Errorf("%v, %v, %v", ports, end, err)
	}
	for name := range end { // of the fields that the operator's Endpoint has
		if !strings.Contains(" port scheme path interval authorization tlsConfig ", " "+name+" ") {
			t.Errorf("an endpoint with %q", name)
		}
	}
	secret, _, err := unstructured.NestedString(end, "authorization", "credentials", "name")
	containers, _, err2 := unstructured.NestedSlice(all["Deployment"].Object, "spec", "template", "spec", "containers")
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	from := containers[0].(map[string]any)["envFrom"].([]any)[0].(map[string]any)["secretRef"].(map[string]any)["name"]
	if from != secret {
		t.Errorf("the token is read from %s, and the pods have it from %v", secret, from)
	}
	text, _, err := unstructured.NestedString(all["ConfigMap"].Object, "data", "daemon.hcl")
	file := filepath.Join(t.TempDir(), "daemon.hcl")
	if err := errors.Join(err, os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	conf, _, diags := Load(file)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	roleRules, _, err := unstructured.NestedSlice(all["Role"].Object, "rules")
	if err != nil || conf.Leader == nil || conf.Leader.Kubernetes == nil || roleRules[1].(map[string]any)["resourceNames"].([]any)[0] != conf.Leader.Kubernetes.Name {
		t.Errorf("the right is not for the Lease of the file: %v %+v %v", roleRules, conf.Leader, err)
	}
}
