//go:build e2e

package scenarios

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// deploymentsOf is how many of the objects of scenario f are Deployments.
const deploymentsOf = 20

// most is how many requests a refresh may take, whatever the number of objects.
const most = 10

// TestF has 1,000 objects, each a block of its own, and nothing to do: the refresh reads them by one LIST for each type, however many there
// are. The requests are counted by a proxy; times are printed beside those of kubectl diff (and of kapp, where there is one) for the same
// objects, and fail nothing.
func TestF(t *testing.T) {
	n := counted(t, "ML_E2E_OBJECTS", 1000)
	w := newWorldOf(t, os.DirFS(filepath.Join("testdata", "many")), "kubernetes")
	w.env = append(w.env, fmt.Sprintf("ML_VAR_configs=%d", n-deploymentsOf), fmt.Sprintf("ML_VAR_deployments=%d", deploymentsOf))
	began := time.Now()
	w.ml("apply", "-auto-approve", "-parallelism=50")
	t.Logf("%d objects applied in %.1f s", n, time.Since(began).Seconds())
	if there := w.objects(); there != n {
		t.Fatalf("%d objects are there, want %d", there, n)
	}
	clear := slices.Clone(w.env)
	p := w.behind(clear, true)
	var times []time.Duration
	for range 5 {
		p.api.Set()
		began := time.Now()
		w.exits(0, "plan", "-detailed-exitcode")
		times = append(times, time.Since(began))
		seen := p.api.Seen()
		if len(seen) > most || len(seen) == 0 {
			t.Errorf("%d requests for a plan of %d objects, want at most %d: %v", len(seen), n, most, seen)
		}
	}
	w.env = clear
	slices.Sort(times)
	t.Logf("ml plan of %d objects, no change, through the proxy: %d requests, %s (median of %d: %v)", n, len(p.api.Seen()), times[len(times)/2].Round(time.Millisecond), len(times), times)
	began = time.Now()
	w.exits(0, "plan", "-detailed-exitcode")
	t.Logf("ml plan, straight: %s", time.Since(began).Round(time.Millisecond))
	w.beside(n)

	w.kubectl("label", "configmap/c0007", "app.kubernetes.io/managed-by-")
	w.kubectl("delete", "configmap/c0011")
	w.kubectl("patch", "configmap/c0013", "--type=merge", `-p={"data":{"n":"changed"}}`)
	plan := w.plan()
	for address, want := range map[string]string{`manifest.c["c0011"]`: "create missing", `manifest.c["c0013"]`: "update live_changed"} {
		if plan[address] != want {
			t.Errorf("%s is planned as %q, want %q", address, plan[address], want)
		}
	}
	if got := plan[`manifest.c["c0007"]`]; strings.Contains(got, "missing") {
		t.Errorf("an object that only lost its label is planned as %q", got)
	}
	began = time.Now()
	w.ml("destroy", "-auto-approve", "-parallelism=50")
	t.Logf("%d objects destroyed in %.1f s", n, time.Since(began).Seconds())
	w.gone()
}

// objects counts what ml made and nobody else, of the types of this scenario.
func (w *world) objects() int {
	w.Helper()
	n := 0
	for _, o := range w.cluster.left(w.T, w.namespace) {
		if strings.HasPrefix(o, "configmaps/c") || strings.HasPrefix(o, "deployments/d") {
			n++
		}
	}
	return n
}

// beside measures what others take to find out that the same objects are as they should be.
func (w *world) beside(n int) {
	w.Helper()
	yaml := filepath.Join(w.dir, "objects.yaml")
	program := os.Getenv("ML_E2E_KUBECTL")
	if program == "" {
		program = "kubectl"
	}
	flags := []string{"--kubeconfig", here.kubeconfig, "-n", w.namespace}
	get := exec.CommandContext(w.Context(), program, append(flags, "get", "configmaps,deployments", "-l", owned, "--show-managed-fields=false", "-o", "yaml")...)
	text, err := get.Output()
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(yaml, text, 0o600); err != nil {
		w.Fatal(err)
	}
	began := time.Now()
	diff := exec.CommandContext(w.Context(), program, append(flags, "diff", "--server-side", "--field-manager=continuo", "--concurrency=8", "-f", yaml)...)
	var out bytes.Buffer
	diff.Stdout, diff.Stderr = &out, &out
	err = diff.Run()
	w.Logf("kubectl diff --server-side of the same %d objects: %.1f s (%v, %d bytes of output)", n, time.Since(began).Seconds(), err, out.Len())
	kapp, err := exec.LookPath("kapp")
	if err != nil {
		w.Log("kapp is not installed; it is not measured")
		return
	}
	began = time.Now()
	cmd := exec.CommandContext(w.Context(), kapp, "deploy", "--kubeconfig", here.kubeconfig, "-n", w.namespace, "-a", "many", "-f", yaml, "--diff-run")
	said, err := cmd.CombinedOutput()
	w.Logf("kapp deploy --diff-run of the same objects: %.1f s (%v, %d bytes of output)", time.Since(began).Seconds(), err, len(said))
}
