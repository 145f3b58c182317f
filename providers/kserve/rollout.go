package kserve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
)

var (
	gvkDeployment = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	gvkPod        = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	gvkService    = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
)

const (
	lookEvery   = time.Second
	diagnoseAll = 3 * time.Second // each costs two lists
)

// fleet runs the servers of one deployment's versions: each version is an InferenceService of its own.
type fleet struct {
	release
	client *kube.Client
	object *unstructured.Unstructured
	graph  *unstructured.Unstructured // nil without one
	key    string
	// forced: a rollback acts at once. The golden answer in the files is that of the version which they want, not of this one.
	forced bool
	// ingress is where Knative's is reached from here, "" when that is not known.
	ingress string
}

func newFleet(c *kube.Client, r release) (*fleet, error) {
	f := &fleet{release: r, client: c}
	var err error
	if f.object, f.key, err = r.service(); err == nil {
		f.graph, err = r.pipeline(f.key)
	}
	return f, err
}

// servers is the fleet as the rollout drives it.
func (f *fleet) servers() rollout.Servers {
	if f.nested.Canary == byRevisions {
		return &revised{f}
	}
	return f
}

// Key implements rollout.Servers.
func (f *fleet) Key() string { return f.key }

// Objects implements rollout.Servers.
func (f *fleet) Objects(context.Context) ([]*unstructured.Unstructured, error) {
	out := []*unstructured.Unstructured{f.object}
	if f.graph != nil {
		out = append(out, f.graph)
	}
	return out, nil
}

// Up implements rollout.Servers.
func (f *fleet) Up(ctx context.Context, say func(string)) (string, error) {
	if err := f.make(ctx, func() (kube.Applied, error) { return f.Apply(ctx, f.client, f.object) }); err != nil {
		return "", err
	}
	if f.graph != nil {
		if _, err := f.Apply(ctx, f.client, f.graph); err != nil {
			return "", err
		}
	}
	if err := f.await(ctx, f.name, f.key, f.graph != nil, say); err != nil {
		return "", err
	}
	if err := f.readBack(ctx); err != nil {
		return "", err
	}
	if f.Mode == knative && f.graph == nil {
		return f.address(), f.prove(ctx)
	}
	url, target, err := f.door(ctx)
	if err != nil || f.forced {
		return url, err
	}
	return url, f.ask(ctx, target)
}

// make applies the service, after the Secret that its servers read.
func (f *fleet) make(ctx context.Context, apply func() (kube.Applied, error)) error {
	if f.envKey != "" {
		secret, err := f.envSecret()
		if err != nil {
			return err
		}
		// Its name follows from its content: it is written without a look, for no Secret is ever read.
		if _, err := f.client.Apply(ctx, secret, kube.ApplyOptions{}); err != nil {
			return err
		}
	}
	made, err := apply()
	if err != nil || f.envKey == "" {
		return err
	}
	return f.own(ctx, made.Ref)
}

// own makes the Secret go with the service whose servers read it.
func (f *fleet) own(ctx context.Context, service kube.Ref) error {
	secret, err := f.envSecret()
	if err != nil {
		return err
	}
	owner := rollout.OwnedBy(service)
	secret.SetOwnerReferences(append(secret.GetOwnerReferences(), owner))
	_, err = f.client.Apply(ctx, secret, kube.ApplyOptions{})
	return err
}

// condition is how far the servers of a service are.
type condition struct {
	ready bool
	why   string
	// object is where to look for the cause; nil is nowhere yet.
	object *unstructured.Unstructured
}

// readBack makes sure that what runs is what was asked for: the pods name model and image by digest.
func (f *fleet) readBack(ctx context.Context) error {
	pods, err := f.client.List(ctx, gvkPod, f.Namespace, kube.Selector{Labels: api.Label + "=" + f.name})
	if err != nil {
		return err
	}
	seen := 0
	for _, p := range pods {
		if p.GetDeletionTimestamp() != nil || p.GetAnnotations()[releaseNote] != f.key || strings.Contains(p.GetLabels()["component"], "transformer") || strings.Contains(p.GetLabels()["component"], "explainer") {
			continue
		}
		seen++
		text, err := json.Marshal(p.Object["spec"])
		if err != nil {
			return fmt.Errorf("read pod %s: %w", p.GetName(), err)
		}
		for what, ref := range map[string]string{"model": f.Model, "image": f.Image} {
			_, digest, _ := strings.Cut(ref, "@")
			if digest != "" && !strings.Contains(string(text), digest) {
				return &rollout.Unfit{Reason: fmt.Sprintf("pod %s does not run the %s %s that was asked for", p.GetName(), what, strings.TrimPrefix(ref, oci.Scheme))}
			}
		}
	}
	if low, _ := f.spec.replicas(f.nested); seen == 0 && low > 0 {
		return &rollout.Unfit{Reason: "none of its pods is there any more"}
	}
	return nil
}

// door is where the servers answer: the Service of the transformer, else of the predictor.
func (f *fleet) door(ctx context.Context) (string, kube.Target, error) {
	name := f.name + "-" + f.part()
	if f.graph != nil {
		name = graphName(f.name)
	}
	if f.Mode == knative {
		target, err := f.pod(ctx)
		return fmt.Sprintf("http://%s.%s.svc.%s", name, f.Namespace, f.ClusterDomain), target, err
	}
	u, err := f.client.Get(ctx, kube.Ref{Version: "v1", Kind: "Service", Namespace: f.Namespace, Name: name})
	if err != nil {
		return "", kube.Target{}, err
	}
	port, err := portOf(u)
	if err != nil {
		return "", kube.Target{}, err
	}
	// The dot that ends the name saves a resolver its search list.
	return fmt.Sprintf("http://%s.%s.svc.%s.:%d", name, f.Namespace, f.ClusterDomain, port), kube.Target{Service: true, Name: name, Port: servicePort(u)}, nil
}

// portOf is the port behind the name of a Service: one without an address of its own stands for its pods, whose port it is then.
func portOf(u *unstructured.Unstructured) (int64, error) {
	ports, _, err := unstructured.NestedSlice(u.Object, "spec", "ports")
	if err != nil || len(ports) == 0 {
		return 0, fmt.Errorf("%s has no port", kube.RefOf(u))
	}
	first, _ := ports[0].(map[string]any)
	ip, _, err := unstructured.NestedString(u.Object, "spec", "clusterIP")
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", kube.RefOf(u), err)
	}
	key := "port"
	if ip == "None" {
		key = "targetPort"
	}
	port, ok := first[key].(int64)
	if !ok {
		return 0, fmt.Errorf("%s: %s %v is no number", kube.RefOf(u), key, first[key])
	}
	return port, nil
}

func servicePort(u *unstructured.Unstructured) string {
	ports, _, err := unstructured.NestedSlice(u.Object, "spec", "ports")
	if err != nil || len(ports) == 0 {
		return ""
	}
	first, _ := ports[0].(map[string]any)
	port, _ := first["port"].(int64)
	return strconv.FormatInt(port, 10)
}

// Explain implements rollout.Explainer.
func (f *fleet) Explain() string {
	if f.nested.Explainer == nil {
		return ""
	}
	host := fmt.Sprintf("http://%s-explainer.%s.svc.%s", f.name, f.Namespace, f.ClusterDomain)
	switch {
	case f.Mode == knative:
		return host
	case f.Headless:
		return host + ".:" + strconv.Itoa(serverPort)
	}
	return host + ".:80"
}

// Check implements rollout.Servers.
func (f *fleet) Check(ctx context.Context) (ready, gone bool, err error) {
	c, err := f.look(ctx, f.name, f.key, f.graph != nil)
	if errors.Is(err, kube.ErrNotFound) {
		return false, true, nil
	}
	if err != nil || c.ready || !f.Carried {
		return c.ready, false, err
	}
	// Nobody counts what fails: pods that crash must be enough.
	found, bad, err := f.diagnose(ctx, c)
	if err == nil && bad && crashes(found) {
		err = &rollout.Unfit{Reason: found.String()}
	}
	return false, false, err
}

// Good implements rollout.Servers.
func (f *fleet) Good() (json.RawMessage, error) { return kept(f.object, f.graph) }

// Restore implements rollout.Servers.
func (f *fleet) Restore(ctx context.Context, _ int, good json.RawMessage, onlyMissing bool) (bool, error) {
	service, graph, err := unkept(good)
	if err != nil {
		return false, err
	}
	all := []*unstructured.Unstructured{service}
	if graph != nil {
		all = append(all, graph)
	}
	if onlyMissing {
		gone := false
		for _, u := range all {
			_, err := f.client.Get(ctx, kube.RefOf(u))
			if err != nil && !errors.Is(err, kube.ErrNotFound) {
				return false, err
			}
			gone = gone || err != nil
		}
		if !gone {
			return false, nil
		}
	}
	for _, u := range all {
		if _, err := f.Apply(ctx, f.client, u); err != nil {
			return false, err
		}
	}
	notes, _, err := unstructured.NestedStringMap(service.Object, "spec", "predictor", "annotations")
	if err != nil {
		return true, fmt.Errorf("read the InferenceService that was good: %w", err)
	}
	return true, f.await(ctx, service.GetName(), notes[releaseNote], graph != nil, func(string) {})
}

// Sweep implements rollout.Servers. Variables go with the services that own them. A graph that the wanted version has no more goes, too.
func (f *fleet) Sweep(ctx context.Context, keep []int, say func(string)) error {
	for _, gvk := range []schema.GroupVersionKind{api.Graph, api.Kind} {
		list, err := f.client.List(ctx, gvk, f.Namespace, kube.Selector{Labels: f.Selector() + "," + rollout.LabelPart + "=" + rollout.PartServer})
		var missing *kube.MissingKindError
		if gvk == api.Graph && errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return err
		}
		for _, u := range list {
			n, err := strconv.Atoi(u.GetLabels()[rollout.LabelVersion])
			if err == nil && slices.Contains(keep, n) && (gvk != api.Graph || n != f.number || f.graph != nil) {
				continue
			}
			say("removing " + kube.RefOf(u).String())
			if err := remove(ctx, f.client, u, f.Drain+3*time.Minute); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove deletes an object and waits until it is gone with all that was made for it.
func remove(ctx context.Context, c *kube.Client, u *unstructured.Unstructured, within time.Duration) error {
	if u.GetKind() == api.Graph.Kind {
		return removeGraph(ctx, c, u, within)
	}
	return c.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{Within: within})
}
