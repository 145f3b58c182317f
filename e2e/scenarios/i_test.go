//go:build e2e

package scenarios

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// legacy is a Deployment that people made by hand, with the Service that its clients know.
const legacy = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: legacy, labels: {app: legacy}}
spec:
  replicas: 2
  selector: {matchLabels: {app: legacy}}
  template:
    metadata: {labels: {app: legacy}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {name: app, image: %q, command: [python3, -m, http.server, "9000"], ports: [{containerPort: 9000}], readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: legacy}
spec:
  selector: {app: legacy}
  ports: [{port: 80, targetPort: 9000}]
`

// TestI takes over a Deployment that was there before: nothing changes by that, the next plan is empty, and the next version serves in its
// place, behind the same Service.
func TestI(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, os.DirFS(filepath.Join("testdata", "kills")), "kubernetes")
	k := &killed{world: w}
	k.newData()
	w.ml("apply", "-auto-approve")
	manifest := filepath.Join(t.TempDir(), "legacy.yaml")
	if err := os.WriteFile(manifest, fmt.Appendf(nil, legacy, here.image), 0o600); err != nil {
		t.Fatal(err)
	}
	w.kubectl("create", "--filename="+manifest)
	w.kubectl("wait", "deployment/legacy", "--for=condition=Available", "--timeout=2m")
	before := w.generation("legacy")

	config, err := os.ReadFile(filepath.Join(w.dir, "kills.ml.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	block := "\ndeployment \"legacy\" {\n  model   = validation.t.model\n  command = [\"python3\", \"serve.py\"]\n  sources = [\"serve.py\"]\n%s}\n"
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(w.dir, "kills.ml.hcl"), fmt.Appendf(slices.Clone(config), block, more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	if out, err := w.run(t.Context(), "import", "deployment.legacy", "legacy"); err == nil || !strings.Contains(out, "set replicas = 2") {
		t.Errorf("a block that says something else is taken for it: %v\n%s", err, out)
	}
	write("  replicas = 2\n")
	w.ml("import", "deployment.legacy", "legacy")
	w.unchanged()
	if now := w.generation("legacy"); now != before {
		t.Errorf("the import changed the Deployment: its generation was %d and is %d", before, now)
	}

	k.newData()
	w.ml("apply", "-auto-approve")
	w.unchanged()
	resp, err := http.Get(w.cluster.reach(t, w.status("deployment.legacy").Endpoint))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil || string(text) != "r2,0" {
		t.Errorf("behind its Service answers %q, %v", text, err)
	}
	w.kubectl("scale", "deployment/legacy", "--replicas=1")
	if got := w.plan()["deployment.legacy"]; got != "update live_changed" {
		t.Errorf("a change by hand is planned as %q", got)
	}
	w.ml("destroy", "-auto-approve")
	w.gone()
	if _, err := w.cluster.typed.CoreV1().Services(w.namespace).Get(t.Context(), "legacy", metav1.GetOptions{}); err != nil {
		t.Errorf("the Service, which is not ours, is gone: %v", err)
	}
}

func (w *world) generation(deployment string) int64 {
	w.Helper()
	d, err := w.cluster.typed.AppsV1().Deployments(w.namespace).Get(w.Context(), deployment, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return d.Generation
}
