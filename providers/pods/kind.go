package pods

import (
	"context"
	"time"

	"github.com/zclconf/go-cty/cty"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers/runs"
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
	// Search is the service that the block leaves its search for parameters to; nil: none.
	Search Searching
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

// Searching is a service of the cluster that searches for parameters: an object asks it for a search, and it makes other objects, one
// for each candidate, whose pods run the command. The object is judged by kube.Ready.
type Searching interface {
	Builder
	// MaxName is how long the object's name may be.
	MaxName() int
	// Trial is what the pod of a candidate is told.
	Trial() pod.Trial
	// Read says how far a search is. Its error is the API server's, or that of an object which is none.
	Read(ctx context.Context, c *kube.Client, object *unstructured.Unstructured) (Searched, error)
}

// Searched is how far a search is.
type Searched struct {
	// Ended are the candidates that are over, in the order in which they were made; Open those that are not, by name.
	Ended []runs.Candidate
	Open  []string
	// Best is the index in Ended of the best, as the service says; -1 while it says none.
	Best int
	// Method is what the service calls its method.
	Method string
	// Patience is how long a candidate whose command has ended well may stay open.
	Patience time.Duration
	// Unmeasured says why one may stay so for ever.
	Unmeasured func(p corev1.Pod) string
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
