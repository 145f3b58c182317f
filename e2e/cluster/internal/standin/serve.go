package standin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Class is the ingress class of what is followed.
const Class = "standin.ingress.continuo.dev"

const classAnnotation = "networking.knative.dev/ingress.class"

var (
	ingresses = schema.GroupVersionResource{Group: "networking.internal.knative.dev", Version: "v1alpha1", Resource: "ingresses"}
	services  = schema.GroupVersionResource{Version: "v1", Resource: "services"}
)

// Options of [Serve].
type Options struct {
	Kubeconfig string
	Listen     string // HOST:PORT
	// Internal is the name of the Service by which pods reach Listen: NAME.NAMESPACE.svc.DOMAIN.
	Internal string
	Log      func(format string, args ...any)
}

// again is how soon what did not work is tried once more.
const again = 500 * time.Millisecond

// Serve carries requests until ctx ends.
func Serve(ctx context.Context, o Options) error {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 50, 100
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	f := newFront()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: f.healthy(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()

	k := newKeeper(client, f, o)
	k.start(ctx)
	var serveErr error
	select {
	case <-ctx.Done():
	case serveErr = <-ended:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if serveErr != nil && !errors.Is(serveErr, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", serveErr)
	}
	return nil
}

// healthy answers for the front itself when it is asked by address.
func (f *front) healthy() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err == nil && net.ParseIP(host) != nil && r.URL.Path == "/healthz" {
			w.WriteHeader(http.StatusOK)
			return
		}
		f.ServeHTTP(w, r)
	})
}

// keeper makes the front follow what the cluster says, and tells the cluster.
type keeper struct {
	Options
	client dynamic.Interface
	front  *front
	stores map[schema.GroupVersionResource]cache.GenericLister
	shared dynamicinformer.DynamicSharedInformerFactory
	moved  chan struct{}
}

func newKeeper(client dynamic.Interface, f *front, o Options) *keeper {
	return &keeper{Options: o, client: client, front: f, stores: map[schema.GroupVersionResource]cache.GenericLister{},
		shared: dynamicinformer.NewDynamicSharedInformerFactory(client, 0), moved: make(chan struct{}, 1)}
}

// start returns at once.
func (k *keeper) start(ctx context.Context) {
	nudge := func() {
		select {
		case k.moved <- struct{}{}:
		default:
		}
	}
	for _, gvr := range []schema.GroupVersionResource{ingresses, services} {
		informer := k.shared.ForResource(gvr)
		k.stores[gvr] = informer.Lister()
		if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { nudge() }, UpdateFunc: func(_, _ any) { nudge() }, DeleteFunc: func(any) { nudge() },
		}); err != nil {
			k.Log("watch %s: %v", gvr.Resource, err)
		}
	}
	k.shared.Start(ctx.Done())
	go func() {
		k.shared.WaitForCacheSync(ctx.Done())
		tick := time.NewTicker(again)
		defer tick.Stop()
		late := true
		for {
			select {
			case <-ctx.Done():
				return
			case <-k.moved:
				late = !k.follow(ctx)
			case <-tick.C:
				if late {
					late = !k.follow(ctx)
				}
			}
		}
	}()
}

// follow takes all Ingresses in, and then says so. It reports whether all went well.
func (k *keeper) follow(ctx context.Context) bool {
	list, err := k.stores[ingresses].List(labels.Everything())
	if err != nil {
		k.Log("list ingresses: %v", err)
		return false
	}
	all, well := routes{}, true
	var led []*unstructured.Unstructured
	for _, obj := range list {
		u, ok := obj.(*unstructured.Unstructured)
		if !ok || u.GetAnnotations()[classAnnotation] != Class || u.GetDeletionTimestamp() != nil {
			continue
		}
		if err := all.add(u, k.address); err != nil {
			k.Log("%v", err)
			well = false
			continue
		}
		led = append(led, u)
	}
	k.front.routes.Store(&all)
	for _, u := range led {
		if err := k.tell(ctx, u); err != nil {
			k.Log("tell of ingress %s/%s: %v", u.GetNamespace(), u.GetName(), err)
			well = false
		}
	}
	return well
}

// address finds a Service's; Knative names ports by number or by name.
func (k *keeper) address(namespace, name string, port intstr.IntOrString) (string, error) {
	obj, err := k.stores[services].ByNamespace(namespace).Get(name)
	if err != nil {
		return "", fmt.Errorf("find service %s/%s: %w", namespace, name, err)
	}
	u, _ := obj.(*unstructured.Unstructured)
	ip, _, err := unstructured.NestedString(u.Object, "spec", "clusterIP")
	if err != nil || ip == "" || ip == "None" {
		return "", errors.Join(fmt.Errorf("service %s/%s has no address", namespace, name), err)
	}
	if port.Type == intstr.Int {
		return net.JoinHostPort(ip, port.String()), nil
	}
	ports, _, err := unstructured.NestedSlice(u.Object, "spec", "ports")
	for _, p := range ports {
		if m, ok := p.(map[string]any); ok && m["name"] == port.StrVal {
			return net.JoinHostPort(ip, fmt.Sprint(m["port"])), nil
		}
	}
	return "", errors.Join(fmt.Errorf("service %s/%s has no port %s", namespace, name, port.StrVal), err)
}

// tell marks an Ingress as followed, once for each of its generations.
func (k *keeper) tell(ctx context.Context, u *unstructured.Unstructured) error {
	seen, _, err := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if err != nil {
		return err
	}
	if seen == u.GetGeneration() {
		return nil
	}
	now := metav1.Now().UTC().Format(time.RFC3339)
	var conditions []any
	for _, kind := range []string{"LoadBalancerReady", "NetworkConfigured", "Ready"} {
		conditions = append(conditions, map[string]any{"type": kind, "status": "True", "lastTransitionTime": now})
	}
	balancer := map[string]any{"ingress": []any{map[string]any{"domainInternal": k.Internal}}}
	u = u.DeepCopy()
	u.Object["status"] = map[string]any{
		"observedGeneration": u.GetGeneration(), "conditions": conditions, "publicLoadBalancer": balancer, "privateLoadBalancer": balancer,
	}
	_, err = k.client.Resource(ingresses).Namespace(u.GetNamespace()).UpdateStatus(ctx, u, metav1.UpdateOptions{})
	return err
}
