package kubernetes

import (
	"context"
	"slices"

	"github.com/zclconf/go-cty/cty"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
)

const mainName = "main"

var (
	jobKind     = schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}
	secretKind  = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
	serviceKind = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
)

// jobs is the pods.Kind of this provider: a stage is a Job.
type jobs struct{}

// Provider implements pods.Kind.
func (jobs) Provider() string { return name }

// GVK implements pods.Kind.
func (jobs) GVK() schema.GroupVersionKind { return jobKind }

// MaxName implements pods.Kind: the index and the suffix of a pod want room within the 63 characters of a host name.
func (jobs) MaxName() int { return maxName }

const maxName = 52

// Container implements pods.Kind.
func (jobs) Container() string { return mainName }

// Step implements pods.Kind.
func (j jobs) Step(spec cty.Value) (pods.Step, error) {
	var w struct {
		pods.Attributes
		Kubernetes *pods.Block `ml:"kubernetes,block"`
	}
	s := pods.Step{Build: j}
	if err := resource.Decode(spec, &w); err != nil {
		return s, err
	}
	s.Attributes = w.Attributes
	if w.Kubernetes != nil {
		s.Block = *w.Kubernetes
	}
	return s, nil
}

// Owns implements pods.Kind.
func (jobs) Owns(job *unstructured.Unstructured, pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == job.GetUID() })
}

// Late implements pods.Kind.
func (jobs) Late(_ context.Context, _ *kube.Client, job *unstructured.Unstructured) (bool, error) {
	return pods.FailedFor(job) == batchv1.JobReasonDeadlineExceeded, nil
}

// Look implements pods.Builder: every cluster has Jobs.
func (jobs) Look(context.Context, *kube.Client, string) error { return nil }

// Objects implements pods.Builder.
func (jobs) Objects(_ context.Context, _ *kube.Client, s pods.Spec) (pods.Objects, error) {
	if s.Nodes > 1 {
		s.Master = s.Name + "-0." + s.Name
	}
	o := pods.Objects{}
	var err error
	if o.Object, err = job(s); err != nil || s.Nodes <= 1 {
		return o, err
	}
	svc, err := service(s)
	o.Beside = append(o.Beside, svc)
	return o, err
}

// job builds the Job of a stage. It is pure: the same spec makes the same object.
func job(s pods.Spec) (*unstructured.Unstructured, error) {
	if err := s.Block.Check(name); err != nil {
		return nil, err
	}
	podSpec, err := s.Pod(mainName)
	if err != nil {
		return nil, err
	}
	j := batchv1.Job{ObjectMeta: s.Meta()}
	j.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: j.Labels, Annotations: j.Annotations}, Spec: podSpec}
	s.Judge(&j.Spec, mainName)
	if s.Nodes > 1 {
		n := int32(s.Nodes)
		j.Spec.Completions, j.Spec.Parallelism, j.Spec.CompletionMode = &n, &n, new(batchv1.IndexedCompletion)
		j.Spec.Template.Spec.Subdomain = s.Name
	}
	return kube.FromTyped(jobKind, j)
}

// service is the headless Service that gives the pods of several nodes their names.
func service(s pods.Spec) (*unstructured.Unstructured, error) {
	svc := corev1.Service{ObjectMeta: s.Meta()}
	svc.Spec = corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true,
		Selector: map[string]string{batchv1.JobNameLabel: s.Name}, Ports: []corev1.ServicePort{{Name: "master", Port: pods.MasterPort}}}
	return kube.FromTyped(serviceKind, svc)
}
