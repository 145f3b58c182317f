package rollout

import (
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
)

// Objects are those of one deployment, by kind and name.
type Objects map[string]*unstructured.Unstructured

// Get is nil when there is none.
func (o Objects) Get(gvk schema.GroupVersionKind, name string) *unstructured.Unstructured {
	return o[gvk.Kind+"/"+name]
}

// Put adds an object.
func (o Objects) Put(u *unstructured.Unstructured) { o[u.GetKind()+"/"+u.GetName()] = u }

// Index is what namespaces hold.
type Index struct {
	owned, all map[string]Objects
}

// Of are the objects of a deployment.
func (x *Index) Of(f Front) Objects { return x.owned[ownerKey(f.Namespace, f.Labels(""))] }

// In are all objects of a namespace; nil when it was not listed.
func (x *Index) In(namespace string) Objects { return x.all[namespace] }

func ownerKey(namespace string, labels map[string]string) string {
	return namespace + "\x00" + labels[pods.LabelProject] + "\x00" + labels[pods.LabelAddress]
}

// List reads the namespaces of these: one LIST for each kind and namespace, whatever the number of deployments in it and of drivers
// that look. The objects are others', too, and stay as they are.
func (p Parts) List(ctx context.Context, reads *kube.Reads, fronts ...Front) (*Index, error) {
	x := &Index{owned: map[string]Objects{}, all: map[string]Objects{}}
	routed := slices.ContainsFunc(fronts, func(f Front) bool { return f.Route != nil })
	for _, f := range fronts {
		namespace := f.Namespace
		if x.all[namespace] != nil {
			continue
		}
		x.all[namespace] = Objects{}
		for _, k := range p.kinds(routed) {
			list, err := k.list(ctx, reads, namespace)
			var missing *kube.MissingKindError
			if errors.As(err, &missing) {
				continue // what defines the kind was removed, and its objects with it
			}
			if err != nil {
				return nil, err
			}
			for _, u := range list {
				x.put(namespace, u)
			}
		}
	}
	return x, nil
}

// kinds are all that a deployment has, in the order in which they are deleted but for the ConfigMap.
func (p Parts) kinds(routed bool) []Kind {
	out := []Kind{{GroupVersionKind: gvkConfigMap, Part: PartRouter}}
	if routed {
		out = append(out, Kind{GroupVersionKind: gvkRoute, Part: PartRouter})
	}
	return append(out, p.Kinds...)
}

func (k Kind) list(ctx context.Context, reads *kube.Reads, namespace string) ([]*unstructured.Unstructured, error) {
	if k.All {
		return reads.List(ctx, k.GroupVersionKind, namespace, kube.Selector{})
	}
	// All of ours, and not only those of this kind of part: then it is the list that others read as well.
	list, err := reads.Owned(ctx, k.GroupVersionKind, namespace)
	var out []*unstructured.Unstructured
	for _, u := range list {
		if part, ok := u.GetLabels()[LabelPart]; ok && (k.Part == "" || k.Part == part) {
			out = append(out, u)
		}
	}
	return out, err
}

func (x *Index) put(namespace string, u *unstructured.Unstructured) {
	x.all[namespace].Put(u)
	l := u.GetLabels()
	if l[kube.ManagedBy] != kube.FieldManager || l[LabelPart] == "" {
		return
	}
	key := ownerKey(namespace, l)
	if x.owned[key] == nil {
		x.owned[key] = Objects{}
	}
	x.owned[key].Put(u)
}

func (k Kind) selector(labels string) kube.Selector {
	labels += "," + LabelPart
	if k.Part != "" {
		labels += "=" + k.Part
	}
	return kube.Selector{Labels: labels}
}
