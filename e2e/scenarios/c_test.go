//go:build e2e

package scenarios

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestC changes what serves behind its back, as people do with kubectl: the next plan names the field and who changed it, and mends it,
// except for the replicas that an autoscaler owns.
func TestC(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, os.DirFS(filepath.Join("testdata", "kills")), "kubernetes")
	k := &killed{world: w}
	k.newData()
	w.ml("apply", "-auto-approve")
	w.unchanged()

	w.kubectl("edit", "deployment/m-v1", "s/readOnly: true/readOnly: false/; s/name: HOST/name: GHOST/")
	w.mends("update live_changed", "kubectl-edit")

	w.kubectl("scale", "deployment/m-v1", "--replicas=3")
	w.mends("update live_changed", "replicas", "kubectl")

	w.kubectl("delete", "service/m-v1")
	w.mends("create missing", "Service", "m-v1")

	// An autoscaler owns the replicas from now on.
	w.edit("kills.ml.hcl", `  sources = ["serve.py"]`, "  sources = [\"serve.py\"]\n  scale {\n    min = 1\n    max = 4\n  }\n  resources { cpu = \"50m\" }")
	w.ml("apply", "-auto-approve")
	w.unchanged()
	w.kubectl("scale", "deployment/m-v1", "--replicas=2")
	w.unchanged()
	w.ml("destroy", "-auto-approve")
	w.gone()
}

// mends wants a plan that does this and names these, and an apply after which nothing is left to do.
func (w *world) mends(step string, names ...string) {
	w.Helper()
	w.mendsAt("deployment.m", step, names...)
}

func (w *world) mendsAt(address, step string, names ...string) {
	w.Helper()
	if got := w.plan()[address]; got != step {
		w.Errorf("%s is planned as %q, want %q", address, got, step)
	}
	text := w.ml("plan")
	for _, n := range names {
		if !strings.Contains(text, n) {
			w.Errorf("the plan does not say %q:\n%s", n, text)
		}
	}
	w.ml("apply", "-auto-approve")
	w.unchanged()
}

// kubectl changes something with the real program. `edit` gets a script for sed in the place of an editor.
func (w *world) kubectl(verb, object string, args ...string) {
	w.Helper()
	program := os.Getenv("ML_E2E_KUBECTL")
	if program == "" {
		program = "kubectl"
	}
	line := []string{verb, "--kubeconfig", here.kubeconfig, "-n", w.namespace, object}
	cmd := exec.CommandContext(w.Context(), program, line...)
	if verb == "edit" {
		cmd.Env = append(os.Environ(), "KUBE_EDITOR=sed -i '"+args[0]+"'")
	} else {
		cmd.Args = append(cmd.Args, args...)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("kubectl %s %s: %v\n%s", verb, object, err, out)
	}
}
