//go:build e2e

package scenarios

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// owned is the label on everything that ml makes in a cluster.
const owned = "app.kubernetes.io/managed-by=continuo"

// cluster is an oracle beside the program: it looks at the API server with a client of its own.
type cluster struct {
	typed kubernetes.Interface
	any   dynamic.Interface
}

func connect(t *testing.T) cluster {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", here.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS, cfg.Burst = 100, 200
	typed, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	anyone, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return cluster{typed, anyone}
}

// makeNamespace makes the namespace and removes it at the end, waiting until it is gone: a later run must not meet it.
func (c cluster) makeNamespace(t *testing.T, name string) {
	t.Helper()
	if _, err := c.typed.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := c.typed.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			t.Error(err)
			return
		}
		until(ctx, t, "namespace "+name+" to go", func() bool {
			_, err := c.typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
	})
}

// until polls a condition; a deadline that passes fails the test.
func until(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

// types lists the namespaced types whose objects can be listed.
func (c cluster) types(t *testing.T) []schema.GroupVersionResource {
	t.Helper()
	lists, err := c.typed.Discovery().ServerPreferredNamespacedResources()
	var partly *discovery.ErrGroupDiscoveryFailed
	if err != nil && !errors.As(err, &partly) {
		t.Fatal(err)
	}
	var out []schema.GroupVersionResource
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range l.APIResources {
			if slices.Contains(r.Verbs, "list") && r.Kind != "Event" {
				out = append(out, gv.WithResource(r.Name))
			}
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d types are listed", len(out))
	}
	return out
}

// left lists what ml made and is still there, over all types.
func (c cluster) left(t *testing.T, namespace string) []string {
	t.Helper()
	return c.leftBy(t, namespace, owned)
}

// leftBy lists what is there with a label, over all types.
func (c cluster) leftBy(t *testing.T, namespace, label string) []string {
	t.Helper()
	var out []string
	for _, r := range c.types(t) {
		list, err := c.any.Resource(r).Namespace(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: label})
		if apierrors.IsNotFound(err) {
			continue // the type itself went since it was discovered, and all of its objects with it
		}
		if err != nil {
			t.Fatalf("list %s: %v", r.Resource, err)
		}
		for _, o := range list.Items {
			out = append(out, r.Resource+"/"+o.GetName())
		}
	}
	slices.Sort(out)
	return out
}

// gone wants nothing left; what is being deleted may take a moment.
func (w *world) gone() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	var left []string
	until(ctx, w.T, "nothing to be left", func() bool {
		left = w.cluster.left(w.T, w.namespace)
		return len(left) == 0
	})
	if len(left) > 0 {
		w.Fatalf("left behind: %s", strings.Join(left, ", "))
	}
}

// reach turns the name of a Service into its address: this machine does not ask the cluster's name server.
func (c cluster) reach(t *testing.T, endpoint string) string {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(u.Hostname(), ".")
	if len(parts) < 3 || parts[2] != "svc" {
		t.Fatalf("the endpoint %q is no Service of the cluster", endpoint)
	}
	s, err := c.typed.CoreV1().Services(parts[1]).Get(t.Context(), parts[0], metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	host := s.Spec.ClusterIP
	if p := u.Port(); p != "" {
		host += ":" + p
	}
	u.Host = host
	return u.String()
}

// images lists the images of the pods that run, by container.
func (c cluster) images(t *testing.T, namespace string) []string {
	t.Helper()
	pods, err := c.typed.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: owned})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range pods.Items {
		for _, x := range append(slices.Clone(p.Spec.InitContainers), p.Spec.Containers...) {
			out = append(out, x.Image)
		}
	}
	return out
}

// describe tells what the namespace looked like when a test failed.
func (c cluster) describe(t *testing.T, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pods, err := c.typed.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Log(err)
		return
	}
	for _, p := range pods.Items {
		t.Logf("pod %s: %s %s", p.Name, p.Status.Phase, p.Status.Message)
		for _, s := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
			if s.State.Waiting != nil {
				t.Logf("  %s waits: %s %s", s.Name, s.State.Waiting.Reason, s.State.Waiting.Message)
			}
			if s.State.Terminated != nil {
				t.Logf("  %s ended: %d %s %s", s.Name, s.State.Terminated.ExitCode, s.State.Terminated.Reason, s.State.Terminated.Message)
			}
		}
	}
	events, err := c.typed.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning"})
	if err != nil {
		t.Log(err)
		return
	}
	for _, e := range events.Items {
		t.Logf("event %s/%s: %s: %s", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
	}
}
