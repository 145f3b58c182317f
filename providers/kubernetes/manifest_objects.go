package kubernetes

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
)

// kubectlNote is a copy of the object that `kubectl apply` keeps in it, of a Secret, too. In a file it is left over from another cluster.
const kubectlNote = "kubectl.kubernetes.io/last-applied-configuration"

// object is one that a manifest asks for.
type object struct {
	key    string
	at     kube.Ref // its UID once it is there
	rank   int
	object *unstructured.Unstructured // with labels and notes, without namespace if it goes where the provider says
	digest string                     // of what is asked for, under the project's key
	force  []string
	live   *unstructured.Unstructured // before the apply; nil when it was not there
	now    *unstructured.Unstructured // after it
	// newKind, newSpace: its kind or its namespace comes from this very block, and is not there yet.
	newKind, newSpace bool
	found             bool
	same              bool // nothing is to be done
	created           bool
	fixed             *kube.ImmutableError // what makes it necessary to make the object anew
}

// later reports whether it can only be tried once something else of the block is there.
func (o *object) later() bool { return o.newKind || o.newSpace }

// ends reports whether the object goes by itself when its work is done.
func (o *object) ends() bool { return endsByItself(o.object) }

func endsByItself(u *unstructured.Unstructured) bool {
	_, has, err := unstructured.NestedFieldNoCopy(u.Object, "spec", "ttlSecondsAfterFinished")
	return err == nil && has && u.GroupVersionKind().GroupKind() == jobKind.GroupKind()
}

func sortedByKey(list []*object) []*object {
	return slices.SortedFunc(slices.Values(list), func(a, b *object) int { return cmp.Compare(a.key, b.key) })
}

// objects builds what the block asks for, in the order in which it is made.
func (a *application) objects(ctx context.Context) ([]*object, error) {
	all, ok := a.spec.Objects.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("its objects are a %T; they should be a map by name", a.spec.Objects)
	}
	var list []*object
	var failed []error
	for _, key := range slices.Sorted(maps.Keys(all)) {
		o, err := a.object(key, all[key])
		if err != nil {
			failed = append(failed, err)
			continue
		}
		list = append(list, o)
	}
	slices.SortStableFunc(list, func(a, b *object) int { return cmp.Compare(a.rank, b.rank) })
	for _, o := range list {
		if err := a.locate(ctx, o, list); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return nil, a.refused(failed, len(all))
	}
	return list, errors.Join(twice(list), unmatched("force", a.spec.Force, list), unmatched("wait_for", a.spec.WaitFor, list))
}

// refused is the error of objects that were refused before anything was changed.
func (a *application) refused(failed []error, all int) error {
	if all == 1 {
		return &several{text: failed[0].Error(), all: failed}
	}
	return &several{text: fmt.Sprintf("%d of %d objects are refused, and none was changed: %s", len(failed), all, lines(failed)), all: failed}
}

// lines joins what errors say, in an order that does not move.
func lines(list []error) string {
	text := make([]string, len(list))
	for i, err := range list {
		text[i] = err.Error()
	}
	slices.Sort(text)
	return strings.Join(slices.Compact(text), "; ")
}

// several are errors of which each keeps its type.
type several struct {
	text string
	all  []error
}

func (s *several) Error() string   { return s.text }
func (s *several) Unwrap() []error { return s.all }

// object is one of them, with what marks it as ours.
func (a *application) object(key string, value any) (*object, error) {
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is no object", key)
	}
	u := kube.Prune(&unstructured.Unstructured{Object: fields}) // a copy
	if kube.IsSecret(u.GroupVersionKind()) {
		if err := kube.WithoutStringData(u); err != nil {
			return nil, err
		}
	}
	notes := u.GetAnnotations()
	delete(notes, kubectlNote)
	u.SetAnnotations(notes)
	if len(notes) == 0 {
		u.SetAnnotations(nil)
	}
	o := &object{key: key, at: kube.RefOf(u), object: u, rank: rankOf(u.GroupVersionKind().GroupKind())}
	var err error
	if o.digest, err = a.digest(u); err != nil {
		return nil, err
	}
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, a.labels())
	u.SetLabels(labels)
	for _, f := range a.spec.Force {
		if what, ok := kube.Targeted(f, o.key); ok {
			o.force = append(o.force, what)
		}
	}
	return o, nil
}

func (a *application) labels() map[string]string {
	l := map[string]string{kube.ManagedBy: kube.FieldManager, pods.LabelAddress: pods.LabelValue(a.req.Address.String())}
	if a.project != "" {
		l[pods.LabelProject] = pods.LabelValue(a.project)
	}
	return l
}

// digest is one of what is asked for. A Secret's values cannot be guessed from it: it is under the project's key.
func (a *application) digest(u *unstructured.Unstructured) (string, error) {
	if len(a.m.Work.Key) == 0 {
		return "", errors.New("the project has no key (.ml/key), under which its objects are marked: apply from the folder that holds its state")
	}
	data, err := json.Marshal(u.Object)
	if err != nil {
		return "", fmt.Errorf("%s: %w", kube.RefOf(u), err)
	}
	mac := hmac.New(sha256.New, a.m.Work.Key)
	mac.Write([]byte("object of a manifest "))
	mac.Write(data) // a hash never errors
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// note writes what the object says of itself besides what is asked for.
func (a *application) note(o *object) {
	notes := o.object.GetAnnotations()
	if notes == nil {
		notes = map[string]string{}
	}
	notes[pods.LabelAddress], notes[noteOperation], notes[noteApplied] = a.req.Address.String(), a.req.OpID, o.digest
	if o.found {
		notes[noteFound] = "true"
	}
	o.object.SetAnnotations(notes)
}

// locate finds out where an object goes. A kind that is not served yet may be one that the block itself defines.
func (a *application) locate(ctx context.Context, o *object, all []*object) error {
	at, err := a.client.Locate(ctx, o.at)
	var missing *kube.MissingKindError
	if !errors.As(err, &missing) {
		o.at = at
		return err
	}
	scope, defined := definedBy(o.at.GVK(), all)
	if !defined {
		return err
	}
	o.newKind = true
	switch {
	case scope != "Namespaced":
		o.at.Namespace = ""
	case o.at.Namespace == "":
		o.at.Namespace = a.client.Namespace()
	}
	return a.client.Allow(o.at.Namespace)
}

func isNamespace(o *object) bool { return o.at.Group == "" && o.at.Kind == "Namespace" }

// definedBy finds the scope of a kind that a CustomResourceDefinition among the objects brings.
func definedBy(gvk schema.GroupVersionKind, all []*object) (scope string, ok bool) {
	for _, o := range all {
		if !isDefinition(o.at.GVK()) {
			continue
		}
		group, _, e1 := unstructured.NestedString(o.object.Object, "spec", "group")
		kind, _, e2 := unstructured.NestedString(o.object.Object, "spec", "names", "kind")
		scope, _, e3 := unstructured.NestedString(o.object.Object, "spec", "scope")
		if errors.Join(e1, e2, e3) == nil && group == gvk.Group && kind == gvk.Kind {
			return scope, true
		}
	}
	return "", false
}

// twice refuses two objects that differ only in that one of them leaves out the namespace where both go.
func twice(list []*object) error {
	seen := map[string]string{}
	for _, o := range list {
		id := o.at.Group + " " + o.at.String()
		if other, ok := seen[id]; ok {
			return fmt.Errorf("%s and %s are one object, for namespace %s is where those without one go: remove one", other, o.key, o.at.Namespace)
		}
		seen[id] = o.key
	}
	return nil
}

// unmatched refuses names of objects that the block does not hold: what they say would be passed over.
func unmatched(attr string, targets []string, list []*object) error {
	for _, t := range targets {
		if !slices.ContainsFunc(list, func(o *object) bool { _, ok := kube.Targeted(t, o.key); return ok }) {
			return fmt.Errorf("%s: %q names an object that the block does not hold", attr, t)
		}
	}
	return nil
}

// The order of making; taking away goes the other way round.
const (
	rankNamespace = iota
	rankDefinition
	rankLimit
	rankAccount
	rankContent
	rankService
	rankOther
	rankWatcher
	rankGuard
)

var ranks = map[schema.GroupKind]int{
	{Kind: "Namespace"}: rankNamespace,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: rankDefinition,

	{Kind: "ResourceQuota"}: rankLimit, {Kind: "LimitRange"}: rankLimit,
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}: rankLimit, {Group: "storage.k8s.io", Kind: "StorageClass"}: rankLimit,

	{Kind: "ServiceAccount"}: rankAccount, {Group: "rbac.authorization.k8s.io", Kind: "Role"}: rankAccount,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}: rankAccount,

	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}: rankContent, {Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}: rankContent,
	{Kind: "Secret"}: rankContent, {Kind: "ConfigMap"}: rankContent, {Kind: "PersistentVolume"}: rankContent, {Kind: "PersistentVolumeClaim"}: rankContent,

	{Kind: "Service"}: rankService, {Group: "networking.k8s.io", Kind: "NetworkPolicy"}: rankService,

	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}: rankWatcher, {Group: "policy", Kind: "PodDisruptionBudget"}: rankWatcher,

	// What may refuse the block's own objects.
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}:   rankGuard,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:     rankGuard,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: rankGuard,
	{Group: "apiregistration.k8s.io", Kind: "APIService"}:                             rankGuard,
}

func rankOf(kind schema.GroupKind) int {
	if r, ok := ranks[kind]; ok {
		return r
	}
	return rankOther
}

func isDefinition(gvk schema.GroupVersionKind) bool {
	return gvk.Group == "apiextensions.k8s.io" && gvk.Kind == "CustomResourceDefinition"
}
