//go:build e2e

package scenarios

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/e2e/internal/faultproxy"
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
	w.many("apply")
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
	through := w.env
	w.env = clear
	slices.Sort(times)
	t.Logf("ml plan of %d objects, no change, through the proxy: %d requests, %s (median of %d: %v)", n, len(p.api.Seen()), times[len(times)/2].Round(time.Millisecond), len(times), times)
	began = time.Now()
	w.exits(0, "plan", "-detailed-exitcode")
	t.Logf("ml plan, straight: %s", time.Since(began).Round(time.Millisecond))
	w.beside(n)

	w.kubectl("label", "configmap/c0007", "app.kubernetes.io/managed-by-")
	var gone []string
	for i := range 2 * most {
		gone = append(gone, fmt.Sprintf("configmap/c%04d", 100+i))
	}
	w.kubectl("delete", "configmap/c0011", gone...)
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
	// The blocks that are mended look at their own objects, and not each at a list of all.
	w.env = through
	p.api.Set()
	w.ml("apply", "-auto-approve")
	w.env = clear
	lists := slices.DeleteFunc(p.api.Seen(), func(r faultproxy.Request) bool { return r.Verb != "list" })
	if len(lists) > most || len(lists) == 0 {
		t.Errorf("%d lists to mend %d objects of %d, want at most %d: %v", len(lists), 3+len(gone), n, most, lists)
	}
	began = time.Now()
	w.many("destroy")
	t.Logf("%d objects destroyed in %.1f s", n, time.Since(began).Seconds())
	w.gone()
}

// many runs a command over all objects, which on a busy machine takes longer than any other scenario's.
func (w *world) many(command string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, here.bin, command, "-auto-approve", "-parallelism=50")
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(string(out), "\n")
		w.Fatalf("ml %s: %v\n%s", command, err, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
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
	objects := filepath.Join(w.dir, "objects.yaml")
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
	if err := os.WriteFile(objects, text, 0o600); err != nil {
		w.Fatal(err)
	}
	began := time.Now()
	diff := exec.CommandContext(w.Context(), program, append(flags, "diff", "--server-side", "--field-manager=continuo", "--concurrency=8", "-f", objects)...)
	var out bytes.Buffer
	diff.Stdout, diff.Stderr = &out, &out
	err = diff.Run()
	w.Logf("kubectl diff --server-side of the same %d objects: %.1f s (%v, %d bytes of output)", n, time.Since(began).Seconds(), err, out.Len())
	w.besideKapp(text, n)
}

// besideKapp measures kapp on the same objects. It compares with what it has deployed itself, so it deploys them first, in a namespace of its
// own and without what the server and ml have written into them; its own line then says whether it had nothing to do, as ml.
func (w *world) besideKapp(list []byte, n int) {
	w.Helper()
	program, err := exec.LookPath("kapp")
	if err != nil {
		w.Log("kapp is not installed; it is not measured")
		return
	}
	namespace := w.namespace + "-kapp"
	w.cluster.makeNamespace(w.T, namespace)
	var there unstructured.UnstructuredList
	if err := yaml.Unmarshal(list, &there); err != nil {
		w.Fatal(err)
	}
	var docs bytes.Buffer
	for _, o := range there.Items {
		bare := map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": map[string]any{"name": o.GetName()}}
		for _, field := range []string{"data", "spec"} {
			if v, ok := o.Object[field]; ok {
				bare[field] = v
			}
		}
		doc, err := yaml.Marshal(bare)
		if err != nil {
			w.Fatal(err)
		}
		docs.WriteString("---\n")
		docs.Write(doc)
	}
	objects := filepath.Join(w.dir, "kapp.yaml")
	if err := os.WriteFile(objects, docs.Bytes(), 0o600); err != nil {
		w.Fatal(err)
	}
	for _, flag := range []string{"--yes", "--diff-run"} {
		began := time.Now()
		out, err := exec.CommandContext(w.Context(), program, "deploy", "--kubeconfig", here.kubeconfig, "-n", namespace, "-a", "many", "-f", objects, flag).CombinedOutput()
		took := time.Since(began)
		if err != nil {
			w.Logf("kapp deploy %s is not measured: %v: %s", flag, err, out[max(0, len(out)-500):]) // it fails nothing, as kubectl diff
			return
		}
		op := regexp.MustCompile(`(?m)^Op: .*`).Find(out)
		w.Logf("kapp deploy %s of the same %d objects: %.1f s (%d bytes of output, %s)", flag, n, took.Seconds(), len(out), op)
	}
}
