package kubernetes

import (
	"context"
	"errors"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
)

// replicasPath is what an autoscaler writes.
const replicasPath = "spec.replicas"

// scalers tells whose replicas belong to an autoscaler: namespace, kind and name.
type scalers map[[3]string]bool

func (s scalers) own(r kube.Ref) bool { return s[[3]string{r.Namespace, r.Kind, r.Name}] }

// add notes what a HorizontalPodAutoscaler scales.
func (s scalers) add(u *unstructured.Unstructured, namespace string) {
	kind, _, e1 := unstructured.NestedString(u.Object, "spec", "scaleTargetRef", "kind")
	name, _, e2 := unstructured.NestedString(u.Object, "spec", "scaleTargetRef", "name")
	if errors.Join(e1, e2) == nil && kind != "" {
		s[[3]string{namespace, kind, name}] = true
	}
}

// list adds the autoscalers of a namespace, whoever made them. Without the right to see them, those count whose controller wrote the field.
func (s scalers) list(ctx context.Context, reads *kube.Reads, namespace string) error {
	all, err := reads.List(ctx, gvkScaler, namespace, kube.Selector{})
	var denied *kube.ForbiddenError
	if errors.As(err, &denied) || kube.Absent(err) {
		return nil
	}
	for _, u := range all {
		s.add(u, namespace)
	}
	return err
}

// byScaler reports whether the manager of a field is the autoscalers' controller.
func byScaler(manager string) bool { return strings.HasPrefix(manager, "kube-controller-manager") }

// keep leaves the number of pods as it is: an apply that names another would take it from the autoscaler, and one that names none would
// reset it for as long as we own it.
func (s scalers) keep(w *object) {
	now, found, err := unstructured.NestedFieldCopy(w.live.Object, "spec", "replicas")
	if _, asked, err := unstructured.NestedFieldNoCopy(w.object.Object, "spec", "replicas"); err != nil || !asked {
		return
	}
	if err == nil && found {
		if spec, ok := w.object.Object["spec"].(map[string]any); ok {
			spec["replicas"] = now
		}
	}
}

// scaled finds the autoscalers of what the block asks for: its own, and where the number of pods is not as asked for, everybody's.
func (a *application) scaled(ctx context.Context, reads *kube.Reads) (scalers, error) {
	s := scalers{}
	var namespaces []string
	for _, w := range a.wanted {
		if w.at.Group == gvkScaler.Group && w.at.Kind == gvkScaler.Kind {
			s.add(w.object, w.at.Namespace)
		}
		if w.live == nil {
			continue
		}
		for _, c := range kube.DriftFrom(w.asked(), w.live, nil) {
			if c.Path == replicasPath && w.at.Namespace != "" {
				namespaces = append(namespaces, w.at.Namespace)
				if byScaler(c.By) {
					s[[3]string{w.at.Namespace, w.at.Kind, w.at.Name}] = true
				}
			}
		}
	}
	for _, n := range namespaces {
		if err := s.list(ctx, reads, n); err != nil {
			return nil, err
		}
	}
	return s, nil
}
