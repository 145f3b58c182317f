package kube

import (
	"fmt"
	"strings"

	kstatus "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Readiness is how far an object is.
type Readiness struct {
	Ready   bool
	Failed  bool   // it says itself that it will not become ready
	Message string // one line, why not
}

// selfReporting are API groups whose objects are worth nothing before their controller has said so. By the generic rules an object
// without any status counts as ready.
var selfReporting = []string{"serving.kserve.io", "serving.knative.dev", "trainer.kubeflow.org", "kubeflow.org", "jobset.x-k8s.io"}

// Ready judges an object by what its own status says of its own latest generation. A Job is ready when it has completed.
func Ready(u *unstructured.Unstructured) Readiness {
	if u.GetDeletionTimestamp() != nil {
		return Readiness{Message: "it is being deleted"}
	}
	group := u.GroupVersionKind().Group
	for _, g := range selfReporting {
		if group == g {
			return byConditions(u)
		}
	}
	if group == "batch" && u.GetKind() == "Job" {
		return ofJob(u)
	}
	r, err := kstatus.Compute(u)
	if err != nil {
		return Readiness{Message: "its status cannot be read: " + err.Error()}
	}
	return Readiness{Ready: r.Status == kstatus.CurrentStatus, Failed: r.Status == kstatus.FailedStatus, Message: r.Message}
}

// byConditions wants an observed generation and a condition that says ready (or complete).
func byConditions(u *unstructured.Unstructured) Readiness {
	if _, ok := u.Object["status"].(map[string]any); !ok {
		return Readiness{Message: "its controller has not looked at it yet"}
	}
	seen, found, err := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if err != nil || found && seen < u.GetGeneration() {
		return Readiness{Message: fmt.Sprintf("its controller has seen generation %d, not yet %d", seen, u.GetGeneration())}
	}
	if !found && u.GroupVersionKind().Group == "serving.kserve.io" && u.GetKind() == "InferenceService" {
		return Readiness{Message: "its controller has not said which generation it has seen"}
	}
	message := "it has no condition Ready yet"
	for _, c := range conditions(u) {
		switch {
		case c.kind == "Failed" && c.status == "True":
			return Readiness{Failed: true, Message: c.why()}
		case (c.kind == "Ready" || c.kind == "Complete" || c.kind == "Completed" || c.kind == "Succeeded") && c.status == "True":
			return Readiness{Ready: true}
		case c.kind == "Ready":
			message = c.why()
		}
	}
	return Readiness{Message: message}
}

func ofJob(u *unstructured.Unstructured) Readiness {
	for _, c := range conditions(u) {
		switch {
		case c.kind == "Failed" && c.status == "True":
			return Readiness{Failed: true, Message: c.why()}
		case c.kind == "Complete" && c.status == "True":
			return Readiness{Ready: true}
		}
	}
	count := func(name string) int64 {
		n, _, err := unstructured.NestedInt64(u.Object, "status", name)
		if err != nil {
			return 0
		}
		return n
	}
	return Readiness{Message: fmt.Sprintf("%d pods run, %d succeeded, %d failed", count("active"), count("succeeded"), count("failed"))}
}

// condition is one of status.conditions.
type condition struct{ kind, status, reason, message string }

func (c condition) why() string {
	parts := []string{}
	for _, s := range []string{c.reason, firstLine(c.message, "")} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return fmt.Sprintf("condition %s is %s", c.kind, c.status)
	}
	return strings.Join(parts, ": ")
}

func conditions(u *unstructured.Unstructured) []condition {
	list, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return nil
	}
	var out []condition
	for _, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			continue
		}
		get := func(k string) string { s, _ := m[k].(string); return s }
		out = append(out, condition{kind: get("type"), status: get("status"), reason: get("reason"), message: get("message")})
	}
	return out
}
