//go:build e2e

package scenarios

import (
	"strings"
	"testing"
)

// TestM is the life of a model on plain Kubernetes, as examples/kubernetes has it, next to a manifest that its servers need: what others
// change of it is named and mended, what others own is taken only if the block says so, and nobody trains anew for it.
func TestM(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "kubernetes", "kubernetes")
	w.env = without(w.env, "ML_VAR_where=")
	w.ml("apply", "-auto-approve")
	w.serves(1)
	w.unchanged()
	url := w.endpoint()
	if out := w.traffic("send", url, "data/wdbc.csv", "-n", "70"); !strings.Contains(out, "70 by version 1") {
		t.Fatalf("traffic: %s", out)
	}
	w.ml("monitor", "monitor.tumors")
	if s := w.status("monitor.tumors").Signal["drift"]; s != "good" {
		t.Errorf("the drift signal is %s", s)
	}

	w.kubectl("edit", "configmap/policy", `s/warn_from": 0.4/warn_from": 0.99/`)
	w.mendsAt("manifest.policy", "update live_changed", "ConfigMap/policy:data.policy.json", "0.99", "kubectl-edit")
	w.kubectl("delete", "service/policy")
	w.mendsAt("manifest.policy", "create missing", "Service "+w.namespace+"/policy is not there")
	w.kubectl("scale", "deployment/tumors-v1", "--replicas=2") // the autoscaler's
	w.unchanged()

	// Somebody labels the Service; then the block wants that label otherwise.
	w.kubectl("label", "service/policy", "team=theirs")
	w.unchanged()
	w.edit("policy.yaml", "kind: Service\nmetadata:\n  name: policy\n", "kind: Service\nmetadata:\n  name: policy\n  labels: {team: ours}\n")
	conflict := []string{"Service", "metadata.labels.team belongs to", `"kubectl-label"`, `force = ["Service/policy:metadata.labels.team"]`}
	if out := w.exits(1, "plan"); !oneLineHas(joined(out), conflict) {
		t.Errorf("the plan does not say %q:\n%s", conflict, out)
	}
	w.exits(1, "apply", "-auto-approve")
	w.edit("tumors.ml.hcl", `wait_for = ["Deployment/policy:Available"]`, "wait_for = [\"Deployment/policy:Available\"]\n  force    = [\"Service/policy:metadata.labels.team\"]")
	w.ml("apply", "-auto-approve")
	w.unchanged()

	// A field that cannot be changed: the plan says what is made anew for it, and the rest stays.
	w.edit("policy.yaml", "  selector:\n    matchLabels: {app: policy}\n  template:\n    metadata:\n      labels: {app: policy}\n",
		"  selector:\n    matchLabels: {app: policy, tier: rules}\n  template:\n    metadata:\n      labels: {app: policy, tier: rules}\n")
	if got := w.plan()["manifest.policy"]; got != "replace config_changed immutable" {
		t.Errorf("the manifest is planned as %q", got)
	}
	if out := w.ml("plan"); !strings.Contains(joined(out), "made anew Deployment.apps/policy, for spec.selector cannot be changed in place; the rest stays") {
		t.Errorf("the plan says:\n%s", out)
	}
	w.ml("apply", "-auto-approve")
	w.unchanged()
	w.serves(1)

	w.edit("tumors.ml.hcl", "trees = 60", "trees = 40")
	if why := w.plan()["training.tumors"]; why != "run params_changed" {
		t.Errorf("the training is planned as %q", why)
	}
	stop := w.stream(url, "data/wdbc.csv", "--seed", "4")
	w.ml("apply", "-auto-approve")
	answered := stop()
	for _, v := range []string{"by version 1", "by version 2"} {
		if !strings.Contains(answered, v) {
			t.Errorf("no request was answered %s: %s", v, answered)
		}
	}
	w.serves(2)
	w.unchanged()
	w.ml("destroy", "-auto-approve")
	w.gone()
}

// joined is a text whose lines were wrapped for a person.
func joined(out string) string { return strings.Join(strings.Fields(out), " ") }

// without leaves a variable out that an example does not have.
func without(env []string, prefix string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, prefix) {
			out = append(out, e)
		}
	}
	return out
}
