package kube

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ErrNotFound matches the absence of an object whose kind and namespace exist.
var ErrNotFound = errors.New("not found")

// Retryable marks what is worth another try by itself: 429, 5xx, a reset, no answer in time. After is the least wait that the
// server asked for, 0 if it did not. Unknown says that no answer came to at least one of the tries: what was asked for may have been done,
// or may still be.
type Retryable struct {
	Err     error
	After   time.Duration
	Unknown bool
}

// Error implements error.
func (e *Retryable) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Retryable) Unwrap() error { return e.Err }

// Conflict is a field that another manager owns.
type Conflict struct {
	Path    string // spec.template.spec.containers[name="main"].image
	Manager string
}

// ConflictError lists the fields that an apply would have taken from others. Nothing was changed.
type ConflictError struct {
	Ref       Ref
	Conflicts []Conflict // sorted by path
}

// Error implements error.
func (e *ConflictError) Error() string {
	parts := make([]string, len(e.Conflicts))
	for i, c := range e.Conflicts {
		parts[i] = fmt.Sprintf("%s belongs to %q", c.Path, c.Manager)
	}
	return fmt.Sprintf("apply %s: %s; leave these fields out, or name them to be taken over", e.Ref, strings.Join(parts, ", "))
}

// ImmutableError lists fields that cannot be changed once the object is there. Nothing was changed.
type ImmutableError struct {
	Ref     Ref
	Fields  []string // sorted
	Message string   // the API server's words
}

// Error implements error.
func (e *ImmutableError) Error() string {
	return fmt.Sprintf("apply %s: %s cannot be changed in place: %s", e.Ref, strings.Join(e.Fields, ", "), e.Message)
}

// unchangeable is how the API server, and webhooks, say that a field stays as it is.
var unchangeable = regexp.MustCompile(`(?i)immutable|(may|can) ?not (be changed|change|be updated|be unset|be modified)|updates to .* are forbidden|cannot change roleRef`)

// immutable reads the causes of a refusal that are all of that kind.
func immutable(ref Ref, status metav1.Status) *ImmutableError {
	if status.Code != 422 || status.Details == nil || len(status.Details.Causes) == 0 {
		return nil
	}
	e := &ImmutableError{Ref: ref}
	for _, cause := range status.Details.Causes {
		if !unchangeable.MatchString(cause.Message) {
			return nil
		}
		e.Fields = append(e.Fields, cause.Field)
	}
	e.Message = reasonAlone(status.Details.Causes[0].Message)
	slices.Sort(e.Fields)
	e.Fields = slices.Compact(e.Fields)
	return e
}

// reasonAlone drops the value, which may be the whole of a pod's template, from "Invalid value: VALUE: REASON".
func reasonAlone(message string) string {
	if i := strings.LastIndex(message, ": "); i >= 0 && strings.HasPrefix(message, "Invalid value") {
		return message[i+2:]
	}
	return message
}

// MissingKindError says that the cluster does not serve a kind.
type MissingKindError struct{ Kind schema.GroupVersionKind }

// Error implements error.
func (e *MissingKindError) Error() string {
	crds, _ := meta.UnsafeGuessKindToResource(e.Kind)
	by := "install what brings it"
	if from := bringer(e.Kind.Group); from != "" {
		by = "it comes with " + from
	}
	return fmt.Sprintf("the cluster has no kind %s in %s: the CustomResourceDefinition %s.%s, or this version of it, is not installed; %s, or choose another provider",
		e.Kind.Kind, e.Kind.GroupVersion(), crds.Resource, e.Kind.Group, by)
}

// bringer is what installs the kinds of an API group that people meet around models.
func bringer(group string) string {
	switch group {
	case "serving.kserve.io":
		return "KServe"
	case "trainer.kubeflow.org":
		return "Kubeflow Trainer"
	case "kubeflow.org":
		return "Kubeflow's training operator or Katib"
	case "jobset.x-k8s.io":
		return "JobSet"
	case "kueue.x-k8s.io":
		return "Kueue"
	case "serving.knative.dev", "networking.internal.knative.dev":
		return "Knative Serving"
	case "gateway.networking.k8s.io":
		return "the Gateway API"
	case "networking.istio.io", "security.istio.io":
		return "Istio"
	case "cert-manager.io":
		return "cert-manager"
	case "monitoring.coreos.com":
		return "the Prometheus Operator"
	case "keda.sh":
		return "KEDA"
	case "external-secrets.io":
		return "the External Secrets Operator"
	case "ray.io":
		return "KubeRay"
	}
	return ""
}

// MissingNamespaceError says that a namespace does not exist.
type MissingNamespaceError struct {
	Namespace string
	doing     call
}

// Error implements error.
func (e *MissingNamespaceError) Error() string {
	return fmt.Sprintf("%s: namespace %s does not exist: kubectl create namespace %s", e.doing, e.Namespace, e.Namespace)
}

// ForbiddenError is a right that the user lacks.
type ForbiddenError struct {
	Verb, Resource, Namespace string // Resource with its group: deployments.apps
	Message                   string // the server's own words
}

// Error implements error.
func (e *ForbiddenError) Error() string {
	where := ""
	if e.Namespace != "" {
		where = fmt.Sprintf(" in namespace %s", e.Namespace)
	}
	return fmt.Sprintf("the right to %s %s%s is missing: ask for it (deploy/rbac.yaml has it); the API server says: %s", e.Verb, e.Resource, where, e.Message)
}

// QuotaError says that a ResourceQuota or LimitRange refused the object.
type QuotaError struct {
	Ref     Ref
	Message string
}

// Error implements error.
func (e *QuotaError) Error() string { return fmt.Sprintf("apply %s: %s", e.Ref, e.Message) }

// TerminatingError says that the namespace is being deleted: nothing can be made in it any more.
type TerminatingError struct{ Namespace string }

// Error implements error.
func (e *TerminatingError) Error() string {
	return fmt.Sprintf("namespace %s is being deleted: wait until it is gone and make it again, or choose another", e.Namespace)
}

// call is what a request was about, for its error.
type call struct {
	verb     string // get, list, patch, delete
	resource schema.GroupVersionResource
	ref      Ref
	moved    bool // the request rests on a resourceVersion: a plain 409 says that it has passed
}

func (q call) String() string {
	if q.ref.Name == "" {
		return q.verb + " " + q.groupResource()
	}
	verb := q.verb
	if verb == "patch" {
		verb = "apply"
	}
	return verb + " " + q.ref.String()
}

func (q call) groupResource() string {
	if q.resource.Resource == "" {
		return q.ref.Kind
	}
	return q.resource.GroupResource().String()
}

// explain turns the API server's refusal into an error that says what to do.
func (c *Client) explain(q call, err *apierrors.StatusError) error {
	status := err.Status()
	switch {
	case status.Code == 401:
		return fmt.Errorf("%s: %s refuses the credentials%s: log in again, or name another context", q, c.host.Host, c.ofContext())
	case apierrors.IsForbidden(err):
		return forbidden(q, err)
	case apierrors.IsNotFound(err):
		if d := status.Details; d != nil && d.Kind == "namespaces" && q.resource.Resource != "namespaces" {
			return &MissingNamespaceError{Namespace: d.Name, doing: q}
		}
		if q.resource.Resource != "" && (status.Details == nil || status.Details.Name == "") {
			c.forget(q.resource.GroupVersion()) // the path itself is unknown: the kind was served, and is no more
			return &MissingKindError{Kind: q.ref.GVK()}
		}
		return fmt.Errorf("%s: %w", q, ErrNotFound)
	case status.Code == 410 && (q.verb == "list" || q.verb == "watch"):
		return fmt.Errorf("%s: %w", q, errExpired)
	case len(conflicts(status)) > 0:
		return &ConflictError{Ref: q.ref, Conflicts: conflicts(status)}
	}
	if fixed := immutable(q.ref, status); fixed != nil {
		return fixed
	}
	return fmt.Errorf("%s: %w", q, err)
}

func (c *Client) ofContext() string {
	if c.context == "" {
		return ""
	}
	return fmt.Sprintf(" of context %q", c.context)
}

// forbidden tells a missing right from a quota, a dying namespace and an admission webhook, which answer with the same code.
func forbidden(q call, err *apierrors.StatusError) error {
	message := err.Status().Message
	switch {
	case apierrors.HasStatusCause(err, "NamespaceTerminating"), strings.Contains(message, "because it is being terminated"):
		return &TerminatingError{Namespace: q.ref.Namespace}
	case strings.Contains(message, "exceeded quota"), strings.Contains(message, "failed quota"), strings.Contains(message, "LimitRange"):
		return &QuotaError{Ref: q.ref, Message: message}
	case strings.Contains(message, " cannot "):
		return &ForbiddenError{Verb: q.verb, Resource: q.groupResource(), Namespace: q.ref.Namespace, Message: message}
	}
	return fmt.Errorf("%s: %w", q, err)
}

// conflicts reads the causes of a refused server-side apply: `conflict with "kubectl-edit" using apps/v1`, at `.spec.replicas`.
func conflicts(status metav1.Status) []Conflict {
	if status.Details == nil {
		return nil
	}
	var out []Conflict
	for _, cause := range status.Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		manager := cause.Message
		if parts := strings.SplitN(cause.Message, `"`, 3); len(parts) == 3 {
			manager = parts[1]
			if _, sub, ok := strings.Cut(parts[2], "with subresource "); ok {
				sub, _, _ = strings.Cut(sub, " ")
				manager += " (" + strings.Trim(sub, `"`) + ")"
			}
		}
		out = append(out, Conflict{Path: strings.TrimPrefix(cause.Field, "."), Manager: manager})
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Path < out[j].Path || out[i].Path == out[j].Path && out[i].Manager < out[j].Manager
	})
	return out
}

// isOther reports that a deletion was refused because the object has another UID.
func isOther(err error) bool {
	return apierrors.IsConflict(err) && strings.Contains(err.Error(), "UID")
}
