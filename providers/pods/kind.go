package pods

import (
	"context"
	"time"

	"github.com/zclconf/go-cty/cty"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
)

// Kind is what a provider brings: the kind of object that a stage is. Its status is judged by kube.Ready, and its spec.suspend keeps it
// asleep. A Kind is safe for concurrent use.
type Kind interface {
	// Provider is the provider's name, for messages.
	Provider() string
	GVK() schema.GroupVersionKind
	// MaxName is how long the name of an object may be, so that those of its pods fit.
	MaxName() int
	// Container names the container of the command in the pods.
	Container() string
	// Step reads what a block says of where it runs. It asks the cluster nothing.
	Step(spec cty.Value) (Step, error)
	// Owns reports whether a pod, found by the object's labels, runs the command. The index of the Job that it belongs to tells those of
	// several nodes apart.
	Owns(object *unstructured.Unstructured, pod *corev1.Pod) bool
	// Late reports whether an object that failed did so at its deadline.
	Late(ctx context.Context, c *kube.Client, object *unstructured.Unstructured) (bool, error)
}

// Step is what one block says of where it runs.
type Step struct {
	Attributes
	Block Block
	Build Builder
	// Settle is how long a node whose command failed waits whether it was ended because another node was lost: see pod.Task.
	Settle time.Duration
}

// Builder makes the objects of a stage.
type Builder interface {
	// Look errs when the cluster lacks what the objects need. It is asked before anything is sent anywhere.
	Look(ctx context.Context, c *kube.Client, namespace string) error
	// Objects errs when the cluster lacks what they need. The same spec on the same cluster makes the same objects.
	Objects(ctx context.Context, c *kube.Client, s Spec) (Objects, error)
}

// Objects are what a stage is made of.
type Objects struct {
	// Before are objects that Object refers to: they are made first. Object owns them as soon as it is there.
	Before []*unstructured.Unstructured
	// Object is the one that has the pods, awake.
	Object *unstructured.Unstructured
	// Beside are objects that its pods need; they are made while it is asleep, and it owns them.
	Beside []*unstructured.Unstructured
}
