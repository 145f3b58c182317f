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

	w.shared()

	// An autoscaler owns the replicas from now on.
	w.edit("kills.ml.hcl", `  sources = ["serve.py"]`, "  sources = [\"serve.py\"]\n  scale {\n    min = 1\n    max = 4\n  }\n  resources { cpu = \"50m\" }")
	w.ml("apply", "-auto-approve")
	w.unchanged()
	w.kubectl("scale", "deployment/m-v1", "--replicas=2")
	w.unchanged()
	w.ml("destroy", "-auto-approve")
	w.gone()
}

// shared has somebody else own a field of ours with the value that it has: nothing is to be mended, and a plan that wants another value
// says whose it is. Apply stops there, until the block says that it is to be taken.
func (w *world) shared() {
	w.Helper()
	theirs := filepath.Join(w.TempDir(), "theirs.yaml")
	if err := os.WriteFile(theirs, []byte("{apiVersion: apps/v1, kind: Deployment, metadata: {name: m-v1}, spec: {replicas: 1}}"), 0o600); err != nil {
		w.Fatal(err)
	}
	w.kubectl("apply", "--filename="+theirs, "--server-side", "--field-manager=other", "--force-conflicts")
	w.unchanged()
	const sources, path = `  sources = ["serve.py"]`, "Deployment/m-v1:spec.replicas"
	w.edit("kills.ml.hcl", sources, sources+"\n  replicas = 2")
	for _, command := range []string{"plan", "apply"} {
		args := []string{command}
		if command == "apply" {
			args = append(args, "-auto-approve")
		}
		text := strings.Join(strings.Fields(w.exits(1, args...)), " ")
		if !strings.Contains(text, `spec.replicas belongs to "other"`) || !strings.Contains(text, path) {
			w.Errorf("%s does not say whose the field is:\n%s", command, text)
		}
	}
	w.edit("kills.ml.hcl", "  replicas = 2", "  replicas = 2\n  kubernetes { force = [\""+path+"\"] }")
	w.ml("apply", "-auto-approve")
	w.unchanged()
	w.edit("kills.ml.hcl", "  replicas = 2\n  kubernetes { force = [\""+path+"\"] }", "")
	w.ml("apply", "-auto-approve")
	w.unchanged()
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
